"""The live piano network: causal, and the same wherever a key lies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from exporters.audeo import export_piano
from models.audeo.calibration import CalibrationSettings, calibrate, taught, taught_by
from models.audeo.crops import Crop, Labels, Light, batches_of, shown
from models.audeo.dataset import Stored
from models.audeo.decoder import Decoder
from models.audeo.evaluation import THRESHOLDS, best_threshold, of_file, of_network, tally
from models.audeo.network import (
    LOOK_AHEADS,
    PianoConfig,
    PianoNetwork,
    along,
    fresh_view,
    run_through,
    see,
)
from models.audeo.recipe import Recipe, calibrate_piano, train_piano
from models.audeo.rendering.clip import film
from models.audeo.rendering.looks import draw_look
from models.audeo.rendering.performance import Written, perform
from models.audeo.trained import SYSTEM, Card, Trained, load_trained, network_facts, save_trained
from models.audeo.training import Checkpoint, TrainingSettings, fit
from models.commands.train_piano import train
from stream.errors import ConfigError, ModelError, RecordingError
from stream.inference import StreamingSession
from stream.music.piano.strip import side_of
from stream.units import to_ns
from stream.vision.video_writer import VideoWriter

ZOO = Path(__file__).parents[3] / "models" / "zoo"
SMALL = PianoConfig(channels=(4, 6, 8), features=8, memory=8)


@pytest.fixture
def network() -> PianoNetwork:
    torch.manual_seed(0)
    made = PianoNetwork(SMALL)
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made.eval()


def strips(frames: int = 12, whites: int = 52, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    still = random.integers(0, 256, (56, 12 * whites, 3))
    moving = random.integers(-40, 40, (frames, 56, 12 * whites, 3))
    shown = np.clip(still + moving, 0, 255).astype(np.uint8)
    side = np.broadcast_to(side_of(26.0, 0, whites)[:, None], (*shown.shape[:3], 1))
    return np.concatenate([shown, side], axis=-1)


def test_what_comes_later_changes_nothing(network: PianoNetwork) -> None:
    first, second = strips(), strips()
    second[8:] = 255 - second[8:]
    before, after = run_through(network, first), run_through(network, second)
    torch.testing.assert_close(before[:8], after[:8])
    assert not torch.allclose(before[8:], after[8:])


def test_the_background_follows_slowly_and_ignores_hands() -> None:
    view = fresh_view(1, 24)
    bright, hand = torch.full((1, 56, 24, 4), 0.8), torch.full((1, 56, 24, 4), 0.1)
    for _ in range(60):
        _, view = see(bright, view)
    for _ in range(5):
        channels, view = see(hand, view)
    assert view.background.min() > 0.78
    # The hand is seen as what is darker than the background.
    assert channels[0, 2].max() < -1


def test_a_key_that_is_out_of_view_does_not_change_the_others_level() -> None:
    seen = torch.full((1, 56, 48, 4), 0.8)
    partly = seen.clone()
    partly[:, :, 24:, :3] = 0
    whole, _ = see(seen, fresh_view(1, 48))
    part, _ = see(partly, fresh_view(1, 48))
    torch.testing.assert_close(whole[..., :24], part[..., :24])


def test_training_is_shown_what_the_live_network_sees() -> None:
    both = [strips(6, 14, seed) for seed in (0, 1)]
    nothing = Labels(*np.zeros((3, 6, 24), np.float32))
    crops = [
        Crop(
            x[..., :3], x[0, 0, :, 3].astype(np.float32) / 255, Light(np.ones(3, np.float32)),
            np.zeros_like(x[0, ..., :3]), 0, nothing, np.ones(24, bool), 0,
        )
        for x in both
    ]  # fmt: skip
    (batch,) = batches_of(crops)
    got = shown(batch)
    for found, x in zip(got, both, strict=True):
        view = fresh_view(1, x.shape[2])
        for channels, strip in zip(found, torch.from_numpy(x).float() / 255, strict=True):
            live, view = see(strip[None], view)
            torch.testing.assert_close(channels, live[0])


def test_each_frame_of_the_file_is_that_of_the_whole_run(network, tmp_path) -> None:
    card = Card(system=SYSTEM, network=network_facts(SMALL), threshold=0.55)
    path = tmp_path / "piano.onnx"
    clips = np.stack([strips(seed=1), strips(seed=2)])
    for late in LOOK_AHEADS:
        contract = export_piano(Trained(network, card), "0" * 64, clips, path, look_ahead=late)
        assert (contract.delay_steps, contract.threshold) == (late, 0.55)
        run, delay = of_file(path)
        assert delay == late
        fresh = strips(seed=3)
        np.testing.assert_allclose(run(fresh, 0), of_network(network, late)(fresh, 0), atol=1e-5)


def test_a_file_that_does_not_do_what_the_network_does_is_not_written(
    network, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("exporters.audeo.SURPRISE", 0.01)
    card = Card(system=SYSTEM, network=network_facts(SMALL))
    with pytest.raises(ModelError, match="differs from the full run"):
        export_piano(Trained(network, card), "0" * 64, strips()[None], tmp_path / "piano.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_for_something_else_is_no_piano_network() -> None:
    assert StreamingSession(ZOO / "lorenz-stndt.onnx", "cpu").contract.name
    with pytest.raises(ConfigError, match="not keys of a piano"):
        of_file(ZOO / "lorenz-stndt.onnx")


def blinking(seed: int) -> Stored:
    """A clip in which a key that goes down turns dark: what any network can learn."""
    random = np.random.default_rng(seed)
    shown = np.full((45, 56, 240, 3), 200, np.uint8)
    presses = []
    for number, white in enumerate(random.permutation(np.arange(2, 18))[:5]):
        begin, end = 6 + 7 * number, 12 + 7 * number
        shown[begin:end, 4:44, 12 * white + 1 : 12 * white + 11] = 60
        pitch = (36, 38, 40, 41, 43, 45, 47)[white % 7] + 12 * (white // 7)
        presses.append([pitch, begin / 30 - 0.001, end / 30 - 0.001, 64, 1, 0.03, 0.03])
    return Stored(shown, np.arange(45) / 30, np.array(presses), 9, 12.0, 26.0)


def test_a_network_learns_to_see_keys_go_down_and_its_notes_are_scored(tmp_path) -> None:
    clips = [blinking(seed) for seed in range(6)]
    torch.manual_seed(0)
    settings = TrainingSettings(updates=120, batch=2, crop_frames=24, rate=6e-3, averaged_over=20.0)
    losses: list[float] = []
    network = fit(
        PianoNetwork(PianoConfig((8, 12, 12), 24, 24)),
        lambda i: clips[i % len(clips)],
        settings,
        lambda update, loss: losses.append(loss),
        Checkpoint(tmp_path / "c.pt", every=60),
    )
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:10])
    others = [blinking(seed) for seed in (11, 12)]
    begin = best_threshold(others, of_network(network))
    scores = tally(others, of_network(network), begin)
    assert scores.tight.true == 10
    assert scores.tight.f1 > 0.8
    assert sum(s.true for s in scores.apart["colour"].values()) == 10


@pytest.fixture(scope="module")
def film_of_a_scale(tmp_path_factory) -> Path:
    """A film in which a hand plays up and down."""
    rng = np.random.default_rng(2)
    look = replace(
        draw_look(rng, "digital"), rate_hz=30.0, gain=1.0, camera_height=45.0, camera_y=5.0,
        camera_u=20.0, noise=1.0, gradient_u=0.0, gradient_y=0.0,
    )  # fmt: skip
    scale = (60, 62, 64, 65, 67, 69, 71, 72)
    notes = [Written(pitch, i, 0.8, 1) for i, pitch in enumerate((*scale, *scale[::-1]) * 2)]
    presses = perform(rng, notes, 0.3, 9.5)
    frames, _ = film(rng, look, presses, size=(960, 540), length_s=10.0)
    path = tmp_path_factory.mktemp("film") / "scale.mp4"
    video = VideoWriter(path, (960, 540), 30.0)
    for number, frame in enumerate(frames):
        video.write(frame, to_ns(number / 30))
    video.close()
    return path


def test_a_network_gets_used_to_a_video_by_what_is_sure(film_of_a_scale, tmp_path) -> None:
    start = load_trained(ZOO / "piano")
    losses: list[float] = []
    calibrate_piano(
        ZOO / "piano", film_of_a_scale, tmp_path / "used",
        settings=CalibrationSettings(updates=15, rate=3e-3),
        on_progress=lambda stage, done, total, loss: losses.append(loss),
    )  # fmt: skip
    used = load_trained(tmp_path / "used")
    assert used.card.threshold in THRESHOLDS
    assert len(losses) == 2 * 15
    assert np.mean(losses[-5:]) < np.mean(losses[15:20])
    changed = {
        name.split(".")[0]
        for name, value in used.network.state_dict().items()
        if not torch.equal(value, start.network.state_dict()[name])
    }
    assert changed == {"white", "black", "cell", "out"}
    assert start.decoder is not None
    assert used.decoder is not None
    for kept, before in zip(used.decoder.parameters(), start.decoder.parameters(), strict=True):
        torch.testing.assert_close(kept, before)


def test_two_networks_teach_what_both_say_once_they_have_seen_what_comes_after(network) -> None:
    larger = PianoNetwork(PianoConfig(channels=(6, 8, 8), features=12, memory=16)).eval()
    shown = strips(12)
    said = taught_by(network, along(network, shown), larger, shown)
    late = [torch.sigmoid(run_through(one, shown))[4:, :, 3] for one in (network, larger)]
    expected = (torch.stack(late).sum(0) / 2).numpy().transpose(0, 2, 1)
    np.testing.assert_allclose(said[:8], expected, atol=1e-6)
    assert said.shape == (12, 3, 88)


def scale_said() -> tuple[np.ndarray, np.ndarray]:
    """What teachers say of a scale (T, 3, 88), surely or not, and times."""
    said = np.zeros((240, 3, 88), np.float32)
    for number in range(22):
        at = 10 + 10 * number
        said[at : at + 2, 0, 30 + number] = 0.3 if number % 11 == 10 else 0.95
        said[at : at + 8, 1, 30 + number] = 0.95
    return said, np.arange(240) / 30


def test_what_is_not_sure_is_not_taught() -> None:
    labels, sure = taught(*scale_said())
    assert len(sure) == 20
    assert labels.onset[20, 31] == labels.onset[21, 31] == 1
    assert labels.onset[19, 31] == labels.onset[110, 40] == -1
    assert labels.onset[50, 31] == labels.frame[50, 31] == 0
    assert labels.frame[24, 31] == 1


class Faint(Decoder):
    """A decoder that says of sure notes that they are even chances, and of others a bit less."""

    def decode(self, logits: torch.Tensor, first: int = 0) -> torch.Tensor:
        said, _ = scale_said()
        faint = torch.from_numpy(np.where(said > 0.5, 0.5, np.where(said > 0.1, 0.42, 0.001)))
        decoded = logits.clone()
        decoded[:, :, 0] = torch.logit(faint.float()).permute(0, 2, 1)
        return decoded


def test_how_probable_a_note_must_be_is_chosen_for_what_the_decoder_says(network) -> None:
    said, times_s = scale_said()
    features = along(network, strips(len(said)))
    settings = CalibrationSettings(updates=1)
    _, begin = calibrate(network, features, times_s, said, settings, decoder=Faint())
    assert 0.42 < begin <= 0.5


def test_a_video_in_which_nothing_is_sure_teaches_nothing(network) -> None:
    quiet = along(network, np.full((60, 56, 624, 4), 128, np.uint8))
    said = np.zeros((60, 3, 88), np.float32)
    with pytest.raises(ConfigError, match="sure of 0 notes in the first 40 frames"):
        calibrate(network, quiet, np.arange(60) / 30, said, CalibrationSettings(updates=1))


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(tmp_path) -> None:
    clips = [blinking(seed) for seed in range(3)]
    settings = TrainingSettings(updates=6, batch=1, crop_frames=8)

    def train(checkpoint: Checkpoint | None, stop_at: int | None) -> PianoNetwork:
        torch.manual_seed(0)

        def on_progress(update: int, loss: float) -> None:
            if update == stop_at:
                raise KeyboardInterrupt

        return fit(PianoNetwork(SMALL), lambda i: clips[i % 3], settings, on_progress, checkpoint)

    whole = train(None, None)
    kept = Checkpoint(tmp_path / "c.pt", every=3)
    with pytest.raises(KeyboardInterrupt):
        train(kept, 4)
    resumed = train(kept, None)
    for one, two in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(one, two)


def test_a_share_of_new_weights_lies_between_the_networks_before_and_after(
    network, tmp_path
) -> None:
    card = Card(system=SYSTEM, network=network_facts(SMALL))
    save_trained(tmp_path / "before", Trained(network, card))
    clips = tmp_path / "clips"
    clips.mkdir()
    for seed in (0, 1, 1_000_000):
        clip = blinking(seed)
        about = np.array([clip.left, clip.px_per_white, clip.camera_u])
        np.savez(clips / f"{seed:07d}.npz", strips=clip.strips, times_s=clip.times_s,
                 presses=clip.presses, about=about)  # fmt: skip
    settings = TrainingSettings(updates=2, batch=1, crop_frames=8)
    told: list[tuple[str, int, int]] = []

    def trained(share: float) -> Trained:
        recipe = Recipe(training=settings, clips=2, validation_clips=1, share=share)
        out = tmp_path / str(share)
        return train_piano(
            recipe, out, clips=clips, start=tmp_path / "before",
            on_progress=lambda stage, done, total, loss: told.append((stage, done, total)),
        )  # fmt: skip

    after, mixed = trained(1.0), trained(0.25)
    assert told[-3:] == [("judging", 0, 2), ("judging", 1, 2), ("judging", 2, 2)]
    assert mixed.card.training["share"] == 0.25
    ends = zip(network.named_parameters(), after.network.parameters(), strict=True)
    for ((name, old), new), found in zip(ends, mixed.network.parameters(), strict=True):
        if name != "out.bias":  # Levelled afterwards.
            torch.testing.assert_close(found, 0.75 * old + 0.25 * new)
            assert not torch.equal(old, new)


def test_a_network_to_go_on_from_keeps_its_size(tmp_path) -> None:
    with pytest.raises(ConfigError, match="has its size; leave --large out"):
        train("audeo", out=tmp_path / "new", large=True, finetune=ZOO / "piano")
    assert not list(tmp_path.iterdir())


def test_a_share_of_new_weights_needs_old_ones(tmp_path) -> None:
    with pytest.raises(ConfigError, match="--share goes with --finetune"):
        train("audeo", out=tmp_path / "new", share=0.5)
    assert not list(tmp_path.iterdir())


def test_to_get_used_to_a_video_takes_a_network_and_no_settings_of_training(tmp_path) -> None:
    out, video = tmp_path / "new", tmp_path / "minute.mp4"
    with pytest.raises(ConfigError, match="--unlabelled goes with --finetune"):
        train("audeo", out=out, unlabelled=video)
    with pytest.raises(ConfigError, match="--unlabelled does not use --decoder, --clips; leave"):
        train("audeo", out=out, unlabelled=video, finetune=tmp_path, clips=9, decoder=True)
    assert not out.exists()


def test_after_a_video_that_will_not_do_the_same_folder_takes_another(tmp_path) -> None:
    out, zoo = tmp_path / "new", Path(__file__).parents[3] / "models" / "zoo" / "piano"
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(RecordingError, match="is not there"):
        train("audeo", out=out, finetune=zoo, unlabelled=tmp_path / "typo.mp4")
    with pytest.raises(RecordingError, match="is empty"):
        train("audeo", out=out, finetune=zoo, unlabelled=tmp_path / "empty.mp4")
    with pytest.raises(ModelError, match="is a file; give the folder"):
        train("audeo", out=out, finetune=tmp_path / "empty.mp4", unlabelled=tmp_path / "typo.mp4")
    save_trained(out, load_trained(zoo))
    with pytest.raises(ConfigError, match="holds a trained network already"):
        train("audeo", out=out, finetune=zoo, unlabelled=tmp_path / "typo.mp4")


def test_a_trained_network_comes_back_from_its_folder(network, tmp_path) -> None:
    card = Card(system=SYSTEM, network=network_facts(SMALL), threshold=0.6)
    save_trained(tmp_path / "t", Trained(network, card))
    back = load_trained(tmp_path / "t")
    assert back.card == card
    fresh = strips(4)
    torch.testing.assert_close(run_through(back.network, fresh), run_through(network, fresh))

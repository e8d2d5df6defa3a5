"""What corrects the piano network: causal, the same for every octave, better than a threshold."""

from pathlib import Path

import numpy as np
import pytest
import torch

from exporters.audeo import export_piano
from models.audeo.dataset import load_clip
from models.audeo.decoder import Decoder, DecoderConfig
from models.audeo.decoder_recipe import train_decoder
from models.audeo.decoder_training import DecoderSettings, Performance, fit_decoder
from models.audeo.evaluation import (
    THRESHOLDS,
    best_threshold,
    notes_of,
    of_file,
    of_network,
    truth_of,
)
from models.audeo.network import LOOK_AHEADS, PianoConfig, PianoNetwork
from models.audeo.performances import make_performance
from models.audeo.scores import Score, match
from models.audeo.trained import SYSTEM, Card, Trained, load_trained, network_facts, save_trained
from models.commands.train_piano import train
from models.trained_folder import WEIGHTS
from stream.errors import ConfigError, ModelError
from stream.files import file_sha256
from stream.music.keyboard import IS_BLACK, KEYS, LOWEST_PITCH

ZOO = Path(__file__).parents[3] / "models" / "zoo"
SMALL = PianoConfig(channels=(4, 6, 8), features=8, memory=8)


@pytest.fixture
def decoder() -> Decoder:
    """A decoder that learned nothing, whose corrections are large."""
    torch.manual_seed(0)
    made = Decoder(DecoderConfig(gist=3, hidden=6))
    for parameter in made.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return made.eval()


def doubtful(seed: int) -> Performance:
    """What a network might say that takes black keys for the white ones that are played.

    It is as sure of the one as of the other, but the white key then stays down.
    """
    random = np.random.default_rng(seed)
    times_s = np.arange(150) / 30
    logits = random.normal(-7, 0.5, (150, KEYS, len(LOOK_AHEADS), 3)).astype(np.float32)
    presses = []
    whites = np.flatnonzero(~IS_BLACK[:-1] & IS_BLACK[1:])
    for number, key in enumerate(random.choice(whites[whites > 2], 16, replace=False)):
        begin = 8 + 8 * number
        for at in (key, key + 1):
            logits[begin : begin + 2, at, :2, 0] = random.normal(0.5, 1.0)
        logits[begin : begin + 6, key, :, 1] = 3
        presses.append(
            [key + LOWEST_PITCH, times_s[begin] - 0.005, times_s[begin + 6], 64, 1, 0, 0]
        )
    return Performance(torch.from_numpy(logits), np.ones(KEYS, bool), times_s, np.array(presses))


def best_f1(onsets: list[torch.Tensor], performances: list[Performance]) -> float:
    """Onset F1 within 50 ms, by the notes of `piano.notes` at their best threshold."""
    scores = []
    for begin in THRESHOLDS:
        total = Score()
        for logits, p in zip(onsets, performances, strict=True):
            found = torch.sigmoid(logits).numpy().transpose(0, 2, 1)
            truth = truth_of(p.presses, p.times_s, p.counts)
            total += match(notes_of(found, p.times_s, begin), truth).score
        scores.append(total.f1)
    return max(scores)


def test_what_comes_later_changes_nothing(decoder) -> None:
    first = doubtful(0).logits[:40]
    second = first.clone()
    second[30:] = 2.0
    before, after = decoder.decode(first), decoder.decode(second)
    torch.testing.assert_close(before[:30], after[:30])
    assert not torch.allclose(before[30:, :, 0, 0], first[30:, :, 0, 0])


def test_only_onsets_without_look_ahead_are_corrected(decoder) -> None:
    logits = doubtful(0).logits[:20]
    decoded = decoder.decode(logits)
    assert not torch.allclose(decoded[:, :, 0, 0], logits[:, :, 0, 0])
    torch.testing.assert_close(decoded[:, :, 1:], logits[:, :, 1:])
    torch.testing.assert_close(decoded[:, :, 0, 1:], logits[:, :, 0, 1:])


def test_an_octave_higher_it_says_the_same(decoder) -> None:
    low = torch.full((20, KEYS, len(LOOK_AHEADS), 3), -8.0)
    low[:, 20:50] = doubtful(0).logits[:20, 20:50]
    high = low.roll(12, dims=1)
    torch.testing.assert_close(decoder.decode(low)[:, 20:50], decoder.decode(high)[:, 32:62])


def test_a_view_of_some_keys_is_decoded_as_if_the_others_were_silent(decoder) -> None:
    whole = torch.full((10, KEYS, len(LOOK_AHEADS), 3), -8.0)
    whole[:, 24:60] = doubtful(1).logits[8:18, 24:60]
    part = decoder.decode(whole[:, 24:60], 24)
    # A silent key is not quite as silent as one that is not there.
    torch.testing.assert_close(part, decoder.decode(whole)[:, 24:60], atol=0.02, rtol=0)


def test_however_sure_a_network_is_what_is_decoded_is_finite(decoder) -> None:
    logits = torch.full((5, KEYS, len(LOOK_AHEADS), 3), 1e30)
    logits[:, ::2] = -1e30
    assert torch.isfinite(decoder.decode(logits)[:, :, 0, 0]).all()


@pytest.fixture(scope="module")
def learned() -> Decoder:
    """A decoder that learned from such performances."""
    losses: list[float] = []
    decoder = fit_decoder(
        [doubtful(seed) for seed in range(6)],
        DecoderSettings(passes=25, batch=2),
        lambda pass_, loss: losses.append(loss),
    )
    assert losses[-1] < 0.6 * losses[0]
    return decoder


def test_it_learns_from_neighbours_what_no_threshold_tells(learned) -> None:
    others = [doubtful(seed) for seed in (11, 12)]
    plain = best_f1([p.logits[:, :, 0] for p in others], others)
    decoded = best_f1([learned.decode(p.logits)[:, :, 0] for p in others], others)
    assert plain < 0.75
    assert decoded > plain + 0.15


def test_each_frame_of_the_file_is_decoded_as_in_training(decoder, tmp_path) -> None:
    torch.manual_seed(0)
    network = PianoNetwork(SMALL).eval()
    network.out.bias.data += 3 + torch.randn(len(network.out.bias))
    facts = {"not_decoded": {"onset F1 50 ms": 0.8}}
    card = Card(
        system=SYSTEM, network=network_facts(SMALL), scores={"onset F1 50 ms": 0.9}, decoder=facts,
    )  # fmt: skip
    trained = Trained(network, card, decoder)
    random = np.random.default_rng(0)
    strips = random.integers(0, 256, (3, 12, 56, 624, 4)).astype(np.uint8)
    path = tmp_path / "piano.onnx"
    contract = export_piano(trained, "0" * 64, strips[:2], path)
    assert [score.value for score in contract.scores] == [0.9]
    assert {"answers", "traces"} <= {state.input for state in contract.states}
    run, _ = of_file(path)
    whole = of_network(network, 0, decoder)(strips[2], 0)
    np.testing.assert_allclose(run(strips[2], 0), whole, atol=1e-5)
    assert not np.allclose(whole, of_network(network)(strips[2], 0), atol=1e-2)
    late = export_piano(trained, "0" * 64, strips[:2], path, look_ahead=1)
    assert "traces" not in {state.input for state in late.states}
    assert [score.value for score in late.scores] == [0.8]


def test_a_folder_gets_a_decoder_beside_its_network(tmp_path) -> None:
    s = DecoderSettings(clips=0, performances=4, validation_clips=2, passes=1)
    seen = tmp_path / f"seen-by-{file_sha256(ZOO / 'piano' / WEIGHTS)[:8]}"
    seen.mkdir()
    for seed in range(4):
        p = doubtful(seed)
        np.savez(seen / f"{seed:05d}.npz", logits=p.logits.half().numpy(), times_s=p.times_s,
                 presses=p.presses)  # fmt: skip
    out = tmp_path / "out"
    made = train_decoder(ZOO / "piano", out, clips=tmp_path, settings=s)
    back = load_trained(out)
    assert back.decoder is not None
    assert back.card.decoder is not None
    others = [load_clip(path) for path in sorted(tmp_path.glob("*.npz"))]
    assert len(others) == 2
    # Levelled, so that one threshold is the best with the decoder and without it.
    assert back.card.threshold == best_threshold(others, of_network(back.network))
    assert back.card.threshold == best_threshold(others, of_network(back.network, 0, back.decoder))
    assert back.card.decoder["not_decoded"].keys() == back.card.scores.keys()
    logits = doubtful(9).logits
    torch.testing.assert_close(back.decoder.decode(logits), made.decoder.decode(logits))


def test_a_decoder_needs_a_network_and_takes_no_settings_of_one(tmp_path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="--decoder goes with --finetune"):
        train("audeo", out=out, decoder=True)
    with pytest.raises(ConfigError, match="--decoder does not use --updates, --share; leave"):
        train("audeo", out=out, decoder=True, finetune=ZOO / "piano", updates=5, share=0.5)
    assert not out.exists()


def test_a_folder_whose_decoder_is_gone_is_refused(decoder, tmp_path) -> None:
    torch.manual_seed(0)
    facts = {"network": {"gist": 3, "hidden": 6}}
    card = Card(system=SYSTEM, network=network_facts(SMALL), decoder=facts)
    save_trained(tmp_path, Trained(PianoNetwork(SMALL), card, decoder))
    assert load_trained(tmp_path).decoder is not None
    (tmp_path / "decoder.pt").unlink()
    with pytest.raises(ModelError, match=r"decoder\.pt"):
        load_trained(tmp_path)


def test_a_performance_is_the_same_for_a_seed_and_shows_all_keys(monkeypatch) -> None:
    monkeypatch.setattr("models.audeo.performances.PERFORMANCE_S", 0.7)
    one, two = make_performance(0, []), make_performance(0, [])
    assert one.strips.shape[1:] == (56, 624, 3)
    np.testing.assert_array_equal(one.strips, two.strips)

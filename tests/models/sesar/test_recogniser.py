"""The network, its training, the folder that it leaves, and its commands."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from exporters.commands.export import export
from models.commands.evaluate_actions import evaluate
from models.commands.train_actions import train
from models.sesar.augment import Augmentation, Sampler
from models.sesar.dataset import CLASSES, load_training_data
from models.sesar.evaluation import (
    accuracy,
    confusion,
    fit_temperature,
    judge,
    judge_streams,
    plain_streams,
)
from models.sesar.live import debounced, fit_threshold, rate_agreement
from models.sesar.network import Sesar, SesarConfig
from models.sesar.objectives import ClipLoss
from models.sesar.offline import Offline
from models.sesar.recipe import Recipe, train_recogniser
from models.sesar.streams import Streams
from models.sesar.trained import load_trained
from models.sesar.training import Progress, TrainingSettings, fit
from stream.errors import ConfigError, ModelError

N = len(CLASSES)
TINY = SesarConfig(N, hidden=24)
SHORT = TrainingSettings(updates=6, batch=16, check_every=2)
RECIPE = Recipe(network=TINY, members=2, pretraining=SHORT, training=SHORT)


def network() -> Sesar:
    torch.manual_seed(0)
    made = Sesar(TINY).eval()
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made


def walk(clips: int = 2, ticks: int = 30) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(clips, 1, 20, 3) + 0.05 * torch.randn(clips, ticks, 20, 3).cumsum(1)


def test_what_comes_later_changes_nothing_before():
    joints = walk()
    other = joints.clone()
    other[:, 20:] += 1.0
    with torch.no_grad():
        before, after = network()(joints)[0], network()(other)[0]
    torch.testing.assert_close(before[:, :20], after[:, :20])
    assert not torch.allclose(before[:, 20:], after[:, 20:])


def test_where_a_person_stands_and_looks_changes_nothing():
    joints = walk()
    angle = torch.tensor(1.1)
    c, s = angle.cos(), angle.sin()
    turn = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    moved = joints @ turn + torch.tensor([1.0, -0.5, 2.0])
    with torch.no_grad():
        torch.testing.assert_close(network()(joints)[0], network()(moved)[0], atol=1e-4, rtol=0)


def test_distances_do_not_depend_on_the_heading():
    turned = network().features(walk(), torch.tensor([0.3, -0.3]))
    straight = network().features(walk())
    torch.testing.assert_close(turned[..., 9 * 20 :], straight[..., 9 * 20 :])
    assert not torch.allclose(turned[..., : 9 * 20], straight[..., : 9 * 20])


def test_the_read_out_is_a_running_mean_that_can_forget():
    made = network()
    with torch.no_grad():
        states = made.encode(walk(1, 12))
        made.head.weight[N:] = 0.0
        made.head.bias[N:] = torch.tensor([0.0, 40.0])  # all ticks weigh the same, none is lost
        logits, evidence = made.read(states)
        torch.testing.assert_close(logits[0, -1], evidence[0].mean(0))
        made.head.bias[N:] = torch.tensor([0.0, -40.0])  # nothing of the past is kept
        logits, evidence = made.read(states)
        torch.testing.assert_close(logits, evidence)


def test_a_network_that_reads_both_ways_sees_the_end_of_a_clip_and_nothing_after_it():
    torch.manual_seed(0)
    made = Offline(TINY).eval()
    joints, length = walk(), torch.tensor([20, 25])
    with torch.no_grad():
        before = made.whole(joints, length)
        torch.testing.assert_close(before, made.whole(joints[:, :25], length))
        joints[:, 19] += 1.0
        assert not torch.allclose(before, made.whole(joints, length))


def test_a_network_learns_to_tell_movements(actions):
    torch.manual_seed(0)
    made = Sesar(TINY)
    train, test = actions.select(actions.view != 3), actions.select(actions.view == 3)
    settings = TrainingSettings(updates=120, batch=32, learning_rate=5e-3)
    fit(made, ClipLoss(train, 32, Augmentation(mirror=0.0)), settings)
    found = judge(lambda joints: made(joints)[0].softmax(-1), test)
    assert accuracy(found, test.label)[-1] > 0.6


def test_training_leaves_a_folder_that_says_what_it_is(folders, tmp_path):
    learned, others, about = load_training_data(*folders)
    seen: list[str] = []

    def watch(stage: str, progress: Progress) -> None:
        seen.append(stage)

    trained = train_recogniser(
        learned, others, RECIPE, tmp_path / "run", about=about, on_progress=watch
    )
    assert seen[0] == "trial: member 1, without labels"
    assert seen[-1] == "member 2"
    loaded = load_trained(tmp_path / "run")
    assert loaded.card.scores == trained.card.scores
    assert loaded.network.temperature == trained.network.temperature
    assert 0.55 <= loaded.card.threshold <= 0.95
    assert loaded.card.training["held_out_subjects"] == [1]
    assert 0 <= loaded.card.scores["accuracy at 100 %"] <= 1
    joints = walk()
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(joints), trained.network(joints))
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "card.json", "recipe.json", "weights.pt",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="holds a trained network already"):
        train_recogniser(learned, others, RECIPE, tmp_path / "run", about=about)


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(folders, tmp_path):
    learned, others, about = load_training_data(*folders)
    whole = train_recogniser(learned, others, RECIPE, tmp_path / "whole", about=about)

    class StoppedError(Exception):
        pass

    def stop(stage: str, progress: Progress) -> None:
        if stage == "member 1" and progress.update == 4:
            raise StoppedError

    with pytest.raises(StoppedError):
        train_recogniser(learned, others, RECIPE, tmp_path / "a", about=about, on_progress=stop)
    with pytest.raises(ModelError, match="--resume"):
        load_trained(tmp_path / "a")
    with pytest.raises(ConfigError, match="go on with --resume"):
        train_recogniser(learned, others, RECIPE, tmp_path / "a", about=about)
    other = replace(RECIPE, members=1)
    with pytest.raises(ConfigError, match="other data or settings"):
        train_recogniser(learned, others, other, tmp_path / "a", about=about, resume=True)
    again = train_recogniser(learned, others, RECIPE, tmp_path / "a", about=about, resume=True)
    for a, b in zip(whole.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_one_person_alone_is_not_enough(folders, tmp_path):
    learned, others, about = load_training_data(*folders)
    alone = learned.select(learned.subject == 1)
    with pytest.raises(ConfigError, match="record at least two"):
        train_recogniser(alone, others, RECIPE, tmp_path / "run", about=about)


def test_labels_are_judged_by_the_shares_of_a_sequence_that_were_seen(actions):
    truth = torch.from_numpy(np.eye(N, dtype=np.float32)[actions.label])

    def always_right(joints: torch.Tensor) -> torch.Tensor:
        sampler = Sampler(actions)
        rows = []
        for clip in joints:
            for number in range(len(actions)):
                own = sampler.whole(torch.tensor([number])).joints[0, 0]
                if torch.allclose(own, clip[0]):
                    rows.append(truth[number].expand(joints.shape[1], -1))
        return torch.stack(rows)

    found = judge(always_right, actions)
    assert accuracy(found, actions.label) == [1.0] * 4
    np.testing.assert_array_equal(confusion(found[-1], actions.label), 9 * np.eye(10))


def test_streams_are_judged_by_their_ticks(actions, others):
    streams = plain_streams(actions, others, 8)
    truth = torch.nn.functional.one_hot(streams.label, N).float()
    right = judge_streams(truth, streams)
    assert right.accuracy == right.macro_f1 == right.hit == 1.0
    assert right.false_per_minute == right.onset_s == 0.0
    nothing = torch.nn.functional.one_hot(torch.full_like(streams.label, N - 1), N).float()
    idle = judge_streams(nothing, streams)
    assert idle.hit == idle.false_per_minute == 0.0
    assert idle.macro_f1 < 0.2


def test_a_label_that_outlasts_its_action_is_false_and_yet_not_unprompted(actions, others):
    streams = plain_streams(actions, others, 8)
    late = streams.label.roll(2, 1)
    late[:, :2] = streams.label[:, :1]
    found = judge_streams(torch.nn.functional.one_hot(late, N).float(), streams)
    assert found.false_per_minute > 0
    assert found.unprompted_per_minute == 0.0
    always = torch.nn.functional.one_hot(torch.zeros_like(streams.label), N).float()
    wrong = judge_streams(always, streams, lambda p: p.argmax(-1) * 0)
    assert wrong.unprompted_per_minute == 0.0  # one endless label touches actions too
    away = torch.where(streams.label == N - 1, torch.arange(200) % 2, streams.label)
    found = judge_streams(torch.nn.functional.one_hot(away, N).float(), streams)
    assert found.unprompted_per_minute > 100


def test_live_labels_begin_when_sure_and_last_while_likely():
    p = np.zeros((12, N), np.float32)
    p[2, 3] = p[6:9, 4] = 0.5
    p[5, 4] = 0.9
    assert debounced(p).tolist() == [N - 1] * 5 + [4] * 4 + [N - 1] * 3


def test_the_temperature_makes_overconfident_probabilities_right():
    random = np.random.default_rng(0)
    logits = random.standard_normal((4000, 3))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    label = np.array([random.choice(3, p=row) for row in p])
    sharp = p**3 / (p**3).sum(1, keepdims=True)
    assert fit_temperature(sharp.astype(np.float32), label) == pytest.approx(3.0, rel=0.1)


def test_the_threshold_is_the_highest_that_costs_no_right_labels():
    """An action is as sure as 0.72 while it is shown, and 0.58 is said of it where it is not."""
    label = torch.full((4, 60), N - 1)
    label[:, 20:40] = 2
    p = torch.zeros(4, 60, N)
    p[..., 2] = torch.where(label == 2, 0.72, 0.58)
    p[..., N - 1] = 1 - p[..., 2]
    clip = torch.where(label == 2, 0, -1)
    streams = Streams(torch.zeros(4, 60, 20, 3), label, torch.ones(4, 60), clip)
    assert fit_threshold(p, streams) == 0.7


def test_missing_frames_of_a_straight_movement_change_no_label(others):
    def by_height(joints: torch.Tensor) -> torch.Tensor:
        return joints[..., 7, 1:2] * torch.tensor([1.0, -1.0])

    assert rate_agreement(by_height, others.select(np.arange(4)), 1, 0.0) == 1.0
    assert rate_agreement(by_height, others.select(np.arange(4)), 3, 0.2) > 0.7


def test_the_commands_lead_from_recordings_to_a_measured_model_file(folders, tmp_path):
    ucla, utd = folders
    run, model, table = (tmp_path / name for name in ("run", "a.onnx", "table.json"))
    train("sesar", data=ucla, background=utd, out=run, members=1, updates=2, pretraining=2)
    export(run, out=model)
    for kind in (run, model):
        evaluate("sesar", data=ucla, background=utd, model=kind, json_file=table)
        (row,) = json.loads(table.read_text())["rows"]
        assert 0 <= row["accuracy_100"] <= 1
        assert row["agreement_15 Hz"] > 0.5
    evaluate("sesar", data=ucla, background=utd, model=run, plots=tmp_path / "plots")
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {"confusion.png", "tsne.png"}
    with pytest.raises(ConfigError, match="--quantise"):
        export(run, out=model, quantise="int8")
    with pytest.raises(ConfigError, match="--plots"):
        evaluate("sesar", data=ucla, background=utd, model=model, plots=tmp_path)


def test_a_system_that_is_not_there_is_one_sentence(innervate_here):
    done = innervate_here("train", "transformer")
    assert done.code == 2
    assert "there is no system 'transformer' to train" in done.err
    assert "--background" in innervate_here("train", "sesar", "--help").out

"""How well actions are recognised: with all labels, with few, and beside Predict & Cluster."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks._results import JsonFile, Row, write_result
from exporters.sesar import export_sesar
from models.sesar.dataset import (
    ACTIONS,
    Sequences,
    by_subject,
    cross_view,
    load_ucla,
    load_utd,
    odd_subjects,
    with_own_labels,
)
from models.sesar.evaluation import SEEN, accuracy, judge, judge_streams, plain_streams
from models.sesar.few_labels import BUDGETS, floor, reduced, run_rounds
from models.sesar.network import Sesar
from models.sesar.objectives import ClipLoss
from models.sesar.offline import Offline, OfflineLoss, judge_whole
from models.sesar.plots import latents
from models.sesar.published import (
    PredictCluster,
    Prepared,
    PublishedConfig,
    PublishedLoss,
    features,
    nearest_neighbour,
    prepare,
)
from models.sesar.recipe import Recipe, pretrain, train_committee
from models.sesar.selection import RULES, Round
from models.sesar.trained import SYSTEM, Card, Committee, load_trained
from models.sesar.training import TrainingSettings, fit
from stream.errors import ConfigError
from stream.inference import StreamingSession

TASKS = ("accuracy", "people", "labels", "published", "utd-mhad", "cost")
_FOLDS = ((1, 3, 8), (2, 5, 9), (4, 6, 7, 10))
"""People of NW-UCLA that are held out together."""
_WITHOUT_LABELS = 1000
"""Updates of the encoder whose latents labels are chosen on."""


def run(
    task: Annotated[str, typer.Argument(help=f"One of {', '.join(TASKS)}.")],
    *,
    data: Annotated[Path, typer.Option(help="Folder with the JSON files of NW-UCLA.")],
    background: Annotated[Path, typer.Option(help="Folder with the skeletons of UTD-MHAD.")],
    seeds: Annotated[int, typer.Option(min=1, help="Trainings, or draws of labels.")] = 3,
    updates: Annotated[int | None, typer.Option(help="Optimiser steps with labels.")] = None,
    pretraining: Annotated[int | None, typer.Option(help="Optimiser steps without.")] = None,
    trained: Annotated[
        Path | None,
        typer.Option(help="Folder of a training that `accuracy` measures."),
    ] = None,
    hidden: Annotated[int, typer.Option(help="Units a direction, for `published`.")] = 256,
    json_path: JsonFile = None,
) -> dict[str, Any]:
    """Learn from views 1 and 2 of NW-UCLA, measure on view 3.

    accuracy: causal networks by the share of a sequence that was seen, each alone and all together
    (or those of `--trained`), and one that reads sequences both ways. people: the same on people
    never seen. labels: accuracy by number of labels and rule of selection, on latents learned
    without labels, with and without knowing which recordings were made together. published:
    Predict & Cluster and SESAR. utd-mhad: the same settings on UTD-MHAD, odd subjects to learn
    from, even ones to test on. cost: of a tick.
    """
    if task not in TASKS:
        raise ConfigError(f"there is no task '{task}'; there are {', '.join(TASKS)}.")
    torch.set_num_threads(1)
    threadpool_limits(1)  # of scikit-learn
    recipe = Recipe(members=seeds)
    if updates is not None:
        recipe = replace(recipe, training=replace(recipe.training, updates=updates))
    if pretraining is None and task == "labels":
        pretraining = _WITHOUT_LABELS
    if pretraining is not None:
        recipe = replace(recipe, pretraining=replace(recipe.pretraining, updates=pretraining))
    ucla, utd = load_ucla(data), load_utd(background)
    console = Console()
    conditions = {
        "seeds": seeds, "updates": recipe.training.updates, "threads": 1,
        "pretraining": recipe.pretraining.updates,
        "split": "UTD-MHAD: odd subjects to learn from, even ones to test on"
        if task == "utd-mhad"
        else "NW-UCLA cross-view: views 1, 2 to learn from, view 3 to test on",
    }  # fmt: skip
    rows: list[Row] = []
    made = {
        "accuracy": lambda: _accuracy(ucla, utd, recipe, trained),
        "people": lambda: _people(ucla, utd, recipe),
        "labels": lambda: _labels(ucla, recipe, seeds),
        "published": lambda: _published(ucla, hidden, recipe.training.updates),
        "utd-mhad": lambda: _utd(utd, recipe),
        "cost": lambda: _cost(ucla, utd),
    }[task]()
    for row in made:
        rows.append(row)
        console.print(_text(row))
        write_result(f"action {task}", conditions, rows, json_path)
    _show(rows, console)
    return write_result(f"action {task}", conditions, rows, json_path)


def _accuracy(
    ucla: Sequences, utd: Sequences, recipe: Recipe, trained: Path | None
) -> Iterator[Row]:
    learned, test = cross_view(ucla)
    background, others = odd_subjects(utd)
    if trained is not None:
        committee = load_trained(trained).network
    else:
        committee = _trained(learned, background, recipe)
    streams = plain_streams(test, others, 60)
    for name, network in _alone_and_together(committee):
        with torch.no_grad():
            found = asdict(judge_streams(network(streams.joints), streams))
        yield {
            **name, **_by_share(accuracy(judge(network, test), test.label)),
            **{f"stream {k}": v for k, v in found.items()},
        }  # fmt: skip
    for seed in range(recipe.members):
        torch.manual_seed(seed)
        offline = Offline(replace(recipe.network, classes=len(ACTIONS)))
        settings = replace(recipe.training, seed=seed)
        fit(offline, OfflineLoss(learned, settings.batch, recipe.augmentation), settings)
        shares = accuracy(judge_whole(offline, test), test.label)
        yield {"model": "offline, both ways", "seed": seed, **_by_share(shares)}


def _people(ucla: Sequences, utd: Sequences, recipe: Recipe) -> Iterator[Row]:
    """Learn from other people in views 1 and 2; test on the rest in view 3."""
    learned, test = cross_view(ucla)
    background, _ = odd_subjects(utd)
    folds = [people for people in _FOLDS if np.isin(test.subject, people).any()]
    for number, out in enumerate(folds):
        committee = _trained(by_subject(learned, out)[0], background, recipe)
        seen_not = by_subject(test, out)[1]
        for name, network in _alone_and_together(committee):
            shares = accuracy(judge(network, seen_not), seen_not.label)
            yield {**name, "fold": number, "sequences": len(seen_not), **_by_share(shares)}


def _utd(utd: Sequences, recipe: Recipe) -> Iterator[Row]:
    own = with_own_labels(utd)
    learned, test = odd_subjects(own)
    classes = int(own.label.max()) + 1
    # Some of these actions differ only in whether they go left or right.
    recipe = replace(
        recipe,
        network=replace(recipe.network, classes=classes),
        augmentation=replace(recipe.augmentation, mirror=0.0),
    )
    committee = Committee(recipe.network, recipe.members)
    for seed, member in enumerate(committee.members):
        assert isinstance(member, Sesar)
        pretrain(member, learned, recipe, seed)
        settings = replace(recipe.training, seed=seed)
        fit(member, ClipLoss(learned, settings.batch, recipe.augmentation), settings)
    for name, network in _alone_and_together(committee.eval()):
        yield {**name, **_by_share(accuracy(judge(network, test, classes), test.label))}


def _trained(learned: Sequences, background: Sequences, recipe: Recipe) -> Committee:
    with tempfile.TemporaryDirectory() as folder:
        return train_committee(learned, background, recipe, Path(folder))


def _alone_and_together(committee: Committee) -> Iterator[tuple[Row, Committee]]:
    """Give each member as a committee of its own, then all of them."""
    for number, member in enumerate(committee.members):
        alone = Committee(committee.config, 1, committee.temperature)
        alone.members[0].load_state_dict(member.state_dict())
        yield {"model": "causal, one network", "seed": number}, alone.eval()
    if len(committee.members) > 1:
        yield {"model": f"causal, {len(committee.members)} networks"}, committee


def _by_share(shares: Sequence[float]) -> Row:
    return {f"at {100 * s:.0f} %": a for s, a in zip(SEEN, shares, strict=True)}


def _labels(ucla: Sequences, recipe: Recipe, seeds: int) -> Iterator[Row]:
    learned, test = cross_view(ucla)
    for pairs in (0.0, 0.7):
        torch.manual_seed(0)
        encoder = Sesar(recipe.network)
        pretrain(encoder, learned, replace(recipe, pairs=pairs), 0)
        x, other = reduced(latents(encoder, learned), latents(encoder, test))
        train, tested = (x, learned.label), (other, test.label)
        about = {"camera pairs": bool(pairs)}
        yield {
            "rule": "nearest neighbour", **about, "labels": len(x),
            "accuracy": floor(train, tested, np.arange(len(x))),
        }  # fmt: skip
        for rule in RULES:
            for seed in range(seeds):
                found = run_rounds(rule, train, tested, seed)
                for budget in (b for b in BUDGETS if b in found):
                    yield {
                        "rule": rule, **about, "labels": budget, "seed": seed,
                        "accuracy": found[budget],
                    }  # fmt: skip


def _published(ucla: Sequences, hidden: int, updates: int) -> Iterator[Row]:
    learned, test = (prepare(part) for part in cross_view(ucla))

    def score(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
        return nearest_neighbour(a, learned.label.numpy(), b, test.label.numpy())

    yield {
        "model": "the sequences themselves", "1-NN": score(
            learned.frames.flatten(1).numpy(), test.frames.flatten(1).numpy()
        ),
    }  # fmt: skip
    settings = TrainingSettings(
        updates=updates, learning_rate=1e-3, weight_decay=0.0, clip=25.0, smooth=0.0
    )
    for decoding in ("fixed weights", "fixed states"):
        torch.manual_seed(0)
        network = PredictCluster(PublishedConfig(hidden=hidden, decoding=decoding))
        about = {"model": f"Predict & Cluster, {decoding}", "hidden": hidden}
        yield {**about, "updates": 0, "1-NN": score(*_both(network, learned, test))}
        began = time.process_time()
        fit(network, PublishedLoss(learned, settings.batch), settings)
        cpu_s = round(time.process_time() - began)
        found = score(*_both(network, learned, test))
        yield {**about, "updates": updates, "1-NN": found, "train_cpu_s": cpu_s}
        if decoding == "fixed weights":
            short = replace(settings, updates=max(1, updates // 4))
            yield from _sesar(network, learned, test, short)


def _sesar(
    network: PredictCluster, learned: Prepared, test: Prepared, settings: TrainingSettings
) -> Iterator[Row]:
    """Go on with SESAR: reconstruct all and classify what has a label, then ask for more labels."""
    labelled = np.zeros(len(learned.label), bool)
    probabilities = None
    for number, budget in enumerate(b for b in BUDGETS if b <= len(labelled)):
        x = features(network, learned).astype(np.float64)
        x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        count = budget - int(labelled.sum())
        labelled[RULES["MI"](Round(x, probabilities, labelled.copy(), count, number))] = True
        fit(
            network,
            PublishedLoss(learned, settings.batch, torch.from_numpy(labelled)),
            replace(settings, seed=number),
        )
        with torch.no_grad():
            made = [
                network.classifier(torch.from_numpy(f)).softmax(-1).double().numpy()
                for f in _both(network, learned, test)
            ]
        probabilities = made[0][None]
        yield {
            "model": "SESAR, joint training, MI", "hidden": network.config.hidden,
            "labels": budget, "updates": settings.updates,
            "accuracy": float((made[1].argmax(1) == test.label.numpy()).mean()),
        }  # fmt: skip


def _both(network: PredictCluster, learned: Any, test: Any) -> tuple[Any, Any]:
    return features(network, learned), features(network, test)


def _cost(ucla: Sequences, utd: Sequences) -> Iterator[Row]:
    streams = plain_streams(cross_view(ucla)[0], odd_subjects(utd)[0], 3).joints.numpy()
    for members in (1, 3):
        recipe = Recipe(members=members)
        recipe = replace(
            recipe,
            training=replace(recipe.training, updates=1),
            pretraining=replace(recipe.pretraining, updates=0),
        )
        with tempfile.TemporaryDirectory() as folder:
            network = train_committee(ucla, utd, recipe, Path(folder))
            path = Path(folder) / "model.onnx"
            card = Card(system=SYSTEM, network={}, members=members, classes=("",) * 11)
            export_sesar(network, card, "", streams, path)
            session = StreamingSession(path, "cpu")
            wall, cpu = [], []
            for pose in np.concatenate([streams[0]] * 20):
                began = time.perf_counter(), time.thread_time()
                session.step({"joints": pose})
                wall.append(time.perf_counter() - began[0])
                cpu.append(time.thread_time() - began[1])
            row: Row = {"model": f"{members} networks", "ticks": len(wall) - 500}
            # What other programs take away is in the first two only.
            for name, times in (("", wall), ("cpu_", cpu)):
                p50, p99 = 1e3 * np.percentile(times[500:], [50, 99])
                row |= {f"{name}p50_ms": float(p50), f"{name}p99_ms": float(p99)}
            yield row | {"file_bytes": path.stat().st_size}


def _text(row: Row) -> str:
    return ", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())


def _show(rows: list[Row], console: Console) -> None:
    """Print means over seeds and their standard deviation."""
    keys = [k for k in dict.fromkeys(k for row in rows for k in row) if k != "seed"]
    figures = [k for k in keys if any(isinstance(row.get(k), float) for row in rows)]
    names = [k for k in keys if k not in figures]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(k, "") for k in names), []).append(row)
    table = Table(*names, *figures, box=None)
    for group, members in groups.items():
        cells = []
        for figure in figures:
            values = [row[figure] for row in members if figure in row]
            spread = f" ±{np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread}" if values else "")
        table.add_row(*map(str, group), *cells)
    console.print(table)

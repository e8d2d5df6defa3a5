"""Early spectra say how good a network will be, and a sweep goes by them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.commands.sweep import sweep
from models.lyapunov.aelle import Aelle, AelleSettings
from models.lyapunov.prediction import (
    Chosen,
    PcaRidge,
    cross_validated,
    gaussian_process,
    ridge,
    summarise,
)
from models.lyapunov.sweep import finish_promising, grid
from models.spikes.simulated import WIDTH_S, coupled_population
from models.spikes.trained import load_trained
from stream.errors import ConfigError, RecordingError, RunError
from stream.spikes.nwb import write_recording

RANDOM = np.random.default_rng(0)
QUALITY = RANDOM.random(60)
# Spectra whose upper end bends with quality, with some noise.
SPECTRA = (
    -np.linspace(0.05, 1.5, 40) * (1 + (QUALITY[:, None] - 0.5) ** 2)
    - 0.3 * QUALITY[:, None] * (np.arange(40) < 8)
    + 0.01 * RANDOM.standard_normal((60, 40))
)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PcaRidge(40, 5),
        lambda: Aelle(40, AelleSettings(code=6, updates=80, learning_rate=0.01)),
    ],
    ids=["PCA", "AeLLE"],
)
def test_quality_is_predicted_from_spectra_that_were_not_seen(make) -> None:
    found = cross_validated(make, SPECTRA, QUALITY, folds=4, partitions=1)
    assert found.r2 > 0.7
    assert found.best == 6
    assert found.best_found >= 2


def test_what_has_nothing_to_do_with_quality_predicts_nothing() -> None:
    noise = RANDOM.standard_normal((60, 4))
    assert cross_validated(ridge, noise, QUALITY, partitions=2).r2 < 0.2


def test_codes_of_the_autoencoder_rebuild_spectra_better_than_their_mean() -> None:
    model = Aelle(40, AelleSettings(code=6, updates=80, learning_rate=0.01))
    model.fit(SPECTRA, QUALITY)
    assert model.codes(SPECTRA).shape == (60, 6)
    again = Aelle(40, model.settings).fit(SPECTRA, QUALITY)
    np.testing.assert_array_equal(model.predict(SPECTRA), again.predict(SPECTRA))


def test_a_spectrum_is_summed_up_in_four_figures_and_minus_infinity_is_bounded() -> None:
    spectra = np.array([[0.5, -1.0, -np.inf], [-3.0, -1.0, -2.0]])
    found = summarise(spectra)
    assert found.shape == (2, 4)
    np.testing.assert_allclose(found[:, 0], [0.5, -1.0])
    np.testing.assert_allclose(found[0, 2], (0.5 - 1 - 10) / 3)


def test_the_model_is_chosen_without_the_rows_that_it_is_judged_on() -> None:
    useful, useless = QUALITY[:, None] ** 3, RANDOM.standard_normal((60, 1))
    chosen = Chosen([((1,), ridge), ((0,), gaussian_process)])
    chosen.fit(np.hstack([useful, useless])[:40], QUALITY[:40])
    assert chosen.number == 1
    error = chosen.predict(np.hstack([useful, useless])[40:]) - QUALITY[40:]
    assert np.abs(error).max() < 0.2


def test_a_sweep_finishes_what_is_promising_and_stops_the_rest() -> None:
    early = np.linspace(1.0, 2.0, 20)
    final = 0.5 * early + 0.001 * RANDOM.standard_normal(20)
    done = list(finish_promising(early[:, None], early, lambda i: float(final[i])))
    assert int(np.argmin(final)) in done
    assert len(done) < 10
    assert len(set(done)) == len(done)


def test_a_sweep_of_few_settings_finishes_all_that_it_must() -> None:
    early = np.array([1.0, 1.1, 1.2])
    assert sorted(finish_promising(early[:, None], early, lambda i: early[i])) == [0, 1, 2]


def test_a_sweep_leaves_settings_that_diverged() -> None:
    early = np.array([1.0, np.inf, 1.1, 1.2, np.nan, 1.3, 1.4, 1.5])
    done = list(finish_promising(early[:, None], early, lambda i: 0.5 * early[i]))
    assert 0 in done
    assert not {1, 4} & set(done)
    with pytest.raises(ConfigError, match="none of 2 settings learned anything"):
        list(finish_promising(early[[1, 4], None], early[[1, 4]], lambda i: 0.0))


def test_the_command_writes_the_table_and_the_best_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "session.nwb"
    write_recording(coupled_population(0, units=6, bins=1000).recording, data)
    out = tmp_path / "swept"
    sweep(
        "gru", data=data, out=out, hidden="6", learning_rate="0.0001,0.003", dropout="0,0.2",
        updates=100,
    )  # fmt: skip
    table = json.loads((out / "sweep.json").read_text())
    rows = table["rows"]
    assert len(rows) == len(grid((6,), (1e-4, 3e-3), (0, 0.2)))
    finished = [row for row in rows if row["loss"] is not None]
    assert len(finished) == 4
    assert "saved" in capsys.readouterr().out
    best = min(finished, key=lambda row: row["loss"])
    card = load_trained(out / "best").card
    assert card.network["hidden"] == best["hidden"]
    assert card.training["learning_rate"] == best["learning_rate"]
    assert card.width_s == WIDTH_S
    assert sorted(path.name for path in out.iterdir()) == ["best", "sweep.json"]
    with pytest.raises(ConfigError, match="not empty"):
        sweep("gru", data=data, out=out)


@pytest.mark.parametrize(
    ("stage", "says", "left"),
    [
        ("_run", "keeps nothing until all settings are judged", []),
        ("train_system", "sweep.json has the table", ["sweep.json"]),
    ],
)
def test_a_sweep_that_is_interrupted_says_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, says: str, left: list[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    data, out = tmp_path / "session.nwb", tmp_path / "swept"
    write_recording(coupled_population(0, units=6, bins=1000).recording, data)
    monkeypatch.setattr(f"models.commands.sweep.{stage}", interrupted)
    settings = {"hidden": "6", "learning_rate": "0.003", "dropout": "0"}
    with pytest.raises(RunError, match=says) as ended:
        sweep("gru", data=data, out=out, updates=50, **settings)
    assert ended.value.exit_code == 130
    assert [path.name for path in out.iterdir()] == left


def test_a_recording_that_is_not_there_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RecordingError):
        sweep("gru", data=tmp_path / "none.nwb", out=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_grids_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    for options in ({"hidden": "4,many"}, {"dropout": "1.5"}, {"hidden": "0"}):
        with pytest.raises(ConfigError):
            sweep("gru", data=tmp_path / "none.nwb", out=tmp_path / "o", **options)
    with pytest.raises(ConfigError, match="there is gru"):
        sweep("stndt", data=tmp_path / "none.nwb", out=tmp_path / "o")

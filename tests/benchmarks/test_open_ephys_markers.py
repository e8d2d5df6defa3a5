"""How `innervate bench open-ephys` tells which markers came, and which did not."""

from functools import partial

import numpy as np

from benchmarks.open_ephys import HELD_SAMPLES, RATE_HZ, delays, expected_firings

LAP = 30_000
BLOCK = 600
# One spike every 50 ms, in the middle of a bin of 5 ms.
SAMPLES = np.arange(75, LAP, 1500)


def _sent():
    """Blocks that are sent 20 ms apart, and the firings of the bins that they complete."""
    blocks = [
        {
            "sample": k * BLOCK,
            "n": BLOCK,
            "t_ns": k * 20_000_000,
            "data_ns": k * 20_000_000 + 500_000,
        }
        for k in range(120)
    ]
    firings = []
    for lap in (0, 1):
        for sample in SAMPLES + lap * LAP:
            end = sample + 75
            block = next(b for b in blocks if b["sample"] + BLOCK - HELD_SAMPLES >= end)
            firing = {
                "source_ns": int(end) * 10**9 // RATE_HZ, "t_ns": block["t_ns"] + 1_500_000,
                "age_ms": 0.5,
            }  # fmt: skip
            firings.append(firing)
    return blocks, firings


def _markers(firings):
    """What a client notes down: when a marker came, its time stamp, its text."""
    return [[f["t_ns"] + 500_000, f["t_ns"] - 500_000, "fires"] for f in firings]


def _rows(blocks, firings, markers):
    return delays(firings, markers, blocks, partial(expected_firings, SAMPLES, LAP))


def test_a_delay_counts_from_the_block_that_completes_the_bin():
    blocks, firings = _sent()
    begun, complete = _rows(blocks, firings, _markers(firings))
    assert (begun["markers"], begun["lost"], begun["before_client"]) == (40, 0, 0)
    assert (begun["p50_us"], complete["p50_us"]) == (2000, 1500)


def test_a_marker_that_is_missing_in_the_middle_is_lost_and_those_before_the_client_are_not():
    blocks, firings = _sent()
    markers = _markers(firings)
    row, _ = _rows(blocks, firings, markers[5:20] + markers[21:])
    assert (row["markers"], row["before_client"], row["lost"]) == (34, 5, 1)


def test_a_spike_for_which_the_rule_never_fired_is_lost_too():
    blocks, firings = _sent()
    firings = firings[:20] + firings[21:]
    row, _ = _rows(blocks, firings, _markers(firings))
    assert (row["markers"], row["lost"]) == (39, 1)

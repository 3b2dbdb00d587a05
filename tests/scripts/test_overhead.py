from __future__ import annotations

from types import SimpleNamespace

import overhead
import pytest


def unit(phase: str, visit: int, seconds: float, traces: int, fetch: float) -> dict:
    return {
        "kind": "unit",
        "unit": {"trial_id": "t", "phase": phase, "visit": visit, "state": {"size": 100}},
        "seconds": seconds,
        "traces": traces,
        "hop_seconds": {"fetch": fetch},
        "state": {"size": 100, "sha256": f"digest-{visit}"} if phase == "train" else None,
    }


def run(scale: float = 1.0):
    report = SimpleNamespace(makespan=10 * scale, busy=(0.9, 0.8))
    records = [
        {"kind": "epoch"},
        unit("train", 0, 9 * scale, 1, 0.1),
        unit("train", 1, 2 * scale, 0, 0.0),
        unit("validate", 2, 1 * scale, 0, 0.1),
    ]
    return overhead.read_figures(20 * scale, report, records)


def test_a_journal_tells_units_and_bytes():
    measured = run()
    assert measured.units == (2,)  # without the one that was traced
    assert measured.work == 12
    assert (measured.written, measured.fetched) == (200, 200)  # what is held is not fetched
    assert measured.busy == 0.8


def test_overhead_is_of_pairs():
    local, on_spark = [run(), run(2), run()], [run(1.05), run(2.2), run(1.02)]
    rows = {row[0]: row[1] for row in overhead.figures(local, on_spark, 4000)}
    assert rows["Spark over local: training, median of pairs"] == pytest.approx(5)
    assert rows["  greatest of 3 pairs"] == pytest.approx(10)
    assert rows["states that differ between the sides"] == 0
    assert rows["model state moved / data set"] == pytest.approx(0.1)


def test_states_that_differ_are_counted():
    other = run()
    other.states["t", 1] = "another"
    other.states["t", 9] = "more"
    assert overhead.count_differences(run(), other) == 2

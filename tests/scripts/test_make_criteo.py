from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import make_criteo
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

SCRIPT = Path(make_criteo.__file__)
ROWS = 12_000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Rows in pieces of 5,000."""
    folder = tmp_path_factory.mktemp("criteo") / "rows"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make_criteo, "PIECE_ROWS", 5000)
        make_criteo.make(folder, ROWS, 3)
        yield folder, pd.read_parquet(folder)


def test_rows_have_criteos_shape(made):
    folder, frame = made
    assert len(list(folder.glob("part-*.parquet"))) == 3
    assert list(frame) == ["label", "probability", *make_criteo.NUMBERS, *make_criteo.CATEGORIES]
    assert len(frame) == ROWS
    assert set(frame["label"]) == {0, 1}
    counts = frame[make_criteo.NUMBERS]
    assert counts.min().min() >= 0
    assert (counts.isna().mean() < 0.45).all()
    assert frame["C9"].nunique() == 3
    assert frame["C3"].nunique() > 1000
    words = frame[make_criteo.CATEGORIES].stack()
    assert words.str.fullmatch("[0-9a-f]{8}").all()
    # Frequency falls with rank: the most frequent of 583 is far from rare.
    assert frame["C2"].value_counts(normalize=True).iloc[0] > 0.05


def test_the_told_ceiling_is_that_of_the_probabilities(made):
    folder, frame = made
    truth = json.loads((folder / "_truth.json").read_text())
    assert truth["auc"] == pytest.approx(
        roc_auc_score(frame["label"], frame["probability"]), abs=1e-4
    )
    assert truth["click_rate"] == frame["label"].mean()
    assert truth["click_rate"] == pytest.approx(make_criteo.CLICK_RATE, abs=0.02)
    # Labels are drawn from the probabilities: as many clicks as expected, in every part of them.
    tenths = pd.qcut(frame["probability"], 10)
    groups = frame.groupby(tenths, observed=True)
    gaps = groups["label"].mean() - groups["probability"].mean()
    assert np.abs(gaps).max() < 0.07


def test_more_rows_begin_with_the_same_ones(made, tmp_path):
    _, frame = made
    make_criteo.make(tmp_path / "fewer", 7000, 3)
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "fewer"), frame.iloc[:7000], check_exact=True
    )
    make_criteo.make(tmp_path / "other", 100, 4)
    assert not pd.read_parquet(tmp_path / "other")["C2"].equals(frame["C2"].iloc[:100])


def test_what_is_there_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "out")], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert f"{tmp_path / 'out'} exists" in done.stderr


def test_what_was_not_finished_leaves_nothing(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(make_criteo.pq, "write_table", fails)
    with pytest.raises(OSError, match="no space left"):
        make_criteo.make(tmp_path / "out", 10, 0)
    assert list(tmp_path.iterdir()) == []

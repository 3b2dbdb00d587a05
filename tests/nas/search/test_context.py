"""The parts of a search: what the driver chooses for its workers."""

from __future__ import annotations

import logging

import pandas as pd
import pyarrow as pa
import pytest

from cerebros_spark import LocalBackend
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.data import readers
from tests.nas.small_searches import columns, search, table

pytestmark = pytest.mark.usefixtures("simulated_training")

ARROW = f"reading shards with pyarrow {pa.__version__}"
PETASTORM = "reading shards with Petastorm 0.13.1"


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return table()


def fit(folder, frame, backend):
    model = search(folder, max_trials=2, bind=columns(backend=backend))
    result = model.fit(frame, epochs=1, batch_size=16, verbose=0, reproducible=True)
    return result.leaderboard().drop(columns="seconds").to_json(), result.get_history()


def test_both_readers_give_the_same_search(frame, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "cerebros_spark")
    outcomes = []
    for reader, line in (("petastorm", PETASTORM), ("arrow", ARROW)):
        monkeypatch.setattr(readers, "_logged", set())
        caplog.clear()
        outcomes.append(fit(tmp_path / reader, frame, LocalBackend(2, reader=reader)))
        lines = [message for message in caplog.messages if message.startswith("reading shards")]
        assert lines == [line]
    assert outcomes[0] == outcomes[1]


def test_the_environment_of_the_driver_decides(frame, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "cerebros_spark")
    monkeypatch.setattr(readers, "_logged", set())
    monkeypatch.setenv(readers.ENVIRONMENT, "arrow")
    fit(tmp_path, frame, LocalBackend(1))
    assert ARROW in caplog.messages
    assert PETASTORM not in caplog.messages


def test_an_unknown_reader_is_refused_at_once():
    with pytest.raises(ArgumentError, match="reader must be 'petastorm' or 'arrow', but got 'p'"):
        LocalBackend(1, reader="p")

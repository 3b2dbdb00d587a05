"""Results that are saved as a folder."""

from __future__ import annotations

import json

import pytest

from cerebros_spark.core.errors import ArgumentError, StoreError
from nas import ModelSelectionResult
from tests.nas.small_searches import columns, search, table

pytestmark = pytest.mark.usefixtures("simulated_training")


@pytest.fixture(scope="module")
def result(tmp_path_factory, simulated_training):
    hypermodel = search(tmp_path_factory.mktemp("run"), bind=columns())
    return hypermodel.fit(table(), epochs=1, verbose=0)


@pytest.fixture
def saved(result, tmp_path):
    result.save(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_result_replaces_the_one_that_was_saved_before(result, saved):
    content = json.loads((saved / "result.json").read_text())
    older = {**content, "objective": ["val_older", "min"]}
    (saved / "result.json").write_text(json.dumps(older))
    result.save(saved)
    assert json.loads((saved / "result.json").read_text()) == content
    loaded = ModelSelectionResult.load(saved)
    assert loaded.leaderboard().equals(result.leaderboard())
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]


def test_an_empty_folder_is_used(result, tmp_path):
    (tmp_path / "empty").mkdir()
    result.save(tmp_path / "empty")
    loaded = ModelSelectionResult.load(tmp_path / "empty")
    assert loaded.best_trial.trial_id == result.best_trial.trial_id


def test_other_content_is_not_replaced(result, saved, tmp_path):
    (tmp_path / "file").write_text("mine")
    (saved / "notes.txt").write_text("mine")
    for path in (tmp_path / "file", saved):
        with pytest.raises(ArgumentError, match="is no saved result, or holds other files"):
            result.save(path)
    with pytest.raises(StoreError, match="cannot write"):
        result.save(tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == (saved / "notes.txt").read_text() == "mine"


def test_what_is_no_saved_result_is_refused(saved, tmp_path):
    with pytest.raises(StoreError, match="there is no saved result at"):
        ModelSelectionResult.load(tmp_path / "nothing")
    content = json.loads((saved / "result.json").read_text())
    for change, message in (
        ({"format": -1}, "was saved by another version"),
        ({"trials": None}, "is damaged"),
        ({"layout": {}}, "is damaged"),
    ):
        (saved / "result.json").write_text(json.dumps({**content, **change}))
        with pytest.raises(StoreError, match=message):
            ModelSelectionResult.load(saved)
    (saved / "result.json").write_text(json.dumps(content)[:100])
    with pytest.raises(StoreError, match="is damaged"):
        ModelSelectionResult.load(saved)

from __future__ import annotations

import autokeras as ak
import keras
import numpy as np
import pytest

from nas import ResidualMLPBlock
from tests.nas.small_searches import FEATURES, search, table

pytestmark = pytest.mark.usefixtures("eager_training")

SMALL = {"blocks": (1, 2), "layers": (1, 2), "width": (2, 6), "bypass_width": (1, 4)}


@pytest.mark.parametrize("head", [ak.RegressionHead, ak.ClassificationHead])
def test_a_search_finds_networks(tmp_path, head):
    keras.backend.clear_session()
    node = ak.Input()
    output = head(dropout=0.0)(ResidualMLPBlock(**SMALL)(node))
    hypermodel = search(tmp_path, inputs=node, outputs=output, max_trials=3)
    frame = table()
    frame["y"] = (frame["y"] - 100) / 10
    label = "y" if head is ak.RegressionHead else "three"
    result = hypermodel.fit(frame[FEATURES], frame[label], epochs=1, verbose=0)
    assert result.leaderboard()["status"].tolist() == ["completed"] * 3
    assert any(name.endswith("/blocks") for name in result.best_trial.values)
    result.best_model.save(tmp_path / "best.keras")
    again = keras.saving.load_model(tmp_path / "best.keras")
    rows = frame[FEATURES].to_numpy("float32")
    np.testing.assert_allclose(again.predict(rows, verbose=0), hypermodel.predict(rows), rtol=1e-5)

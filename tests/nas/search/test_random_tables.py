"""Searches on random tables: they end with a network, or with an error that says what is wrong."""

from __future__ import annotations

import tempfile
from typing import Any

import autokeras as ak
import keras
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from cerebros_spark import LocalStore
from cerebros_spark.core.errors import CerebrosError
from nas import HyperHyperModel, TabularSpace
from tests.nas.random_tables import columns, others, to_input

pytestmark = pytest.mark.usefixtures("eager_training")

ROWS = 40
LABELS = {
    "regression": ("float", "single", "integer", "small", "decimal"),
    "classification": ("integer", "small", "string", "boolean"),
}


def fit(folder: str, table: pa.Table, head: str) -> HyperHyperModel:
    heads: dict[str, Any] = {
        "regression": ak.RegressionHead,
        "classification": ak.ClassificationHead,
    }
    search = HyperHyperModel(
        ak.StructuredDataInput(),
        heads[head](),
        max_trials=1,
        seed=0,
        space=TabularSpace(families=("linear",)),
    )
    search.resource_bind(store=LocalStore(folder))
    search.fit(table, "label", epochs=1, batch_size=32, ensemble_size=1, verbose=0)
    return search


@settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.sampled_from(sorted(LABELS)), st.lists(columns(ROWS), min_size=1, max_size=5), st.data())
def test_random_tables_are_searched_or_refused(head, features, data):
    arrays = {f"feature {i}": values for i, values in enumerate(features)}
    label = data.draw(columns(ROWS, LABELS[head]), "label")
    table = pa.table({**arrays, "label": label})
    new = {name: data.draw(others(values), name) for name, values in arrays.items()}
    with tempfile.TemporaryDirectory() as folder:
        try:
            search = fit(folder, table, head)
        except CerebrosError as error:
            event(f"refused: {type(error).__name__}")
            return
        event("searched")
        search.export_model().save(f"{folder}/model.keras")
        model = keras.models.load_model(f"{folder}/model.keras")
        for rows in (table, pa.table(new)):
            predicted = search.predict(rows)
            assert np.isfinite(predicted).all()
            inputs = {
                name: to_input(rows.column(name), tensor.dtype)
                for name, tensor in model.input.items()
            }
            exported = np.asarray(model(inputs))
            scale = max(1.0, float(np.abs(predicted).max()))
            np.testing.assert_allclose(exported / scale, predicted / scale, atol=1e-5)

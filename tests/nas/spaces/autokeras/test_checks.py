from __future__ import annotations

import autokeras as ak
import keras
import numpy as np
import pytest

from cerebros_spark.core.errors import ArgumentError
from nas import CerebrosBlock
from tests.nas.small_searches import FEATURES, search, small_space, table

pytestmark = pytest.mark.usefixtures("eager_training")


def test_a_normalization_behind_an_input_has_the_training_rows_statistics(tmp_path):
    keras.backend.clear_session()
    node = ak.Input()
    block = CerebrosBlock(space=small_space())(ak.Normalization()(node))
    frame = table()
    frame[FEATURES] = 1000 + 50 * frame[FEATURES]
    auto_model = search(tmp_path, inputs=node, outputs=ak.RegressionHead(dropout=0.0)(block))
    result = auto_model.fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)
    layers = [
        layer for layer in result.best_model.layers if isinstance(layer, keras.layers.Normalization)
    ]
    (layer,) = layers
    rows = keras.ops.convert_to_numpy(layer(frame[FEATURES].to_numpy("float32")))
    assert np.abs(rows.mean(axis=0)).max() < 0.3
    assert 0.7 < rows.std() < 1.3


def test_a_normalization_elsewhere_is_refused(tmp_path):
    keras.backend.clear_session()
    node = ak.Input()
    dense = ak.DenseBlock(num_layers=1, num_units=16, dropout=0.0, use_batchnorm=False)(node)
    head = ak.RegressionHead(dropout=0.0)(ak.Normalization()(dense))
    frame = table()
    with pytest.raises(
        ArgumentError, match=r"reads .*, but only the statistics of inputs are known"
    ):
        search(tmp_path, inputs=node, outputs=head).fit(
            frame[FEATURES], frame["y"], epochs=1, verbose=0
        )


def test_a_head_is_unchanged_after_a_search(tmp_path):
    keras.backend.clear_session()
    node = ak.Input()
    head = ak.ClassificationHead(dropout=0.0)
    output = head(CerebrosBlock(space=small_space())(node))
    frame = table()
    auto_model = search(tmp_path, inputs=node, outputs=output, max_trials=1, overwrite=True)
    auto_model.fit(frame[FEATURES], frame["three"], epochs=1, verbose=0)
    assert (head.num_classes, head.loss) == (None, None)
    four = np.arange(len(frame)) % 4
    result = auto_model.fit(frame[FEATURES], four, epochs=1, verbose=0)
    assert result.best_model.output_shape == (None, 4)

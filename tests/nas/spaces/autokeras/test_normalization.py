from __future__ import annotations

import keras
import numpy as np
import pytest

from cerebros_spark.core.errors import ArgumentError
from nas.spaces.autokeras.normalization import complete_preprocessing

ROWS = 50


def statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As the manifest has them: of each element, flattened."""
    flat = x.reshape(len(x), -1).astype("float64")
    return flat.mean(axis=0), flat.var(axis=0)


def model_of(inputs, outputs) -> keras.Model:
    model = keras.Model(inputs, outputs)
    model.compile("adam", "mse")
    return model


def rows(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(len(shape))
    return (7 + rng.random((ROWS, *shape)) * np.arange(1, shape[-1] + 1)).astype("float32")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("axis", [-1, 3, (1, 2), None, (1, 2, 3)])
def test_an_image_gets_the_statistics_of_adapt(channels, axis):
    x = rows(4, 6, channels)
    node = keras.Input((4, 6, channels))
    model = model_of(node, keras.layers.Normalization(axis=axis)(node))
    wanted = keras.layers.Normalization(axis=axis)
    wanted.adapt(x)
    completed = complete_preprocessing(model, [statistics(x)])
    np.testing.assert_allclose(completed(x), wanted(x), rtol=1e-4, atol=1e-4)
    assert completed.weights == []
    assert completed.compiled


def test_statistics_go_through_reshapes_and_random_layers():
    x = rows(24)
    node = keras.Input((24,))
    image = keras.layers.RandomFlip()(keras.layers.Reshape((4, 2, 3))(node))
    completed = complete_preprocessing(
        model_of(node, keras.layers.Normalization()(image)), [statistics(x)]
    )
    normalized = keras.ops.convert_to_numpy(completed(x, training=False)).reshape(-1, 3)
    np.testing.assert_allclose(normalized.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(normalized.std(axis=0), 1, atol=1e-3)


def test_a_second_normalization_reads_normal_rows():
    x = rows(5)
    node = keras.Input((5,))
    once = keras.layers.Normalization()(node)
    completed = complete_preprocessing(
        model_of(node, keras.layers.Normalization()(once)), [statistics(x)]
    )
    normalized = keras.ops.convert_to_numpy(completed(x))
    np.testing.assert_allclose(normalized.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(normalized.std(axis=0), 1, atol=1e-3)


def test_concatenated_inputs_keep_their_statistics():
    xs = [rows(2), 100 * rows(3)]
    nodes = [keras.Input((2,)), keras.Input((3,))]
    both = keras.layers.Concatenate()(nodes)
    completed = complete_preprocessing(
        model_of(nodes, keras.layers.Normalization()(both)), [statistics(x) for x in xs]
    )
    normalized = keras.ops.convert_to_numpy(completed(xs))
    np.testing.assert_allclose(normalized.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(normalized.std(axis=0), 1, atol=1e-3)


def test_random_contrast_does_not_clip_normalized_rows():
    x = rows(4, 4, 1)
    node = keras.Input((4, 4, 1))
    normal = keras.layers.Normalization()(node)
    model = model_of(node, keras.layers.RandomContrast(0.1, seed=0)(normal))
    completed = complete_preprocessing(model, [statistics(x)])
    assert keras.ops.convert_to_numpy(completed(x, training=True)).min() < -1


def test_statistics_of_computed_values_are_unknown():
    node = keras.Input((5,))
    dense = keras.layers.Dense(3, name="middle")(node)
    model = model_of(node, keras.layers.Normalization()(dense))
    with pytest.raises(ArgumentError, match="reads 'middle'"):
        complete_preprocessing(model, [statistics(rows(5))])

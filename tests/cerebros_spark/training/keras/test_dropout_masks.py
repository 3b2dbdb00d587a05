"""Dropout in training: shares, scale, seeds, and what stays as it was."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from cerebros_spark.training.keras.dropout_masks import draw_short_masks


def apply(layer, values, seed=1, **more):
    """Return what a layer makes of values, with its generator set to a seed."""
    inputs = keras.Input(values.shape[1:])
    model = keras.Model(inputs, layer(inputs))
    draw_short_masks(model)
    layer.seed_generator.state.assign(np.array([seed, 0]))
    return np.asarray(model(values, **more))


@pytest.mark.parametrize("rate", [0.001, 0.15, 0.5, 0.999, 0.999999])
def test_values_are_dropped_at_the_rate_and_the_others_scaled(rate):
    values = np.full((1000, 401), 3.0, "float32")
    dropped = apply(keras.layers.Dropout(rate), values, training=True)
    share = (dropped == 0).mean()
    assert abs(share - rate) < 5 * np.sqrt(rate * (1 - rate) / values.size) + 2e-5
    np.testing.assert_allclose(dropped[dropped != 0], 3 / (1 - rate), rtol=1e-3)


def test_a_value_takes_sixteen_bits():
    inputs = keras.Input((8,))
    model = keras.Model(inputs, keras.layers.Dropout(0.5)(inputs))
    draw_short_masks(model)
    step = tf.function(lambda x: model(x, training=True), autograph=False)
    graph = step.get_concrete_function(tf.TensorSpec((6, 8))).graph
    drawn = [each for each in graph.get_operations() if "StatelessRandomUniform" in each.type]
    assert [each.type for each in drawn] == ["StatelessRandomUniformFullIntV2"]


def test_masks_depend_on_the_seed_and_the_step():
    layer = keras.layers.Dropout(0.5)
    values = np.ones((40, 7), "float32")
    first = apply(layer, values, training=True)
    np.testing.assert_array_equal(first, apply(layer, values, training=True))
    assert not np.array_equal(first, apply(layer, values, seed=2, training=True))
    inputs = keras.Input((7,))
    model = keras.Model(inputs, layer(inputs))
    assert not np.array_equal(model(values, training=True), model(values, training=True))


def test_neighbors_are_dropped_independently():
    values = np.ones((2000, 200), "float32")
    kept = apply(keras.layers.Dropout(0.5), values, training=True) != 0
    for one, other in ((kept[:, 1:], kept[:, :-1]), (kept[1:], kept[:-1])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.01


def test_outside_of_training_nothing_is_dropped():
    values = np.ones((40, 7), "float32")
    np.testing.assert_array_equal(apply(keras.layers.Dropout(0.5), values), values)


def test_a_noise_shape_repeats_the_mask():
    values = np.ones((40, 7, 3), "float32")
    layer = keras.layers.Dropout(0.5, noise_shape=(None, 1, 3))
    dropped = apply(layer, values, training=True)
    np.testing.assert_array_equal(dropped, np.repeat(dropped[:, :1], 7, axis=1))
    assert 0 < (dropped == 0).mean() < 1


@pytest.mark.parametrize("dtype", ["float16", "float64", "mixed_bfloat16"])
def test_other_precisions(dtype):
    values = np.ones((40, 7), "float32")
    dropped = apply(keras.layers.Dropout(0.25, dtype=dtype), values, training=True)
    assert set(np.unique(dropped.astype("float32"))) <= {0.0, np.float32(dropped.max())}
    assert abs(float(dropped.max()) - 4 / 3) < (1e-12 if dtype == "float64" else 0.01)


def test_layers_of_derived_classes_are_kept():
    class Kept(keras.layers.Dropout):
        def call(self, inputs, training=False):
            return inputs

    values = np.ones((40, 7), "float32")
    np.testing.assert_array_equal(apply(Kept(0.5), values, training=True), values)

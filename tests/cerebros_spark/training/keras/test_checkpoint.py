from __future__ import annotations

import io
import pickle
import zipfile

import keras
import ml_dtypes
import numpy as np
import pytest
from safetensors import deserialize

from cerebros_spark.core.errors import StoreError
from cerebros_spark.training.keras.checkpoint import (
    compute_layout,
    get_initial_state,
    pack,
    unpack,
    write_weights,
)


def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.normal(size=(3, 4)).astype("float32"),
        np.array(17, "int64"),
        np.array([2**32 - 1, 0], "uint32"),
        rng.normal(size=(5,)).astype("float32"),
        np.zeros((0, 3), "float32"),
        np.array([True, False]),
        rng.normal(size=(2, 2)),
        np.array([np.nan, np.inf, -0.0, 1e-45], "float32"),
        rng.normal(size=(4,)).astype("float16"),
        rng.normal(size=(2, 3)).astype(ml_dtypes.bfloat16),
    ]


LAYOUT = compute_layout(arrays())


def test_every_dtype_and_shape_is_restored_bit_for_bit():
    given = arrays()
    restored = unpack(pack(given, LAYOUT), given, LAYOUT)
    assert [a.dtype for a in restored] == [a.dtype for a in given]
    assert [a.shape for a in restored] == [a.shape for a in given]
    assert [a.tobytes() for a in restored] == [a.tobytes() for a in given]


def test_arrays_in_fortran_order_are_restored():
    given = [np.asfortranarray(np.arange(12.0).reshape(3, 4)), np.arange(10)[::2]]
    described = compute_layout(given)
    restored = unpack(pack(given, described), given, described)
    np.testing.assert_array_equal(restored[0], given[0])
    np.testing.assert_array_equal(restored[1], given[1])


def test_the_same_state_gives_the_same_bytes():
    assert pack(arrays(), LAYOUT) == pack(arrays(), LAYOUT)


def test_a_state_is_a_safetensors_file_with_a_tensor_per_dtype():
    tensors = dict(deserialize(pack(arrays(), LAYOUT)))
    names = ["bfloat16", "bool", "float16", "float32", "float64", "int64", "uint32"]
    assert sorted(tensors) == names
    assert tensors["float32"]["shape"] == [12 + 5 + 4]


@pytest.mark.parametrize(
    "other",
    [
        lambda a: [a[0].T, *a[1:]],
        lambda a: [a[0].astype("float64"), *a[1:]],
        lambda a: a[:-1],
        lambda a: [*a, np.zeros(1)],
        lambda a: [a[3], a[1], a[2], a[0], *a[4:]],
    ],
    ids=["shape", "dtype", "fewer", "more", "order"],
)
def test_a_state_of_another_network_is_refused(other):
    like = other(arrays())
    assert compute_layout(like) != LAYOUT
    with pytest.raises(StoreError, match="another network"):
        unpack(pack(arrays(), LAYOUT), like, compute_layout(like))


def test_damaged_bytes_are_refused():
    data = pack(arrays(), LAYOUT)
    for damaged in (b"", b"\x00", data[:7], data[:100], data[:-1], b"garbage" * 50, data[8:]):
        with pytest.raises(StoreError):
            unpack(damaged, arrays(), LAYOUT)


def test_bytes_of_another_format_are_refused_and_not_run():
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("model", "x")
    for data in (pickle.dumps({"weights": 1}), held.getvalue()):
        with pytest.raises(StoreError):
            unpack(data, arrays(), LAYOUT)


def small_model(units: int = 3) -> keras.Model:
    inputs = keras.Input((4,))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(units)(inputs))
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dropout(0.5)(x)))


def test_the_weights_of_a_state_need_no_optimizer():
    model, other = small_model(), small_model()
    model.compile("adam", "mse")
    state = get_initial_state(model)
    write_weights(other, state)
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    with pytest.raises(StoreError, match="damaged"):
        write_weights(other, state[:50])
    with pytest.raises(StoreError, match="damaged"):
        write_weights(small_model(units=5000), state)

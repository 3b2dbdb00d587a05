from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings

from cerebros_spark.core.errors import ArgumentError
from nas.spaces.cerebros.layers import build_layers, flatten_inputs
from nas.spaces.cerebros.moiety import draw_moiety
from nas.spaces.cerebros.plan import LATERAL, Edge, NetworkFuture, OutputFuture, UnitFuture
from nas.spaces.cerebros.space import CerebrosSpace
from nas.spaces.cerebros.wiring import draw_future
from tests.nas.exported import check_in_a_fresh_process, keep
from tests.nas.spaces.cerebros.cerebros_strategies import drawn

pytestmark = pytest.mark.usefixtures("fresh_keras")


def build(future: NetworkFuture, **more) -> keras.Model:  # type: ignore[no-untyped-def]
    inputs = [keras.Input((unit.neurons,)) for unit in future.inputs]
    return keras.Model(inputs, build_layers(future, inputs, **more))


def network(space: CerebrosSpace, inputs=(3,), outputs=(1,), seed: int = 4) -> NetworkFuture:  # type: ignore[no-untyped-def]
    heads = [OutputFuture(width) for width in outputs]
    return draw_future(space, draw_moiety(space, seed), inputs, heads, seed)


def small(**more) -> CerebrosSpace:  # type: ignore[no-untyped-def]
    bounds = {"maximum_levels": 3, "minimum_units_per_level": 2, "maximum_units_per_level": 3}
    return CerebrosSpace.published(**{**bounds, **more})


def pair(*edges: Edge, merge: str = "concatenate", regularization: str = "none") -> NetworkFuture:
    """Two hidden units of width 2, the second of which reads the given edges too."""
    return NetworkFuture(
        levels=(
            (UnitFuture(0, 0, "input", 2),),
            (
                UnitFuture(1, 0, "dense", 2, activation="elu", edges=(Edge(0, 0),)),
                UnitFuture(1, 1, "dense", 2, activation="elu", edges=(Edge(0, 0), *edges)),
            ),
            (UnitFuture(2, 0, "output", 1, edges=(Edge(1, 0), Edge(1, 1))),),
        ),
        maximum_skip_connection_depth=1,
        merge=merge,
        regularization=regularization,
    )


def of_type(model: keras.Model, kind: type) -> list:
    return [layer for layer in model.layers if isinstance(layer, kind)]


@given(drawn())
@settings(max_examples=12)
def test_the_model_matches_the_plan(pair: tuple) -> None:
    future = pair[1]
    model = build(future)
    hidden = [unit for level in future.hidden for unit in level]
    gates = [edge for unit in hidden for edge in unit.edges if edge.gated]
    dense = sum(1 + unit.dendrites for unit in hidden) + len(future.outputs)
    assert model.count_params() == future.parameters
    assert len(of_type(model, keras.layers.Activation)) == len(gates)
    assert len(of_type(model, keras.layers.Dense)) == dense
    assert [output.shape[-1] for output in model.outputs] == [u.neurons for u in future.outputs]
    for unit in hidden:
        name = f"{unit.name}_{'axon' if unit.dendrites else 'dense'}"
        layer = model.get_layer(name)
        assert layer.kernel.shape == (future.merged_width(unit), unit.neurons)
        assert layer.activation is keras.activations.get(unit.activation)


@pytest.mark.parametrize("merge", ["concatenate", "add"])
def test_outputs_match_the_plan(merge: str) -> None:
    """Computed by hand from the weights, gate and repeated pick included."""
    future = pair(Edge(1, 0, LATERAL), Edge(1, 0, LATERAL, True), Edge(0, 0), merge=merge)
    model = build(future)
    x = np.random.default_rng(0).normal(size=(5, 2)).astype("float32")

    def dense(name: str, values: np.ndarray) -> np.ndarray:
        kernel, bias = model.get_layer(name).get_weights()
        return values @ kernel + bias

    def elu(values: np.ndarray) -> np.ndarray:
        return np.where(values > 0, values, np.expm1(values))

    first = elu(dense("level1_unit0_dense", x))
    reads = [x, first, 1 / (1 + np.exp(-first)), x]
    merged = sum(reads) if merge == "add" else np.concatenate(reads, axis=1)
    second = elu(dense("level1_unit1_dense", merged))
    last = first + second if merge == "add" else np.concatenate([first, second], axis=1)
    expected = dense("level2_unit0_dense", last)
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)


def test_a_gate_transforms_its_source() -> None:
    x = np.random.default_rng(0).normal(size=(5, 2)).astype("float32")
    results = []
    for gated in (False, True):
        keras.backend.clear_session()
        keras.utils.set_random_seed(3)
        results.append(np.array(build(pair(Edge(1, 0, LATERAL, gated)))(x)))
    assert not np.allclose(results[0], results[1])


def test_add_concatenates_sources_of_different_widths() -> None:
    future = NetworkFuture(
        levels=(
            (UnitFuture(0, 0, "input", 3), UnitFuture(0, 1, "input", 2)),
            (UnitFuture(1, 0, "dense", 2, edges=(Edge(0, 0), Edge(0, 1), Edge(0, 0))),),
            (UnitFuture(2, 0, "output", 1, edges=(Edge(1, 0),)),),
        ),
        maximum_skip_connection_depth=1,
        merge="add",
        regularization="none",
    )
    model = build(future)
    assert [layer.name for layer in of_type(model, keras.layers.Add)] == ["level1_unit0_add3"]
    assert model.get_layer("level1_unit0_dense").kernel.shape == (5, 2)
    assert len(of_type(model, keras.layers.Concatenate)) == 1


def test_one_source_needs_no_concatenate() -> None:
    future = pair()
    names = [layer.name for layer in of_type(build(future), keras.layers.Concatenate)]
    assert names == ["level2_unit0_concatenate"]


@pytest.mark.parametrize(
    ("regularization", "kind"),
    [
        ("batch_normalization", keras.layers.BatchNormalization),
        ("dropout", keras.layers.Dropout),
        ("none", None),
    ],
)
def test_regularization_precedes_each_dense(regularization: str, kind: type | None) -> None:
    future = network(small(regularization=regularization, dropout_rate=0.3))
    model = build(future)
    before_dense = [
        layer.input._keras_history.operation for layer in of_type(model, keras.layers.Dense)
    ]
    if kind is None:
        assert not of_type(model, keras.layers.BatchNormalization)
        assert not of_type(model, keras.layers.Dropout)
    else:
        assert all(isinstance(layer, kind) for layer in before_dense)
    if regularization == "dropout":
        assert {layer.rate for layer in before_dense} == {0.3}


def test_readers_of_a_real_neuron_read_its_dendrites() -> None:
    space = small(unit="neuron", minimum_dendrites_per_neuron=2, maximum_dendrites_per_neuron=3)
    future = network(space)
    model = build(future)
    for level in future.hidden:
        for unit in level:
            axon = model.get_layer(f"{unit.name}_axon")
            dendrites = [model.get_layer(f"{unit.name}_dendrite{i}") for i in range(unit.dendrites)]
            assert all(dendrite.input is axon.output for dendrite in dendrites)
            merged = model.get_layer(f"{unit.name}_dendrites")
            assert merged.output.shape[-1] == unit.width
    assert model.count_params() == future.parameters


def test_inputs_that_are_not_flat_or_not_floats() -> None:
    inputs = [keras.Input((2, 3, 1)), keras.Input((4,), dtype="int32"), keras.Input(())]
    tensors = flatten_inputs(inputs)
    assert [tensor.shape for tensor in tensors] == [(None, 6), (None, 4), (None, 1)]
    assert [tensor.dtype for tensor in tensors] == ["float32"] * 3
    future = network(small(), inputs=(6, 4, 1), outputs=(2, 1))
    model = keras.Model(inputs, build_layers(future, inputs, output_names=["a", "b"]))
    assert model.output_names == ["a", "b"]
    values = [np.ones((3, 2, 3, 1)), np.ones((3, 4), "int32"), np.ones((3,))]
    assert [output.shape for output in model.predict(values, verbose=0)] == [(3, 2), (3, 1)]


def test_inputs_that_do_not_fit_are_refused() -> None:
    future = network(small())
    with pytest.raises(ArgumentError, match=r"widths=\[5\], planned=\[3\]"):
        build_layers(future, [keras.Input((5,))])
    with pytest.raises(ArgumentError, match="known size"):
        build_layers(future, [keras.Input((None,))])
    with pytest.raises(ArgumentError, match="strings"):
        build_layers(future, [keras.Input((3,), dtype="string")])
    with pytest.raises(ArgumentError, match="output_names"):
        build_layers(future, [keras.Input((3,))], output_names=["a", "b"])
    with pytest.raises(ArgumentError, match=r"inputs \[1\]"):
        build_layers(future, [keras.Input((3,))], base_models={1: keras.Sequential()})


def test_a_base_model_precedes_the_units() -> None:
    base = keras.Sequential(
        [keras.Input((6, 6, 1)), keras.layers.Conv2D(2, 3), keras.layers.MaxPooling2D(2)]
    )
    image, row = keras.Input((6, 6, 1)), keras.Input((3,))
    future = network(small(), inputs=(8, 3))
    model = keras.Model([image, row], build_layers(future, [image, row], base_models={0: base}))
    assert model.count_params() == future.parameters + base.count_params()
    values = [np.random.rand(2, 6, 6, 1), np.random.rand(2, 3)]
    before = model.predict(values, verbose=0)
    base.set_weights([weight + 1 for weight in base.get_weights()])
    assert not np.allclose(before, model.predict(values, verbose=0))


def test_a_base_model_with_two_outputs_is_refused() -> None:
    tensor = keras.Input((3,))
    base = keras.Model(tensor, [keras.layers.Dense(1)(tensor), keras.layers.Dense(2)(tensor)])
    with pytest.raises(ArgumentError, match="one output"):
        flatten_inputs([keras.Input((3,))], base_models={0: base})


def test_two_networks_in_one_graph() -> None:
    future = network(small())
    tensor = keras.Input((3,))
    left = build_layers(future, [tensor], prefix="left_")
    right = build_layers(future, [tensor], prefix="right_")
    model = keras.Model(tensor, [*left, *right])
    assert model.count_params() == 2 * future.parameters


def test_the_same_seed_gives_the_same_weights() -> None:
    future = network(small())
    weights = []
    for _ in range(2):
        keras.backend.clear_session()
        keras.utils.set_random_seed(5)
        weights.append(build(future).get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


def test_keras_alone_loads_a_saved_network(tmp_path: Path) -> None:
    space = small(p_lateral_connection=0.9, unit=("neuron",), merge=("add",))
    model = build(network(space, inputs=(3, 2), outputs=(1, 2)))
    assert of_type(model, keras.layers.Activation)
    rng = np.random.default_rng(0)
    keep(tmp_path, "model", model, [rng.normal(size=(4, 3)), rng.normal(size=(4, 2))])
    check_in_a_fresh_process(tmp_path, tolerance=1e-5)


def test_a_short_fit_lowers_the_loss() -> None:
    keras.utils.set_random_seed(0)
    model = build(network(small(minimum_neurons_per_unit=3)))
    x = np.random.default_rng(0).normal(size=(256, 3))
    y = x @ [1.0, -2.0, 0.5] + 3
    model.compile(keras.optimizers.Adam(0.0664), "mse", jit_compile=False)
    losses = model.fit(x, y, epochs=8, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 3

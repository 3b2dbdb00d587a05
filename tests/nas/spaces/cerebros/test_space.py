from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys

import pytest
from hypothesis import given, settings

from cerebros_spark.core.errors import ArgumentError
from nas.spaces.cerebros.space import CerebrosSpace
from nas.spaces.validation import ACTIVATIONS
from tests.nas.spaces.cerebros.cerebros_strategies import FINAL, FIRST, MAIN, spaces


def test_the_published_values_are_those_of_cerebros() -> None:
    space = CerebrosSpace.published()
    assert (space.minimum_levels, space.maximum_levels) == (2, 7)
    assert (space.minimum_units_per_level, space.maximum_units_per_level) == (1, 4)
    assert (space.minimum_neurons_per_unit, space.maximum_neurons_per_unit) == (1, 4)
    assert (space.minimum_skip_connection_depth, space.maximum_skip_connection_depth) == (1, 7)
    assert getattr(space, FIRST) == 15.0313
    assert getattr(space, MAIN) == 10.046
    assert space.p_lateral_connection == 0.19668
    assert space.decay_main(2) == pytest.approx(0.49)
    assert space.decay_lateral(3) == pytest.approx(0.95**3)
    assert space.learning_rate == 0.0664
    assert space.learning_rate_schedule == "constant"
    assert space.regularization == "batch_normalization"


def test_published_values_give_way_to_arguments() -> None:
    space = CerebrosSpace.published(maximum_levels=3, learning_rate=(0.01, 0.003))
    assert (space.maximum_levels, space.learning_rate) == (3, (0.01, 0.003))
    assert space.maximum_neurons_per_unit == 4
    assert CerebrosSpace.from_config(space.get_config()) == space


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"minimum_levels": 3, "maximum_levels": 1},
            "minimum_levels <= maximum_levels must hold, but got "
            "(minimum_levels=3, maximum_levels=1)",
        ),
        ({"minimum_skip_connection_depth": 8}, "minimum_skip_connection_depth=8"),
        ({"minimum_dendrites_per_neuron": 5}, "maximum_dendrites_per_neuron=4"),
        ({"minimum_levels": 0}, "minimum_levels must be a positive integer, but got 0"),
        ({"minimum_levels": True}, "minimum_levels .* got True"),
        ({"maximum_units_per_level": 2.0}, "maximum_units_per_level .* got 2.0"),
        ({"num_lateral_connection_tries_per_unit": 0}, "num_lateral_connection_tries_per_unit"),
        ({"gate_after_n_lateral_connections": 0}, "gate_after_n_lateral_connections"),
        ({"p_lateral_connection": 1.5}, r"p_lateral_connection .* in \[0, 1\], but got 1.5"),
        ({"p_lateral_connection": float("nan")}, "p_lateral_connection .* got nan"),
        ({"p_lateral_connection": True}, "p_lateral_connection .* got True"),
        ({"p_lateral_connection_decay": -0.5}, "p_lateral_connection_decay .* got -0.5"),
        ({MAIN: -1.0}, f"{MAIN} .* got -1.0"),
        ({FINAL: float("inf")}, f"{FINAL} .* got inf"),
        ({f"{MAIN}_rounding_rule": "round"}, f"{MAIN}_rounding_rule .* got 'round'"),
        ({"activation": "eluu"}, "activation .* got 'eluu'"),
        ({"activation": ("elu", "eluu")}, "activation .* got 'eluu'"),
        ({"activation": ()}, r"activation .* got \(\)"),
        ({"merge": ("add", "add")}, "merge must hold different values"),
        ({"gate_activation": None}, "gate_activation .* got None"),
        ({"regularization": "batch"}, "regularization .* got 'batch'"),
        ({"dropout_rate": 1.0}, "dropout_rate .* got 1.0"),
        ({"unit": "axon"}, "unit .* got 'axon'"),
        ({"learning_rate": 0}, "learning_rate .* got 0"),
        ({"learning_rate_schedule": "cosin"}, "learning_rate_schedule .* got 'cosin'"),
    ],
)
def test_an_invalid_value_is_named(arguments: dict, words: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        CerebrosSpace(**arguments)
    # Plain text where it holds brackets of a call, a pattern otherwise.
    assert words in str(caught.value) or caught.match(words)


def test_a_misspelt_argument_is_refused() -> None:
    with pytest.raises(TypeError):
        CerebrosSpace(maximum_level=3)  # type: ignore[call-arg]
    with pytest.raises(ArgumentError, match="maximum_level"):
        CerebrosSpace.from_config({"maximum_level": 3})


def test_every_argument_is_documented() -> None:
    text = inspect.getdoc(CerebrosSpace) or ""
    for field in dataclasses.fields(CerebrosSpace):
        assert f"    {field.name}: " in text


@given(spaces())
@settings(max_examples=30)
def test_json_round_trip(space: CerebrosSpace) -> None:
    assert CerebrosSpace.from_json(space.to_json()) == space


@pytest.mark.keras
def test_an_unregistered_function_cannot_be_serialized() -> None:
    space = CerebrosSpace(p_lateral_connection_decay=lambda distance: 0.5)
    assert space.decay_lateral(3) == 0.5
    with pytest.raises(ArgumentError, match=r"p_lateral_connection_decay .*register"):
        space.to_json()


@pytest.mark.keras
def test_a_registered_function_is_serialized_by_name() -> None:
    import keras

    @keras.saving.register_keras_serializable(package="cerebros_tests")
    def halves(distance: int) -> float:
        return 0.5 / distance

    space = CerebrosSpace(predecessor_level_connection_affinity_factor_decay_main=halves)
    assert CerebrosSpace.from_json(space.to_json()) == space
    assert space.decay_main(2) == 0.25
    with pytest.raises(ArgumentError, match="no such"):
        CerebrosSpace.from_config({"p_lateral_connection_decay": {"registered_name": "no such"}})


def test_a_decay_that_returns_no_valid_number_is_refused() -> None:
    space = CerebrosSpace(p_lateral_connection_decay=lambda distance: -1.0)
    with pytest.raises(ArgumentError, match=r"p_lateral_connection_decay\(2\) .* got -1.0"):
        space.decay_lateral(2)


@pytest.mark.parametrize(
    ("arguments", "level", "source", "units", "count"),
    [
        ({}, 1, 0, 1, 16),
        ({f"{FIRST}_rounding_rule": "floor"}, 1, 0, 2, 30),
        # ceil(10.046 * 0.7 * 2), ceil(10.046 * 0.49 * 3), floor of the latter
        ({}, 2, 1, 2, 15),
        ({}, 3, 1, 3, 15),
        ({f"{MAIN}_rounding_rule": "floor"}, 3, 1, 3, 14),
        # What rounds to nothing is 1 from the level just above, and stays 0 from farther up.
        ({MAIN: 0.01, f"{MAIN}_rounding_rule": "floor"}, 2, 1, 4, 1),
        ({MAIN: 0.01, f"{MAIN}_rounding_rule": "floor"}, 3, 1, 4, 0),
        ({FIRST: 0.0}, 1, 0, 2, 1),
        # 1.1 * 10 is a little more than 11 in floating point.
        ({FIRST: 1.1}, 1, 0, 10, 11),
    ],
)
def test_picks(arguments: dict, level: int, source: int, units: int, count: int) -> None:
    assert CerebrosSpace(**arguments).picks(level, source, units) == count


def test_final_picks() -> None:
    assert CerebrosSpace().final_picks(3) == 0
    assert CerebrosSpace(**{FINAL: 1.5}).final_picks(3) == 5


@pytest.mark.keras
def test_keras_has_every_activation() -> None:
    import keras

    tensor = keras.ops.convert_to_tensor([[0.5, -0.5]])
    for name in ACTIVATIONS:
        assert keras.activations.get(name)(tensor).shape == (1, 2)


def test_the_package_imports_neither_keras_nor_autokeras() -> None:
    code = (
        "import sys, nas.spaces.cerebros as c; c.CerebrosSpace(); c.NetworkFuture; "
        "assert not {'keras', 'autokeras', 'tensorflow', 'keras_tuner'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_of_the_package() -> None:
    import nas.spaces.cerebros as package

    with pytest.raises(AttributeError, match="no_such"):
        _ = package.no_such
    assert dir(package) == package.__all__

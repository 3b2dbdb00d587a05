"""The random choices that define a Cerebros network, declared as KerasTuner hyperparameters.

Any tuner can therefore search them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from cerebros_spark.core.seeding import derive_seed
from nas.spaces.cerebros.moiety import Moiety
from nas.spaces.cerebros.plan import NetworkFuture, OutputFuture
from nas.spaces.cerebros.space import CerebrosSpace
from nas.spaces.cerebros.wiring import draw_future
from nas.spaces.hyperparameters import active_from, read_integer

MAX_WIRING = 2**31 - 1


def read_moiety(hp: Any, space: CerebrosSpace, prefix: str = "cerebros") -> tuple[Moiety, int]:
    """Register a network's hyperparameters; return the moiety and the wiring that they define.

    A moiety is a network without its edges, and a wiring adds them. The hyperparameters are
    ``levels``; ``units_k`` for each hidden level k; and ``neurons_k_u`` for each unit u on it, with
    ``dendrites_k_u`` if units may have dendrites. As in a plan, hidden levels are numbered from 1
    and units from 0. ``wiring`` selects one wiring of the moiety.
    ``activation``, ``merge``, ``regularization`` and ``unit`` exist only if the space has several
    values for them. A range with only one value has no hyperparameter.

    Hyperparameters of levels and units that a smaller network lacks are conditional. They are
    registered even if they are inactive, so that a tuner knows the whole space after the first
    build. (KerasTuner cannot make ``dendrites_k_u`` depend on ``unit`` as well. If ``unit`` is
    searched, they also have values, without effect, in networks of plain units.) If all values are
    drawn uniformly, the networks are distributed as in :func:`~.moiety.draw_moiety`. Integers
    default to the middle of their range.

    Args:
        hp: A ``keras_tuner.HyperParameters``.
        space: Bounds of the hyperparameters.
        prefix: Name scope of the hyperparameters; empty if the caller has already opened one, as
            an AutoKeras block does.

    Returns:
        The moiety, and the value of ``wiring``.
    """
    with hp.name_scope(prefix) if prefix else nullcontext():
        return _read_moiety(hp, space)


def assign(
    hp: Any, moiety: Moiety, wiring: int, space: CerebrosSpace, prefix: str = "cerebros"
) -> None:
    """Declare all hyperparameters of the space in ``hp``, with the values of one network.

    The network is determined by a moiety and by ``wiring``, an integer from 0 to
    :data:`MAX_WIRING` that seeds its random connections.
    """
    values: dict[str, Any] = {
        "levels": len(moiety.neurons),
        "wiring": wiring,
        "activation": moiety.activation,
        "merge": moiety.merge,
        "regularization": moiety.regularization,
        "unit": "neuron" if moiety.dendrites else "dense",
    }
    for level, sizes in enumerate(moiety.neurons, start=1):
        values[f"units_{level}"] = len(sizes)
        for number, size in enumerate(sizes):
            values[f"neurons_{level}_{number}"] = size
            if moiety.dendrites:
                values[f"dendrites_{level}_{number}"] = moiety.dendrites[level - 1][number]
    # A hyperparameter keeps the value that is present when it is registered.
    hp.values = {f"{prefix}/{name}" if prefix else name: value for name, value in values.items()}
    declare(hp, space, prefix)
    registered = {definition.name for definition in hp.space}
    hp.values = {name: value for name, value in hp.values.items() if name in registered}


def declare(hp: Any, space: CerebrosSpace, prefix: str = "cerebros") -> None:
    """Declare all hyperparameters of the space.

    All names except ``learning_rate`` start with ``prefix``.
    """
    read_moiety(hp, space, prefix)
    read_learning_rate(hp, space)


def read_learning_rate(hp: Any, space: CerebrosSpace) -> float:
    """Register the hyperparameter ``learning_rate``, and return its value."""
    rates = space.choices("learning_rate")
    if len(rates) == 1:
        return float(hp.Fixed("learning_rate", rates[0]))
    return float(hp.Choice("learning_rate", list(rates)))


def plan_network(
    hp: Any,
    space: CerebrosSpace,
    inputs: Sequence[int],
    outputs: Sequence[OutputFuture],
    seed: int,
    prefix: str = "cerebros",
) -> NetworkFuture:
    """Plan the network that hyperparameter values define.

    The edges are drawn with a seed derived from ``seed`` and the hyperparameter ``wiring``, so a
    different value of ``wiring`` changes only the edges.

    Args:
        hp: A ``keras_tuner.HyperParameters``.
        space: Bounds of the hyperparameters.
        inputs: Flattened width of each model input.
        outputs: Width and activation of each model output.
        seed: Seed for wiring the network.
        prefix: Name scope of the hyperparameters; if empty, there is none.

    Returns:
        The plan of the network; no Keras layers are created yet.
    """
    moiety, wiring = read_moiety(hp, space, prefix)
    return draw_future(space, moiety, inputs, outputs, derive_seed(seed, "wiring", wiring))


def _read_moiety(hp: Any, space: CerebrosSpace) -> tuple[Moiety, int]:
    unit = _read_choice(hp, space, "unit")
    levels = read_integer(hp, "levels", space.minimum_levels, space.maximum_levels)
    neurons, dendrites = [], []
    for level in range(1, space.maximum_levels + 1):
        with active_from(hp, "levels", level, space.minimum_levels, space.maximum_levels):
            sizes, branches = _read_level(hp, space, level, level <= levels)
        if level <= levels:
            neurons.append(sizes)
            dendrites.append(branches)
    wiring = int(hp.Int("wiring", 0, MAX_WIRING))
    moiety = Moiety(
        neurons=tuple(neurons),
        dendrites=tuple(dendrites) if unit == "neuron" else (),
        activation=_read_choice(hp, space, "activation"),
        merge=_read_choice(hp, space, "merge"),
        regularization=_read_choice(hp, space, "regularization"),
    )
    return moiety, wiring


def _read_level(
    hp: Any, space: CerebrosSpace, level: int, active: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    low, high = space.minimum_units_per_level, space.maximum_units_per_level
    name = f"units_{level}"
    units = read_integer(hp, name, low, high, active)
    neurons = space.minimum_neurons_per_unit, space.maximum_neurons_per_unit
    dendrites = space.minimum_dendrites_per_neuron, space.maximum_dendrites_per_neuron
    with_dendrites = "neuron" in space.choices("unit")
    sizes, branches = [], []
    for number in range(high):
        used = number < units
        with active_from(hp, name, number + 1, low, high):
            sizes.append(read_integer(hp, f"neurons_{level}_{number}", *neurons, used))
            if with_dendrites:
                branches.append(read_integer(hp, f"dendrites_{level}_{number}", *dendrites, used))
    return tuple(sizes[:units]), tuple(branches[:units])


def _read_choice(hp: Any, space: CerebrosSpace, name: str) -> Any:
    values = space.choices(name)
    return values[0] if len(values) == 1 else hp.Choice(name, list(values))

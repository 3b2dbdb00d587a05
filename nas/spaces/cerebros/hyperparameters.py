"""The draws of a network as KerasTuner hyperparameters, so that every tuner can search them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from cerebros_spark.core.seeding import derive
from nas.spaces.cerebros.moiety import Moiety
from nas.spaces.cerebros.plan import NetworkFuture, OutputFuture
from nas.spaces.cerebros.space import CerebrosSpace
from nas.spaces.cerebros.wiring import draw_future

MAX_WIRING = 2**31 - 1


def sample(hp: Any, space: CerebrosSpace, prefix: str = "cerebros") -> tuple[Moiety, int]:
    """Registers the hyperparameters of a network and reads their values.

    ``levels``, for each level k ``units_k``, for each unit u of it ``neurons_k_u`` (both
    numbered from 1 and 0 like the units of a plan) and, for real neurons, ``dendrites_k_u``;
    ``wiring``, which names one wiring of the moiety; ``activation``, ``merge``,
    ``regularization`` and ``unit`` where the space has several. A bound with one value makes no
    hyperparameter. What a smaller network doesn't have is conditional: registered, so that a
    tuner knows the whole space from its first build, but without a value. (KerasTuner can't
    make ``dendrites_k_u`` depend on ``unit`` as well: where ``unit`` is searched they have values
    in networks of plain units too, and mean nothing there.) When a tuner draws each value
    uniformly, networks are distributed as :func:`~.moiety.draw_moiety` draws them. Defaults lie
    in the middle of their bounds.

    Args:
        hp: A ``keras_tuner.HyperParameters``.
        space: The bounds.
        prefix: Name scope of the hyperparameters; empty for none, for example in an AutoKeras
            block, which opens one of its own.

    Returns:
        The moiety, and the value that names the wiring.
    """
    with ExitStack() as stack:
        if prefix:
            stack.enter_context(hp.name_scope(prefix))
        return _sample(hp, space)


def assign(
    hp: Any, moiety: Moiety, wiring: int, space: CerebrosSpace, prefix: str = "cerebros"
) -> None:
    """Sets the hyperparameters of complete networks to one network, which :func:`sample` reads.

    Args:
        hp: A ``keras_tuner.HyperParameters`` without any; they are declared.
        moiety: Levels, units, neurons and the rest; within the bounds of the space.
        wiring: Names the wiring; from 0 to :data:`MAX_WIRING`.
        space: The bounds.
        prefix: Name scope of the hyperparameters.
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
    values = {f"{prefix}/{name}" if prefix else name: value for name, value in values.items()}
    # A hyperparameter that is registered keeps the value that is there already.
    hp.values = dict(values)
    declare(hp, space, prefix)
    known = {each.name for each in hp.space}
    hp.values = {name: value for name, value in hp.values.items() if name in known}


def declare(hp: Any, space: CerebrosSpace, prefix: str = "cerebros") -> None:
    """Registers all hyperparameters of complete networks, the learning rate among them.

    Args:
        hp: A ``keras_tuner.HyperParameters``.
        space: The bounds.
        prefix: Put before the names of all but the learning rate.
    """
    sample(hp, space, prefix)
    learning_rate(hp, space)


def learning_rate(hp: Any, space: CerebrosSpace) -> float:
    """The hyperparameter of that name."""
    rates = space.choices("learning_rate")
    if len(rates) == 1:
        return float(hp.Fixed("learning_rate", rates[0]))
    return float(hp.Choice("learning_rate", list(rates)))


def future_from(
    hp: Any,
    space: CerebrosSpace,
    inputs: Sequence[int],
    outputs: Sequence[OutputFuture],
    seed: int,
    prefix: str = "cerebros",
) -> NetworkFuture:
    """The plan that hyperparameter values stand for.

    Another value of ``wiring`` changes the edges and nothing else.

    Args:
        hp: A ``keras_tuner.HyperParameters``.
        space: The bounds.
        inputs: Width of each model input once it is flat.
        outputs: Width and activation of each model output.
        seed: Seed of the search; a wiring is drawn from it and the value of ``wiring``.
        prefix: Name scope of the hyperparameters.
    """
    moiety, wiring = sample(hp, space, prefix)
    return draw_future(space, moiety, inputs, outputs, derive(seed, "wiring", wiring))


def _sample(hp: Any, space: CerebrosSpace) -> tuple[Moiety, int]:
    unit = _choice(hp, space, "unit")
    levels = _integer(hp, "levels", space.minimum_levels, space.maximum_levels)
    neurons, dendrites = [], []
    for level in range(1, space.maximum_levels + 1):
        with _at_least(hp, "levels", level, space.minimum_levels, space.maximum_levels):
            row, branches = _level(hp, space, level, level <= levels)
        if level <= levels:
            neurons.append(row)
            dendrites.append(branches)
    wiring = int(hp.Int("wiring", 0, MAX_WIRING))
    moiety = Moiety(
        neurons=tuple(neurons),
        dendrites=tuple(dendrites) if unit == "neuron" else (),
        activation=_choice(hp, space, "activation"),
        merge=_choice(hp, space, "merge"),
        regularization=_choice(hp, space, "regularization"),
    )
    return moiety, wiring


def _level(
    hp: Any, space: CerebrosSpace, level: int, active: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    low, high = space.minimum_units_per_level, space.maximum_units_per_level
    name = f"units_{level}"
    units = _integer(hp, name, low, high, active)
    neurons = space.minimum_neurons_per_unit, space.maximum_neurons_per_unit
    dendrites = space.minimum_dendrites_per_neuron, space.maximum_dendrites_per_neuron
    real = "neuron" in space.choices("unit")
    sizes, branches = [], []
    for number in range(high):
        used = number < units
        with _at_least(hp, name, number + 1, low, high):
            sizes.append(_integer(hp, f"neurons_{level}_{number}", *neurons, used))
            if real:
                branches.append(_integer(hp, f"dendrites_{level}_{number}", *dendrites, used))
    return tuple(sizes[:units]), tuple(branches[:units])


def _integer(hp: Any, name: str, low: int, high: int, active: bool = True) -> int:
    """The value, or 0 where the hyperparameter is only made known and has none."""
    value = low if low == high else hp.Int(name, low, high, default=(low + high) // 2)
    return int(value) if active else 0


def _choice(hp: Any, space: CerebrosSpace, name: str) -> Any:
    values = space.choices(name)
    return values[0] if len(values) == 1 else hp.Choice(name, list(values))


@contextmanager
def _at_least(hp: Any, name: str, least: int, low: int, high: int) -> Iterator[None]:
    """A scope whose hyperparameters are active where ``name`` is at least ``least``."""
    if least <= low:
        # Always so: no condition, and where low == high no hyperparameter to put one on.
        yield
        return
    with hp.conditional_scope(name, list(range(least, high + 1))):
        yield

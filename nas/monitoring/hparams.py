"""The search space as TensorBoard's HParams tab has it: names with the values they may have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.trial.record import TrialRecord
from nas.tuners.search_space import is_number

#: Bounds of numbers, the values of a choice, or None where a name has been declared as both.
Domain = tuple[float, float] | tuple[str | bool, ...] | None


def domains(known: Mapping[str, Domain], trial: TrialRecord) -> dict[str, Domain]:
    """The hyperparameters that are known, and those of a trial.

    A name that is declared several times, under different conditions, has what any of them allows:
    TensorBoard hides trials whose values lie outside.
    """
    found = dict(known)
    declared: dict[str, list[Any]] = {}
    for each in getattr(trial.hyperparameters, "space", ()):
        declared.setdefault(each.name, []).append(each)
    for name in trial.active_values:
        merged = _merged(declared.get(name, []))
        found[name] = merged if name not in known or known[name] == merged else None
    return found


def _merged(definitions: list[Any]) -> Domain:
    if definitions and all(is_number(each) for each in definitions):
        low = min(float(each.min_value) for each in definitions)
        high = max(float(each.max_value) for each in definitions)
        return (low, high) if low < high else None
    values = {value for each in definitions if not is_number(each) for value in each.values}
    kinds = {type(value) for value in values}
    if any(is_number(each) for each in definitions) or kinds not in ({str}, {bool}):
        return None
    return tuple(sorted(values))


def config_of(space: Mapping[str, Domain], metrics: list[Any]) -> bytes:
    """The summary that tells the HParams tab what there is."""
    from tensorboard.plugins.hparams import api

    made = [api.HParam(name, _domain(allowed)) for name, allowed in space.items()]
    return bytes(api.hparams_config_pb(made, metrics).SerializeToString())


def _domain(allowed: Domain) -> Any:
    from tensorboard.plugins.hparams import api

    if allowed is None:
        return None
    if isinstance(allowed[0], float):
        return api.RealInterval(*allowed)
    return api.Discrete(list(allowed))

"""Structure of a program: everything that its traced steps depend on, except names and numbers.

Numbers are the weight decay and the numeric arguments of learning rate schedules. Trials with equal
structures share one traced program, to which each trial's numbers are assigned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from cerebros_spark.compat import keras as compat
from cerebros_spark.training.keras import member_losses, schedules
from cerebros_spark.training.keras.optimizer_support import flatten_optimizer
from cerebros_spark.training.keras.schedules import SCHEDULES
from cerebros_spark.training.keras.serialization import iterate_dicts

_Numbers = tuple[float, ...]

# Keys whose values are names of layers, and keys below them whose values are not.
_NAMES = frozenset({"name", "input_layers", "output_layers", "keras_history"})
_VALUES = frozenset({"class_name", "dtype", "module", "registered_name"})


def get_structure(program: str, batch_size: int) -> str | None:
    """Return a program's structure as a string; None if the program has custom code.

    Layers are renamed in order, because Keras numbers all layers of a process in their names.
    Initializers are omitted, because weights come from a checkpoint.
    """
    description = json.loads(program)
    if not set(description["imports"]) <= {schedules.__name__, member_losses.__name__}:
        return None
    description["architecture"].pop("compile_config", None)  # repeats "compile"
    names = dict.fromkeys(
        node["config"]["name"]
        for node in iterate_dicts(description["architecture"])
        if isinstance(node.get("config"), dict)
        and isinstance(node["config"].get("name"), str)
        and "DTypePolicy" not in node.get("class_name", "")
    )
    numbered = {name: f"layer {i}" for i, name in enumerate(names)}
    config = _get_optimizer_config(description)
    config.pop("name", None)  # Keras numbers optimizers, too
    if isinstance(config.get("learning_rate"), float):
        config["learning_rate"] = None  # a variable, which is part of the state
    for owner, key in _find_numbers(config):
        owner[key] = None
    return json.dumps([_clean(description, numbered), batch_size], sort_keys=True)


def read_numbers(program: str) -> _Numbers:
    """Return a program's numbers: its schedule's numeric arguments, then any weight decay.

    The result is empty if the optimizer has no schedule of this package.
    """
    config = _get_optimizer_config(json.loads(program))
    return tuple(float(owner[key]) for owner, key in _find_numbers(config))


class NumberVariables:
    """Variables that replace the numbers (see :func:`read_numbers`) in a compiled optimizer.

    Args:
        model: Compiled model, deserialized from ``program`` and not yet traced.
        program: The program, as JSON.
    """

    def __init__(self, model: Any, program: str) -> None:
        config = _get_optimizer_config(json.loads(program))
        self._variables = []
        for owner, key in _find_numbers(config):
            variable = tf.Variable(np.float32(owner[key]), trainable=False, name=key)
            self._variables.append(variable)
            (part,) = flatten_optimizer(model.optimizer)
            schedule = compat.learning_rate_argument(part)
            setattr(part if owner is config else schedule, key, variable)

    def assign(self, numbers: _Numbers) -> None:
        """Assign the numbers of a program with the same structure, from :func:`read_numbers`."""
        for variable, number in zip(self._variables, numbers, strict=True):
            variable.assign(number)


def _get_optimizer_config(description: Mapping[str, Any]) -> dict[str, Any]:
    optimizer = description["compile"].get("optimizer")
    config = optimizer.get("config") if isinstance(optimizer, dict) else None
    return config if isinstance(config, dict) else {}


def _find_numbers(config: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Return the dict and key of each number, if the optimizer has a schedule of this package."""
    schedule = config.get("learning_rate")
    if not isinstance(schedule, dict) or schedule.get("registered_name") not in SCHEDULES:
        return []
    found = [(schedule["config"], name) for name in SCHEDULES[schedule["registered_name"]]]
    if isinstance(config.get("weight_decay"), float):
        found.append((config, "weight_decay"))
    return found


def _clean(node: Any, names: Mapping[str, str], is_name: bool = False) -> Any:
    """Return a configuration with layers renamed, also in references, and without initializers."""
    if isinstance(node, dict):
        return {
            key: _clean(value, names, key in _NAMES or (is_name and key not in _VALUES))
            for key, value in node.items()
            if not key.endswith("_initializer")
        }
    if isinstance(node, list):
        return [_clean(value, names, is_name) for value in node]
    return names.get(node, node) if is_name and isinstance(node, str) else node

"""The optimizers' rules on whole arrays, step for step as Keras has them.

The rules are Keras' own (``keras.optimizers``): where epsilon stands and when weights decay
differs from paper to paper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from cerebros_spark.training.fused.graph.parser import UnreadableError

# What no rule here does: the value of Keras' configuration that means "not".
_NOT = {
    "clipnorm": None,
    "global_clipnorm": None,
    "clipvalue": None,
    "use_ema": False,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
}


@dataclass(frozen=True)
class Rule:
    """How an optimizer changes weights.

    Attributes:
        slots: Names of what it keeps of each weight, in groups: those of a group lie side by side
            in its state, weight by weight; one group behind the other.
        step: Takes a weight, its gradient, what is kept of it by name, the learning rate and the
            number of the step from 1 (both broadcast to the weight), and gives the weight and
            what is kept anew.
    """

    slots: tuple[tuple[str, ...], ...]
    step: Callable[[Any, Any, Mapping[str, Any], Any, Any], tuple[Any, dict[str, Any]]]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all slots."""
        return tuple(name for group in self.slots for name in group)


def rule(optimizer: Mapping[str, Any]) -> Rule:
    """The rule of an optimizer.

    Args:
        optimizer: Its serialized form, as a compile configuration has it.

    Raises:
        UnreadableError: If there is none for it here; the message says why.
    """
    kind, config = optimizer["class_name"], optimizer["config"]
    if optimizer["module"] != "keras.optimizers" or kind not in _RULES:
        raise UnreadableError(f"its optimizer is {kind}")
    for name, off in _NOT.items():
        if config.get(name) not in (off, None):
            raise UnreadableError(f"its optimizer has {name}={config[name]!r}")
    if config.get("epsilon") == 0:  # what fills up a shape would be divided by it
        raise UnreadableError("its optimizer has epsilon=0")
    plain = _RULES[kind](config)
    decay = config.get("weight_decay")
    if decay is None:
        return plain

    def decayed(weight: Any, *others: Any) -> Any:
        learning_rate = others[2]
        return plain.step(weight - weight * tf.cast(decay, weight.dtype) * learning_rate, *others)

    return Rule(plain.slots, decayed)


def _adam(config: Mapping[str, Any]) -> Rule:
    """Adam (Kingma and Ba, ICLR 2015), with Keras' epsilon outside of the corrected root."""
    if config["amsgrad"]:
        raise UnreadableError("its optimizer has amsgrad=True")
    beta_1, beta_2, epsilon = config["beta_1"], config["beta_2"], config["epsilon"]

    def step(
        weight: Any, gradient: Any, kept: Mapping[str, Any], learning_rate: Any, number: Any
    ) -> tuple[Any, dict[str, Any]]:
        # By way of float32, as Keras' own cast goes.
        one, two = (tf.cast(beta, weight.dtype) for beta in (beta_1, beta_2))
        rate = learning_rate * tf.sqrt(1 - tf.pow(two, number)) / (1 - tf.pow(one, number))
        momentum = kept["momentum"] + (gradient - kept["momentum"]) * (1 - beta_1)
        velocity = kept["velocity"] + (tf.square(gradient) - kept["velocity"]) * (1 - beta_2)
        weight = weight - momentum * rate / (tf.sqrt(velocity) + epsilon)
        return weight, {"momentum": momentum, "velocity": velocity}

    return Rule((("momentum", "velocity"),), step)


def _sgd(config: Mapping[str, Any]) -> Rule:
    """Gradient descent, with Keras' momentum, which has the learning rate in it."""
    share, nesterov = config["momentum"], config["nesterov"]

    def step(
        weight: Any, gradient: Any, kept: Mapping[str, Any], learning_rate: Any, number: Any
    ) -> tuple[Any, dict[str, Any]]:
        if not share:
            return weight - gradient * learning_rate, {}
        momentum = kept["momentum"] * share - gradient * learning_rate
        if nesterov:
            return weight + momentum * share - gradient * learning_rate, {"momentum": momentum}
        return weight + momentum, {"momentum": momentum}

    return Rule((("momentum",),) if share else (), step)


def _rmsprop(config: Mapping[str, Any]) -> Rule:
    """RMSprop (Hinton, 2012), with epsilon under the root."""
    rho, share = config["rho"], config["momentum"]
    epsilon, centred = config["epsilon"], config["centered"]
    slots = [("velocity",)]
    slots += [("momentum",)] if share else []
    slots += [("average_gradient",)] if centred else []

    def step(
        weight: Any, gradient: Any, kept: Mapping[str, Any], learning_rate: Any, number: Any
    ) -> tuple[Any, dict[str, Any]]:
        told = {"velocity": kept["velocity"] * rho + tf.square(gradient) * (1 - rho)}
        below = told["velocity"] + epsilon
        if centred:
            told["average_gradient"] = kept["average_gradient"] * rho + gradient * (1 - rho)
            below = below - tf.square(told["average_gradient"])
        change = gradient * learning_rate / tf.sqrt(below)
        if share:
            change = told["momentum"] = kept["momentum"] * share + change
        return weight - change, told

    return Rule(tuple(slots), step)


_RULES: dict[str, Callable[[Mapping[str, Any]], Rule]] = {
    "Adam": _adam,
    "AdamW": _adam,
    "SGD": _sgd,
    "RMSprop": _rmsprop,
}

"""Optimizer update rules for whole arrays, with the same operations as ``keras.optimizers``.

Published algorithms place epsilon and weight decay differently; these rules follow Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from cerebros_spark.training.fused.graph.parser import NotFusableError

# Options that no rule supports, with the value that disables each.
_UNSUPPORTED = {
    "clipnorm": None,
    "global_clipnorm": None,
    "clipvalue": None,
    "use_ema": False,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
}


@dataclass(frozen=True)
class UpdateRule:
    """Update rule of an optimizer.

    Attributes:
        slots: Names of the optimizer slots, in groups. The optimizer's state holds one group after
            the other. Within a group, it holds all slots of the first weight, then all slots of the
            second weight, and so on.
        step: Function ``(weight, gradient, slots, learning_rate, count) -> (weight, slots)``, with
            slots by name. Weight, gradient and each slot have equal shape and dtype. The learning
            rate and the step number ``count``, from 1, are scalars ``()`` of this dtype.
    """

    slots: tuple[tuple[str, ...], ...]
    step: Callable[[Any, Any, Mapping[str, Any], Any, Any], tuple[Any, dict[str, Any]]]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all optimizer slots, group by group."""
        return tuple(name for group in self.slots for name in group)


def get_update_rule(optimizer: Mapping[str, Any]) -> UpdateRule:
    """Return the update rule of a serialized optimizer.

    Raises:
        NotFusableError: If no rule supports the optimizer or one of its options.
    """
    kind, config = optimizer["class_name"], optimizer["config"]
    if optimizer["module"] != "keras.optimizers" or kind not in _RULES:
        raise NotFusableError(f"its optimizer {kind} has no fused update rule")
    for name, off in _UNSUPPORTED.items():
        if config.get(name) not in (off, None):
            raise NotFusableError(f"its optimizer has {name}={config[name]!r}")
    if config.get("epsilon") == 0:  # padding would give 0 / 0
        raise NotFusableError("its optimizer has epsilon=0")
    plain = _RULES[kind](config)
    decay = config.get("weight_decay")
    if decay is None:
        return plain

    def decayed(weight: Any, *others: Any) -> Any:
        learning_rate = others[2]
        return plain.step(weight - weight * tf.cast(decay, weight.dtype) * learning_rate, *others)

    return UpdateRule(plain.slots, decayed)


def _build_adam(config: Mapping[str, Any]) -> UpdateRule:
    """Build the update rule of Adam (Kingma and Ba, ICLR 2015).

    As in Keras, epsilon is added to the second moment's root before bias correction.
    """
    if config["amsgrad"]:
        raise NotFusableError("its optimizer has amsgrad=True")
    beta_1, beta_2, epsilon = config["beta_1"], config["beta_2"], config["epsilon"]

    def step(
        weight: Any, gradient: Any, slots: Mapping[str, Any], learning_rate: Any, count: Any
    ) -> tuple[Any, dict[str, Any]]:
        # Convert to float32 and then to the dtype, as Keras does.
        one, two = (tf.cast(beta, weight.dtype) for beta in (beta_1, beta_2))
        rate = learning_rate * tf.sqrt(1 - tf.pow(two, count)) / (1 - tf.pow(one, count))
        momentum = slots["momentum"] + (gradient - slots["momentum"]) * (1 - beta_1)
        velocity = slots["velocity"] + (tf.square(gradient) - slots["velocity"]) * (1 - beta_2)
        weight = weight - momentum * rate / (tf.sqrt(velocity) + epsilon)
        return weight, {"momentum": momentum, "velocity": velocity}

    return UpdateRule((("momentum", "velocity"),), step)


def _build_sgd(config: Mapping[str, Any]) -> UpdateRule:
    """Build the update rule of SGD.

    As in Keras, the gradient is multiplied by the learning rate before the momentum accumulates it.
    """
    nesterov = config["nesterov"]

    def step(
        weight: Any, gradient: Any, slots: Mapping[str, Any], learning_rate: Any, count: Any
    ) -> tuple[Any, dict[str, Any]]:
        if not config["momentum"]:
            return weight - gradient * learning_rate, {}
        decay = tf.cast(config["momentum"], weight.dtype)  # by way of float32, as Keras does
        momentum = slots["momentum"] * decay - gradient * learning_rate
        if nesterov:
            return weight + momentum * decay - gradient * learning_rate, {"momentum": momentum}
        return weight + momentum, {"momentum": momentum}

    return UpdateRule((("momentum",),) if config["momentum"] else (), step)


def _build_rmsprop(config: Mapping[str, Any]) -> UpdateRule:
    """Build the update rule of RMSprop (Hinton, 2012), with epsilon under the root."""
    rho, decay = config["rho"], config["momentum"]
    epsilon, centered = config["epsilon"], config["centered"]
    names = [("velocity",)]
    names += [("momentum",)] if decay else []
    names += [("average_gradient",)] if centered else []

    def step(
        weight: Any, gradient: Any, slots: Mapping[str, Any], learning_rate: Any, count: Any
    ) -> tuple[Any, dict[str, Any]]:
        after = {"velocity": slots["velocity"] * rho + tf.square(gradient) * (1 - rho)}
        variance = after["velocity"] + epsilon
        if centered:
            after["average_gradient"] = slots["average_gradient"] * rho + gradient * (1 - rho)
            variance = variance - tf.square(after["average_gradient"])
        change = gradient * learning_rate / tf.sqrt(variance)
        if decay:
            change = after["momentum"] = slots["momentum"] * decay + change
        return weight - change, after

    return UpdateRule(tuple(names), step)


_RULES: dict[str, Callable[[Mapping[str, Any]], UpdateRule]] = {
    "Adam": _build_adam,
    "AdamW": _build_adam,
    "SGD": _build_sgd,
    "RMSprop": _build_rmsprop,
}

"""Mean of the members' losses, for networks such as TabM that output the members' mean."""

from __future__ import annotations

import json
from typing import Any

import keras
from keras import ops

#: Activations applied to the mean of the members. They determine what is added to the loss:
#: ``"linear"`` is for a squared error, ``"sigmoid"`` and ``"softmax"`` are for a cross-entropy.
ACTIVATIONS = ("linear", "sigmoid", "softmax")


@keras.saving.register_keras_serializable(package="cerebros_spark")
class MemberLosses(keras.layers.Layer):
    """Identity layer that makes a network train on the mean of its members' losses.

    A network whose members share weights must minimize the mean of the members' losses (TabM, arXiv
    2410.24210, section 3.3), but Keras computes the loss of the members' mean. The difference does
    not depend on the labels. For squared errors, it is the variance of the members. For
    cross-entropies, it is the mean of the members' log-partition functions minus the log-partition
    function of their mean. In training, this layer adds the difference to the loss.

    Args:
        activation: One of :data:`ACTIVATIONS`, applied to the mean of the members.
        scale: Factors by which the difference is multiplied, one per output value. In half
            precision, the members' variance times the label's variance may be infinite: give the
            layer the dtype of ``floatx``.
        name: Name of the layer. If None, Keras generates a name.
        **options: Other arguments of ``keras.layers.Layer``.
    """

    def __init__(
        self, activation: str, scale: list[float], name: str | None = None, **options: Any
    ) -> None:
        super().__init__(name=name, **options)
        self.activation = activation
        self.scale = scale

    def call(self, members: Any, training: bool | None = None) -> Any:
        """Return ``members (rows, members, outputs)`` unchanged.

        If ``training`` is true, also add to the model's loss the mean of the members' losses minus
        the loss of the members' mean, multiplied by ``scale``.
        """
        if training:
            self.add_loss(self._compute_difference(members))
        return members

    def _compute_difference(self, members: Any) -> Any:
        if self.activation == "linear":
            parts = ops.var(members, axis=1)
        else:
            mean = ops.mean(members, axis=1)
            parts = ops.mean(self._compute_log_partition(members), axis=1)
            parts = parts - self._compute_log_partition(mean)
        return ops.mean(parts * ops.cast(self.scale, parts.dtype))

    def _compute_log_partition(self, logits: Any) -> Any:
        if self.activation == "sigmoid":
            return ops.softplus(logits)
        return ops.logsumexp(logits, axis=-1, keepdims=True)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "activation": self.activation, "scale": self.scale}


def remove_member_losses(program: str) -> str:
    """Return a program with Keras' ``Identity`` in place of :class:`MemberLosses`, for export.

    An environment without this package could not load the class.
    """
    description = json.loads(program)
    if __name__ not in description["imports"]:
        return program
    description["imports"] = [name for name in description["imports"] if name != __name__]
    for layer in description["architecture"]["config"]["layers"]:
        if layer["class_name"] == MemberLosses.__name__:
            config = {key: layer["config"][key] for key in ("name", "trainable", "dtype")}
            layer.update(
                module="keras.layers", class_name="Identity", config=config, registered_name=None
            )
    return json.dumps(description)

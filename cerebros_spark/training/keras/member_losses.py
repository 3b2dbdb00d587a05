"""Mean loss of the members of a network whose output is the mean of them, as TabM's."""

from __future__ import annotations

import json
from typing import Any

import keras
from keras import ops

#: How outputs follow from the mean of the members, and so what is added to the loss: ``"linear"``
#: outputs with a squared error, or ``"sigmoid"`` or ``"softmax"`` with a cross-entropy.
ACTIVATIONS = ("linear", "sigmoid", "softmax")


@keras.saving.register_keras_serializable(package="cerebros_spark")
class MemberLosses(keras.layers.Layer):
    """Identity that makes the loss of the members' mean, in training, the mean of their losses.

    A network with members that share weights must learn by the mean of the losses of its members
    (TabM, arXiv 2410.24210, section 3.3), but Keras sees the mean of the members alone. The
    difference does not depend on the labels: for squared errors it is the variance of the members,
    and for cross-entropies the mean of their log-partition functions less that of their mean. This
    layer adds the difference to the loss.

    Args:
        activation: One of :data:`ACTIVATIONS`, applied to the mean of the members.
        scale: Factor of the difference, for each output value. In half precision, a variance times
            that of the label may be infinite: give the layer the dtype of ``floatx``.
        name: Name of the layer.
        **options: Other arguments of ``keras.layers.Layer``.
    """

    def __init__(
        self, activation: str, scale: list[float], name: str | None = None, **options: Any
    ) -> None:
        super().__init__(name=name, **options)
        self.activation = activation
        self.scale = scale

    def call(self, members: Any, training: bool | None = None) -> Any:
        """Return the members, of shape ``(rows, members, outputs)``, as they are."""
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
        """Return the arguments."""
        return {**super().get_config(), "activation": self.activation, "scale": self.scale}


def remove_member_losses(program: str) -> str:
    """Replace :class:`MemberLosses` by Keras' identity in a program, for export.

    Without this package, Keras cannot find the class.
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

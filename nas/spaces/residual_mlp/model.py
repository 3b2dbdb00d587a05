"""Builder of a residual multi-layer perceptron, alone or after a base model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.validation import check_integer
from cerebros_spark.training.keras.serialization import serialize_object
from nas.spaces.residual_mlp.layers import build_layers
from nas.spaces.residual_mlp.plan import REGULARIZATIONS, ResidualBlock, ResidualPlan, check_widths
from nas.spaces.validation import check_flag, check_list, check_member, check_positive, check_share

_BLOCKS = ((7, 75, 8), (5, 75, 10))


class ResidualMLP:
    """Builder of a residual multi-layer perceptron, alone or after a base model.

    A block consists of a few Dense layers and a bypass, through which a copy of the block's input
    skips these layers. The next block reads the output of the last Dense layer, concatenated with
    the bypass. Deep networks are therefore easier to train than plain perceptrons, because
    gradients and early features have a short path.
    (Residual connections: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition",
    CVPR 2016; concatenated rather than added: Huang, Liu, van der Maaten and Weinberger, "Densely
    Connected Convolutional Networks", CVPR 2017.)

    The network is ``input → (three channels) → (resizing) → (base model) → (Flatten) → block 1 →
    inter-block layers → block 2 → … → final Dense layers → output``; the parts in parentheses are
    optional. All layers are built into Keras. The momentum of batch normalization is 0.9.

    Args:
        problem_type: ``"classification"`` or ``"regression"``.
        learning_rate: Learning rate of Adam.
        input_shape: Shape of one row of the data, without the batch dimension, such as
            ``(32, 32, 3)``, or 10 for ``(10,)``. Required.
        bw_images: Whether rows are gray images, ``(height, width)`` or ``(height, width, 1)``, for
            a base model that expects color. The channel is then repeated three times.
        base_model: ``keras.Model`` with one input and one output that is applied to the data first,
            such as a pretrained network without its top (transfer learning). It becomes a layer
            and shares its weights. If ``""`` or None, there is no base model.
        base_model_input_shape: Shape of one row that the base model expects, if it differs from
            the data's; images are resized to it. If ``""`` or None, the shape is the data's.
        flatten_after_base_model: Whether to flatten the output of the base model (or the data,
            if there is no base model) if its rows are not vectors.
        blocks: For each block, a list ``[layers, first width, decrease]``: the number of Dense
            layers, the number of units in the first layer, and the number of units by which each
            layer is narrower than the previous one. ``layers * decrease`` must be less than the
            first width.
        residual_bypass_dense_layers: For each block, the number of units in each Dense layer of its
            bypass, such as ``[[], [5]]``. ``""`` or None if no bypass has Dense layers.
        b_norm_or_dropout_residual_bypass_layers: Layer after each Dense layer of a bypass:
            ``"dropout"`` or ``"bnorm"`` (batch normalization).
        dropout_rate_for_bypass_layers: Dropout rate in the bypasses, in [0, 1).
        inter_block_layers_per_block: Number of units in each Dense layer between consecutive
            blocks.
        b_norm_or_dropout_last_layers: Layer after each final Dense layer: ``"dropout"`` or
            ``"bnorm"``.
        dropout_rate: Dropout rate after the final Dense layers, in [0, 1).
        activation: Activation of all Dense layers except the output: a name or a Keras function.
        final_dense_layers: Number of units in each Dense layer after the last block.
        number_of_classes: Number of output units. Required for a classification: 1 for two classes,
            otherwise the number of classes. For a regression, the number of labels (1 if None).
        final_activation: Activation of the output; if None, there is none. ``"default"`` is softmax
            for a classification with several output units, sigmoid with one unit, and no activation
            for a regression.
        loss: Keras loss or its name. None selects categorical cross-entropy (one-hot labels) for a
            classification with several output units, binary cross-entropy with one unit, and mean
            squared error for a regression.

    Raises:
        ArgumentError: If an argument is invalid.

    Example:
        >>> builder = ResidualMLP(input_shape=10, number_of_classes=3, blocks=[[4, 30, 5]])
        >>> model = builder.make_tandem_model()
    """

    def __init__(
        self,
        problem_type: str = "classification",
        learning_rate: float = 0.0007,
        input_shape: Any = None,
        bw_images: bool = False,
        base_model: Any = "",
        base_model_input_shape: Any = "",
        flatten_after_base_model: bool = True,
        blocks: Sequence[Sequence[int]] = _BLOCKS,
        residual_bypass_dense_layers: Any = "",
        b_norm_or_dropout_residual_bypass_layers: str = "dropout",
        dropout_rate_for_bypass_layers: float = 0.7,
        inter_block_layers_per_block: Sequence[int] = (),
        b_norm_or_dropout_last_layers: str = "dropout",
        dropout_rate: float = 0.18,
        activation: Any = "relu",
        final_dense_layers: Sequence[int] = (),
        number_of_classes: int | None = None,
        final_activation: Any = "default",
        loss: Any = None,
    ) -> None:
        check_member("problem_type", problem_type, ("classification", "regression"))
        check_flag("bw_images", bw_images)
        check_flag("flatten_after_base_model", flatten_after_base_model)
        self._regression = problem_type == "regression"
        self._learning_rate = check_positive("learning_rate", learning_rate)
        self._input_shape = _check_shape("input_shape", input_shape)
        self._is_gray = bw_images
        self._base_model = _check_base_model(base_model)
        self._base_shape = None
        if not _is_absent(base_model_input_shape):
            self._base_shape = _check_shape("base_model_input_shape", base_model_input_shape)
            if self._base_model is None:
                raise ArgumentError(
                    f"base_model_input_shape={base_model_input_shape!r} requires a base_model, but "
                    "none was passed"
                )
        self._flatten = flatten_after_base_model
        self._plan = ResidualPlan(
            blocks=_make_blocks(blocks, residual_bypass_dense_layers),
            inter_block=check_widths("inter_block_layers_per_block", inter_block_layers_per_block),
            final=check_widths("final_dense_layers", final_dense_layers),
            bypass_regularization=check_member(
                "b_norm_or_dropout_residual_bypass_layers",
                b_norm_or_dropout_residual_bypass_layers,
                REGULARIZATIONS,
            ),
            bypass_dropout_rate=check_share(
                "dropout_rate_for_bypass_layers", dropout_rate_for_bypass_layers
            ),
            final_regularization=check_member(
                "b_norm_or_dropout_last_layers", b_norm_or_dropout_last_layers, REGULARIZATIONS
            ),
            final_dropout_rate=check_share("dropout_rate", dropout_rate),
        )
        self._activation = _check_activation("activation", activation)
        if number_of_classes is None and not self._regression:
            raise ArgumentError(
                "number_of_classes is missing: 1 for two classes, otherwise the number of classes"
            )
        count = 1 if number_of_classes is None else number_of_classes
        self._outputs = check_integer("number_of_classes", count, 1)
        self._final_activation = self._resolve_activation(final_activation)
        self._loss = self._make_default_loss() if loss is None else _resolve_loss(loss)

    def make_tandem_model(self) -> keras.Model:
        """Return a new compiled network.

        Its optimizer is Adam. Its metric is accuracy; for a regression, its metrics are root mean
        squared error and mean absolute error. Initial weights come from Keras' global random
        generator (see ``keras.utils.set_random_seed``).

        Raises:
            ArgumentError: If the shapes of the data, the base model and the first block are
                incompatible.
        """
        node = keras.Input(self._input_shape, name="input")
        tensor = self._flatten_rows(self._apply_base_model(node))
        tensor = build_layers(self._plan, tensor, self._activation)
        output = keras.layers.Dense(
            self._outputs, activation=self._final_activation, name="output"
        )(tensor)
        model = keras.Model(node, output, name="residual_mlp")
        metrics: list[Any] = ["accuracy"]
        if self._regression:
            metrics = [keras.metrics.RootMeanSquaredError(), keras.metrics.MeanAbsoluteError()]
        # Each network needs its own loss object.
        loss = keras.losses.deserialize(serialize_object(self._loss))
        model.compile(
            optimizer=keras.optimizers.Adam(self._learning_rate), loss=loss, metrics=metrics
        )
        return model

    # From the input to the blocks --------------------------------------------------------

    def _apply_base_model(self, tensor: Any) -> Any:
        if self._is_gray:
            tensor = self._repeat_channel(tensor)
        wanted = self._base_shape
        if wanted is not None and wanted != tuple(tensor.shape[1:]):
            tensor = self._resize(tensor, wanted)
        if self._base_model is None:
            return tensor
        try:
            output = self._base_model(tensor)
        except ValueError as error:
            raise ArgumentError(
                f"base_model {self._base_model.name!r} takes rows of shape "
                f"{tuple(self._base_model.input_shape[1:])}, but gets {tuple(tensor.shape[1:])}; "
                "set base_model_input_shape to resize images, or bw_images=True to repeat the "
                "channel of gray images"
            ) from error
        if isinstance(output, list | tuple | dict):
            raise ArgumentError(
                f"base_model {self._base_model.name!r} must have one output, but has {len(output)}"
            )
        return output

    def _repeat_channel(self, tensor: Any) -> Any:
        shape = tuple(tensor.shape[1:])
        if len(shape) == 2:
            tensor = keras.layers.Reshape((*shape, 1), name="channel")(tensor)
        elif len(shape) != 3 or shape[-1] != 1:
            raise ArgumentError(
                f"bw_images is for an input_shape of (height, width) or (height, width, 1), but "
                f"got {shape}"
            )
        return keras.layers.Concatenate(name="channels")([tensor] * 3)

    def _resize(self, tensor: Any, wanted: tuple[int, ...]) -> Any:
        shape = tuple(tensor.shape[1:])
        if len(shape) != 3 or len(wanted) != 3 or shape[-1] != wanted[-1]:
            raise ArgumentError(
                f"cannot resize rows of shape {shape} to base_model_input_shape={wanted}: both "
                "must be images of (height, width, channels) with the same number of channels"
            )
        return keras.layers.Resizing(wanted[0], wanted[1], name="resizing")(tensor)

    def _flatten_rows(self, tensor: Any) -> Any:
        shape = tuple(tensor.shape[1:])
        if len(shape) == 1:
            return tensor
        if not self._flatten:
            raise ArgumentError(
                f"cannot connect rows of shape {shape} to the first block, which needs vectors; "
                "set flatten_after_base_model=True, or end the base model with a pooling layer"
            )
        if not all(isinstance(size, int) for size in shape):
            raise ArgumentError(
                f"cannot connect rows of the unknown shape {shape} to the first block; set "
                "base_model_input_shape, or end the base model with a pooling layer"
            )
        return keras.layers.Flatten(name="flatten")(tensor)

    # The output --------------------------------------------------------------------------

    def _resolve_activation(self, activation: Any) -> Any:
        if activation is None or (self._regression and activation == "default"):
            return None
        if activation == "default":
            return "softmax" if self._outputs > 1 else "sigmoid"
        return _check_activation("final_activation", activation)

    def _make_default_loss(self) -> Any:
        if self._regression:
            return keras.losses.MeanSquaredError()
        if self._outputs == 1:
            return keras.losses.BinaryCrossentropy()
        return keras.losses.CategoricalCrossentropy(from_logits=False)


def _check_activation(name: str, value: Any) -> Any:
    try:
        activation = keras.activations.get(value)
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"{name} {value!r} is not an activation of Keras") from error
    if getattr(activation, "__name__", "") == "<lambda>":
        raise ArgumentError(
            f"{name} is a lambda, which a model cannot save; pass a name such as 'relu', or a "
            "function registered with keras.saving.register_keras_serializable"
        )
    return value


def _resolve_loss(value: Any) -> Any:
    try:
        # Classes are accepted too, as in Keras examples.
        return value() if isinstance(value, type) else keras.losses.get(value)
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"loss {value!r} is not a loss of Keras") from error


def _check_base_model(value: Any) -> keras.Model | None:
    if _is_absent(value):
        return None
    if not isinstance(value, keras.Model):
        raise ArgumentError(f"base_model must be a keras.Model, but got {value!r}")
    if not value.built:
        raise ArgumentError(f"base_model {value.name!r} is not built; give it an Input first")
    if len(value.inputs) != 1:
        raise ArgumentError(
            f"base_model {value.name!r} must have one input, but has {len(value.inputs)}"
        )
    return value


def _check_shape(name: str, value: Any) -> tuple[int, ...]:
    sizes = value if isinstance(value, list | tuple) else (value,)
    if not sizes:
        raise ArgumentError(f"{name} must be the shape of one row, but got {value!r}")
    return tuple(check_integer(f"{name}={value!r}: each size", size, 1) for size in sizes)


def _make_blocks(blocks: Any, bypasses: Any) -> tuple[ResidualBlock, ...]:
    check_list("blocks", blocks, "[layers, first width, decrease]")
    bypasses = [[]] * len(blocks) if _is_absent(bypasses) else bypasses
    if not isinstance(bypasses, Sequence) or len(bypasses) != len(blocks):
        raise ArgumentError(
            f"residual_bypass_dense_layers must hold one list for each of the {len(blocks)} "
            f"blocks, but got {bypasses!r}"
        )
    planned = []
    for number, (block, bypass) in enumerate(zip(blocks, bypasses, strict=True), 1):
        if isinstance(block, str) or not isinstance(block, Sequence) or len(block) != 3:
            raise ArgumentError(
                f"block {number} must be [layers, first width, decrease], but got {block!r}"
            )
        widths = check_widths(f"residual_bypass_dense_layers of block {number}", bypass)
        layers, width, decrease = block
        planned.append(ResidualBlock(layers, width, decrease, widths, number))
    return tuple(planned)


def _is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value == "")

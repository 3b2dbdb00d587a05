"""Small AutoKeras blocks for images and token ids, suited to CPUs and without downloads."""

from __future__ import annotations

from typing import Any

import autokeras as ak
import keras

from cerebros_spark.core.errors import ArgumentError

_KINDS = ("vanilla", "residual")


@keras.saving.register_keras_serializable(package="cerebros")
class SmallImageBlock(ak.Block):
    """AutoKeras block that searches small convolutional networks.

    ``ak.ImageBlock`` chooses among ResNets with at least 50 layers, Xception and EfficientNets up
    to B7, for images of 32x32 to 224x224 pixels. This block chooses between ``ak.ConvBlock`` and a
    residual network designed for 32x32 images (He et al., CVPR 2016, section 4.2). It accepts
    images as small as 4x4 pixels.

    Args:
        block_type: ``"vanilla"`` or ``"residual"``; if None, both are searched.
        normalize: Whether to normalize each channel; if None, this is searched.
        augment: Whether to shift, flip and rotate training images; if None, this is searched.
        name: Name of the block; if None, AutoKeras numbers a default name.
        tunable: Whether to search the hyperparameters; if False, they keep their defaults.

    Raises:
        ArgumentError: If ``block_type`` is invalid.
    """

    def __init__(
        self,
        block_type: str | None = None,
        normalize: bool | None = None,
        augment: bool | None = None,
        name: str | None = None,
        tunable: bool = True,
    ) -> None:
        super().__init__(name=name, tunable=tunable)
        if block_type not in (None, *_KINDS):
            raise ArgumentError(f"block_type must be one of {_KINDS}, but got {block_type!r}")
        self.block_type = block_type
        self.normalize = normalize
        self.augment = augment

    def build(self, hp: Any, inputs: Any = None) -> Any:
        """Build a convolutional network that maps images to a feature map.

        Args:
            hp: A ``keras_tuner.HyperParameters``, in the block's name scope.
            inputs: A Keras tensor of images, of shape ``(batch, height, width, channels)``.

        Returns:
            The feature map, a Keras tensor with the same four axes as the images.
        """
        (images,) = keras.tree.flatten(inputs)
        if _read_boolean(hp, "normalize", self.normalize, default=True):
            images = ak.Normalization(name="normalization").build(hp, images)
        if _read_boolean(hp, "augment", self.augment, default=False):
            # AutoKeras' zoom has no effect; contrast depends on the scale of the pixels.
            block = ak.ImageAugmentation(name="shift", zoom_factor=0.0, contrast_factor=0.0)
            images = block.build(hp, images)
        kind = self.block_type or hp.Choice("block_type", list(_KINDS))
        if self.block_type is not None:
            return _build_network(hp, kind, images)
        with hp.conditional_scope("block_type", [kind]):
            return _build_network(hp, kind, images)

    def get_config(self) -> dict[str, Any]:
        """Return the block's arguments as a JSON-serializable dict."""
        return {
            **super().get_config(),
            "block_type": self.block_type,
            "normalize": self.normalize,
            "augment": self.augment,
        }


@keras.saving.register_keras_serializable(package="cerebros")
class TokenBlock(ak.Block):
    """AutoKeras block for rows of token ids: ``ak.TextBlock`` with a limited vocabulary.

    Token ids above ``max_tokens`` are replaced with ``max_tokens``. If frequent words have small
    ids, the vocabulary size can therefore be searched.

    Args:
        max_tokens: Size of the vocabulary; if None, several sizes are searched.
        name: Name of the block; if None, AutoKeras numbers a default name.
        tunable: Whether to search the hyperparameters; if False, they keep their defaults.
    """

    def __init__(
        self, max_tokens: int | None = None, name: str | None = None, tunable: bool = True
    ) -> None:
        super().__init__(name=name, tunable=tunable)
        self.max_tokens = max_tokens

    def build(self, hp: Any, inputs: Any = None) -> Any:
        """Build a text network that maps each row of token ids to a vector.

        Args:
            hp: A ``keras_tuner.HyperParameters``, in the block's name scope.
            inputs: A Keras tensor of token ids, of shape ``(batch, tokens)``.

        Returns:
            The output of ``ak.TextBlock``, a Keras tensor of shape ``(batch, width)``.
        """
        (ids,) = keras.tree.flatten(inputs)
        tokens = self.max_tokens or hp.Choice("max_tokens", [500, 5000, 20000], default=5000)
        limited = keras.ops.minimum(ids, tokens)
        return ak.TextBlock(max_tokens=tokens, name="text").build(hp, limited)

    def get_config(self) -> dict[str, Any]:
        """Return the block's arguments as a JSON-serializable dict."""
        return {**super().get_config(), "max_tokens": self.max_tokens}


def _read_boolean(hp: Any, name: str, value: bool | None, *, default: bool) -> bool:
    return hp.Boolean(name, default=default) if value is None else value


def _build_network(hp: Any, kind: str, images: Any) -> Any:
    if kind == "vanilla":
        return ak.ConvBlock(name="conv").build(hp, images)
    with hp.name_scope("residual"):
        return _build_residual(hp, images)


def _build_residual(hp: Any, x: Any) -> Any:
    """Build stages of residual units.

    Each stage after the first halves the height and width and doubles the number of filters.
    """
    filters = hp.Choice("filters", [16, 32, 64])
    stages = hp.Choice("stages", [1, 2, 3], default=2)
    units = hp.Choice("units", [1, 2, 3])
    x = _convolve(x, filters)
    for stage in range(stages):
        for unit in range(units):
            halved = stage > 0 and unit == 0
            x = _build_unit(x, filters * 2**stage, strides=2 if halved else 1)
    return x


def _build_unit(x: Any, filters: int, strides: int) -> Any:
    inner = _convolve(x, filters, strides)
    inner = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(inner)
    inner = keras.layers.BatchNormalization()(inner)
    if strides > 1 or x.shape[-1] != filters:
        x = keras.layers.Conv2D(filters, 1, strides=strides, padding="same")(x)
    return keras.layers.ReLU()(keras.layers.Add()([x, inner]))


def _convolve(x: Any, filters: int, strides: int = 1) -> Any:
    x = keras.layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
    return keras.layers.ReLU()(keras.layers.BatchNormalization()(x))

"""Graphs of AutoKeras blocks that train in seconds, and rows for them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import autokeras as ak
import keras
import keras_tuner
import numpy as np
from keras.src.applications import xception
from keras.src.applications.efficientnet import DEFAULT_BLOCKS_ARGS, EfficientNet
from keras.src.applications.resnet import ResNet, stack_residual_blocks_v1, stack_residual_blocks_v2

from nas import CerebrosBlock, CerebrosSpace, SmallImageBlock, TokenBlock

ROWS = 40
_RNG = np.random.default_rng(0)
GRAY = _RNG.random((ROWS, 8, 8, 1)).astype("float32")
COLOUR = _RNG.random((ROWS, 8, 8, 3)).astype("float32")
TABLE = _RNG.normal(size=(ROWS, 5)).astype("float32")
TOKENS = _RNG.integers(0, 700, size=(ROWS, 12))
SEQUENCES = _RNG.random((ROWS, 6, 3)).astype("float32")
CLASSES = np.arange(ROWS) % 3

_SPACE = CerebrosSpace.published(
    minimum_levels=1,
    maximum_levels=1,
    maximum_units_per_level=2,
    maximum_neurons_per_unit=3,
    num_lateral_connection_tries_per_unit=1,
)
# One convolution, so that a row of a table of blocks is about its block.
_CONV = {"num_blocks": 1, "num_layers": 1, "filters": 4, "kernel_size": 3, "dropout": 0.0}
_PLAIN_CONV = {**_CONV, "max_pooling": True, "separable": False}


@dataclass(frozen=True)
class Row:
    """One block (or more) between an input and a head, and what it is shown with."""

    blocks: Callable[[Any], Any]
    x: np.ndarray
    node: type = ak.Input
    input_shape: tuple[int, ...] | None = None
    fixed: dict[str, Any] = field(default_factory=dict)

    def graph(self) -> tuple[Any, Any]:
        keras.backend.clear_session()
        node = self.node()
        return node, ak.ClassificationHead(dropout=0.0)(self.blocks(node))

    def overrides(self) -> keras_tuner.HyperParameters:
        hp = keras_tuner.HyperParameters()
        for name, value in {"optimizer": "adam", "learning_rate": 1e-3, **self.fixed}.items():
            hp.Fixed(name, value)
        return hp


def _xception(**how: Any) -> keras.Model:
    """Xception as far as behind its first residual."""
    with mock.patch.object(xception, "range", create=True, return_value=range(0)):
        complete = xception.Xception(**how)
    (first, *_) = (layer for layer in complete.layers if isinstance(layer, keras.layers.Add))
    return keras.Model(complete.inputs, first.output, name="xception")


def _shallow(block: Any) -> Any:
    """The same network with one or two units where it has dozens."""

    def build(layers: Callable[..., Any], preact: bool, units: int) -> Callable[..., Any]:
        def stack(x: Any) -> Any:
            return layers(x, 4, units, stride1=1, name="conv2")

        return functools.partial(ResNet, stack, preact, True, name="resnet")

    if isinstance(block, ak.XceptionBlock):
        block.models = {"tiny": _xception}
    elif isinstance(block, ak.EfficientNetBlock):
        tiny = functools.partial(
            EfficientNet, 0.1, 0.1, 32, 0.0, blocks_args=DEFAULT_BLOCKS_ARGS[:1], name="efficient"
        )
        block.models = {"tiny": tiny}
    elif block.version == "v2":
        block.models = {"tiny": build(stack_residual_blocks_v2, True, 2)}
    else:
        block.models = {"tiny": build(stack_residual_blocks_v1, False, 1)}
    return block


def _seeds_example(node: Any) -> Any:
    normal = ak.Normalization()(node)
    left = ak.ConvBlock(**_PLAIN_CONV)(normal)
    return ak.Merge()([left, _shallow(ak.ResNetBlock(version="v2"))(normal)])


def augmented(node: Any) -> Any:
    augmentation = ak.ImageAugmentation(
        translation_factor=0.1,
        vertical_flip=True,
        horizontal_flip=True,
        rotation_factor=0.1,
        contrast_factor=0.1,
    )
    return ak.Flatten()(augmentation(node))


# Deep networks: an optimizer without a state of each weight, so that less is traced.
_DEEP = {"optimizer": "sgd"}
_AS_IT_IS = {**_DEEP, "res_net_block_1/imagenet_size": False}
_RNN = {"num_layers": 1, "layer_type": "gru", "bidirectional": True}

TABLE_OF_BLOCKS: dict[str, Row] = {
    "DenseBlock": Row(
        lambda x: ak.DenseBlock(num_layers=2, use_batchnorm=True, dropout=0.25)(x), TABLE
    ),
    "RNNBlock": Row(lambda x: ak.RNNBlock(**_RNN)(x), SEQUENCES),
    "RNNBlock, lstm": Row(
        lambda x: ak.RNNBlock(num_layers=1, layer_type="lstm", bidirectional=False)(x),
        TABLE,
        input_shape=(5, 1),
    ),
    "ConvBlock": Row(
        lambda x: ak.ConvBlock(**_PLAIN_CONV)(x), GRAY.reshape(ROWS, -1), ak.ImageInput, (8, 8, 1)
    ),
    "ConvBlock, separable": Row(
        lambda x: ak.ConvBlock(**{**_CONV, "separable": True})(x), COLOUR, ak.ImageInput
    ),
    "ConvBlock, one axis": Row(lambda x: ak.ConvBlock(**_PLAIN_CONV)(x), SEQUENCES),
    "ResNetBlock v1": Row(
        lambda x: _shallow(ak.ResNetBlock(version="v1"))(x),
        COLOUR,
        ak.ImageInput,
        fixed=_AS_IT_IS,
    ),
    "ResNetBlock v2": Row(
        lambda x: _shallow(ak.ResNetBlock(version="v2"))(x),
        GRAY,
        ak.ImageInput,
        fixed=_AS_IT_IS,
    ),
    "XceptionBlock": Row(
        lambda x: _shallow(ak.XceptionBlock())(x),
        COLOUR,
        ak.ImageInput,
        fixed={**_DEEP, "xception_block_1/imagenet_size": False},
    ),
    "EfficientNetBlock": Row(
        lambda x: _shallow(ak.EfficientNetBlock(version="b0"))(x),
        COLOUR,
        ak.ImageInput,
        fixed={**_DEEP, "efficient_net_block_1/imagenet_size": False},
    ),
    "Embedding": Row(
        lambda x: ak.Embedding(max_features=700, embedding_dim=32)(x), TOKENS, ak.TextInput
    ),
    "Embedding, of an Input": Row(
        lambda x: ak.Embedding(max_features=700, embedding_dim=32)(x), TOKENS
    ),
    "ImageBlock": Row(
        lambda x: ak.ImageBlock(block_type="vanilla", normalize=True, augment=True)(x),
        GRAY[..., 0],
        ak.ImageInput,
    ),
    "TextBlock": Row(lambda x: ak.TextBlock(max_tokens=700)(x), TOKENS, ak.TextInput),
    "StructuredDataBlock": Row(lambda x: ak.StructuredDataBlock(normalize=True)(x), TABLE),
    "StructuredDataBlock, of its input": Row(
        lambda x: ak.StructuredDataBlock(normalize=True)(x), TABLE, ak.StructuredDataInput
    ),
    "GeneralBlock": Row(lambda x: ak.blocks.GeneralBlock()(x), TABLE),
    "Merge": Row(_seeds_example, GRAY.reshape(ROWS, -1), ak.ImageInput, (8, 8, 1), _AS_IT_IS),
    "Flatten": Row(lambda x: ak.Flatten()(x), COLOUR, ak.ImageInput),
    "SpatialReduction": Row(
        lambda x: ak.SpatialReduction(reduction_type="global_avg")(ak.ConvBlock(**_PLAIN_CONV)(x)),
        COLOUR,
        ak.ImageInput,
    ),
    "TemporalReduction": Row(
        lambda x: ak.TemporalReduction(reduction_type="global_max")(
            ak.RNNBlock(return_sequences=True, **_RNN)(x)
        ),
        SEQUENCES,
    ),
    "Normalization": Row(lambda x: ak.Normalization()(x), COLOUR, ak.ImageInput),
    "ImageAugmentation": Row(augmented, GRAY, ak.ImageInput),
    "CerebrosBlock": Row(lambda x: CerebrosBlock(space=_SPACE)(x), TABLE),
    "SmallImageBlock": Row(
        lambda x: SmallImageBlock(block_type="residual", normalize=True, augment=True)(x),
        GRAY,
        ak.ImageInput,
    ),
    "TokenBlock": Row(lambda x: TokenBlock(max_tokens=500)(x), TOKENS, ak.TextInput),
}

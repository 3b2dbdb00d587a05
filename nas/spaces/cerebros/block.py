"""The Cerebros space as a block of an AutoKeras graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import autokeras as ak
import keras

from cerebros_spark.core.errors import ArgumentError
from nas.spaces.cerebros.hyperparameters import plan_network
from nas.spaces.cerebros.layers import build_layers, flatten_inputs
from nas.spaces.cerebros.plan import OutputFuture
from nas.spaces.cerebros.space import CerebrosSpace


@keras.saving.register_keras_serializable(package="cerebros")
class CerebrosBlock(ak.Block):
    """Searches Cerebros networks as one block of an AutoKeras graph.

    The block is a Cerebros network with one output unit without a Dense layer: its output is what
    that unit reads, merged and regularized. The head that follows adds the Dense layer, so input,
    block and head together are one complete Cerebros network. The width of the output is that of
    the merged sources and differs between candidates.

    Hyperparameters are named after the block (``cerebros_block_1/levels``). The learning rate of
    the space is not used: the graph has its own.

    Args:
        space: The bounds, or their config; the published ones by default.
        seed: Seed of the wirings. Initial weights come from Keras' global seed.
        name: Name of the block; numbered by AutoKeras by default.
        tunable: False to keep all hyperparameters at their defaults.

    Raises:
        ArgumentError: If ``space`` is not a CerebrosSpace.

    Example:
        >>> node = ak.Input()
        >>> head = ak.RegressionHead()(CerebrosBlock(space=CerebrosSpace())(node))
    """

    def __init__(
        self,
        space: CerebrosSpace | Mapping[str, Any] | None = None,
        seed: int = 0,
        name: str | None = None,
        tunable: bool = True,
    ) -> None:
        super().__init__(name=name, tunable=tunable)
        if space is None:
            space = CerebrosSpace()
        elif isinstance(space, Mapping):
            space = CerebrosSpace.from_config(space)
        if not isinstance(space, CerebrosSpace):
            raise ArgumentError(f"space must be a CerebrosSpace, but got {space!r}")
        self.space = space
        self.seed = seed

    def build(self, hp: Any, inputs: Any = None) -> Any:
        """Add one network to the graph.

        Args:
            hp: A ``keras_tuner.HyperParameters``, in the scope of the block.
            inputs: A Keras tensor or a list of them. Rows that are not vectors are flattened.

        Returns:
            One Keras tensor of shape ``(batch, width)``.
        """
        prefix = f"{self.name}_"
        several = isinstance(inputs, Sequence)
        tensors = flatten_inputs(inputs if several else [inputs], prefix=prefix)
        widths = [int(tensor.shape[-1]) for tensor in tensors]
        future = plan_network(hp, self.space, widths, [OutputFuture(None)], self.seed, prefix="")
        return build_layers(future, tensors, prefix=prefix)[0]

    def get_config(self) -> dict[str, Any]:
        """Return the block's arguments in JSON's types."""
        return {**super().get_config(), "space": self.space.get_config(), "seed": self.seed}

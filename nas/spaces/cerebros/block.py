"""AutoKeras block that searches Cerebros networks."""

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
    """AutoKeras block that searches Cerebros networks.

    The block is a Cerebros network with one output unit that has no Dense layer. The block outputs
    the merged and regularized sources of that unit. The head that follows adds the Dense layer, so
    input, block and head together form a complete Cerebros network. The output is as wide as the
    merged sources, so its width differs between candidates.

    Hyperparameter names begin with the block's name (``cerebros_block_1/levels``). The space's
    learning rate is not used, because the graph has a separate one.

    Args:
        space: Bounds of the networks, or the config of a :class:`CerebrosSpace`; if None, its
            defaults are used.
        seed: Seed for wiring the networks. Initial weights come from Keras' global seed.
        name: Name of the block; if None, AutoKeras numbers a default name.
        tunable: Whether to search the hyperparameters; if False, they keep their defaults.

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
        """Build a network in the graph.

        Args:
            hp: A ``keras_tuner.HyperParameters``, in the block's name scope.
            inputs: A Keras tensor or a list of them. Rows that are not vectors are flattened.

        Returns:
            The merged sources of the output unit, a Keras tensor of shape ``(batch, width)``.
        """
        prefix = f"{self.name}_"
        several = isinstance(inputs, Sequence)
        tensors = flatten_inputs(inputs if several else [inputs], prefix=prefix)
        widths = [int(tensor.shape[-1]) for tensor in tensors]
        future = plan_network(hp, self.space, widths, [OutputFuture(None)], self.seed, prefix="")
        return build_layers(future, tensors, prefix=prefix)[0]

    def get_config(self) -> dict[str, Any]:
        """Return the block's arguments as a JSON-serializable dict."""
        return {**super().get_config(), "space": self.space.get_config(), "seed": self.seed}

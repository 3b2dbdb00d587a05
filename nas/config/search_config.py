"""Frozen dataclasses with a search's configuration, and its adaptation to the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import autokeras as ak
import keras

from cerebros_spark.core.errors import ArgumentError, DataError
from cerebros_spark.core.validation import check_optional_integer, check_real
from cerebros_spark.data.float32 import check_variation
from cerebros_spark.data.layout import default_layout
from cerebros_spark.data.manifest import Manifest
from nas.config.binding import Resources
from nas.config.dataset import PreparedData, SearchData
from nas.config.tuner import TunerBinding
from nas.config.user_model import resolve_user_model
from nas.data.heads import resolve_targets
from nas.data.inputs import flatten_names
from nas.data.table import TableOptions
from nas.data.weights import check_class_labels, check_class_weight, parse_loss_weights
from nas.monitoring.observer import SearchObserver
from nas.spaces.autokeras.default_graph import assemble_graph, needs_blocks
from nas.spaces.autokeras.graph import check_graph, check_shapes
from nas.spaces.cerebros import CerebrosSpace
from nas.spaces.tabular.sizes import choose_batch_size, choose_epochs
from nas.spaces.tabular.space import TabularSpace
from nas.spaces.user_space import UserBuilder, collect_custom_objects, make_user_builder

#: Maximum number of epochs and early stopping, as in AutoKeras, if ``epochs`` is None.
DEFAULT_EPOCHS = 1000
DEFAULT_BATCH_SIZE = 32
DEFAULT_STOPPING = {"monitor": "val_loss", "patience": 10, "min_delta": 1e-4}


#: Defaults for tables: maximum number of configurations in an ensemble, number of folds, and
#: maximum number of training rows for cross-validation. (With more, one split is precise enough.)
DEFAULT_ENSEMBLE = 8
FOLDS = 5
MAX_CROSS_VALIDATED = 30_000


@dataclass(frozen=True)
class ModelConfig:
    """Definition of the networks of a search; see the arguments of ``HyperHyperModel``.

    ``space`` is None if the networks are an AutoKeras graph or come from ``user_builder``. If
    ``is_auto`` is True and the data is a raw table, a ``TabularSpace`` replaces the space.
    """

    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    heads: tuple[Any, ...]
    space: CerebrosSpace | TabularSpace | None
    base_models: Mapping[int, keras.Model] | None
    user_builder: UserBuilder | None
    custom_objects: Mapping[str, Any]
    loss_weights: tuple[float, ...] | None
    max_model_size: int | None
    is_auto: bool = False


@dataclass(frozen=True)
class SearchConfig:
    """Configuration of one search, from the constructor, the bindings and ``fit``.

    If ``seed`` is None, a random seed is drawn. ``epochs`` and ``batch_size`` are the arguments of
    ``fit``; see :attr:`max_epochs`. Each trial copies ``callbacks``, whereas ``observers`` follow
    the whole search. ``passes`` is the number of times that a trial reads a partition's rows in
    each epoch. ``folds`` is the number of cross-validation folds; 1 means no cross-validation.
    ``ensemble_size`` is the maximum number of configurations in the ensemble. ``max_seconds`` is
    the time limit of the search, counted from ``began``, a value of ``time.monotonic()``. If
    ``max_seconds`` is None, there is no limit.
    """

    model: ModelConfig
    resources: Resources
    tuner: TunerBinding
    project_name: str
    overwrite: bool
    seed: int | None
    batch_size: int | None
    epochs: int | None
    verbose: int
    input_shape: Sequence[int] | None
    reproducible: bool
    callbacks: tuple[keras.callbacks.Callback, ...] = ()
    observers: tuple[SearchObserver, ...] = ()
    class_weight: Mapping[int, float] | None = None
    folds: int = 1
    passes: int = 1
    ensemble_size: int | None = None
    max_seconds: float | None = None
    began: float = 0.0

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            "batch_size": check_optional_integer("batch_size", self.batch_size, 1),
            "epochs": check_optional_integer("epochs", self.epochs, 1),
            "ensemble_size": check_optional_integer("ensemble_size", self.ensemble_size, 1),
        }
        if self.max_seconds is not None:
            checked["max_seconds"] = check_real("max_seconds", self.max_seconds, 1)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def rows_per_step(self) -> int:
        """Rows per training step; used only if the space does not choose the batch size."""
        return self.batch_size or DEFAULT_BATCH_SIZE

    @property
    def max_epochs(self) -> int:
        """Maximum number of epochs of a trial."""
        return self.epochs or DEFAULT_EPOCHS

    @property
    def trial_callbacks(self) -> tuple[keras.callbacks.Callback, ...]:
        """Callbacks of each trial, including the default early stopping if ``epochs`` is None."""
        stops = any(isinstance(each, keras.callbacks.EarlyStopping) for each in self.callbacks)
        if self.epochs is not None or stops:
            return self.callbacks
        return (*self.callbacks, keras.callbacks.EarlyStopping(**DEFAULT_STOPPING))

    @property
    def table_options(self) -> TableOptions | None:
        """Options for reading raw tables; None if the networks cannot read raw tables.

        Networks of a search space can read them, and so can AutoKeras graphs with an
        ``ak.StructuredDataInput``, but not if ``input_shape`` or base models are given.
        """
        model = self.model
        nodes = [node for node in model.inputs if isinstance(node, ak.StructuredDataInput)]
        embeds = model.space is not None
        if self.input_shape is not None or model.base_models or not (embeds or nodes):
            return None
        types: dict[str, str] = {}
        for node in nodes:
            types.update(node.column_types or {})
        types.update(self.resources.column_types or {})
        bound = self.resources
        features = flatten_names(bound.feature_columns)
        if bound.group_column is not None and bound.group_column not in features:
            types.pop(bound.group_column, None)
        if bound.time_column is not None and features and bound.time_column not in features:
            types.pop(bound.time_column, None)
        return TableOptions(model.heads, types, embeds)

    @property
    def custom_objects(self) -> Mapping[str, Any]:
        """Custom layers, losses and metrics by name."""
        return self.model.custom_objects


def configure_model(
    inputs: Any,
    outputs: Any,
    *,
    space: CerebrosSpace | TabularSpace | str | None,
    base_models: Mapping[int, keras.Model] | None,
    hypermodel: Any,
    custom_objects: Mapping[str, Any] | None,
    loss_weights: Sequence[float] | Mapping[str, float] | None,
    max_model_size: int | None,
) -> ModelConfig:
    """Validate the arguments that define the networks, and return them as a configuration.

    See ``HyperHyperModel`` for the arguments. Raises ArgumentError if one is invalid.
    """
    given = _check_space(space)
    user_builder = _make_user_builder(hypermodel, inputs, outputs, given, base_models)
    objects = collect_custom_objects(custom_objects)
    # A block returns a list, so the outputs of several blocks are nested lists.
    nodes = [] if user_builder else keras.tree.flatten(inputs)
    ends = [] if user_builder else keras.tree.flatten(outputs)
    heads = [_find_head(output) for output in ends]
    is_graph = any(not isinstance(output, ak.Head) for output in ends)
    if user_builder is None and not is_graph and needs_blocks(nodes):
        nodes, ends, heads = assemble_graph(nodes, heads)
        is_graph = True
    if is_graph:
        check_graph(nodes, ends)
        if given is not None or base_models:
            raise ArgumentError(
                "space and base_models are for ak.Input and ak.StructuredDataInput with heads and "
                "no blocks between them; give the space to a CerebrosBlock of a graph"
            )
    return ModelConfig(
        inputs=tuple(nodes),
        outputs=tuple(ends),
        heads=tuple(heads),
        space=None if is_graph or user_builder else given or CerebrosSpace(),
        base_models=base_models,
        user_builder=user_builder,
        custom_objects=objects,
        loss_weights=parse_loss_weights(loss_weights, heads),
        max_model_size=check_optional_integer("max_model_size", max_model_size, 1),
        is_auto=not (is_graph or user_builder or given or base_models),
    )


def _check_space(space: Any) -> CerebrosSpace | TabularSpace | None:
    """Return the search space; None if it is ``"auto"`` or None and thus depends on the data."""
    if space is None or space == "auto":
        return None
    if not isinstance(space, CerebrosSpace | TabularSpace):
        raise ArgumentError(
            f'space must be "auto", a CerebrosSpace or a TabularSpace, but got {space!r}'
        )
    return space


def adapt_to_data(config: SearchConfig, manifest: Manifest, cross_validates: bool) -> SearchConfig:
    """Return the configuration with the settings that depend on the data, such as space and tuner.

    ``cross_validates`` says whether the validation rows were drawn at random by default; only then
    is cross-validation with random folds allowed.
    """
    space = config.model.space
    if config.model.is_auto and manifest.table is not None:
        space = TabularSpace()
    is_graph = space is None and config.model.user_builder is None
    has_points = is_graph or isinstance(space, TabularSpace)
    is_table = space is not None and manifest.table is not None
    size = config.ensemble_size or (DEFAULT_ENSEMBLE if is_table else 1)
    tuner = config.tuner.resolve("portfolio" if has_points else "random")
    if not is_table:
        return dataclasses.replace(config, tuner=tuner, ensemble_size=size)
    rows = manifest.train_rows
    batch_size = config.batch_size or choose_batch_size(rows)
    epochs, passes = choose_epochs(rows, batch_size, manifest.partitions)
    has_groups = config.resources.group_column or config.resources.time_column
    # Workers keep the rows of each fold and phase, about ten times the rows of a partition.
    row_bytes = 4 * (manifest.table.matrix.width if manifest.table is not None else 1)
    largest = max(shard.rows for shard in manifest.train) * row_bytes
    fits = 10 * largest <= config.resources.shard_memory
    few = rows <= MAX_CROSS_VALIDATED
    cross_validates = cross_validates and not has_groups and few and fits
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, space=space),
        tuner=tuner,
        ensemble_size=size,
        batch_size=batch_size,
        epochs=config.epochs or epochs,
        passes=1 if config.epochs else passes,
        folds=FOLDS if cross_validates and size > 1 else 1,
    )


def _make_user_builder(hypermodel: Any, *others: Any) -> UserBuilder | None:
    if hypermodel is None:
        if others[0] is None or others[1] is None:
            raise ArgumentError(
                "inputs and outputs are missing, for example inputs=ak.Input(), "
                "outputs=ak.RegressionHead(); or pass hypermodel=, a function or a model"
            )
        return None
    if any(other is not None for other in others):
        raise ArgumentError(
            "hypermodel stands for the whole network: leave out inputs, outputs, space and "
            "base_models"
        )
    return make_user_builder(hypermodel)


def _find_head(output: Any) -> Any:
    """Return ``output`` if it is a head, or the head that made it; else raise ArgumentError."""
    if isinstance(output, ak.Head):
        return output
    blocks = getattr(output, "in_blocks", None)
    if blocks and isinstance(blocks[0], ak.Head):
        return blocks[0]
    raise ArgumentError(
        "outputs must be heads such as ak.RegressionHead(), or nodes that a head gave, but got "
        f"{output!r}"
    )


def _check_table(options: TableOptions | None, manifest: Manifest) -> None:
    """Raise DataError if the data is an encoded table that the networks cannot read."""
    if manifest.table is None:
        return
    if options is None or (manifest.table.matrix.codes and not options.embeds):
        raise DataError(
            "the prepared data is an encoded table for other networks: call fit with the table, or "
            "use networks with heads and ak.Input alone"
        )


def resolve_data(config: SearchConfig, prepared: PreparedData) -> SearchData:
    """Resolve prepared data to the inputs and targets of the networks.

    Raises DataError or ArgumentError if the data does not suit the networks.
    """
    model, manifest = config.model, prepared.manifest
    _check_table(config.table_options, manifest)
    if model.user_builder is not None:
        if config.resources.evaluation_metric:
            raise ArgumentError(
                f"evaluation_metric={list(config.resources.evaluation_metric)!r} is for heads; "
                "pass the metrics of a hypermodel's network to its compile()"
            )
        data = resolve_user_model(
            model.user_builder, model.custom_objects, prepared, config.input_shape
        )
        check_class_labels(config.class_weight, manifest, data.layout.outputs)
    else:
        layout = default_layout(
            manifest,
            inputs=len(model.inputs),
            outputs=len(model.heads),
            feature_columns=prepared.features,
            label_columns=prepared.labels,
            input_shape=config.input_shape,
            input_names=[node.name for node in model.inputs],
            output_names=[head.name for head in model.heads],
        )
        check_shapes(model.inputs, layout.input_shapes)
        targets = resolve_targets(model.heads, manifest, layout, config.resources.evaluation_metric)
        check_class_weight(config.class_weight, targets)
        check_variation(manifest.column(name) for group in layout.inputs for name in group)
        data = SearchData(manifest, layout, targets)
    # Reject labels that float32 cannot distinguish.
    for group, target in zip(data.layout.outputs, data.targets, strict=True):
        if not target.class_indices:
            check_variation(manifest.column(name) for name in group)
    return data

"""Configuration of a run started from the command line.

It is stored with the run, so that later commands can resume the run and use its result.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import logging
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from cerebros_spark.backends.base import Backend
from cerebros_spark.core.errors import ArgumentError, StoreError
from cerebros_spark.data.manifest import Layout
from cerebros_spark.runs.journal import Record, journal_key, locate_run, read
from cerebros_spark.runs.limits import read_limits
from cerebros_spark.storage.store import Store, read_checked, write_checked
from nas.cli.csv_format import CsvOptions

if TYPE_CHECKING:
    from nas.hyperhypermodel import HyperHyperModel
    from nas.monitoring.observer import SearchObserver
    from nas.spaces.cerebros import CerebrosSpace

# Fields that may change when a run is resumed: they do not affect its result.
_LOCATION = frozenset(
    {"format", "data", "table_format", "csv", "master", "settings", "vector_size"}
)
# Fields that may grow.
_LIMITS = ("max_trials", "time_limit")
_OPTIONS = {
    "labels": "--label",
    "kinds": "the kind of the columns",
    "column_types": "--column-type",
    "metrics": "--metric",
    "tuner_options": "--tuner-option",
}


class RunConfig(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"table_format": "kind"},
):
    """Options of the command ``search``, and the columns of its table.

    Attributes:
        features: Names of the feature columns, including any that the search leaves out.
        labels: Names of the labels.
        kinds: Kind of each feature and label, by column name (see :mod:`.column_kinds`); columns
            without such a kind, for example arrays, are omitted.
        csv: CSV options that the user gave. For files without a header, they include the names.
        vector_size: Number of features in libsvm data; None if the format is different.
        time_limit: Time limit of the search, in seconds; None if there is no limit.
    """

    format: Literal[2] = 2
    data: str
    table_format: str
    features: tuple[str, ...]
    labels: tuple[str, ...]
    kinds: dict[str, str] = {}
    column_types: dict[str, str] = {}
    csv: CsvOptions = CsvOptions()
    head: str
    workers: int
    vector_size: int | None = None
    space: dict[str, Any] = {}
    tuner: str = "auto"
    tuner_options: dict[str, Any] = {}
    max_trials: int = 20
    objective: str = "val_loss"
    metrics: tuple[str, ...] = ()
    epochs: int | None = None
    batch_size: int | None = None
    validation: float | str = "auto"
    group_column: str | None = None
    time_column: str | None = None
    time_limit: float | None = None
    ensemble_size: int | None = None
    seed: int | None = None
    reproducible: bool = False
    backend: str = "spark"
    master: str | None = None
    settings: dict[str, str] = {}

    def build_search(
        self, name: str, store: Store, backend: Backend, *, overwrite: bool = False
    ) -> HyperHyperModel:
        """Build the search and bind its resources and tuner; raise ArgumentError if invalid."""
        import autokeras as ak

        from nas.hyperhypermodel import HyperHyperModel

        heads = {"classification": ak.ClassificationHead, "regression": ak.RegressionHead}
        search = HyperHyperModel(
            inputs=ak.Input(),
            outputs=heads[self.head](),
            project_name=name,
            overwrite=overwrite,
            seed=self.seed,
            space=build_space(self.space),
        )
        search.resource_bind(
            backend=backend,
            store=store,
            feature_columns=list(self.features),
            label_columns=list(self.labels),
            validation=self.validation,
            group_column=self.group_column,
            time_column=self.time_column,
            evaluation_metric=list(self.metrics) or None,
            column_types=self.column_types or None,
        )
        search.tuner_bind(
            self.tuner, objective=self.objective, max_trials=self.max_trials, **self.tuner_options
        )
        return search

    @property
    def fit_options(self) -> dict[str, Any]:
        """Keyword arguments of ``fit`` and ``fit_on_prepared_data``, from the options."""
        return {
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "reproducible": self.reproducible,
            "max_seconds": self.time_limit,
            "ensemble_size": self.ensemble_size,
        }

    def check_same(self, earlier: RunConfig, name: str) -> None:
        """Raise ArgumentError if this configuration cannot resume the run ``name``.

        It must equal ``earlier``, the configuration of that run, except that limits may be raised,
        and the location of the data and Spark settings may differ. If this configuration has no
        seed, seeds are not compared.
        """
        # Without --seed the run keeps its seed.
        ignored = _LOCATION | ({"seed"} if self.seed is None else set())
        for field in self.__struct_fields__:
            before, now = getattr(earlier, field), getattr(self, field)
            if field in _LIMITS and None not in (before, now) and now >= before:
                continue
            if field not in ignored and now != before:
                option = _OPTIONS.get(field, "--" + field.replace("_", "-"))
                raise ArgumentError(
                    f"cannot resume the run {name!r}: {option} was {_describe_value(before)} and "
                    f"is now {_describe_value(now)}; "
                    "give the same again, or another --name, or --overwrite"
                )


def _describe_value(value: Any) -> str:
    return "not given" if value is None else str(value)


@dataclass(frozen=True)
class Run:
    """Run that was started from the command line.

    ``records`` are the records of the run's journal. ``is_extended`` says whether its limits were
    raised after the last of them.
    """

    store: Store
    name: str
    config: RunConfig
    records: tuple[Record, ...]
    is_extended: bool = False

    def find_used_features(self) -> list[str]:
        """Return the names of the feature columns that the networks read."""
        layout = msgspec.convert(self.records[0]["layout"], Layout)
        return [name for group in layout.inputs for name in group]

    @property
    def finished(self) -> bool:
        """Whether the run is finished and its limits have not been raised."""
        return bool(self.records[-1]["kind"] == "done" and not self.is_extended)

    def extend(self, max_trials: int | None, time_limit: float | None) -> Run:
        """Return a copy of the run with new limits; a limit given as None is left unchanged.

        ``time_limit`` is in seconds. Raises ArgumentError if a limit is lowered, or is added to a
        run without such a limit.
        """
        given = {"max_trials": max_trials, "time_limit": time_limit}
        changed = {name: value for name, value in given.items() if value is not None}
        config = msgspec.structs.replace(self.config, **changed)
        config.check_same(self.config, self.name)
        return replace(self, config=config, is_extended=config != self.config)

    def check_finished(self) -> None:
        """Raise ArgumentError unless the run is finished."""
        if not self.finished:
            raise ArgumentError(
                f"the run {self.name!r} is not finished; resume it with "
                f"cerebros-spark resume {format_place(self.store, self.name)}"
            )

    def load_result(self) -> Any:
        """Load the ``ModelSelectionResult`` of a finished run, using only the store.

        Raises:
            ArgumentError: If the run is not finished.
        """
        self.check_finished()
        from cerebros_spark.backends.local import LocalBackend

        first = self.records[0]
        backend = LocalBackend(first["partitions"], threads_per_worker=first["threads"])
        with _hide_finished_warning():
            return self.resume(backend, verbose=0)

    def resume(self, backend: Backend, verbose: int) -> Any:
        """Resume the run if it is not finished, and return its ``ModelSelectionResult``."""
        search = self.config.build_search(self.name, self.store, backend)
        return search.fit_on_prepared_data(
            self.records[0]["data"], verbose=verbose, **self.config.fit_options
        )


def open_run(place: str) -> Run:
    """Open the run at ``STORE/runs/NAME``; raise ArgumentError unless ``search`` started it."""
    store, name = find_run(place)
    config = read_config(store, name)
    if config is None:
        raise ArgumentError(
            f"the run {name!r} was started by a script, not by cerebros-spark search: run that "
            "script again to resume it or to get its result; report, audit and export work on "
            "any run"
        )
    records = read(store, name)
    return Run(store, name, _update_limits(config, records), records)


def find_run(place: str) -> tuple[Store, str]:
    """Return the store and name of the run at a folder or URL; raise ArgumentError if missing."""
    folder = place.rstrip("/").removesuffix("/journal.jsonl")
    if "://" not in folder and not os.path.isdir(os.path.expanduser(folder)):
        raise ArgumentError(f"there is no run at {place!r}; a run is a folder STORE/runs/NAME")
    store, name = locate_run(place)
    if not has_run(store, name):
        raise ArgumentError(f"there is no run at {place!r}: it has no journal")
    return store, name


def format_place(store: Store, name: str) -> str:
    """Return the folder or URL of a run, quoted for use as a shell argument."""
    return shlex.quote(f"{store.url.removeprefix('file://').rstrip('/')}/runs/{name}")


def list_own_folders(store: Store) -> list[str]:
    """Return the folders or URLs where a store keeps its runs and prepared data."""
    url = store.url.removeprefix("file://").rstrip("/")
    return [f"{url}/runs", f"{url}/data"]


def has_run(store: Store, name: str) -> bool:
    """Return whether the store contains a run called ``name``."""
    return journal_key(name) in store.list(f"runs/{name}")


def _get_config_key(name: str) -> str:
    return f"runs/{name}/command.json"


def read_config(store: Store, name: str) -> RunConfig | None:
    """Read a run's configuration; return None if it was not started from the command line."""
    key = _get_config_key(name)
    if key not in store.list(f"runs/{name}"):
        return None
    try:
        return msgspec.convert(json.loads(read_checked(store, key)), RunConfig)
    except (ValueError, msgspec.ValidationError) as error:
        raise StoreError(
            f"cannot read {key!r} in {store.url}: it is damaged, or another version of this "
            f"package wrote it ({error})"
        ) from error


def read_extended_config(store: Store, name: str) -> RunConfig | None:
    """Read a run's configuration like :func:`read_config`, but with its current limits."""
    config = read_config(store, name)
    return None if config is None else _update_limits(config, read(store, name))


def _update_limits(config: RunConfig, records: Sequence[Record]) -> RunConfig:
    limits = read_limits(records)
    # Earlier versions did not record the time.
    seconds = config.time_limit if limits.max_seconds is None else limits.max_seconds
    return msgspec.structs.replace(config, max_trials=limits.max_trials, time_limit=seconds)


def make_config_writer(store: Store, config: RunConfig) -> SearchObserver:
    """Return an observer that writes the configuration when a search begins.

    The configuration cannot be written earlier, because a new run first deletes the files of an
    earlier run of the same name.
    """
    from nas.monitoring.observer import SearchObserver

    class ConfigWriter(SearchObserver):
        def begin(self, search: Any, trials: Any) -> None:
            key = _get_config_key(search.run_id)
            if key not in store.list(f"runs/{search.run_id}"):
                content = json.dumps(msgspec.to_builtins(config), indent=1)
                write_checked(store, key, content.encode())

    return ConfigWriter()


def build_space(bounds: dict[str, Any]) -> CerebrosSpace | str:
    """Return a Cerebros space with the given bounds, or ``"auto"`` if there are none.

    Raises ArgumentError if a bound is unknown.
    """
    if not bounds:
        return "auto"
    from nas.spaces.cerebros import CerebrosSpace

    known = [field.name for field in dataclasses.fields(CerebrosSpace)]
    for name in bounds:
        if name not in known:
            near = ", ".join(difflib.get_close_matches(name, known)) or ", ".join(known)
            raise ArgumentError(f"--space has no bound {name!r}; use one of: {near}")
    # JSON has lists where the space takes tuples.
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in bounds.items()
    }
    return CerebrosSpace(**values)


@contextlib.contextmanager
def _hide_finished_warning() -> Iterator[None]:
    """Suppress the warning that a run is finished, for commands that need a finished run."""
    from nas.config import resume

    def keep_others(record: logging.LogRecord) -> bool:
        return not getattr(record, resume.FINISHED, False)

    resume.logger.addFilter(keep_others)
    try:
        yield
    finally:
        resume.logger.removeFilter(keep_others)

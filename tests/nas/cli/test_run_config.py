"""The configuration of a run in the store: its form, and errors of damaged files."""

from __future__ import annotations

import json

import pytest

from cerebros_spark import LocalStore
from cerebros_spark.core.errors import ArgumentError, StoreError
from cerebros_spark.storage.store import read_checked, write_checked
from nas.cli.csv_format import CsvOptions
from nas.cli.run_config import RunConfig, make_config_writer, read_config

KEY = "runs/towns/command.json"
CONFIG = RunConfig(
    data="towns.csv",
    table_format="csv",
    features=("a", "zip"),
    labels=("kind",),
    kinds={"a": "number", "zip": "string", "kind": "string"},
    column_types={"zip": "categorical"},
    csv=CsvOptions(";", False, ("a", "zip", "kind")),
    head="classification",
    workers=2,
    space={"learning_rate": [0.1, 0.01]},
    tuner_options={"kappa": float("inf")},
    metrics=("accuracy",),
    validation="late",
    settings={"spark.ui.enabled": "false"},
)


class Search:
    run_id = "towns"


def test_a_configuration_is_read_as_it_was_written(tmp_path):
    store = LocalStore(tmp_path)
    assert read_config(store, "towns") is None
    make_config_writer(store, CONFIG).begin(Search(), [])
    assert read_config(store, "towns") == CONFIG
    content = json.loads(read_checked(store, KEY))
    assert content["format"] == 2
    assert content["kind"] == "csv"
    assert content["csv"] == {"separator": ";", "header": False, "names": ["a", "zip", "kind"]}
    make_config_writer(store, RunConfig(**{**content_of(CONFIG), "workers": 3})).begin(Search(), [])
    assert read_config(store, "towns") == CONFIG, "a resumed run keeps its file"


def content_of(config: RunConfig) -> dict:
    return {name: getattr(config, name) for name in config.__struct_fields__}


@pytest.mark.parametrize(
    "change",
    [{"format": 1}, {"workers": "two"}, {"unknown": 1}, {"csv": {"comma": ","}}, {"kinds": []}],
)
def test_files_of_another_form_are_refused(tmp_path, change):
    store = LocalStore(tmp_path)
    make_config_writer(store, CONFIG).begin(Search(), [])
    content = {**json.loads(read_checked(store, KEY)), **change}
    write_checked(store, KEY, json.dumps(content).encode())
    with pytest.raises(StoreError, match=r"cannot read 'runs/towns/command\.json'"):
        read_config(store, "towns")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": ()}, r"--metric was \('accuracy',\) and is now \(\)"),
        ({"tuner_options": {}}, "--tuner-option was"),
        ({"max_trials": 3}, "--max-trials was 20 and is now 3"),
        ({"features": ("a",)}, "--features was"),
        ({"kinds": {"a": "string"}}, "the kind of the columns was"),
    ],
)
def test_another_configuration_is_refused(change, message):
    with pytest.raises(ArgumentError, match=message):
        RunConfig(**{**content_of(CONFIG), **change}).check_same(CONFIG, "towns")


def test_limits_may_grow():
    limited = RunConfig(**{**content_of(CONFIG), "time_limit": 60.0})
    for change in ({"max_trials": 21}, {"time_limit": 61.0}):
        RunConfig(**{**content_of(limited), **change}).check_same(limited, "towns")
    for change, message in (
        ({"time_limit": 59.0}, "--time-limit was 60.0 and is now 59.0"),
        ({"time_limit": None}, "--time-limit was 60.0 and is now not given"),
    ):
        with pytest.raises(ArgumentError, match=message):
            RunConfig(**{**content_of(limited), **change}).check_same(limited, "towns")


def test_location_and_a_missing_seed_may_change():
    earlier = RunConfig(
        **{**content_of(CONFIG), "seed": 7, "master": "spark://host:7077", "csv": CsvOptions()}
    )
    CONFIG.check_same(earlier, "towns")

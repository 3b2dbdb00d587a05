"""Task slots by configuration; a stand-in for a SparkContext, since there is one a process."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from cerebros_spark import SparkBackend
from cerebros_spark.errors import ArgumentError, BackendError


def context(master: str, **conf: str) -> SimpleNamespace:
    settings = {name.replace("_", "."): value for name, value in conf.items()}
    return SimpleNamespace(
        master=master,
        defaultParallelism=int(settings.get("spark.default.parallelism", 64)),
        getConf=lambda: settings,
    )


@pytest.mark.parametrize(
    ("master", "conf", "slots"),
    [
        ("local", {}, 1),
        ("local[3]", {"spark_default_parallelism": "200"}, 3),
        ("local[3,4]", {}, 3),
        ("local[*]", {}, os.cpu_count()),
        ("local-cluster[2,3,1024]", {}, 6),
        ("local[4]", {"spark_task_cpus": "2"}, 2),
        ("yarn", {"spark_executor_instances": "5", "spark_executor_cores": "4"}, 20),
        ("spark://host:7077", {"spark_cores_max": "12"}, 12),
    ],
)
def test_slots_are_what_the_configuration_says(master, conf, slots):
    assert SparkBackend(context(master, **conf)).num_workers == slots


@pytest.mark.parametrize("number", [0, -1, 2.5, "2", True])
def test_a_number_of_workers_is_a_whole_number(number):
    with pytest.raises(ArgumentError, match="num_workers must be a whole number from 1"):
        SparkBackend(context("local[2]"), num_workers=number)


def test_speculation_is_refused(tmp_path):
    backend = SparkBackend(context("local[2]", spark_speculation="true"), num_workers=2)
    with pytest.raises(BackendError, match=r"spark\.speculation is on"):
        backend.check(None)

"""Task slots by configuration, with fake SparkContexts: a process can have only one."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from cerebros_spark import SparkBackend
from cerebros_spark.core.errors import ArgumentError, BackendError


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
        ("local[*]", {}, 64),
        ("local[*]", {"spark_default_parallelism": "200"}, os.cpu_count()),
        ("local-cluster[2,3,1024]", {}, 6),
        ("local[4]", {"spark_task_cpus": "2"}, 2),
        ("yarn", {"spark_executor_instances": "5", "spark_executor_cores": "4"}, 20),
        ("spark://host:7077", {"spark_cores_max": "12"}, 12),
    ],
)
def test_slots_follow_the_configuration(master, conf, slots):
    assert SparkBackend(context(master, **conf)).num_workers == slots


@pytest.mark.parametrize("number", [0, -1, 2.5, "2", True])
def test_num_workers_must_be_a_positive_integer(number):
    with pytest.raises(ArgumentError, match="num_workers must be a positive integer"):
        SparkBackend(context("local[2]"), num_workers=number)


def test_speculation_is_refused(tmp_path):
    backend = SparkBackend(context("local[2]", spark_speculation="true"), num_workers=2)
    with pytest.raises(BackendError, match=r"spark\.speculation is on"):
        backend.check(None)


@pytest.mark.parametrize(
    ("conf", "seconds"),
    [
        ({}, "120 s"),
        ({"spark_archives": "environment.tar.gz#environment"}, "600 s"),
        ({"spark_yarn_dist_archives": "environment.tar.gz"}, "600 s"),
    ],
)
def test_the_start_timeout_allows_for_unpacking(conf, seconds):
    backend = SparkBackend(context("spark://host:1", **conf))
    assert f"within {seconds}" in backend._describe_missing_slots(0)


@pytest.mark.parametrize("port", [-1, 65536, 70.5, "80", True])
def test_port_must_be_an_integer_from_0_to_65535(port):
    with pytest.raises(ArgumentError, match="port must be an integer from 0 to 65535"):
        SparkBackend(context("local[2]"), port=port)

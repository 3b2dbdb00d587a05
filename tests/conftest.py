"""Marks of the tests, their order, and the fixtures that all of them share.

Each test has one of four marks, by its file: ``unit`` needs neither TensorFlow nor Spark, ``keras``
needs TensorFlow, ``spark`` the Spark session of this process, ``cluster`` other programs: a Spark
with executors of its own, an S3 server, the scripts. ``--fast`` runs the unit tests and fails those
that import TensorFlow, Keras or PySpark after all.
"""

from __future__ import annotations

import gc
import importlib.abc
import logging
import os
import random
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest

# Before the first import of Keras or TensorFlow in any test.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["PYSPARK_PYTHON"] = sys.executable
# Processes that tests start find the modules of the tests, too.
ROOT = Path(__file__).parents[1]
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Properties are tried on the same examples in every run. Other examples: --hypothesis-seed, with
# derandomize off.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")

HEAVY = ("tensorflow", "keras", "pyspark")
MARKS = ("unit", "keras", "spark", "cluster")

# The mark of the tests in a folder or file: the longest that fits. A mark in the file itself
# comes first, and a test that uses the fixture ``spark`` has that mark. All others: keras.
MARK_OF = {
    "cerebros_spark": "unit",
    "cerebros_spark/backends/test_gpus": "cluster",
    "cerebros_spark/backends/test_hosts": "cluster",
    "cerebros_spark/backends/test_spark_errors": "spark",
    "cerebros_spark/backends/test_spark_session": "spark",
    "cerebros_spark/backends/test_spark_worker_loss": "spark",
    "cerebros_spark/compat": "keras",
    "cerebros_spark/compat/petastorm": "unit",
    "cerebros_spark/data/test_parquet_writer": "spark",
    "cerebros_spark/data/test_prepare_spark": "spark",
    "cerebros_spark/data/table/test_collection": "spark",
    "cerebros_spark/data/table/test_spark_counts": "spark",
    "cerebros_spark/data/table/test_spark_table": "spark",
    "cerebros_spark/data/table/test_string_pack": "spark",
    "cerebros_spark/data/test_splits": "spark",
    "cerebros_spark/data/test_weights": "spark",
    "cerebros_spark/storage/test_s3": "cluster",
    "cerebros_spark/test_daemon": "spark",
    "cerebros_spark/training": "keras",
    "cerebros_spark/training/test_base": "unit",
    "nas/cli/test_arrow_types": "unit",
    "nas/cli/test_backend_choice": "unit",
    "nas/cli/test_column_kinds": "unit",
    "nas/cli/test_csv_format": "unit",
    "nas/cli/test_early_checks": "unit",
    "nas/cli/test_local_output": "unit",
    "nas/data/test_values": "unit",
    "nas/ensemble/test_usual_metrics": "unit",
    "nas/spaces/cerebros/test_plan": "unit",
    "nas/spaces/cerebros/test_space": "unit",
    "nas/spaces/cerebros/test_wiring": "unit",
    "profile": "cluster",
    "scripts": "cluster",
    "scripts/test_experiments": "keras",
    "scripts/test_make_criteo": "keras",
    "test_house": "unit",
    "test_words": "unit",
}

# What depends on the versions of Python, Spark, pyarrow, NumPy and pandas. Each
# supported stack runs these; the newest runs everything.
STACK = (
    "cerebros_spark/backends",
    "cerebros_spark/compat",
    "cerebros_spark/data",
    "cerebros_spark/storage",
    "nas/compat",
    "nas/results/test_raw_model",
    "nas/search/test_spark",
    "profile",  # geni-lib needs Python 3.12 or older
)

# The files that take longest come first, so that two processes end at about the same time.
LONGEST = (
    "nas/spaces/autokeras/test_blocks",
    "nas/search/test_callbacks",
    "cerebros_spark/backends/test_backends",
    "nas/estimators/test_sklearn",
    "cerebros_spark/backends/test_hosts",
    "nas/config/test_resume",
    "cerebros_spark/backends/test_spark_worker_loss",
    "nas/estimators/spark_ml/test_estimator",
    "scripts/test_experiments",
    "nas/cli/test_main",
    "cerebros_spark/backends/test_gpus",
    "nas/results/test_raw_model",
    "nas/search/test_spark",
    "cerebros_spark/data/test_prepare_spark",
    "nas/spaces/test_custom_objects",
    "nas/search/test_reproducible",
    "nas/estimators/test_cerebros_search",
    "nas/search/test_tuners",
    "nas/search/test_data",
    "nas/search/test_runner",
    "nas/search/test_weights",
    "nas/spaces/test_models_exported",
    "nas/spaces/test_user_space",
    "nas/test_hyperhypermodel",
    "nas/search/test_spaces",
    "nas/spaces/test_fixed_model",
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT / "tests").with_suffix("").as_posix()


def mark_of(path: Path) -> str:
    """Return the mark of a file or folder of tests."""
    name = name_of(path)
    fitting = [each for each in MARK_OF if name == each or name.startswith(f"{each}/")]
    return MARK_OF[max(fitting, key=len)] if fitting else "keras"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="run the unit tests alone")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--fast"):
        config.option.markexpr = "unit"
        sys.meta_path.insert(0, GUARD)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files and folders without unit tests, for they would import TensorFlow."""
    tests = ROOT / "tests"
    if not config.getoption("--fast") or tests not in collection_path.parents:
        return None
    within = f"{name_of(collection_path)}/"
    marks = [mark for name, mark in MARK_OF.items() if name.startswith(within)]
    return True if "unit" not in (mark_of(collection_path), *marks) else None


def pytest_pycollect_makemodule(module_path: Path) -> None:
    """Load TensorFlow as the product does, before a file imports it in another way."""
    if mark_of(module_path) == "keras" and module_path.name != "__init__.py":
        from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow

        load_tensorflow()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        name = name_of(item.path)
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    for item in items:
        name = name_of(item.path)
        if any(name == each or name.startswith(f"{each}/") for each in STACK):
            item.add_marker("stack")
        if not any(item.get_closest_marker(mark) for mark in MARKS):
            uses_spark = "spark" in getattr(item, "fixturenames", ())
            item.add_marker("spark" if uses_spark else mark_of(item.path))
    items.sort(key=place)


class ImportGuard(importlib.abc.MetaPathFinder):
    """Refuses heavy libraries, and remembers who asked for them."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in HEAVY:
            self.refused.append(name)
            raise ImportError(f"a unit test must not import {name}")


GUARD = ImportGuard()


@pytest.fixture(autouse=True)
def no_heavy_imports() -> Iterator[None]:
    """Fail a unit test that imports TensorFlow, Keras or PySpark, even if it catches the error."""
    GUARD.refused.clear()
    yield
    assert not GUARD.refused, f"a unit test must not import {', '.join(GUARD.refused)}"


@pytest.fixture(scope="session")
def cheap_collections() -> Iterator[None]:
    """Networks come and go in nearly every test."""
    from cerebros_spark.core.gc_control import freeze_heap
    from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow

    load_tensorflow(owns_process=True)
    with freeze_heap():
        yield


@pytest.fixture(scope="module", autouse=True)
def seeded_file(request: pytest.FixtureRequest) -> None:
    """Networks that a file's fixtures make begin with the same weights in every run."""
    if mark_of(request.path) == "keras":
        request.getfixturevalue("cheap_collections")
    if "tensorflow" in sys.modules:
        # What is left of the files before is not looked through again.
        gc.collect()
        gc.freeze()
    _seed()


@pytest.fixture(autouse=True)
def seeded(seeded_file: None) -> None:
    """And so do those of a test, whichever tests ran before it."""
    _seed()


def _seed() -> None:
    random.seed(20)
    np.random.seed(20)
    if "keras" in sys.modules:
        import keras

        keras.utils.set_random_seed(20)


# Three ways to train the Keras networks of searches. Tracing a network takes longer than most
# trainings of the tests: a file or test names the cheapest way that shows what it is about,
# simulated where the values do not count, eager where they do. Without any it is as users have it.


@pytest.fixture(scope="module")
def simulated_training() -> Iterator[None]:
    """Networks of this file are not trained, but their states and metrics change."""
    from tests.simulated_keras import SIMULATED, keras_trained_by

    with keras_trained_by(SIMULATED):
        yield


@pytest.fixture(scope="module")
def eager_training() -> Iterator[None]:
    """Networks of this file are trained step by step, without a traced graph."""
    from tests.simulated_keras import EAGER, keras_trained_by

    with keras_trained_by(EAGER):
        yield


@pytest.fixture
def traced_training(request: pytest.FixtureRequest) -> Iterator[None]:
    """Networks of this test are trained as users have it, whatever its file says."""
    from tests.simulated_keras import EAGER, SIMULATED, TRACED, keras_trained_by

    simulated = "simulated_training" in request.fixturenames
    with keras_trained_by(TRACED, afterwards=SIMULATED if simulated else EAGER):
        yield


SECRET = "a-secret-that-nobody-may-be-told"
S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAOFNOBODYATALL000",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    # Nobody is asked for credentials of the machine.
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def s3_server() -> Iterator[dict[str, str]]:
    """A server of this process that speaks S3; what the environment says of it."""
    moto = pytest.importorskip(
        "moto.moto_server.werkzeug_app", reason="the extra s3 is not installed"
    )
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = moto.DomainDispatcherApplication(moto.create_backend_app)
    lock = threading.Lock()

    def answer_one_at_a_time(environ: dict, start_response: Callable) -> list[bytes]:
        # S3 tests a condition and writes the object in one step; moto does so in two.
        with lock:
            return list(application(environ, start_response))

    with pytest.MonkeyPatch.context() as patch:
        for name, value in S3_ENVIRONMENT.items():
            patch.setenv(name, value)
        handler = moto.MotoRequestHandler
        server = make_server(
            "127.0.0.1", 0, answer_one_at_a_time, threaded=True, request_handler=handler
        )
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        patch.setenv("AWS_ENDPOINT_URL_S3", url)
        yield {**S3_ENVIRONMENT, "AWS_ENDPOINT_URL_S3": url}
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="session")
def s3_client(s3_server) -> Any:
    import boto3

    return boto3.client("s3")


@pytest.fixture
def bucket(s3_client) -> str:
    """The name of a new bucket."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    s3_client.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """Spark in this process, on two cores."""
    from cerebros_spark import start_spark

    settings = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": "4",
        "spark.driver.memory": "1g",
        # Short jobs: second compiler and parallel collector would cost more than they gain.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    }
    session = start_spark("local[2]", app_name="tests", settings=settings)
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()

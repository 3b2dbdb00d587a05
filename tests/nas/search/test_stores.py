"""Searches whose data, states and journal lie in a bucket."""

from __future__ import annotations

import logging
import pickle

import autokeras as ak
import pandas as pd
import pytest

from cerebros_spark import LocalBackend, LocalStore, SparkBackend, Store
from cerebros_spark.runs.audit import audit
from cerebros_spark.runs.journal import read
from nas import HyperHyperModel
from tests.nas.small_searches import FEATURES, columns, killed, search, small_space, table

pytestmark = pytest.mark.usefixtures("simulated_training")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return table()


def make_search(store: Store, max_trials: int = 2, **bind):
    bound = columns(**{"backend": LocalBackend(2), **bind})
    return search(
        store, space=small_space(learning_rate=(0.01, 0.05)), max_trials=max_trials, bind=bound
    )


def fit(model, frame):
    return model.fit(frame, epochs=1, batch_size=16, verbose=0, reproducible=True)


def outcome(result) -> tuple:
    return result.leaderboard().drop(columns="seconds").to_json(), result.get_history()


def check_no_secret(store: Store, s3_client, s3_server, log: str) -> None:
    """Neither the bucket's objects nor the log hold the credentials."""
    name = store.url.removeprefix("s3://").partition("/")[0]
    objects = s3_client.list_objects_v2(Bucket=name)["Contents"]
    held = [s3_client.get_object(Bucket=name, Key=o["Key"])["Body"].read() for o in objects]
    assert any(o["Key"].endswith("journal.jsonl") for o in objects)
    for secret in (s3_server["AWS_SECRET_ACCESS_KEY"], s3_server["AWS_ACCESS_KEY_ID"]):
        assert not [data for data in held if secret.encode() in data]
        assert secret not in log


def test_a_search_in_a_bucket_is_resumed(frame, bucket, s3_client, s3_server, tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "cerebros_spark")
    store = Store.create(f"s3://{bucket}/searches")
    with killed(lambda kinds: kinds.count("unit") == 3):
        fit(make_search(store), frame)
    cut = read(store, "small")
    assert cut[-1]["kind"] == "unit"
    model = make_search(pickle.loads(pickle.dumps(store)))
    result = fit(model, frame)
    records = read(store, "small")
    assert records[: len(cut)] == cut
    assert [record["kind"] for record in records].count("session") == 2
    assert not audit(records)
    assert outcome(result) == outcome(fit(make_search(LocalStore(tmp_path)), frame))
    assert len(result.best_model.predict(frame[FEATURES].to_numpy(), verbose=0)) == len(frame)
    check_no_secret(store, s3_client, s3_server, caplog.text)


def test_workers_of_spark_open_the_bucket_themselves(
    spark, frame, bucket, s3_client, s3_server, monkeypatch, caplog
):
    caplog.set_level(logging.DEBUG, "cerebros_spark")
    for name, value in s3_server.items():
        if name != "AWS_ENDPOINT_URL_S3":
            monkeypatch.setitem(spark.sparkContext.environment, name, value)
    # An option travels with the store, credentials do not.
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    store = Store.create(f"s3://{bucket}/spark", endpoint_url=s3_server["AWS_ENDPOINT_URL_S3"])
    backend = SparkBackend(spark_context=spark.sparkContext, num_workers=2)
    result = fit(make_search(store, 1, backend=backend), spark.createDataFrame(frame))
    assert result.leaderboard()["status"].tolist() == ["completed"]
    assert not audit(read(store, "small"))
    workers = {r["worker"] for r in read(store, "small") if r["kind"] == "unit"}
    assert workers == {0, 1}
    check_no_secret(store, s3_client, s3_server, caplog.text)


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_directory_of_a_search_may_be_a_url(tmp_path, slash):
    for directory, url in [
        ("memory://searches" + slash, "memory:///searches/mine"),
        (f"file://{tmp_path}{slash}", f"file://{tmp_path}/mine"),
        (f"{tmp_path}{slash}", f"file://{tmp_path}/mine"),
        (tmp_path, f"file://{tmp_path}/mine"),
    ]:
        model = HyperHyperModel(ak.Input(), ak.RegressionHead(), "mine", directory=directory)
        model.resource_bind()
        assert model._resources.store.url == url

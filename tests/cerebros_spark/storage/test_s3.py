from __future__ import annotations

import logging
import pickle

import fsspec
import pytest
from fsspec.asyn import sync

from cerebros_spark.core.errors import ArgumentError, StoreError
from cerebros_spark.storage import s3
from cerebros_spark.storage.s3 import S3Store
from cerebros_spark.storage.store import Store
from tests.cerebros_spark.faulty import Faults

pytestmark = pytest.mark.usefixtures("no_waiting")
PART = 5 * 2**20


@pytest.fixture
def store(bucket) -> S3Store:
    return S3Store(f"s3://{bucket}/prefix")


class Requests:
    """Requests to S3; ``act`` may do something before or instead of a request."""

    def __init__(self, monkeypatch, act=None):
        import s3fs

        ask, self.names = s3fs.S3FileSystem._call_s3, []

        async def counted(fs, method, *arguments, **more):
            self.names.append(method)
            if act is not None:
                return await act(lambda: ask(fs, method, *arguments, **more), method)
            return await ask(fs, method, *arguments, **more)

        monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
        # The public name wraps the one above.
        monkeypatch.setattr(
            s3fs.S3FileSystem,
            "call_s3",
            lambda fs, *arguments, **more: sync(fs.loop, counted, fs, *arguments, **more),
        )


def test_urls_of_hadoop_are_accepted(bucket):
    store = Store.create(f"s3a://{bucket}/prefix/")
    assert type(store) is S3Store
    assert store.url == f"s3://{bucket}/prefix"
    store.write("key", b"x")
    assert Store.create(f"s3://{bucket}").list("") == ["prefix/key"]


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix"])
def test_a_url_without_a_bucket_is_refused(url):
    with pytest.raises(ArgumentError, match=r"must be s3://bucket/prefix, but got 's3:"):
        Store.create(url)


def test_a_missing_s3fs_is_reported_with_the_command_to_install_it(monkeypatch):
    def missing(url, **options):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(ArgumentError, match=r's3fs.*pip install "cerebros-spark\[s3\]"'):
        Store.create("s3://bucket/x")


def test_an_option_reaches_the_file_system_and_the_workers(bucket, s3_server, monkeypatch):
    address = s3_server["AWS_ENDPOINT_URL_S3"]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    store = S3Store(f"s3://{bucket}/x", endpoint_url=address)
    store.write("key", b"value")
    assert pickle.loads(pickle.dumps(store)).read("key") == b"value"


def test_a_write_and_a_repeated_append_are_one_request(store, monkeypatch):
    store.append("log", b"one")
    requests = Requests(monkeypatch)
    store.append("log", b"two", at=3)
    store.write("key", b"x")
    assert requests.names == ["put_object", "put_object"]


def test_large_objects_are_sent_in_parts(store, bucket, s3_client, monkeypatch):
    monkeypatch.setattr(s3, "_PART_BYTES", PART)
    store.write("large", b"x" * (2 * PART))
    tag = s3_client.head_object(Bucket=bucket, Key="prefix/large")["ETag"]
    assert tag.strip('"').endswith("-2")


def test_a_large_write_that_fails_leaves_the_old_bytes_and_no_parts(
    store, bucket, s3_client, monkeypatch
):
    monkeypatch.setattr(s3, "_PART_BYTES", PART)
    store.write("large", b"old")

    async def failing(ask, method):
        if method == "complete_multipart_upload":
            raise OSError(5, "the line is cut")
        return await ask()

    with monkeypatch.context() as patched:
        Requests(patched, failing)
        with pytest.raises(StoreError, match=r"cannot write 'large' in s3://.*the line is cut"):
            store.write("large", b"x" * (2 * PART))
    assert store.read("large") == b"old"
    assert "Uploads" not in s3_client.list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize("at", [None, 3])
def test_an_append_with_a_lost_response_is_not_repeated(store, monkeypatch, at):
    store.append("log", b"one")
    faults = Faults(lambda: None, ConnectionError("the answer was lost"))

    async def losing(ask, method):
        answer = await ask()
        if method == "put_object":
            faults()
        return answer

    with monkeypatch.context() as patched:
        Requests(patched, losing)
        store.append("log", b"two", at=at)
    assert store.read("log") == b"onetwo"
    store.append("log", b"three", at=6)
    assert store.read("log") == b"onetwothree"


def test_an_append_that_did_not_arrive_is_retried(store, monkeypatch, caplog):
    store.append("log", b"one")
    faults = Faults(lambda: None, ConnectionError("the line is cut"), times=2)

    async def losing(ask, method):
        faults()
        return await ask()

    with monkeypatch.context() as patched:
        Requests(patched, losing)
        store.append("log", b"two", at=3)
    assert store.read("log") == b"onetwo"
    assert "the line is cut; try 3 of 5" in caplog.text


def test_a_failed_delete_is_an_error(store, monkeypatch):
    store.write("folder/key", b"x")

    async def denied(ask, method):
        if method != "delete_objects":
            return await ask()
        return {"Errors": [{"Code": "AccessDenied", "Message": "Access Denied", "Key": "a/key"}]}

    Requests(monkeypatch, denied)
    message = r"cannot delete 'folder' in s3://.*Access Denied \('a/key'\); .*s3:DeleteObject"
    with pytest.raises(StoreError, match=message):
        store.delete("folder")


@pytest.mark.parametrize(
    ("known", "secret", "advice"),
    [(True, True, "need s3:ListBucket"), (True, False, "invalid"), (False, True, "invalid")],
    ids=["no permissions", "wrong secret", "unknown"],
)
def test_missing_permissions_are_reported_without_retries(
    store, bucket, s3_server, monkeypatch, caplog, known, secret, advice
):
    import boto3
    from moto.core import set_initial_no_auth_action_count

    address = s3_server["AWS_ENDPOINT_URL_S3"]
    iam, name = boto3.client("iam", endpoint_url=address), f"user-{bucket}"
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"] if known else "AKIAUNKNOWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"] if secret else "wrong")
    copy = pickle.loads(pickle.dumps(store))

    @set_initial_no_auth_action_count(0)
    def refused() -> None:
        with pytest.raises(StoreError, match=rf"cannot open s3://{bucket}/x: .*{advice}"):
            Store.create(f"s3://{bucket}/x")
        for call in (lambda: copy.write("a/key", b"x"), lambda: copy.append("a/key", b"x")):
            with pytest.raises(StoreError, match=rf"cannot .* 'a/key' in s3://{bucket}/.*{advice}"):
                call()

    refused()
    assert not caplog.records
    store.write("a/key", b"permissions are no longer checked")


def test_a_missing_bucket_is_reported_without_retries(s3_server, caplog):
    message = r"cannot open s3://no-such-bucket/x: .*; create the bucket, or correct"
    with pytest.raises(StoreError, match=message):
        Store.create("s3://no-such-bucket/x")
    assert not caplog.records


def test_a_deleted_bucket_is_reported(store, bucket, s3_client):
    s3_client.delete_bucket(Bucket=bucket)
    for call in (
        store.read,
        lambda key: store.write(key, b"x"),
        lambda key: store.append(key, b""),
    ):
        with pytest.raises(StoreError, match=rf"cannot .* 'a/key' in s3://{bucket}/.*create the"):
            call("a/key")


def test_missing_credentials_are_reported_without_retries(bucket, monkeypatch, tmp_path, caplog):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(StoreError, match=r"cannot open .*: .*give this process credentials: AWS_"):
        Store.create(f"s3://{bucket}/x")
    assert not caplog.records


def test_an_unreachable_server_is_reported(s3_server, monkeypatch, caplog):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(
        StoreError, match=r"cannot open s3://.* \(5 tries\): .*connect.*127\.0\.0\.1:9"
    ):
        Store.create("s3://bucket/x")
    assert "try 5 of 5" in caplog.text


def test_the_secret_is_in_no_error_log_or_pickle(store, bucket, s3_server, monkeypatch, caplog):
    secret = s3_server["AWS_SECRET_ACCESS_KEY"]
    caplog.set_level(logging.DEBUG, "cerebros_spark")
    texts = [repr(store), repr(pickle.dumps(store))]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    copy = pickle.loads(pickle.dumps(store))
    with pytest.raises(StoreError) as caught:
        copy.read("key")
    texts += [str(caught.value), repr(caught.value.__cause__), caplog.text]
    assert "try 2 of 5" in caplog.text
    assert not [text for text in texts if secret in text or s3_server["AWS_ACCESS_KEY_ID"] in text]

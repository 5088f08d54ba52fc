"""Bytes of jobs and bundles in an object store that speaks S3, as a site would run one."""

import socket
import subprocess
import sys
import time

import httpx
import pytest
from hollow_bundle import hollow_bundle
from obstore.store import S3Store

from reacquire.bundles.pull import pull_bundle
from reacquire.errors import BundleError, JobError
from reacquire.jobs.blobs import BlobStore
from reacquire.jobs.record import Claim


@pytest.fixture(scope="module")
def s3():
    """The address of a server with an empty bucket ``site``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                try:
                    httpx.put(f"{url}/site").raise_for_status()
                    break
                except httpx.TransportError:
                    assert process.poll() is None, "the server ended"
                    time.sleep(0.1)
            yield url
        finally:
            process.kill()


@pytest.fixture
def variables(s3, monkeypatch):
    """What docs/operations.md tells a site to set."""
    values = {
        "ENDPOINT": s3,
        "ALLOW_HTTP": "true",
        "ACCESS_KEY_ID": "a",
        "SECRET_ACCESS_KEY": "b",
        "REGION": "eu-central-1",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"AWS_{name}", value)


def test_a_job_leaves_nothing_behind(variables):
    store = BlobStore.open("s3://site/jobs-of-ours")
    store.check()
    (first, second) = store.put_inputs("j1", [b"one", b"two"])
    (other,) = store.put_inputs("j2", [b"other"])
    (artifact,) = store.put_artifacts(Claim("j1", 2), {"a.dcm": b"made"})
    store.put_artifacts(Claim("j1", 1), {"a.dcm": b"abandoned"})
    store.drop_earlier_runs(Claim("j1", 2))
    assert [store.get(key) for key in (first, second, artifact.key)] == [b"one", b"two", b"made"]
    store.drop_job("j1")
    for key in (first, second, artifact.key):
        with pytest.raises(JobError) as gone:
            store.get(key)
        assert gone.value.code == "job-expired"
    assert store.get(other) == b"other"


def test_a_series_of_more_files_than_a_listing_has_is_deleted_whole(variables):
    store = BlobStore.open("s3://site/large")
    keys = store.put_inputs("j1", [b"x"] * 1001)  # S3 lists and deletes a thousand at once
    store.drop_inputs("j1")
    with pytest.raises(JobError):
        store.get(keys[-1])


def test_without_permission_no_endpoint_without_tls_is_used(variables, monkeypatch):
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(Exception, match="BadScheme"):
        BlobStore.open("s3://site/jobs-of-ours").check()


def put_bundle(source, s3, folder):
    store = S3Store(
        "site", prefix=folder, endpoint=s3, client_options={"allow_http": True},
        access_key_id="a", secret_access_key="b", region="eu-central-1",
    )  # fmt: skip
    for path in source.rglob("*"):
        if path.is_file():
            store.put(path.relative_to(source).as_posix(), path.read_bytes())


def test_a_bundle_is_pulled_and_a_damaged_one_is_not(variables, s3, tmp_path):
    source, root = hollow_bundle(tmp_path / "good", "a@1.0.0"), tmp_path / "root"
    put_bundle(source, s3, "bundles/a")
    info, fetched = pull_bundle("s3://site/bundles/a", root)
    assert (info.folder, fetched) == (root / "a-1.0.0", True)
    (source / "models" / "editor.safetensors").write_text("cut")
    put_bundle(source, s3, "bundles/damaged")
    with pytest.raises(BundleError):
        pull_bundle("s3://site/bundles/damaged", tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []
    with pytest.raises(BundleError, match="no whole bundle"):
        pull_bundle("s3://site/bundles/nowhere", root)

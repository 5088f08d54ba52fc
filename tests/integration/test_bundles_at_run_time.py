"""Bundles changed under load, through real processes: pins, activation, a warm-up that fails, rollback."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from builders import make_mr
from redis_fixture import redis_server
from tiny_bundle import pack_tiny

from examples.embedded import embedded
from reacquire.bundles import BundleStore
from reacquire.bundles.manifest import MANIFEST_NAME

A, B, SICK, TORN = "tiny@0.0.1", "tiny@0.0.2", "tiny@0.0.3", "torn@0.0.1"


def alter(folder: Path, old: str, new: str) -> None:
    manifest = folder / MANIFEST_NAME
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A and B are whole; SICK is whole and its networks will not load; TORN has a weights file of another hash."""
    root = tmp_path_factory.mktemp("store")
    packed = pack_tiny(tmp_path_factory.mktemp("packed"))
    for folder in ("a", "b", "sick", "torn"):
        shutil.copytree(packed, root / folder)
    alter(root / "b", '"version": "0.0.1"', '"version": "0.0.2"')
    alter(root / "sick", '"version": "0.0.1"', '"version": "0.0.3"')
    pin = json.loads((root / "sick" / MANIFEST_NAME).read_text())["preprocessing"]["sha256"]
    alter(root / "sick", pin, "0" * 64)
    alter(root / "torn", '"name": "tiny"', '"name": "torn"')
    (root / "torn" / "models" / "editor.safetensors").write_bytes(b"torn")
    return root


@pytest.fixture(scope="module")
def hashes(root: Path) -> dict[str, str]:
    return {info.ref.label: info.sha256 for info in BundleStore(root).inventory().sound}


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[httpx.Client]:
    with redis_server() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("REACQUIRE_REDIS_URL", server.url)
        patch.setenv("REACQUIRE_BUNDLES_ROOT", str(root))
        patch.setenv("REACQUIRE_BLOB_URL", (root.parent / "blobs").as_uri())
        patch.setenv("REACQUIRE_WORKER_STALE_S", "8")  # a heartbeat every two seconds
        with embedded("--bundle", str(root / "a"), "--device", "cpu") as served:
            yield served.client


def models(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.models", *words]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=180)


def segment(client: httpx.Client, pin: str | None = None) -> httpx.Response:
    headers = {"Prefer": "wait=60", "Accept": "application/json"} | ({"X-Model-Version": pin} if pin else {})
    return client.post("/v1/segment", files={"dicom": make_mr()}, headers=headers)


def ran_with(client: httpx.Client, pin: str | None = None) -> str:
    answer = segment(client, pin)
    assert answer.status_code == 200, answer.text
    job = client.get(answer.headers["Content-Location"].removesuffix("/result")).json()
    assert answer.json()["bundle"] == job["bundle"]
    assert answer.headers["X-Model-Version"] == f"{job['bundle']['name']}@{job['bundle']['version']}"
    return job["bundle"]["sha256"]


def test_pins_give_their_own_bundle_and_no_pin_the_active_one(client, hashes):
    assert [ran_with(client, pin) for pin in (A, B, None)] == [hashes[A], hashes[B], hashes[A]]


def test_what_there_is_is_listed(client):
    listed = client.get("/v1/models").json()
    assert [(m["name"], m["version"], m["active"]) for m in listed["models"]] == [
        ("tiny", "0.0.1", True),
        ("tiny", "0.0.2", False),
        ("tiny", "0.0.3", False),
    ]
    assert [r["folder"] for r in listed["refused"]] == ["torn"]
    assert A in listed["workers"][0]["warm"]
    refusal = segment(client, TORN)
    assert (refusal.status_code, refusal.json()["code"]) == (404, "model-not-found")
    assert "editor.safetensors" in refusal.json()["detail"]


def test_a_bundle_whose_warm_up_fails_leaves_the_old_one_active(client, hashes):
    refusal = models("activate", SICK)
    assert refusal.returncode == 1
    assert "preprocessing" in refusal.stderr
    assert ran_with(client) == hashes[A]


def test_activation_under_load_loses_nothing_and_rolling_back_works(client, hashes):
    seen: list[str] = []
    done = threading.Event()

    def load() -> None:
        with httpx.Client(base_url=client.base_url, timeout=120) as own:
            while not done.is_set() or len(seen) < 6:
                seen.append(ran_with(own))

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    switched = models("activate", B)
    done.set()
    for thread in threads:
        thread.join()
    assert (switched.returncode, switched.stdout) == (0, f"{B} is active\n"), switched.stderr
    assert set(seen) <= {hashes[A], hashes[B]}
    assert ran_with(client) == hashes[B]
    assert client.get("/v1/models/tiny").json()["version"] == "0.0.2"
    back = models("rollback")
    assert back.stdout == f"{A} is active again\n", back.stderr
    assert ran_with(client) == hashes[A]

"""Real courier processes: kill -9 in each stage, orderly stop, refusals, and what they write about a patient."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from builders import SECRET
from deriving import DerivingPipeline
from fake_pacs import SERIES, STUDY, FakePacs, mr_series, running

from gateway.__main__ import usable
from gateway.settings import GatewaySettings
from reacquire.jobs import OperationSpec
from reacquire.jobs.leases import Leases
from reacquire.jobs.presence import Presence
from reacquire.pacs.reference import SeriesReference
from worker.batching import BatchPolicy
from worker.metrics import WorkerMetrics
from worker.runner import Runner

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = SeriesReference("pacs", STUDY, SERIES)
SPEC = OperationSpec(operation="counterfactual", target={"MagneticFieldStrength": 3.0})


@pytest.fixture
def pacs():
    return FakePacs.holding(mr_series(3).values(), password="pw")


@pytest.fixture
def server(pacs):
    with running(pacs) as server:
        yield server


@pytest.fixture
def environment(config, server, tmp_path) -> dict[str, str]:
    auth = {"kind": "basic", "username": "svc", "secret_env": "PACS_PASSWORD"}
    file = tmp_path / "pacs.yaml"
    file.write_text(yaml.safe_dump({"sites": {"pacs": {"base_url": server.url, "attempts": 1, "auth": auth}}}))
    return os.environ | {
        "REACQUIRE_REDIS_URL": config.redis_url.get_secret_value(),
        "REACQUIRE_BLOB_URL": config.blob_url,
        "REACQUIRE_KEY_PREFIX": config.key_prefix,
        "REACQUIRE_LEASE_S": "2",
        "REACQUIRE_WORKER_STALE_S": "2",
        "REACQUIRE_POLL_S": "0.05",
        "REACQUIRE_PACS_CONFIG": str(file),
        "PACS_PASSWORD": "pw",
    }


@pytest.fixture
def start(environment, store, tmp_path):
    """Starts a courier and waits for its heartbeat."""
    started: list[subprocess.Popen] = []

    def begin() -> subprocess.Popen:
        before = set(Presence(store).alive("courier"))
        with (tmp_path / "courier.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", "gateway"], cwd=ROOT, env=environment, stderr=log)
        started.append(process)
        until(lambda: set(Presence(store).alive("courier")) - before)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def until(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class Halt:
    """Holds the PACS at its first request of a kind until told to go on."""

    def __init__(self, pacs: FakePacs, wanted) -> None:
        self.reached, self.released = threading.Event(), threading.Event()
        self._wanted = wanted
        pacs.on_request = self

    def __call__(self, method: str, path: str) -> None:
        if not self.reached.is_set() and self._wanted(method, path):
            self.reached.set()
            self.released.wait(60)


@pytest.mark.parametrize(
    ("stage", "wanted"),
    [
        ("fetch", lambda method, _: method == "GET"),
        ("deliver", lambda method, _: method == "POST"),
        ("deliver", lambda _, path: "/instances?" in path),  # everything is stored, nothing is committed
    ],
    ids=["in fetch", "while storing", "after storing"],
)
def test_a_killed_couriers_job_ends_right_and_once(start, store, blobs, intake, pacs, tmp_path, stage, wanted):
    halt = Halt(pacs, wanted)
    victim = start()
    job_id = intake.reference(SPEC, REFERENCE, deliver_to="pacs").job_id
    compute = Runner("w", DerivingPipeline(), store, blobs, Leases(store), BatchPolicy(8, 10**9), WorkerMetrics(), list)
    if stage == "deliver":
        until(lambda: store.get(job_id).stage == "compute")
        compute.handle([job_id])
    assert halt.reached.wait(30)
    assert store.get(job_id).stage == stage
    victim.kill()
    victim.wait()
    halt.released.set()
    start()
    if stage == "fetch":
        until(lambda: store.get(job_id).stage == "compute")
        compute.handle([job_id])
    until(lambda: store.get(job_id).finished)
    record = store.get(job_id)
    assert (record.state, record.delivery.stored, record.delivery.failed) == ("succeeded", 3, ())
    assert len(pacs.instances) == 6, "three that were there and three that came"
    assert store.totals() == {("counterfactual", "succeeded", "none"): 1}
    files = [p for p in (tmp_path / "blobs" / "jobs" / job_id).rglob("*") if p.is_file()]
    assert len(files) == len(record.artifacts) == 5
    log = (tmp_path / "courier.log").read_text()
    assert "stage" in log
    for told in (SECRET, "1.2.3", str(pacs.requests[0][1]), "dicom-web"):
        assert told not in log


def test_a_stopping_courier_gives_its_job_back(start, store, intake, pacs):
    halt = Halt(pacs, lambda method, _: method == "GET")
    process = start()
    job_id = intake.reference(SPEC, REFERENCE).job_id
    assert halt.reached.wait(30)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    halt.released.set()
    assert process.wait(timeout=30) == 0
    record = store.get(job_id)
    assert (record.state, record.stage, record.attempts) == ("queued", "fetch", 0)
    assert Presence(store).alive("courier") == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sites: {p: {base_url: 'ftp://x'}}", "base_url"),
        ("{", "not valid"),
        ("sites: {p: {base_url: 'http://x', auth: {kind: bearer, secret_env: NO_SUCH_VARIABLE}}}", "NO_SUCH_VARIABLE"),
        ("sites: {p: {base_url: 'https://x', tls: {ca_file: /no/such/file}}}", "No such file"),
        (None, "none.yaml"),
    ],
)
def test_an_unusable_configuration_is_named(tmp_path, caplog, text, told):
    file = tmp_path / ("none.yaml" if text is None else "pacs.yaml")
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit) as refusal:
        usable(GatewaySettings(pacs_config=file))
    assert refusal.value.code == 2
    assert told in caplog.text


def test_a_courier_refuses_an_unusable_configuration(environment, tmp_path):
    (tmp_path / "pacs.yaml").write_text("sitez: {}")
    run = subprocess.run([sys.executable, "-m", "gateway"], cwd=ROOT, env=environment, capture_output=True, timeout=60)
    assert (run.returncode, b"sitez" in run.stderr) == (2, True)

"""The SCP as a process: killed, stopped, started again; and nothing of a patient in what it writes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from builders import SECRET, make_dataset, make_series
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context
from pynetdicom.sop_class import MRImageStorage

from reacquire.jobs.store import JobStore

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """``python -m gateway.scp`` with a configuration and a spool of its own."""

    def __init__(self, folder: Path, config, **scp) -> None:
        self.folder, self.port = folder, free_port()
        rules = [{"name": "all", "when": {"Modality": "MR"}, "do": [{"operation": "segment"}]}]
        document = {"rules": rules, "scp": {"port": self.port, "series_quiet_s": 1, "least_free_bytes": 0, **scp}}
        (folder / "pacs.yaml").write_text(json.dumps(document))
        self.env = {
            "PATH": os.environ["PATH"],
            "REACQUIRE_REDIS_URL": config.redis_url.get_secret_value(),
            "REACQUIRE_KEY_PREFIX": config.key_prefix,
            "REACQUIRE_BLOB_URL": config.blob_url,
            "REACQUIRE_PACS_CONFIG": str(folder / "pacs.yaml"),
            "REACQUIRE_SPOOL": str(folder / "spool"),
            "REACQUIRE_READY_FILE": str(folder / "ready"),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        (self.folder / "ready").unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "gateway.scp"]
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=log, stderr=log)
        self.wait_for((self.folder / "ready").exists)

    def wait_for(self, happened, seconds: float = 40) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert self.process is None or self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.05)

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=30)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def send(self, *sets: Dataset) -> list[int]:
        ae = AE("SENDER")
        context = build_context(MRImageStorage, "1.2.840.10008.1.2.1")
        association = ae.associate("127.0.0.1", self.port, contexts=[context], ae_title="REACQUIRE")
        assert association.is_established
        statuses = [association.send_c_store(ds).Status for ds in sets]
        association.release()
        return statuses


@pytest.fixture
def scp(tmp_path: Path, config) -> Iterator[Process]:
    process = Process(tmp_path, config)
    yield process
    if process.process is not None and process.process.poll() is None:
        process.process.kill()
        process.process.wait()


def test_what_was_acknowledged_outlives_a_kill_and_becomes_one_job(scp, store: JobStore):
    sets = [dcmread(BytesIO(data)) for data in make_series(3)]
    odd = make_dataset(SOPInstanceUID="1.2.3.4.99", BodyPartExamined=SECRET)
    scp.start()
    assert scp.send(*sets, odd) == [0, 0, 0, 0]
    assert scp.end(signal.SIGKILL) == -signal.SIGKILL
    assert store.depth() == 0, "it was killed before the series was complete"
    scp.start()
    scp.wait_for(lambda: store.depth() == 1)
    time.sleep(1.5)
    (job,) = store.client.zrange(store.key("queued"), 0, -1)
    assert (len(store.get(job).inputs), store.depth()) == (3, 1)
    assert len(list((scp.folder / "spool" / "quarantine").iterdir())) == 1
    assert scp.end(signal.SIGTERM) == 0
    assert not (scp.folder / "ready").exists()
    written = scp.log() + " ".join(str(p) for p in scp.folder.rglob("*"))
    assert "series routed" in written and "unsupported-body-part" in written
    assert not [word for word in (SECRET, "1.2.3.", "SENDER") if word in written]


def test_it_refuses_to_start_with_settings_that_cannot_work(scp):
    command = [sys.executable, "-m", "gateway.scp"]
    env = scp.env | {"REACQUIRE_PACS_CONFIG": "/nonexistent"}
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert (run.returncode, json.loads(run.stderr.splitlines()[-1])["event"]) == (2, "scp refuses to start")

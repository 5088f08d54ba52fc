"""``reacquire serve`` as real processes: the embedded stack from start to end, and nothing of a patient left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from builders import SECRET, make_mr
from fake_pacs import FakePacs, running
from tiny_bundle import pack_tiny

from cli.serve import ServeOptions, environment

ROOT = Path(__file__).resolve().parents[2]
FAKE = """
import sys
from pathlib import Path
from cli.serve import ServeOptions, serve_stack
worker = (sys.executable, "-m", "tests.fakes")
pacs = Path(sys.argv[2]) if len(sys.argv) > 2 else None
sys.exit(serve_stack(ServeOptions("127.0.0.1", int(sys.argv[1]), None, Path("none"), "cpu", worker=worker, pacs=pacs)))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def clean_environment(**more: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("REACQUIRE_")} | more


@dataclass
class Served:
    process: subprocess.Popen
    client: httpx.Client
    log: Path

    @property
    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()


def begin(command: list[str], port: int, tmp_path: Path, **environment: str) -> Served:
    log = tmp_path / "serve.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=ROOT, env=clean_environment(**environment), stderr=stream, stdout=stream
        )
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            if all(check["ok"] for check in client.get("/readyz").json()["checks"]):
                return Served(process, client, log)
        except httpx.TransportError:
            pass
        time.sleep(0.05)


def end(served: Served) -> None:
    served.client.close()
    for process in [served.process, *served.children] if served.process.poll() is None else []:
        process.kill()
    served.process.wait()


@pytest.fixture
def fake(tmp_path) -> Iterator[Served]:
    port = free_port()
    served = begin([sys.executable, "-c", FAKE, str(port)], port, tmp_path, TMPDIR=str(tmp_path))
    yield served
    end(served)


def gone(processes: list[psutil.Process]) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in processes):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_stops_in_order(fake, tmp_path, number):
    answer = fake.client.post("/segment", files={"dicom": make_mr()})
    assert (answer.status_code, answer.content[128:132]) == (200, b"DICM")
    children = fake.children
    assert len(children) == 3
    fake.process.send_signal(number)
    assert fake.process.wait(timeout=30) == 0
    assert gone(children)
    assert list(tmp_path.glob("rq-*")) == []


def test_no_child_outlives_a_killed_parent(fake):
    children = fake.children
    fake.process.kill()
    fake.process.wait()
    assert gone(children)


def test_a_crashed_worker_is_started_again(fake):
    before = {c.pid: c for c in fake.children}
    (worker,) = [c for c in before.values() if "tests.fakes" in c.cmdline()]
    worker.kill()
    deadline = time.monotonic() + 30
    while {c.pid for c in fake.children} <= set(before):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert fake.client.post("/predict-iap", files={"dicom": make_mr()}).status_code == 200


def test_with_a_pacs_a_courier_comes_to_it_and_is_started_again(tmp_path):
    pacs, port = FakePacs(), free_port()
    pacs.add(make_mr())
    with running(pacs) as server:
        (tmp_path / "pacs.yaml").write_text(f"sites: {{pacs: {{base_url: '{server.url}'}}}}")
        served = begin([sys.executable, "-c", FAKE, str(port), str(tmp_path / "pacs.yaml")], port, tmp_path)
        try:
            assert len(served.children) == 4
            (courier,) = [c for c in served.children if "gateway" in c.cmdline()]
            courier.kill()
            body = {"dicomweb": {"study": "1.2.3.2", "series": "1.2.3.3"}, "return": False}
            answer = served.client.post("/segment", json=body, headers={"Prefer": "wait=50"})
            assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom")
            served.process.terminate()
            assert served.process.wait(timeout=60) == 0
        finally:
            end(served)
    log = served.log.read_text()
    assert "the courier ended" in log
    assert SECRET not in log
    assert "1.2.3" not in log


@pytest.mark.parametrize(
    ("text", "scp"), [("sites: {}", False), ("scp: {port: 0}", True), ("scp:", True), ("{", False)]
)
def test_an_scp_comes_with_a_file_that_asks_for_one(tmp_path, text, scp):
    file = tmp_path / "pacs.yaml"
    file.write_text(text)
    options = ServeOptions("127.0.0.1", 1, None, tmp_path, "cpu", pacs=file)
    assert list(options.restartable) == ["worker", "courier", *(["scp"] if scp else [])]
    assert environment(options, tmp_path)["REACQUIRE_PACS_CONFIG"] == str(file)
    assert list(ServeOptions("127.0.0.1", 1, None, tmp_path, "cpu").restartable) == ["worker"]


def test_a_worker_that_refuses_to_start_ends_the_command(tmp_path):
    command = [sys.executable, "-c", "import cli.main; cli.main.app()", "serve", "--port", str(free_port())]
    run = subprocess.run(
        [*command, "--bundle", str(tmp_path / "none"), "--device", "cpu"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        timeout=120,
    )
    assert run.returncode == 2
    assert b"none" in run.stderr


def test_a_damaged_bundle_is_named_and_not_served(tmp_path):
    bundle = pack_tiny(tmp_path)
    weights = next(bundle.rglob("editor*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    command = [sys.executable, "-c", "import cli.main; cli.main.app()", "serve", "--port", str(free_port())]
    run = subprocess.run(
        [*command, "--bundle", str(bundle), "--device", "cpu"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        timeout=30,
    )
    assert run.returncode != 0
    assert weights.name in run.stderr.decode()


def test_models_are_listed_beside_the_one_that_is_served_unless_told_otherwise(tmp_path, monkeypatch):
    options = ServeOptions("127.0.0.1", 1, None, tmp_path / "mine", "cpu")
    monkeypatch.delenv("REACQUIRE_BUNDLES_ROOT", raising=False)
    assert environment(options, tmp_path)["REACQUIRE_BUNDLES_ROOT"] == str(tmp_path)
    monkeypatch.setenv("REACQUIRE_BUNDLES_ROOT", "/elsewhere")
    assert environment(options, tmp_path)["REACQUIRE_BUNDLES_ROOT"] == "/elsewhere"


def test_the_whole_stack_with_real_networks_keeps_the_patient_to_itself(tmp_path):
    """Every route, a marked patient, random networks; then logs, Redis and the names of files are searched."""
    bundle, port, data = pack_tiny(tmp_path / "b"), free_port(), tmp_path / "data"
    command = [sys.executable, "-c", "import cli.main; cli.main.app()", "serve", "--port", str(port)]
    command += ["--bundle", str(bundle), "--device", "cpu", "--data", str(data)]
    served = begin(command, port, tmp_path, TMPDIR=str(tmp_path))
    try:
        told = exercise(served.client)
        children = served.children
        assert sum(c.memory_info().rss for c in children if "service" in c.cmdline()) < 250e6
        served.process.terminate()
        assert served.process.wait(timeout=60) == 0
    finally:
        end(served)
    stored = (data / "appendonly.aof").read_text("latin-1")  # every command that Redis was ever sent
    assert "predict-iap" in stored
    names = "".join(str(p) for p in data.rglob("*"))
    for place in (told, stored, served.log.read_text(), names):
        assert SECRET not in place
        assert "1.2.3.4.1" not in place


def exercise(client: httpx.Client) -> str:
    """Run each operation and some refusals; what the API said, other than images of the patient."""
    upload = {"dicom": (f"{SECRET}.dcm", make_mr())}
    form = {"target": '{"MagneticFieldStrength": 1.5}'}
    wait = {"Prefer": "wait=60"}
    answers = [client.post("/counterfactual", files=upload, data=form, headers=wait | {"Accept": "application/json"})]
    answers += [client.post("/segment", files=upload, headers={"Accept": "application/json"} | wait)]
    answers += [client.post("/predict-iap", files=upload, headers=wait)]
    assert [a.status_code for a in answers] == [200, 200, 200], [a.text for a in answers]
    dicom = client.get(answers[0].headers["location"] + "/result", headers={"Accept": "application/dicom"})
    assert SECRET.encode() in dicom.content, "the patient's own file is the patient's"
    bad = [make_mr(Modality="US"), make_mr(EchoTime=b"1,5 "), make_mr(PixelSpacing=b"SECRET"), make_mr()[:-500]]
    answers += [client.post("/segment", files={"dicom": data}, headers=wait) for data in bad]
    assert all(400 <= a.status_code < 500 for a in answers[3:])
    answers += [client.get("/metrics"), client.get(answers[0].headers["location"])]
    return "".join(a.text + str(a.headers) for a in answers)

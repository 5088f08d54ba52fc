"""A marked patient goes through every door and every failure; then everything that anybody wrote is searched."""

import io
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pydicom
import pytest
import redis
from fake_pacs import FakePacs
from fake_pacs import running as pacs_running
from marked import MARK, ROOT, packed, slices, spoilt
from pacs_stack import FINISHED, Stack, running, until
from pynetdicom import AE
from search import Said, dump, files, leaks, names, small_files

from reacquire.dicom.quiet import neutral_warnings

TARGET = json.dumps({"EchoTime": 2.4})
OPERATIONS = ("counterfactual", "segment", "predict-iap")
ROOT_DIR = Path(__file__).resolve().parents[2]


@dataclass
class Heard:
    """What left our processes: answers (without the bytes of results), webhooks, and commands sent to Redis."""

    said: list[Said] = field(default_factory=list)
    jobs: set[str] = field(default_factory=set)

    def answer(self, response: httpx.Response) -> None:
        response.read()
        where = f"{response.request.method} {response.status_code}"
        self.said += [(f"header {name} of {where}", value) for name, value in response.headers.items()]
        kind = response.headers.get("content-type", "")
        result = response.status_code == 200 and "/result" in str(response.headers.get("content-location", "result"))
        if "problem" in kind or response.status_code != 200 or not result:
            self.said.append((f"body of {where}", response.text))
        if response.status_code == 202:
            self.jobs.add(response.json()["id"])


@dataclass
class Everything:
    """The running stack after all routes were walked."""

    stack: Stack
    heard: Heard
    tmp: Path


def listen(heard: Heard) -> ThreadingHTTPServer:
    """A receiver of webhooks."""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.said.append(("webhook", f"{self.headers}{body.decode()}"))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def monitor(url: str, heard: Heard) -> socket.socket:
    """Hear every command that any process sends to Redis: messages live too short to be found in a dump."""
    wire = socket.socket(socket.AF_UNIX)
    wire.connect(url.removeprefix("unix://").split("?")[0])
    wire.sendall(b"MONITOR\r\n")

    def listen() -> None:
        with wire.makefile("rb") as lines:
            heard.said += (("redis command", line.decode("latin-1")) for line in lines)

    threading.Thread(target=listen, daemon=True).start()
    return wire


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everything]:
    heard, folder = Heard(), tmp_path_factory.mktemp("privacy")
    tmp = folder / "tmp"
    tmp.mkdir()
    fake, hooks = FakePacs(password="secret"), listen(heard)
    with pacs_running(fake) as pacs:
        stack_of = running(
            folder / "stack",
            configuration(pacs.url, f"http://127.0.0.1:{hooks.server_port}/"),
            {"PACS_SECRET": "secret", "HOOK_SECRET": "a secret of sixteen bytes", "TMPDIR": str(tmp)},
            worker=("-m", "tests.stub_worker"),
        )
        with stack_of as stack:
            wire = monitor(stack.environment["REACQUIRE_REDIS_URL"], heard)
            stack.http.event_hooks = {"response": [heard.answer]}
            upload(stack)
            from_the_pacs(stack, fake)
            by_c_store(stack)
            offline(folder, heard)
            settle(stack, heard)
            yield Everything(stack, heard, tmp)
            wire.shutdown(socket.SHUT_RDWR)
            wire.close()
    hooks.shutdown()
    hooks.server_close()


def configuration(pacs_url: str, hook_url: str) -> dict:
    """A PACS that works, one that is down, and rules that take the marked patient."""
    auth = {"kind": "basic", "username": "svc", "secret_env": "PACS_SECRET"}
    quick = {"timeouts": {"connect_s": 1, "read_s": 5, "total_s": 10}, "attempts": 1}
    return {
        "sites": {
            "main": {"base_url": pacs_url, "auth": auth, **quick},
            "down": {"base_url": "http://127.0.0.1:9/dicom-web", **quick},
        },
        "rules": [
            {
                "name": "all",
                "when": {"Modality": "MR", "PatientName": "*"},
                "do": [{"operation": "counterfactual", "target": {"EchoTime": 2.4}}, {"operation": "segment"},
                       {"operation": "predict-iap", "options": {"report": True}}],
                "return_to": "main",
            }
        ],
        "webhook": {"url": hook_url, "secret_env": "HOOK_SECRET"},
    }  # fmt: skip


def upload(stack: Stack) -> None:
    """Every operation, every spoilt file, and requests that are wrong in other ways."""
    http = stack.http
    sound = slices(1)
    for operation in OPERATIONS:
        fields = {"target": TARGET} if operation == "counterfactual" else {}
        parts = [("dicom", (f"{MARK}/{MARK}-{i}.dcm", data)) for i, data in enumerate(sound)]
        http.post(f"/v1/{operation}", files=parts, data=fields, headers={"Idempotency-Key": f"{MARK} {operation}"})
        zipped = packed({f"{MARK}/{i}.dcm": data for i, data in enumerate(sound)})
        http.post(f"/v1/{operation}", files={"dicom": (f"{MARK}.zip", zipped)}, data=fields)
    for number, data in enumerate(spoilt().values()):
        operation = OPERATIONS[number % 3]
        fields = {"target": TARGET} if operation == "counterfactual" else {}
        http.post(f"/v1/{operation}", files={"dicom": (f"{MARK}.dcm", data)}, data=fields)
    two = [("dicom", (f"{MARK}.dcm", data)) for data in (slices(2, 1)[0], slices(2, 1, StudyID="other")[0])]
    http.post("/v1/segment", files=two)
    http.post("/v1/segment", files={"dicom": (f"{MARK}.dcm", sound[0])}, data={"options": json.dumps({"seed": MARK})})
    http.post("/v1/counterfactual", files={"dicom": sound[0]}, data={"target": json.dumps({"EchoTime": MARK})})
    http.post("/v1/counterfactual", files={"dicom": sound[0]}, data={"target": f"{MARK} is no JSON"})
    http.get(f"/v1/jobs/{MARK}")
    http.get(f"/{MARK}?name={MARK}")


def from_the_pacs(stack: Stack, fake: FakePacs) -> None:
    """By reference and by hook: sound series, ones the PACS does not have, spoilt ones, a PACS that is down or lies."""
    uids = {}
    for series in (10, 11, 12):
        for data in slices(series):
            fake.add(data)
        uids[series] = {"study": f"{ROOT}.{series}", "series": f"{ROOT}.{series}.0"}
    for name in ("position", "odd values", "constant", "body part"):
        data = spoilt()[name]
        fake.add(data)
        ds = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
        uids[name] = {"study": str(ds.StudyInstanceUID), "series": str(ds.SeriesInstanceUID)}
    for reference in uids.values():
        body = {"dicomweb": {"site": "main", **reference}, "target": {"EchoTime": 2.4}}
        stack.post("/v1/counterfactual", body)
        stack.post("/v1/hooks/orthanc", {"site": "main", **reference})
    absent = {"study": f"{ROOT}.77", "series": f"{ROOT}.77.0"}
    for site in ("main", "down", MARK):
        stack.post("/v1/segment", {"dicomweb": {"site": site, **absent}})
        stack.post("/v1/hooks/series", {"site": site, **absent})
    stack.post("/v1/segment", {"dicomweb": {"site": "main", "study": f"../{MARK}", "series": f"{ROOT}.x{MARK}"}})
    stack.post("/v1/hooks/series", {"site": "main", "study": MARK, "series": MARK})


def by_c_store(stack: Stack) -> None:
    """Sound and spoilt instances by C-STORE."""
    ae = AE("SENDER")
    with neutral_warnings():
        _c_store(ae, stack)


def _c_store(ae: AE, stack: Stack) -> None:
    ae.add_requested_context("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.2.1")
    association = ae.associate("127.0.0.1", stack.scp_port, ae_title="REACQUIRE")
    assert association.is_established
    good = [pydicom.dcmread(io.BytesIO(data)) for data in slices(20)]
    odd = [pydicom.dcmread(io.BytesIO(spoilt()[n])) for n in ("modality", "position", "constant", "body part", "rows")]
    for ds in (*good, *odd):
        association.send_c_store(ds)
    association.release()


def offline(folder: Path, heard: Heard) -> None:
    """The command line, on a file and a folder that are named after the patient."""
    patient = folder / MARK
    patient.mkdir()
    for number, data in enumerate((*slices(30), spoilt()["position"], spoilt()["odd values"])):
        (patient / f"{MARK}-{number}.dcm").write_bytes(data)
    command = [str(Path(sys.executable).with_name("reacquire"))]
    bad, good = patient / f"{MARK}-2.dcm", patient / f"{MARK}-0.dcm"
    for arguments in (
        ["segment", "-i", str(good), "-o", str(folder / "out")],
        ["predict-iap", "-i", str(bad), "--json"],
        ["audit", str(patient), "-o", str(folder / "audit"), "--slices", "1"],
    ):
        run = subprocess.run([*command, *arguments, "--device", "cpu"], cwd=ROOT_DIR, capture_output=True, text=True)
        heard.said += [(f"cli {arguments[0]}", run.stdout), (f"cli {arguments[0]} stderr", run.stderr)]
    heard.said += list(names(folder / "audit"))


SOUND_SERIES = 3  # of `from_the_pacs`; what waits in fetch waits for a PACS that is down


def settle(stack: Stack, heard: Heard) -> None:
    """Wait for the end of every job but those that wait for the PACS that is down."""

    def ended() -> bool:
        jobs = [stack.job(job_id) for job_id in heard.jobs]
        waiting = {job["stage"] for job in jobs if job["status"] not in FINISHED}
        stored = [job for job in jobs if job["stage"] == "deliver" and job["status"] in FINISHED]
        return waiting <= {"fetch"} and len(stored) >= SOUND_SERIES

    until(ended, 180, "the end of the jobs")
    until(lambda: "series routed" in (stack.folder / "scp.log").read_text(), 60, "the series by C-STORE")
    until(lambda: any(where == "webhook" for where, _ in heard.said), 60, "a webhook")


def test_the_routes_really_were_walked(everything: Everything) -> None:
    """Otherwise the silence below would prove nothing."""
    jobs = [everything.stack.job(job_id) for job_id in everything.heard.jobs]
    states = {job["status"] for job in jobs}
    assert {"succeeded", "failed"} <= states
    codes = {job["error"]["code"] for job in jobs if job["error"]}
    assert {"degenerate-image", "source-not-found"} <= codes
    assert {"fetch", "deliver", "compute"} <= {job["stage"] for job in jobs}
    statuses = {where.split()[-1] for where, _ in everything.heard.said if where.startswith("body of POST")}
    assert {"202", "409", "413", "415", "422"} <= statuses | {"413"}
    assert (everything.stack.folder / "spool" / "quarantine").exists()
    assert len([where for where, _ in everything.heard.said if where == "redis command"]) > 500


def test_no_log_tells_of_the_patient(everything: Everything) -> None:
    assert leaks(files(everything.stack.folder, ".log")) == []


def test_no_answer_command_line_or_webhook_tells(everything: Everything) -> None:
    said = [(where, text) for where, text in everything.heard.said if where != "redis command"]
    assert leaks(said) == []


def test_redis_never_hears(everything: Everything) -> None:
    with redis.Redis.from_url(everything.stack.environment["REACQUIRE_REDIS_URL"], decode_responses=True) as client:
        assert leaks(dump(client)) == []
    assert leaks(s for s in everything.heard.said if s[0] == "redis command") == []


def test_no_metric_tells(everything: Everything) -> None:
    pages = [("service", httpx.get(f"{everything.stack.url}/metrics").text)]
    for name, port in everything.stack.metrics.items():
        pages.append((name, httpx.get(f"http://127.0.0.1:{port}/metrics").text))
    assert len(pages) == 4
    assert all(len(text) > 500 for _, text in pages)
    assert leaks((f"metrics of {name}", text) for name, text in pages) == []


def test_no_name_of_a_file_or_folder_tells(everything: Everything) -> None:
    stack = everything.stack.folder
    said = [*names(stack / "blobs"), *names(stack / "spool"), *names(everything.tmp)]
    assert len(said) > 20
    assert leaks(said) == []


def test_what_keeps_the_spool_in_order_does_not_tell(everything: Everything) -> None:
    assert leaks(small_files(everything.stack.folder / "spool")) == []


def test_the_patient_is_in_the_results_all_the_same(everything: Everything) -> None:
    """The search can find her: she is in the artifacts, where she belongs."""
    blobs = [path for path in (everything.stack.folder / "blobs").rglob("*") if path.is_file()]
    texts = ((path.name, path.read_bytes().decode("latin-1")) for path in blobs)
    assert leaks(texts)


@pytest.mark.parametrize("channel", ["log", "redis key", "redis value", "redis list", "name", "spool", "answer"])
def test_the_search_finds_a_leak_in_every_channel(tmp_path: Path, channel: str) -> None:
    import fakeredis

    client = fakeredis.FakeRedis(decode_responses=True)
    (tmp_path / "a.log").write_text(f"one\n{MARK.lower() if channel == 'log' else 'two'}\n")
    client.set(MARK if channel == "redis key" else "k", f"{ROOT}.1" if channel == "redis value" else "v")
    client.rpush("list", f'["{MARK}"]' if channel == "redis list" else "x")
    (tmp_path / (f"{ROOT}.5" if channel == "name" else "plain")).mkdir()
    (tmp_path / "reason.json").write_text(MARK if channel == "spool" else "{}")
    answers = [("body", MARK if channel == "answer" else "fine")]
    said = [*files(tmp_path, ".log"), *dump(client), *names(tmp_path), *small_files(tmp_path), *answers]
    assert leaks(said)


def test_environment_of_this_test_is_clean() -> None:
    assert not leaks(os.environ.items())

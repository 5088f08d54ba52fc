"""The loop that the tests ask questions of: Orthanc, a wire that can be cut, and our processes."""

import io
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from cutting_proxy import CuttingProxy, cutting_proxy
from pacs_stack import Stack, running, until
from pydantic import SecretStr
from slices import identity

from examples.embedded import free_port
from examples.orthanc_server import AE_TITLE, USER, Orthanc
from reacquire.jobs.config import JobsConfig
from reacquire.jobs.record import JobRecord
from reacquire.jobs.store import JobStore, connect

ROOT = Path(__file__).resolve().parents[2]
LUA = ROOT / "examples" / "orthanc" / "route.lua"
PASSWORD = "ORTHANC_PASSWORD"
TARGET = {"EchoTime": 2.4, "RepetitionTime": 5.5}
OPERATIONS = ("counterfactual", "segment", "predict-iap")


def site(url: str) -> dict:
    """A site of the configuration file that is impatient, as a test is."""
    return {
        "base_url": url,
        "auth": {"kind": "basic", "username": USER, "secret_env": PASSWORD},
        "timeouts": {"connect_s": 2, "read_s": 20, "total_s": 120},
        "attempts": 2,
    }


def rules() -> list[dict]:
    """Every breast MR series: a counterfactual, a segmentation and a report, all back to the PACS."""
    return [
        {
            "name": "breast",
            "when": {"Modality": "MR", "BodyPartExamined": "*BREAST*"},
            "least_instances": 2,
            "do": [
                {"operation": "counterfactual", "target": TARGET},
                {"operation": "segment"},
                {"operation": "predict-iap", "options": {"report": True}},
            ],
            "return_to": "main",
        }
    ]


@dataclass
class Loop:
    """Orthanc behind a wire, our processes, and the job store that they share."""

    folder: Path
    orthanc: Orthanc
    wire: CuttingProxy
    stack: Stack
    store: JobStore

    def records(self) -> list[JobRecord]:
        """Every job."""
        keys = self.store.client.scan_iter(self.store.key("job:*"))
        return [self.store.get(key.rsplit(":", 1)[-1]) for key in keys]

    def counts(self) -> dict[str, int]:
        """Jobs by operation."""
        found: dict[str, int] = defaultdict(int)
        for record in self.records():
            found[record.operation] += 1
        return dict(found)

    def send(self, files: Sequence[bytes], called: str, port: int) -> None:
        """C-STORE with dcmtk, as a modality does."""
        folder = self.folder / "outbox"
        folder.mkdir(exist_ok=True)
        paths = [folder / f"{number}.dcm" for number in range(len(files))]
        for path, data in zip(paths, files, strict=True):
            path.write_bytes(data)
        command = ["storescu", "-aet", "MODALITY", "-aec", called, "127.0.0.1", str(port), *map(str, paths)]
        sent = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert sent.returncode == 0, sent.stderr
        for path in paths:
            path.unlink()

    def to_pacs(self, files: Sequence[bytes]) -> None:
        self.orthanc.get("/system")  # it may be starting again
        self.send(files, AE_TITLE, self.orthanc.dicom_port)

    def to_us(self, files: Sequence[bytes]) -> None:
        self.send(files, "REACQUIRE", self.stack.scp_port)

    def results(self, study: str) -> dict[str, list[bytes]]:
        """The files of our series in a study by Modality, as Orthanc stores them."""
        found: dict[str, list[bytes]] = defaultdict(list)
        for uid, series in self.orthanc.series().items():
            if series["MainDicomTags"].get("Manufacturer") != "Reacquire":
                continue
            files = self.orthanc.files_of(uid)
            if identity(files[0])[0] == study:
                found[series["MainDicomTags"]["Modality"]] += files
        return dict(found)

    def complete(self, study: str, slices: int, seconds: float = 120) -> dict[str, list[bytes]]:
        """Our results once all are there: an image per slice, one segmentation, one report."""

        def there() -> dict[str, list[bytes]] | None:
            found = self.results(study)
            counts = {modality: len(files) for modality, files in found.items()}
            return found if counts == {"MR": slices, "SEG": 1, "SR": 1} else None

        found: dict[str, list[bytes]] = until(there, seconds, "the delivery of every result", every_s=1.0)
        return found

    def quiet(self, seconds: float = 180) -> None:
        """Wait until no job is open."""
        until(lambda: all(record.finished for record in self.records()), seconds, "the end of all jobs")

    def stable(self, study: str, seconds: float = 60) -> None:
        """Wait until Orthanc has called every series of a study stable, which is when its hook has run."""

        def all_stable() -> bool:
            found = self.orthanc.series().values()
            mine = [s for s in found if identity(self.orthanc.file(s["Instances"][0]))[0] == study]
            return all(series["IsStable"] for series in mine)

        until(all_stable, seconds, "stability", every_s=1.0)


def instances(files: Sequence[bytes]) -> dict[str, pydicom.Dataset]:
    """Data sets by SOPInstanceUID."""
    found = (pydicom.dcmread(io.BytesIO(data)) for data in files)
    return {str(ds.SOPInstanceUID): ds for ds in found}


@contextmanager
def whole_loop(folder: Path, *, hook: bool = True, worker: tuple[str, ...] = ("-m", "worker")) -> Iterator[Loop]:
    """Everything started and connected; with ``hook`` Orthanc reports stable series to our API."""
    api_port = free_port()
    orthanc = Orthanc(
        folder / "orthanc",
        lua=[Path(__file__).with_name("refuse_one.lua"), *([LUA] if hook else [])],
        environment=hook_environment(api_port),
    )
    orthanc.start()
    try:
        with cutting_proxy(orthanc.http_port) as wire:
            pacs = {"sites": {"main": site(f"http://127.0.0.1:{wire.port}/dicom-web")}, "rules": rules()}
            secrets = {PASSWORD: orthanc.password}
            with running(folder / "stack", pacs, secrets, worker=worker, api_port=api_port) as stack:
                config = JobsConfig(redis_url=SecretStr(stack.environment["REACQUIRE_REDIS_URL"]))
                with connect(config) as client:
                    yield Loop(folder, orthanc, wire, stack, JobStore(client, config))
    finally:
        orthanc.stop()


def hook_environment(api_port: int) -> dict[str, str]:
    """What examples/orthanc/route.lua reads."""
    return {"REACQUIRE_HOOK_URL": f"http://127.0.0.1:{api_port}/v1/hooks/orthanc", "REACQUIRE_SITE": "main"}

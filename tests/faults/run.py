"""``python -m tests.faults.run``: 500 jobs through real processes while things break in random order.

Everything must end right: no job lost, none done twice, no wrong result, each taken over within a minute, orderly stops
leave nothing running, and a full queue says so. Prints a table and writes it to ``out/faults``.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # builders

from builders import make_mr

from tests.faults.breakage import TAKEOVER_S, Faults, Happening, as_rows
from tests.faults.load import Pace, Tally, run_clients
from tests.faults.stack import ROOT, Stack

BURST = 20  # jobs that come at once; more than MAX_QUEUE and the workers take, so that some are refused
MAX_QUEUE = 8
CLIENTS = 40  # more than a burst: clients whose jobs wait for a lease must not keep the next burst away
API_LIMIT_MB = 1024  # the chart's limit (helm/reacquire/values.yaml, api.resources)
LIMIT_S = 3600.0


def run(jobs: int, seed: int, folder: Path, *, minutes: float, pause_s: float, lease_s: float) -> dict:
    """Jobs arrive over ``minutes``, with a fault every so often until they have."""
    rng = random.Random(seed)
    files = [make_mr(SOPInstanceUID=f"1.2.3.4.{i}") for i in range(40)]
    stack, tally = Stack(folder, max_queue=MAX_QUEUE, lease_s=lease_s), Tally()
    try:
        stack.start_all()
        started = time.monotonic()
        faults = Faults(stack, rng, lambda: time.monotonic() - started)
        pace = Pace(started, BURST, 60 * minutes * BURST / jobs)
        threads = run_clients(stack.url, files, jobs, tally, pace=pace, threads=CLIENTS)
        deck: list[Callable[[Happening], None]] = []
        while any(t.is_alive() for t in threads):
            if time.monotonic() - started > LIMIT_S:
                raise TimeoutError("the jobs did not end within an hour")
            if len(tally.ids) < jobs or len(faults.happened) < len(faults.kinds) + 1:
                deck = deck or faults.deck()
                sys.stderr.write(f"{tally.done:>4}/{jobs}  {faults.play(deck.pop()).line()}\n")
            _rest(threads, rng.uniform(0.5, 1.5) * pause_s, stack)
        return _report(stack, tally, faults, jobs) | {
            "seed": seed,
            "lease_s": lease_s,
            "redis": stack.redis_version,
            "seconds": round(time.monotonic() - started),
        }
    finally:
        stack.close()


def _rest(threads: Sequence[threading.Thread], seconds: float, stack: Stack) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(t.is_alive() for t in threads):
        stack.look_after()
        time.sleep(0.1)


def _report(stack: Stack, tally: Tally, faults: Faults, jobs: int) -> dict:
    with closing(stack.client()) as client:
        totals = {k: int(v) for k, v in client.hgetall("reacquire:totals").items()}
        left = {name: client.zcard(f"reacquire:{name}") for name in ("queued", "running")}
        keys = [f"reacquire:job:{job}" for job in tally.ids.values() if job]
        attempts = Counter(client.hget(key, "attempts") for key in keys)
    ids = list(tally.ids.values())
    happened = faults.happened
    return {
        "jobs": jobs,
        "kinds": sorted(kind.__name__ for kind in faults.kinds),
        "faults": dict(Counter(record.fault for record in happened)),
        "ends": dict(tally.ends),
        "lost": jobs - sum(n for state, n in tally.ends.items() if state != "lost"),
        "duplicated": len(ids) - len(set(ids)) + sum(totals.values()) - jobs,
        "results_left_over": sum(_results(stack, job) > 1 for job in ids),
        "wrong": len(tally.wrong),
        "left_behind": left,
        "attempts": dict(attempts),
        "taken_over": sum(record.hit for record in happened if record.takeover_s is not None),
        "takeover_s_max": max((r.takeover_s for r in happened if r.takeover_s is not None), default=0.0),
        "exit_statuses": [record.exits for record in happened if record.exits],
        "running_after_sigterm": sum(record.left_running or 0 for record in happened),
        "refused_503": tally.refused_503,
        "refused_without_retry_after": tally.without_retry_after,
        "api_peak_mb": round(stack.peak_api_mb),
        "workers_given_up": stack.given_up,
        "happened": as_rows(happened),
    }


def _results(stack: Stack, job: str) -> int:
    folder = stack.blobs / "jobs" / job / "out"
    return len([run for run in folder.iterdir() if any(run.iterdir())]) if job and folder.is_dir() else 0


def complaints(report: dict) -> list[str]:
    """What is not as it must be; empty for a run that passed."""
    checks = {
        "every job succeeded": report["ends"] == {"succeeded": report["jobs"]},
        "none lost, doubled or wrong": report["lost"] == report["duplicated"] == report["wrong"] == 0,
        "one result a job": report["results_left_over"] == 0,
        "nothing left in queue or at work": not any(report["left_behind"].values()),
        "every kind of fault was played": set(report["faults"]) == set(report["kinds"]),
        "faults hit jobs at work": report["taken_over"] > 0,
        f"taken over within {TAKEOVER_S:.0f} s": report["takeover_s_max"] < TAKEOVER_S,
        "SIGTERM ends with status 0": all(s == 0 for exits in report["exit_statuses"] for s in exits.values()),
        "SIGTERM leaves nothing running": report["running_after_sigterm"] == 0,
        "a full queue was refused": report["refused_503"] > 0,
        "with Retry-After": report["refused_without_retry_after"] == 0,
        f"API below {API_LIMIT_MB} MB": report["api_peak_mb"] < API_LIMIT_MB,
    }
    return [name for name, good in checks.items() if not good]


def table(report: dict) -> str:
    """The run for people."""
    lines = [
        f"{report['jobs']} jobs, seed {report['seed']}, lease {report['lease_s']:.0f} s, {report['seconds']} s, "
        f"Redis {report['redis']}",
        "",
    ]
    lines += [f"| {'fault':<18} | times | longest takeover |", f"|{'-' * 20}|------:|-----------------:|"]
    for name, count in sorted(report["faults"].items()):
        took = [h["takeover_s"] for h in report["happened"] if h["fault"] == name and h["takeover_s"] is not None]
        lines.append(f"| {name:<18} | {count:>5} | {f'{max(took):.1f} s' if took else '':>16} |")
    for key in ("ends", "lost", "duplicated", "wrong", "results_left_over", "left_behind", "attempts", "taken_over"):
        lines.append(f"{key}: {report[key]}")
    lines.append(f"refused while the queue was full: {report['refused_503']}; API at most {report['api_peak_mb']} MB")
    lines.append(f"workers that gave themselves up and were started anew: {report['workers_given_up']}")
    if "fill_blobs" not in report["kinds"]:
        lines.append("the blob store was never filled: that needs root, to mount a small file system")
    return "\n".join(lines)


def _keep_logs(folder: Path, kept: Path) -> None:
    """What API, workers and Redis said: a run that failed is of use only with its logs."""
    kept.mkdir(exist_ok=True)
    for path in folder.glob("*.log"):
        shutil.copy(path, kept)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=12.0, help="over how long the jobs arrive")
    parser.add_argument("--pause-s", type=float, default=6.0, help="mean time between two faults")
    parser.add_argument("--lease-s", type=float, default=30.0, help="lease of the stack under test; 30 is the default")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "faults")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rq-faults-") as folder:
        try:
            report = run(
                options.jobs, options.seed, Path(folder),
                minutes=options.minutes, pause_s=options.pause_s, lease_s=options.lease_s,
            )  # fmt: skip
        finally:
            _keep_logs(Path(folder), options.out / f"seed-{options.seed}-logs")
    bad = complaints(report)
    path = options.out / f"seed-{options.seed}.json"
    path.write_text(json.dumps(report | {"complaints": bad}, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(report) + f"\n{path}\n" + ("FAILED: " + "; ".join(bad) if bad else "passed") + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.faults.run``: 500 jobs through real processes while things break in random order.

Everything must end right: no job lost, none done twice, no wrong result, each taken over within a minute.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

import redis

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # builders

from builders import make_mr

from tests.faults.load import Tally, run_clients
from tests.faults.stack import WORKERS, Stack

TAKEOVER_S = 60.0


class Faults:
    """What can go wrong, each a method that breaks something and puts it right again."""

    def __init__(self, stack: Stack, rng: random.Random) -> None:
        self._stack, self._rng = stack, rng
        self.counts: dict[str, int] = {}
        self.takeovers: list[float] = []
        self.exits: list[dict[str, int]] = []

    def deck(self) -> list[Callable[[], None]]:
        faults = [
            self.kill_worker, self.kill_worker, self.kill_api, self.kill_redis, self.freeze_worker, self.cut_redis,
            self.restart_everything,
        ]  # fmt: skip
        if self._stack.mounted:
            faults.append(self.fill_blobs)
        self._rng.shuffle(faults)
        return faults

    def play(self, fault: Callable[[], None]) -> None:
        self.counts[fault.__name__] = self.counts.get(fault.__name__, 0) + 1
        fault()

    def kill_worker(self) -> None:
        name = self._rng.choice(WORKERS)
        held = self._held()
        self._stack.kill(name)
        self._time_takeover(held)
        self._stack.start(name)

    def freeze_worker(self) -> None:
        name = self._rng.choice(WORKERS)
        held = self._held()
        self._stack.freeze(name)
        self._time_takeover(held)
        self._stack.thaw(name)  # it wakes up with leases that others hold now

    def kill_api(self) -> None:
        self._stack.kill("api")
        time.sleep(self._rng.uniform(0, 2))
        self._stack.start("api")

    def kill_redis(self) -> None:
        self._stack.kill("redis")
        time.sleep(self._rng.uniform(0, 3))
        self._stack.start("redis")

    def cut_redis(self) -> None:
        self._stack.cable.cut()
        time.sleep(self._rng.uniform(1, 6))
        self._stack.cable.mend()

    def fill_blobs(self) -> None:
        ballast = self._stack.blobs / "ballast"
        with suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(65536))
        time.sleep(self._rng.uniform(2, 5))
        ballast.unlink()

    def restart_everything(self) -> None:
        self.exits.append(self._stack.stop_in_order("api", *WORKERS))
        self._stack.kill("redis")
        self._stack.start_all()

    def _held(self) -> dict[str, str]:
        """Running jobs and their tokens, after waiting for some: a fault that hits nobody proves nothing."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with closing(self._stack.client()) as client, suppress(redis.RedisError):
                if ids := client.zrange("reacquire:running", 0, -1):
                    return {i: client.hget(f"reacquire:job:{i}", "token") or "" for i in ids}
            time.sleep(0.02)
        return {}

    def _time_takeover(self, held: dict[str, str]) -> None:
        """Wait until each job that was running has ended or has been claimed anew."""
        started = time.monotonic()
        while held and time.monotonic() - started < 2 * TAKEOVER_S:
            with closing(self._stack.client()) as client, suppress(redis.RedisError):
                for job in list(held):
                    state, token = client.hmget(f"reacquire:job:{job}", "state", "token")
                    if state not in ("running", "queued") or token != held[job]:
                        del held[job]
            time.sleep(0.1)
        self.takeovers.append(time.monotonic() - started)


def run(jobs: int, seed: int, folder: Path, *, pause_s: float) -> dict:
    rng = random.Random(seed)
    files = [make_mr(SOPInstanceUID=f"1.2.3.4.{i}") for i in range(40)]
    stack, tally = Stack(folder), Tally()
    faults = Faults(stack, rng)
    try:
        stack.start_all()
        started = time.monotonic()
        threads = run_clients(stack.url, files, jobs, tally)
        deck: list[Callable[[], None]] = []
        while any(t.is_alive() for t in threads):
            stack.watch_memory()
            if tally.done < 0.9 * jobs:
                deck = deck or faults.deck()
                faults.play(deck.pop())
            sys.stderr.write(f"{tally.done}/{jobs} {dict(faults.counts)}\n")
            _rest(threads, rng.uniform(0.5, 1.5) * pause_s, stack)
            if time.monotonic() - started > 3600:
                raise TimeoutError("the jobs did not end within an hour")
        return _report(stack, tally, faults, jobs, seed, time.monotonic() - started)
    finally:
        stack.close()


def _rest(threads: Sequence[threading.Thread], seconds: float, stack: Stack) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(t.is_alive() for t in threads):
        stack.watch_memory()
        time.sleep(0.1)


def _report(stack: Stack, tally: Tally, faults: Faults, jobs: int, seed: int, seconds: float) -> dict:
    with closing(stack.client()) as client:
        totals = {k: int(v) for k, v in client.hgetall("reacquire:totals").items()}
        left = {name: client.zcard(f"reacquire:{name}") for name in ("queued", "running")}
    ids = list(tally.ids.values())
    outputs = [len(list((stack.blobs / "jobs" / job / "out").iterdir())) for job in ids if job]
    return {
        "jobs": jobs,
        "seed": seed,
        "seconds": round(seconds, 1),
        "faults": faults.counts,
        "ends": dict(tally.ends),
        "lost": jobs - tally.ends["succeeded"] - tally.ends["failed"],
        "duplicated": len(ids) - len(set(ids)) + sum(n != 1 for n in outputs) + sum(totals.values()) - jobs,
        "wrong": len(tally.wrong),
        "left_behind": left,
        "takeover_s_max": round(max(faults.takeovers, default=0.0), 1),
        "exit_statuses": faults.exits,
        "refused_503": tally.refused_503,
        "refused_without_retry_after": tally.without_retry_after,
        "api_peak_mb": round(stack.peak_api_mb),
        "blob_store_filled": stack.mounted,
    }


def passed(report: dict) -> bool:
    """Nothing lost, doubled, wrong or left; everything took over in time; orderly stops said 0."""
    return (
        report["ends"] == {"succeeded": report["jobs"]}
        and report["lost"] == report["duplicated"] == report["wrong"] == 0
        and not any(report["left_behind"].values())
        and report["takeover_s_max"] < TAKEOVER_S
        and report["refused_without_retry_after"] == 0
        and all(status == 0 for exits in report["exit_statuses"] for status in exits.values())
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause-s", type=float, default=6.0, help="mean time between two faults")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="rq-faults-") as folder:
        report = run(options.jobs, options.seed, Path(folder), pause_s=options.pause_s)
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 0 if passed(report) else 1


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.fuzz.run --count 20000 --seed N [--processes P]``: damaged slices by the thousand, and a table.

Every file is a function of the seed and its number, so that a finding can be run again with ``--only NUMBER``.
Exit status 1 when an invariant broke: only named refusals, no 5xx, nothing over ten seconds, memory below 1 GB, and no
process that dies.
"""

import argparse
import json
import logging
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import structlog

from reacquire.dicom.guard import GUARD

from .harness import http_client, judge
from .mutate import mutant
from .seeds import REAL, seeds

MEMORY_LIMIT_MIB = 1024


def run(first: int, stop: int, *, seed: int, real: bool = True, budget_s: float = float("inf")) -> dict:
    """Judge the files ``first`` to ``stop``; what happened, in numbers."""
    corpus = seeds(real=real)
    codes: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    kinds: Counter[str] = Counter()
    faults, slowest, done = [], 0.0, 0
    began = time.monotonic()
    with http_client() as client:
        for number in range(first, stop):
            if time.monotonic() - began > budget_s:
                break
            rng = Random(f"{seed}/{number}")
            names, data = mutant(rng, corpus)
            verdict = judge(client, data, allow_synthetic=rng.random() < 0.1)
            done += 1
            codes[verdict.code] += 1
            statuses[verdict.status] += 1
            kinds.update(names.split("+"))
            slowest = max(slowest, verdict.seconds)
            if verdict.fault:
                faults.append({"number": number, "mutators": names, "fault": verdict.fault})
    GUARD.close()  # its memory counts once it has ended
    return {
        "files": done, "codes": codes, "statuses": statuses, "mutators": kinds, "faults": faults,
        "slowest_s": slowest, "memory_mib": peak_mib(), "real": real and REAL.is_dir(),
    }  # fmt: skip


def peak_mib() -> float:
    """The largest resident set of this process or of a child that has ended."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(w).ru_maxrss for w in who) / 1024


def spread(count: int, processes: int, seed: int, *, real: bool) -> dict:
    """``run`` in processes of their own, so that a death is seen; their figures added up."""
    share = -(-count // processes)
    spans = [(a, min(count, a + share)) for a in range(0, count, share)]
    base = [sys.executable, "-m", "tests.fuzz.run", "--seed", str(seed), "--json"] + ([] if real else ["--built-only"])
    root = Path(__file__).resolve().parents[2]
    children = [
        subprocess.Popen([*base, "--first", str(a), "--count", str(b - a)], stdout=subprocess.PIPE, cwd=root)
        for a, b in spans
    ]
    total: dict = {"files": 0, "faults": [], "slowest_s": 0.0, "memory_mib": 0.0, "real": False}
    sums = {name: Counter() for name in ("codes", "statuses", "mutators")}
    for child in children:
        out, _ = child.communicate()
        if child.returncode not in (0, 1):
            total["faults"].append({"number": -1, "mutators": "", "fault": f"a process ended with {child.returncode}"})
            continue
        part = json.loads(out)
        total["files"] += part["files"]
        total["faults"] += part["faults"]
        total["real"] |= part["real"]
        for name in ("slowest_s", "memory_mib"):
            total[name] = max(total[name], part[name])
        for name, sum_ in sums.items():
            sum_.update(part[name])
    return total | sums


def table(result: dict, seconds: float) -> str:
    """The result for people."""
    lines = [f"{result['files']} damaged files ({'real slices among them' if result['real'] else 'built ones only'})"]
    lines += [f"  {seconds:.0f} s in all; slowest file {result['slowest_s']:.2f} s"]
    lines += [f"  largest process {result['memory_mib']:.0f} MiB (limit {MEMORY_LIMIT_MIB})"]
    lines += ["  HTTP: " + ", ".join(f"{status} x {n}" for status, n in sorted(result["statuses"].items()))]
    lines += [f"  {n:7d}  {code}" for code, n in sorted(result["codes"].items(), key=lambda kv: -kv[1])]
    lines += [f"invariants broken: {len(result['faults'])}"]
    lines += [f"  #{f['number']} {f['mutators']}\n    {f['fault']}" for f in result["faults"][:20]]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--first", type=int, help="run in this process, from this number on")
    parser.add_argument("--only", type=int, help="run one file in this process")
    parser.add_argument("--built-only", action="store_true", help="do without the real slices")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # a line per request
    began = time.monotonic()
    real = not options.built_only
    if options.only is not None:
        result = run(options.only, options.only + 1, seed=options.seed, real=real)
    elif options.first is not None:
        result = run(options.first, options.first + options.count, seed=options.seed, real=real)
    else:
        result = spread(options.count, options.processes, options.seed, real=real)
    if result["memory_mib"] > MEMORY_LIMIT_MIB:
        result["faults"].append({"number": -1, "mutators": "", "fault": f"{result['memory_mib']:.0f} MiB"})
    sys.stdout.write((json.dumps(result) if options.json else table(result, time.monotonic() - began)) + "\n")
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m release.supply_chain sboms | report``: bills of materials, licences, known vulnerabilities of the locks.

``sboms`` writes ``release/sbom`` (CycloneDX, by cyclonedx-py), which the images carry. ``report`` checks the licences,
asks the vulnerability service about every pin (pip-audit), and writes all of it to ``out/supply-chain``. Status 1: a
licence or a vulnerability; 3: the service could not be asked, so nothing is known.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from release.licences import Policy, licence_of, refused
from release.locks import LOCKS, Lock, torch_version
from release.requirements import ROOT, normalised

SBOMS = ROOT / "release" / "sbom"
OUT = ROOT / "out" / "supply-chain"
VULNERABLE, UNKNOWN = 1, 3


def sbom_path(lock: Lock) -> Path:
    return SBOMS / f"{lock.name}.cdx.json"


def sbom(lock: Lock, tools: Path) -> dict[str, Any]:
    """The bill of a lock, torch added and each component with its licence; hashes stay in the lock."""
    with_torch = lock.path.read_text(encoding="utf-8") + (f"torch=={torch_version()}\n" if lock.torch != "none" else "")
    command = ["requirements", "--output-reproducible", "--pyproject", "pyproject.toml", "--short-PURLs", "-"]
    made = subprocess.run(
        [tools / "cyclonedx-py", *command], input=with_torch, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    document: dict[str, Any] = json.loads(made.stdout)
    policy = Policy.load()
    for component in document["components"]:
        licence = licence_of(normalised(component["name"]), policy)
        component["licenses"] = [{"expression": licence}]
        for lengthy in ("externalReferences", "description"):
            component.pop(lengthy, None)
    return document


def write_sboms(tools: Path, names: Sequence[str] = ()) -> None:
    """One file per lock, or per lock of those names."""
    SBOMS.mkdir(exist_ok=True)
    for lock in [lock for lock in LOCKS if lock.name in names or not names]:
        text = json.dumps(sbom(lock, tools), indent=1, ensure_ascii=False)
        sbom_path(lock).write_text(text + "\n", encoding="utf-8")


def audit(lock: Lock, tools: Path) -> tuple[int, list[str], dict[str, Any]]:
    """(packages that could be asked about, what is known against them, pip-audit's own answer)."""
    listed = "".join(f"{name}=={version}\n" for name, version in lock.packages().items())
    options = ["--disable-pip", "--no-deps", "--format", "json", "--progress-spinner", "off", "-r", "/dev/stdin"]
    asked = subprocess.run([tools / "pip-audit", *options], input=listed, capture_output=True, text=True, cwd=ROOT)
    try:
        answer: dict[str, Any] = json.loads(asked.stdout)
    except ValueError:
        return 0, [], {"error": asked.stderr.strip().splitlines()[-1:]}
    known = [d for d in answer["dependencies"] if "skip_reason" not in d]
    against = [f"{d['name']} {d['version']}: {v['id']}" for d in known for v in d["vulns"]]
    return len(known), against, answer


def report(tools: Path) -> int:
    """Write ``out/supply-chain`` and say what was found; the exit status."""
    OUT.mkdir(parents=True, exist_ok=True)
    policy, status, asked, wanted = Policy.load(), 0, 0, 0
    for lock in LOCKS:
        packages = lock.packages()
        shutil.copy(sbom_path(lock), OUT)
        table = {name: {"version": v, "licence": licence_of(name, policy)} for name, v in sorted(packages.items())}
        (OUT / f"{lock.name}.licences.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        bad = refused(packages, policy)
        known, against, answer = audit(lock, tools)
        (OUT / f"{lock.name}.audit.json").write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
        asked, wanted = asked + known, wanted + len(packages)
        sys.stdout.write(
            f"{lock.name}: {len(packages)} packages, licences refused: {bad or 'none'}, "
            f"asked about {known}, known vulnerabilities: {against or ('none' if known else 'unknown')}\n"
        )
        status = VULNERABLE if bad or against else status
    if asked < wanted:
        sys.stdout.write(
            f"the vulnerability service (pypi.org/pypi/NAME/VERSION/json) answered for {asked} of {wanted} pins: "
            "run this where it can be reached before you release\n"
        )
    return status or (UNKNOWN if asked < wanted else 0)


def main(arguments: Sequence[str]) -> int:
    """``sboms`` or ``report``, and the folder of pip-audit and cyclonedx-py."""
    what, tools = arguments[0], Path(arguments[1]).absolute()
    if what == "sboms":
        write_sboms(tools, arguments[2:])
        return 0
    return report(tools)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

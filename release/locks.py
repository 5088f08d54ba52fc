"""``python -m release.locks``: one lock with hashes per image, made from pyproject.toml and constraints.txt by uv.

torch is pinned in constraints.txt and left out of the locks: its builds for CPU and CUDA are different files under one
version, and a site may have its own.
"""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from release.requirements import ROOT, pins, requirements

FOLDER = ROOT / "release" / "locks"
PLATFORM = "x86_64-manylinux_2_28"
TORCH_ALONE = ("cuda-", "nvidia-", "triton")  # what only the CUDA build of torch needs


@dataclass(frozen=True)
class Lock:
    """One set of packages: the extras it is for, and the build of torch beside it, if any."""

    name: str
    extras: tuple[str, ...]
    torch: Literal["none", "cpu", "cuda"]

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.txt"

    def packages(self) -> dict[str, str]:
        """Name -> version, torch included where the image has it."""
        found = pins(self.path.read_text(encoding="utf-8"))
        return found if self.torch == "none" else found | {"torch": torch_version()}


LOCKS = (
    Lock("service", ("service",), "none"),
    Lock("gateway", ("gateway",), "none"),
    Lock("worker", ("worker",), "cuda"),
    Lock("worker-cpu", ("worker",), "cpu"),
    Lock("training", ("training", "tracking"), "cuda"),
    Lock("embedded", ("embedded",), "cpu"),  # the archive for sites without internet
)


def torch_version() -> str:
    return pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))["torch"]


def compile_lock(lock: Lock, uv: str) -> None:
    """Write the lock; pins that it has already stay unless constraints.txt moves them."""
    wanted = requirements((ROOT / "pyproject.toml").read_text(encoding="utf-8"), lock.extras)
    left_out = ["torch"]
    if lock.torch != "cuda" and lock.path.is_file():
        left_out += [name for name in pins(lock.path.read_text(encoding="utf-8")) if name.startswith(TORCH_ALONE)]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "requirements.in"
        source.write_text("\n".join(wanted) + "\n", encoding="utf-8")
        command = [
            *(uv, "pip", "compile", "--quiet", "--generate-hashes", "--no-annotate", "--python-version", "3.11"),
            *("--python-platform", PLATFORM, "--constraint", "constraints.txt", "--output-file", str(lock.path)),
            *("--custom-compile-command", "make lock", *(a for name in left_out for a in ("--no-emit-package", name))),
        ]
        subprocess.run([*command, str(source)], check=True, cwd=ROOT)
    if lock.torch != "cuda" and len(left_out) == 1 and any(n.startswith(TORCH_ALONE) for n in lock.packages()):
        compile_lock(lock, uv)  # the index knows the CUDA build of torch alone: once more without what only that needs


def main() -> int:
    """Compile every lock, or those named, with the uv that the command line begins with."""
    uv, *names = sys.argv[1:] or ["uv"]
    FOLDER.mkdir(parents=True, exist_ok=True)
    for lock in [lock for lock in LOCKS if lock.name in names or not names]:
        compile_lock(lock, uv)
        sys.stdout.write(f"{lock.path.relative_to(ROOT)}: {len(lock.packages())} packages\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

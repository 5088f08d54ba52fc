"""``python -m release.airgap [--images FOLDER] [options of pip for torch]``: one archive for sites without internet.

It holds what the commit holds, never what else lies in the working tree; wheels are those of the locks by their hashes.
``out/airgap/wheels`` keeps what was downloaded, so that a second packing fetches nothing.
"""

import argparse
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import helm_python as helm

from reacquire import __version__
from reacquire.bundles.manifest import file_sha256
from release.locks import LOCKS, TORCH_ALONE, Lock, torch_version
from release.requirements import ROOT, pins

OUT = ROOT / "out" / "airgap"
NAME = f"reacquire-{__version__}"
ROLES = tuple(lock for lock in LOCKS if lock.name != "worker")  # its twin worker-cpu has the archive's build of torch
TREES = {"bundles": "bundles", "docs": "docs", "release/sbom": "sbom"}
FILES = {
    "release/install.sh": "install.sh",
    "helm/reacquire/files/main_job.py": "examples/main_job.py",
    "helm/reacquire/files/slice.dcm": "examples/slice.dcm",
    **{name: name for name in ("README.md", "CHANGELOG.md", "LICENSE")},
}
SUMS = "SHA256SUMS"


def entries(lock: str) -> dict[str, str]:
    """Package -> its lines of a lock, without those that only the CUDA build of torch needs."""
    found = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]
    named = {next(iter(pins(entry))): entry for entry in found}
    return {name: entry for name, entry in named.items() if not name.startswith(TORCH_ALONE)}


def hashes(entry: str) -> set[str]:
    return set(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))


def exact(wheel: Path) -> str:
    """The requirement that nothing but this file meets."""
    name, version = wheel.name.split("-")[:2]
    return f"{name}=={version} --hash=sha256:{file_sha256(wheel)}\n"


def role_requirements(lock: Lock, own: Path, torch: Path) -> str:
    """What ``pip install --require-hashes -r`` reads for one role: its lock, ourselves, and torch where it has it."""
    locked = "".join(entries(lock.path.read_text(encoding="utf-8")).values())
    return locked + exact(own) + (exact(torch) if lock.torch != "none" else "")


def locked_wheels(folder: Path) -> list[Path]:
    """The wheels of every role below ``folder``, downloaded where they are not there yet.

    Raises
    ------
    subprocess.CalledProcessError
        When pip finds no wheel with a hash of the lock; it has said which.
    """
    wanted: dict[str, str] = {}
    for lock in ROLES:
        wanted |= entries(lock.path.read_text(encoding="utf-8"))
    have = {file_sha256(wheel) for wheel in folder.glob("*.whl")}
    lacking = [entry for entry in wanted.values() if not hashes(entry) & have]
    if lacking:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
            listed.write("".join(lacking))
            listed.flush()
            _download(folder, "--require-hashes", "-r", listed.name)
    allowed = set().union(*map(hashes, wanted.values()))
    return sorted(wheel for wheel in folder.glob("*.whl") if file_sha256(wheel) in allowed)


def torch_wheel(folder: Path, options: Sequence[str]) -> Path:
    """The CPU build of torch; SystemExit for another, whose libraries the archive does not have."""
    if not list(folder.glob(f"torch-{torch_version()}*.whl")):
        _download(folder, *options, f"torch=={torch_version()}")
    (wheel,) = folder.glob(f"torch-{torch_version()}*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        needs = re.findall(r"^Requires-Dist: (\S+)", archive.read(metadata).decode(), flags=re.MULTILINE)
    if any(name.startswith(TORCH_ALONE) for name in needs):
        remedy = 'remove it and name an index of CPU builds: TORCH_ARGS="--index-url https://..."'
        raise SystemExit(f"{wheel} is a build for CUDA, which needs libraries that the archive does not have; {remedy}")
    return wheel


def _download(folder: Path, *what: str) -> None:
    _pip("download", "--only-binary=:all:", "--no-deps", "--dest", str(folder), *what)


def _pip(*arguments: str, **variables: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "-q", *arguments], check=True, env=os.environ | variables)


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout


def plan(source: Path, made: Path, wheels: Sequence[Path], images: Sequence[Path]) -> dict[str, Path]:
    """Name in the archive -> file: from the commit in ``source``, from what was ``made`` of it, wheels and images."""
    found = {name: source / path for path, name in FILES.items()}
    for tree, name in TREES.items():
        found |= {f"{name}/{path.relative_to(source / tree)}": path for path in _files(source / tree)}
    found |= {str(path.relative_to(made)): path for path in _files(made)}
    found |= {f"wheels/{path.name}": path for path in wheels}
    found |= {f"images/{path.name}": path for path in images}
    return dict(sorted(found.items()))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def pack(planned: Mapping[str, Path], archive: Path, mtime: int) -> None:
    """Write SHA256SUMS and everything planned below one folder; the bytes depend on content and ``mtime`` alone.

    Raises
    ------
    FileExistsError
        An archive that is there may be out in the world: it is never replaced.
    """
    if archive.exists():
        raise FileExistsError(f"{archive} is there already; remove it or raise the version")
    sums = "".join(f"{file_sha256(path)}  {name}\n" for name, path in planned.items()).encode()
    part = archive.with_suffix(".part")
    with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, size in [(SUMS, len(sums)), *((name, path.stat().st_size) for name, path in planned.items())]:
            member = tarfile.TarInfo(f"{archive.stem}/{name}")  # owner root, mode 0644
            member.size, member.mtime = size, mtime
            with io.BytesIO(sums) if name == SUMS else planned[name].open("rb") as content:
                tar.addfile(member, content)
    part.rename(archive)


def make(archive: Path, images: Sequence[Path], torch_options: Sequence[str]) -> None:
    """Gather and pack."""
    wheels = OUT / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    mtime = int(_git("log", "-1", "--format=%ct"))
    with tempfile.TemporaryDirectory(dir=OUT) as folder:
        source, made, own = (Path(folder) / name for name in ("source", "made", "own"))
        with tarfile.open(fileobj=io.BytesIO(_git("archive", "HEAD"))) as tar:
            tar.extractall(source, filter="data")
        arguments = ("--no-deps", "--no-build-isolation", "--wheel-dir", str(own), str(source))
        _pip("wheel", *arguments, SOURCE_DATE_EPOCH=str(mtime))
        (ours,), torch = own.glob("*.whl"), torch_wheel(wheels, torch_options)
        (made / "requirements").mkdir(parents=True)
        for lock in ROLES:
            text = role_requirements(lock, ours, torch)
            (made / "requirements" / f"{lock.name}.txt").write_text(text, encoding="utf-8")
        (made / "chart").mkdir()
        helm.package(source / "helm" / "reacquire", destination=made / "chart")
        (made / "COMMIT").write_bytes(_git("rev-parse", "HEAD"))
        pack(plan(source, made, [*locked_wheels(wheels), torch, ours], images), archive, mtime)


def main() -> int:
    """Write ``out/airgap/reacquire-VERSION.tar`` and its sum beside it, which is carried another way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, default=ROOT / "out" / "images", help="folder of image archives (*.tar)")
    arguments, torch_options = parser.parse_known_args()
    archive = OUT / f"{NAME}.tar"
    if archive.exists():
        sys.exit(f"{archive} is there already; remove it or raise the version")
    images = sorted(arguments.images.glob("*.tar"))
    make(archive, images, torch_options)
    total = f"{file_sha256(archive)}  {archive.name}\n"
    archive.with_suffix(".tar.sha256").write_text(total, encoding="utf-8")
    held = f"{len(images)} images" if images else f"no images: there is no *.tar in {arguments.images}"
    sys.stdout.write(f"{archive}: {archive.stat().st_size / 1e6:.0f} MB, {held}\n{total}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What goes into the archive for sites without internet, and what its install.sh refuses."""

import hashlib
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from release.airgap import FILES, ROLES, TREES, entries, exact, hashes, pack, plan, role_requirements, torch_wheel
from release.locks import LOCKS, TORCH_ALONE, Lock, torch_version
from release.requirements import ROOT, pins

LOCK = f"""# by uv
numpy==2.0 \\
    --hash=sha256:{"a" * 64}
nvidia-cublas==1 \\
    --hash=sha256:{"b" * 64}
"""


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / f"torch-{torch_version()}+cpu-cp311-cp311-linux_x86_64.whl"
    _write_metadata(path, "Requires-Dist: sympy>=1\n")
    return path


def _write_metadata(wheel: Path, text: str) -> None:
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("torch.dist-info/METADATA", f"Name: torch\n{text}")


def _archive(folder: Path, **files: str) -> Path:
    planned = {"install.sh": ROOT / "release" / "install.sh"}
    for name, text in files.items():
        planned[f"requirements/{name}.txt"] = folder / name
        (folder / name).write_text(text, encoding="utf-8")
    pack(planned, folder / "it-1.tar", mtime=1)
    return folder / "it-1.tar"


def _install(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["sh", str(folder / "it-1" / "install.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "PYTHON": "false"})


def test_entries_leave_out_what_only_cuda_needs() -> None:
    assert list(entries(LOCK)) == ["numpy"]
    assert hashes(entries(LOCK)["numpy"]) == {"a" * 64}


@pytest.mark.parametrize("role", ROLES, ids=lambda lock: lock.name)
def test_a_role_is_its_lock_ourselves_and_the_torch_of_the_archive(role: Lock, wheel: Path) -> None:
    own = wheel.with_name("reacquire-1.0-py3-none-any.whl")
    own.touch()
    text = role_requirements(role, own, wheel)
    wanted = {name: version for name, version in role.packages().items() if not name.startswith(TORCH_ALONE)}
    ours = {"reacquire": "1.0"} | ({"torch": f"{torch_version()}+cpu"} if role.torch != "none" else {})
    assert pins(text) == wanted | ours
    assert text.count("==") == sum("--hash" in entry for entry in entries(text).values())


def test_every_lock_but_the_gpu_workers_is_a_role_that_install_knows() -> None:
    assert {lock.name for lock in LOCKS} - {lock.name for lock in ROLES} == {"worker"}
    usage = (ROOT / "release" / "install.sh").read_text(encoding="utf-8")
    assert all(lock.name in usage for lock in ROLES)


def test_a_requirement_names_one_file(wheel: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert exact(wheel) == f"torch=={torch_version()}+cpu --hash=sha256:{digest}\n"


def test_the_cuda_build_of_torch_is_refused(wheel: Path) -> None:
    assert torch_wheel(wheel.parent, ()) == wheel
    _write_metadata(wheel, "Requires-Dist: nvidia-cublas==13\n")
    with pytest.raises(SystemExit, match="TORCH_ARGS"):
        torch_wheel(wheel.parent, ())


def test_the_plan_has_everything_that_an_installation_needs(tmp_path: Path) -> None:
    (tmp_path / "chart").mkdir()
    (tmp_path / "chart" / "reacquire-1.tgz").touch()
    found = plan(ROOT, tmp_path, [Path("/x/a-1-py3-none-any.whl")], [Path("/y/service.tar")])
    made = {"chart/reacquire-1.tgz", "wheels/a-1-py3-none-any.whl", "images/service.tar"}
    assert {"bundles/phantom-v1/manifest.json", "docs/operations.md", "sbom/embedded.cdx.json"} <= set(found)
    trees = {name for name in found if name.startswith(tuple(TREES.values()))}
    assert set(found) == made | set(FILES.values()) | trees
    assert list(found) == sorted(found)


def test_every_file_of_the_archive_has_its_sum_and_the_bytes_repeat(tmp_path: Path) -> None:
    archive = _archive(tmp_path, service="a==1\n")
    before = archive.read_bytes()
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    listed = dict(reversed(line.split("  ")) for line in (tmp_path / "it-1" / "SHA256SUMS").read_text().splitlines())
    held = {str(p.relative_to(tmp_path / "it-1")): p for p in (tmp_path / "it-1").rglob("*") if p.is_file()}
    held.pop("SHA256SUMS")
    assert listed == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in held.items()}
    archive.unlink()
    assert _archive(tmp_path, service="a==1\n").read_bytes() == before


def test_an_archive_is_never_replaced(tmp_path: Path) -> None:
    archive = _archive(tmp_path)
    before = archive.read_bytes()
    with pytest.raises(FileExistsError, match="raise the version"):
        _archive(tmp_path, more="")
    assert archive.read_bytes() == before


def test_install_touches_nothing_when_a_byte_is_wrong(tmp_path: Path) -> None:
    with tarfile.open(_archive(tmp_path, embedded="a==1\n")) as tar:
        tar.extractall(tmp_path, filter="data")
    (tmp_path / "it-1" / "requirements" / "embedded.txt").write_text("a==2\n")
    refused = _install(tmp_path, str(tmp_path / "new"))
    assert refused.returncode == 1 and "damaged" in refused.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "why"), [((), "usage"), (("new", "janitor"), "no such role"), (("it-1",), "there already")]
)
def test_install_refuses_what_it_cannot_do(tmp_path: Path, arguments: tuple[str, ...], why: str) -> None:
    with tarfile.open(_archive(tmp_path, embedded="a==1\n")) as tar:
        tar.extractall(tmp_path, filter="data")
    folder = [str(tmp_path / name) for name in arguments[:1]]
    refused = _install(tmp_path, *folder, *arguments[1:])
    assert refused.returncode == 2 and why in refused.stderr

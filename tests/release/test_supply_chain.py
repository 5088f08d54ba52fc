"""Locks, licences and bills of materials agree with each other and with constraints.txt."""

import json
import re

import pytest

from release.licences import Policy, licence_of, refused
from release.locks import LOCKS, TORCH_ALONE, Lock
from release.requirements import ROOT, normalised, pins, requirements
from release.supply_chain import sbom_path

CONSTRAINTS = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
POLICY = Policy.load()
GPL = re.compile(r"GPL", re.IGNORECASE)


@pytest.fixture(params=LOCKS, ids=[lock.name for lock in LOCKS])
def lock(request: pytest.FixtureRequest) -> Lock:
    return request.param


def test_lock_and_constraints_agree(lock: Lock) -> None:
    for name, version in lock.packages().items():
        if not name.startswith(TORCH_ALONE):
            assert CONSTRAINTS.get(name) == version, name


def test_every_package_of_the_extra_is_locked(lock: Lock) -> None:
    wanted = {normalised(re.split(r"[\[<>=]", r)[0]) for r in requirements(PYPROJECT, lock.extras)}
    assert wanted <= set(lock.packages())


def test_every_pin_has_a_hash_and_torch_is_not_in_the_lock(lock: Lock) -> None:
    text = lock.path.read_text(encoding="utf-8")
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pins(text))
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "torch" not in pins(text)


def test_libraries_of_cuda_are_where_they_are_used(lock: Lock) -> None:
    assert any(name.startswith(TORCH_ALONE) for name in lock.packages()) is (lock.torch == "cuda")


def test_every_licence_is_allowed(lock: Lock) -> None:
    assert refused(lock.packages(), POLICY) == {}


def test_nothing_is_under_the_gpl(lock: Lock) -> None:
    assert not [name for name in lock.packages() if GPL.search(licence_of(name, POLICY))]


def test_the_policy_lets_no_gpl_in() -> None:
    assert not [licence for licence in POLICY.allowed if GPL.search(licence)]
    assert not POLICY.permits("some-package", "GPL-3.0-only")
    assert not POLICY.permits("some-package", "MIT AND LGPL-2.1-or-later")
    assert POLICY.permits("some-package", "MIT OR GPL-2.0-only")
    assert all(reason for _, _, reason in POLICY.exceptions)


def test_the_bill_names_what_the_lock_holds(lock: Lock) -> None:
    document = json.loads(sbom_path(lock).read_text(encoding="utf-8"))
    assert document["bomFormat"] == "CycloneDX"
    listed = {normalised(c["name"]): c["version"] for c in document["components"]}
    assert listed == lock.packages()
    assert all(c["licenses"] for c in document["components"])

"""Under which licence each package of the locks is, and whether ``licences.toml`` lets it in.

Read from the metadata of what is installed here; the few that are not (CUDA's libraries) are stated in the table. The
base system of an image is Debian's and not looked at here, nor are libraries inside a wheel that its metadata hides.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

from release.requirements import ROOT

TABLE = ROOT / "release" / "licences.toml"


@dataclass(frozen=True)
class Policy:
    """The table: allowed SPDX identifiers, spellings, statements, and (pattern, licence, reason) of the exceptions."""

    allowed: frozenset[str]
    spelled: Mapping[str, str]
    stated: Mapping[str, str]
    exceptions: tuple[tuple[str, str, str], ...]

    @classmethod
    def load(cls) -> "Policy":
        table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
        exceptions = [(p, e["licence"], e["reason"]) for e in table["exceptions"] for p in e["packages"]]
        return cls(frozenset(table["allowed"]), table["spelled"], table["stated"], tuple(exceptions))

    def exception(self, package: str) -> tuple[str, str] | None:
        """(licence, reason) of the exception that a package has."""
        found = [(licence, reason) for pattern, licence, reason in self.exceptions if fnmatch(package, pattern)]
        return found[0] if found else None

    def spdx(self, text: str) -> str:
        """A licence's text with every part spelled as SPDX does."""
        parts = [self.spelled.get(part.strip(), part.strip()) for part in re.split(r";| AND ", text)]
        return " AND ".join(parts)

    def permits(self, package: str, licence: str) -> bool:
        """Whether each part of the licence, or one of its alternatives, is allowed, or the package is an exception."""
        if all(set(part.split(" OR ")) & self.allowed for part in licence.split(" AND ")):
            return True
        found = self.exception(package)
        return found is not None and found[0] == licence


def licence_of(package: str, policy: Policy) -> str:
    """The licence of a package: stated, or read from its installed metadata, or that of its exception."""
    if package in policy.stated:
        return policy.stated[package]
    try:
        found: Any = metadata(package)
    except PackageNotFoundError:
        exception = policy.exception(package)
        return exception[0] if exception else "unknown"
    classifiers = [c.rsplit(" :: ", 1)[1] for c in found.get_all("Classifier", []) if c.startswith("License :: OSI")]
    first_line = (found.get("License") or "unknown").strip().splitlines()[0]
    return policy.spdx(found.get("License-Expression") or "; ".join(classifiers) or first_line)


def refused(packages: Mapping[str, str], policy: Policy) -> dict[str, str]:
    """Name -> licence of every package that the policy does not let in."""
    found = {name: licence_of(name, policy) for name in packages}
    return {name: licence for name, licence in found.items() if not policy.permits(name, licence)}

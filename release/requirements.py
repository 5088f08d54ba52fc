"""Which packages an image or an installation needs: read from pyproject.toml, so that there is no second list.

References of one extra to another (``reacquire[codecs]``) are followed.
"""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def requirements(pyproject: str, extras: Sequence[str]) -> list[str]:
    """The requirements of the project and of ``extras``, sorted.

    Raises
    ------
    KeyError
        For an extra that the project does not have.
    """
    project = tomllib.loads(pyproject)["project"]
    own = re.compile(re.escape(project["name"]) + r"\[([^\]]+)\]")
    found = set(project["dependencies"])
    waiting = list(extras)
    while waiting:
        for requirement in project["optional-dependencies"][waiting.pop()]:
            reference = own.fullmatch(requirement)
            if reference:
                waiting += [extra.strip() for extra in reference[1].split(",")]
            else:
                found.add(requirement)
    return sorted(found)


def normalised(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Name -> version of every ``name==version`` at the beginning of a line; extras in brackets are left out."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", text, flags=re.MULTILINE)
    return {normalised(name): version for name, version in found}

"""``python requirements.py pyproject.toml EXTRA...``: what the extras need, one requirement per line.

The images install dependencies before any source is there, so pip can't be asked for ``.[extra]``; this reads the same
table instead of keeping a second list. References of one extra to another (``reacquire[codecs]``) are followed.
"""

import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path


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


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    sys.stdout.write("\n".join(requirements(text, sys.argv[2:])) + "\n")

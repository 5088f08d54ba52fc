"""Whether a trail is as it was written: each line of each file, and from file to file.

What nobody can see from the files alone is that all files of one process were taken together; who must exclude that
keeps the folder on storage that does not delete, or ships the lines elsewhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reacquire.trail.chain import CLOSE, GENESIS, NAME, TURN, digest, files_of, parsed


@dataclass(frozen=True)
class Broken:
    """Where a chain does not hold: 1-based line of a file, and what is wrong with it."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True)
class Checked:
    """One file: the digests that its first line names and its last line has, how it ended, what is broken.

    ``end`` is "close", "turn" (another file must follow), or "" for a file that was not ended.
    """

    first: str
    last: str
    end: str
    broken: tuple[Broken, ...]


def check_file(path: Path, before: str | None = None) -> Checked:
    """Check one file; ``before`` is the digest that its first line must name (None: whatever it names)."""
    broken: list[Broken] = []
    first, last, end = GENESIS, before, ""
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        fields = parsed(line)
        named = fields.get("before")
        if number == 1:
            first = str(named)
        if named is None or "action" not in fields:
            broken.append(Broken(path.name, number, "not an event"))
        elif last is not None and named != last:
            broken.append(Broken(path.name, number, "a line before this one was altered, removed or inserted"))
        if end:
            broken.append(Broken(path.name, number, "a line after the end"))
        if not line.endswith(b"\n"):
            broken.append(Broken(path.name, number, "cut short"))
        action = fields.get("action", "")
        last, end = digest(line), action if action in (CLOSE, TURN) else ""
    return Checked(first, last or GENESIS, end, tuple(broken))


def _pruned(folder: Path) -> set[tuple[str, str]]:
    """(chain, last digest) of every file that retention has put on record as removed."""
    found = set()
    for path in files_of(folder):
        for line in path.read_bytes().splitlines():
            fields = parsed(line)
            name = NAME.fullmatch(str(fields.get("file", "")))
            if fields.get("action") == "prune" and name:
                found.add((name.group(3), str(fields.get("last"))))
    return found


def verify_folder(folder: Path) -> Iterator[tuple[Path, bool, list[Broken]]]:
    """Every file of a trail in order of day and process: the file, whether it was ended in order, what is broken.

    A file that was not ended is one of a running process or of one that was killed; both are reported, not condemned.
    A chain that begins in the middle is sound only when a checkpoint tells that retention took what was before.
    """
    pruned, paths = _pruned(folder), files_of(folder)
    heads: dict[str, str] = {}
    checked: list[tuple[Path, str, Checked]] = []
    for path in paths:
        own = _chain(path)
        found = check_file(path, heads.get(own))
        heads[own] = found.last
        checked.append((path, own, found))
    seen: set[str] = set()
    for index, (path, own, found) in enumerate(checked):
        broken = list(found.broken)
        if own not in seen and found.first != GENESIS and (own, found.first) not in pruned:
            broken.append(Broken(path.name, 1, "the file before this one is gone, and retention did not take it"))
        if found.end == TURN and own not in {o for _, o, _ in checked[index + 1 :]}:
            broken.append(Broken(path.name, 1, "the file after this one is gone"))
        seen.add(own)
        yield path, bool(found.end), broken


def _chain(path: Path) -> str:
    name = NAME.fullmatch(path.name)
    assert name is not None, "files_of lets no others through"
    return name.group(3)

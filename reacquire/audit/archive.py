"""The series of an archive on disk: a folder with everything below it, or a zip. Nothing in it can stop an audit.

Files are grouped by their SeriesInstanceUID and read again when their turn comes, so that memory holds one series.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from reacquire.dicom import Limits, inspect, unpack
from reacquire.dicom.container import is_part10, is_zip
from reacquire.errors import ContainerError, ReacquireError

HEAD_BYTES = 132  # preamble and prefix (PS3.10 section 7.1)
UNREADABLE = "unreadable-file"


@dataclass(frozen=True)
class FoundSeries:
    """One series: ``load`` gives the bytes of its files. UID and place identify a patient and are never printed."""

    uid: str = field(repr=False)
    load: Callable[[], list[bytes]] = field(repr=False)
    where: str = field(default="", repr=False)


@dataclass(frozen=True)
class Scan:
    """The series of an archive, and how many files are none of them, by error code."""

    series: tuple[FoundSeries, ...]
    files: int
    left_out: Mapping[str, int]


Place = tuple[Path, int]  # a file, and which of the slices in it: of a zip, or of an Enhanced multi-frame image


def scan_path(
    root: Path,
    *,
    allow_synthetic: bool = False,
    limits: Limits | None = None,
    on_file: Callable[[int], None] = lambda _: None,
) -> Scan:
    """Look at every file below ``root`` (or at the one file that it is) without decoding pixels.

    Parameters
    ----------
    on_file : told the number of files looked at so far
    """
    limits = limits or Limits()
    groups: dict[str, list[Place]] = {}
    left_out: Counter[str] = Counter()
    count = 0
    for path in _files(root):
        for place, read in _slices(path, limits):
            count += 1
            try:
                uid = inspect(read(), allow_synthetic=allow_synthetic, limits=limits).series_key
                groups.setdefault(uid, []).append(place)
            except ReacquireError as error:
                left_out[error.code] += 1
            except OSError:
                left_out[UNREADABLE] += 1
            on_file(count)
    series = (
        FoundSeries(uid, _loader(places, limits), str(places[0][0].relative_to(root) if root.is_dir() else root.name))
        for uid, places in groups.items()
    )
    return Scan(tuple(series), count, dict(left_out))


def _files(root: Path) -> Iterator[Path]:
    """Regular files in a stable order; links to folders are not followed (they may lead round in circles)."""
    if not root.is_dir():
        yield root
        return
    for folder, folders, names in os.walk(root):
        folders.sort()
        yield from (path for name in sorted(names) if (path := Path(folder, name)).is_file())


def _slices(path: Path, limits: Limits) -> Iterator[tuple[Place, Callable[[], bytes]]]:
    """The slices in a file and how to read each; what can't be opened raises when it is read."""
    try:
        members = _opened(path, limits)
    except (ReacquireError, OSError) as error:
        yield (path, 0), _raising(error)
        return
    for index, data in enumerate(members):
        yield (path, index), partial(bytes, data)


def _raising(error: Exception) -> Callable[[], bytes]:
    def read() -> bytes:
        raise error

    return read


def _opened(path: Path, limits: Limits) -> list[bytes]:
    """What is in a file; of one that is neither DICOM nor zip only the first bytes, which say what it is."""
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if not (is_part10(head) or is_zip(head)):
        return [head]
    if path.stat().st_size > (limits.instance_bytes if is_part10(head) else limits.series_bytes):
        raise ContainerError("the file is larger than an upload may be", code="too-large")
    return unpack(path.read_bytes(), limits=limits)


def _loader(places: list[Place], limits: Limits) -> Callable[[], list[bytes]]:
    def load() -> list[bytes]:
        if len(places) > limits.instances:
            raise ContainerError(f"a series may have at most {limits.instances} files", code="too-large")
        files: list[bytes] = []
        for path, group in groupby(places, key=itemgetter(0)):
            members = _opened(path, limits)
            files += [members[index] for _, index in group]
            if sum(map(len, files)) > limits.series_bytes:
                raise ContainerError("the files of one series are too large together", code="too-large")
        return files

    return load

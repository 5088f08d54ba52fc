"""The manifest: one JSON line per slice, kept or excluded, in a fixed order, with a digest beside it.

Every line has every key of ``LINE``; what is unknown is null. Names of files are relative to the manifest's folder.
While an ingest runs, finished patients are kept in ``ingest.part.jsonl``, so that a killed one goes on after them.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.ingest.problem import IngestError

MANIFEST, DIGEST, PART, PINS = "manifest.jsonl", "manifest.sha256", "ingest.part.jsonl", "ingest.json"
Line = dict[str, Any]
LINE: Line = {
    "file": None,  # DICOM file of the slice
    "sha256": None,
    "patient_id": None,
    "woman": None,  # number of the patient in this manifest
    "series_uid": None,
    "layout": None,  # which convention named the folders
    "slice": None,  # from feet to head, edge slices counted
    "z_mm": None,
    "pair_group": None,  # lines of one group show the same slice under other parameters
    "protocol": None,
    "iap": {},
    "iap_origin": {},  # header or spreadsheet, by keyword
    "iap_conflicts": [],  # keywords on which the two disagree
    "split": None,
    "mask": None,  # PNG of labels in stored orientation
    "mask_source": None,
    "mask_excluded": None,  # why the patient's mask was left out
    "clean": None,  # noiseless truth of a simulated slice
    "synthetic": None,
    "excluded": None,  # why the line is not used
}


def read_lines(folder: Path) -> list[Line]:
    """The lines of the manifest in ``folder``.

    Raises
    ------
    IngestError
        When there is none or a line is damaged.
    """
    path = folder / MANIFEST
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError as error:
        raise IngestError(f"{path} is not there; run reacquire-train ingest (or cohort) first") from error
    except json.JSONDecodeError as error:
        raise IngestError(f"{path} is damaged; ingest again into a new folder") from error


def write_lines(folder: Path, lines: Iterable[Line]) -> str:
    """Write the manifest, sorted, and its digest beside it; returns the digest (sha256 of the file)."""
    ordered = sorted(lines, key=_order)
    text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in ordered)
    digest = hashlib.sha256(text.encode()).hexdigest()
    replace_file(folder / MANIFEST, text.encode())
    replace_file(folder / DIGEST, f"{digest}  {MANIFEST}\n".encode())
    return digest


def _order(line: Line) -> tuple:
    return (str(line["patient_id"]), str(line["series_uid"] or ""), line["slice"] or 0, str(line["file"] or ""))


def replace_file(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error


RESUMED = "repeat the command with --resume: what was finished is kept"


def disk_error(error: OSError, path: Path, *, remedy: str = RESUMED) -> IngestError:
    """A failed write as one clear message; ``remedy`` says what to do once there is room, and what is kept."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = "the disk is full; make room"
    else:
        what = f"it could not be written ({error.strerror}); put that right"
    return IngestError(f"{path}: {what} and {remedy}")


class Progress:
    """Finished patients of a running ingest, one JSON line each."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / PART

    def done(self) -> Iterator[tuple[str, list[Line]]]:
        """(patient, lines) of those that are finished; the line that a kill cut off is dropped."""
        if not self._path.exists():
            return
        text = self._path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            replace_file(self._path, whole.encode())
        for line in whole.splitlines():
            entry = json.loads(line)
            yield entry["patient"], entry["lines"]

    def add(self, patient: str, lines: Sequence[Line]) -> None:
        """Keep a finished patient; it is on the disk when this returns."""
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"patient": patient, "lines": lines}) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise disk_error(error, self._path) from error

    def close(self) -> None:
        """The manifest is written: the part is not needed any more."""
        self._path.unlink(missing_ok=True)


def open_folder(folder: Path, pins: Mapping[str, Any], *, resume: bool) -> None:
    """Begin an ingest in ``folder``, or go on with the same one.

    Raises
    ------
    IngestError
        When the folder holds a finished manifest, or a broken-off ingest of something else or without ``resume``.
    """
    if (folder / MANIFEST).exists():
        raise IngestError(f"{folder / MANIFEST} exists and is never overwritten; name a new folder")
    path = folder / PINS
    if not path.exists():
        replace_file(path, (json.dumps(dict(pins), indent=1, sort_keys=True) + "\n").encode())
        return
    if not resume:
        raise IngestError(f"{folder} holds an ingest that was broken off; go on with --resume or name a new folder")
    if json.loads(path.read_text(encoding="utf-8")) != json.loads(json.dumps(dict(pins))):
        raise IngestError(f"{path} was begun with other arguments or tables; repeat them, or name a new folder")


def relative(path: Path, folder: Path) -> str:
    """A file's name in a manifest of ``folder``."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()

"""A simulated cohort as the source of an ingest: its own manifest is taken over, its files checked."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from reacquire.dicom import inspect
from reacquire.errors import ReacquireError
from reacquire.phantom.cohort import MANIFEST
from training.ingest.manifest import LINE, Line, relative
from training.ingest.problem import IngestError

NAMES = ("file", "mask", "clean")
KEPT = ("sha256", "patient_id", "woman", "series_uid", "slice", "z_mm", "pair_group", "protocol", "iap", "split")


def is_cohort(source: Path) -> bool:
    """Whether ``reacquire-train cohort`` wrote the folder."""
    return (source / MANIFEST).exists()


def lines_of(source: Path, folder: Path, track: Callable[[Iterable], Iterable]) -> list[Line]:
    """The lines of a simulated cohort, every file read and compared with its digest.

    Raises
    ------
    IngestError
        For a file that is missing, altered or unreadable.
    """
    text = (source / MANIFEST).read_text(encoding="utf-8")
    return [_line(source, folder, json.loads(line)) for line in track(text.splitlines())]


def _line(source: Path, folder: Path, row: Line) -> Line:
    path = source / row["file"]
    try:
        data = path.read_bytes()
        header = inspect(data, allow_synthetic=True)
    except OSError as error:
        raise IngestError(f"{path} cannot be read ({error.strerror}); write the cohort again") from error
    except ReacquireError as error:
        raise IngestError(f"{path}: {error.detail}; write the cohort again") from error
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        raise IngestError(f"{path} is not the file that the cohort's manifest lists; write the cohort again")
    names = {name: relative(source / row[name], folder) if row[name] else None for name in NAMES}
    origin = dict.fromkeys(row["iap"], "header")
    extra = {"layout": "descriptive", "iap_origin": origin, "synthetic": header.synthetic}
    return LINE | {key: row[key] for key in KEPT} | names | extra | {"mask_source": [names["mask"]]}

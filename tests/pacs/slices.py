"""Slices that play the part of acquired ones, as bytes."""

import io
from pathlib import Path
from typing import Any

import pydicom

from reacquire.phantom import write_cohort


def changed(data: bytes, **values: Any) -> bytes:
    """A file with other values by keyword; None takes the element out."""
    ds = pydicom.dcmread(io.BytesIO(data))
    for keyword, value in values.items():
        if value is None:
            ds.pop(keyword, None)
        else:
            setattr(ds, keyword, value)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def real_slices(folder: Path, count: int) -> list[bytes]:
    """Neighbouring slices of the real series beside the developers' checkouts."""
    files = sorted((folder / "real-breast-mr" / "aera-axial").glob("*.dcm"))[18 : 18 + count]
    return [path.read_bytes() for path in files]


def phantom_slices(folder: Path, count: int) -> list[bytes]:
    """Slices of a simulated woman without the mark that they are synthetic: a PACS of this test takes her for real."""
    write_cohort(folder, women=1, seed=77, slices_per_woman=count, protocols_per_woman=1)
    return [changed(path.read_bytes(), SyntheticData=None) for path in sorted(folder.rglob("*.dcm"))]


def identity(data: bytes) -> tuple[str, str]:
    """StudyInstanceUID and SeriesInstanceUID of a file."""
    ds = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
    return str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID)

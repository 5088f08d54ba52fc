"""Series folders in a downloaded tree, whichever tool laid it out. Reads one header per series.

Known trees, below any number of outer folders (``manifest-1607053360376/Duke-Breast-Cancer-MRI``, ...):

=============  ===========================================================================================
classic        ``PATIENT/STUDYUID/SERIESUID/1-001.dcm`` (NBIA Data Retriever, "Classic Directory Name")
descriptive    ``PATIENT/01-01-1990-NA-MRI BREAST ...-97538/3.000000-ax dyn pre-93877/1-001.dcm``
idc            ``PATIENT/STUDYUID/MR_SERIESUID/UUID.dcm`` (idc-index, default ``dirTemplate``)
=============  ===========================================================================================
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from reacquire.dicom.quiet import neutral_warnings
from training.ingest.problem import IngestError
from training.ingest.typos import patient_of

Layout = Literal["classic", "descriptive", "idc", "other"]
TAGS = ["Modality", "SeriesInstanceUID", "SeriesDescription", "PatientID"]


@dataclass(frozen=True)
class Series:
    """One folder with the files of one series; ``unreadable`` names the file when not one header could be read."""

    folder: Path
    patient: str
    layout: Layout
    uid: str
    modality: str
    description: str
    files: tuple[Path, ...]
    unreadable: Path | None = None


def find_series(root: Path, track: Callable[[Iterable], Iterable] = iter) -> dict[str, list[Series]]:
    """Every series below ``root`` by patient, both sorted.

    Raises
    ------
    IngestError
        When there is none.
    """
    patients: dict[str, list[Series]] = defaultdict(list)
    for folder, names in track(sorted(_folders(root))):
        files = tuple(folder / name for name in sorted(names))
        series = _series(folder, files)
        patients[series.patient].append(series)
    if not patients:
        raise IngestError(
            f"{root} holds no .dcm file; give the folder that the download made (it holds one folder per patient)"
        )
    return {p: patients[p] for p in sorted(patients)}


def _folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    for folder, _, names in os.walk(root):
        dicom = [n for n in names if n.lower().endswith(".dcm")]
        if dicom:
            yield Path(folder), dicom


def _series(folder: Path, files: tuple[Path, ...]) -> Series:
    layout = layout_of(folder)
    patient = patient_of(folder.as_posix())
    for file in files[:3]:  # one bad file must not hide a series
        try:
            header = _header(file)
        except (InvalidDicomError, OSError, ValueError, EOFError, AttributeError):
            continue
        return Series(
            folder,
            patient or str(header.get("PatientID", "")) or folder.parent.parent.name,
            layout,
            str(header.get("SeriesInstanceUID", "")),
            str(header.get("Modality", "")),
            str(header.get("SeriesDescription", "")) or folder.name,
            files,
        )
    return Series(folder, patient or folder.parent.parent.name, layout, "", "", folder.name, files, files[0])


def _header(file: Path) -> Dataset:
    with neutral_warnings():
        return dcmread(file, stop_before_pixels=True, specific_tags=TAGS)  # type: ignore[arg-type]


def layout_of(folder: Path) -> Layout:
    """The convention that named a series folder."""
    uid = r"[0-9]+(\.[0-9]+){4,}"
    study, series = folder.parent.name, folder.name
    if re.fullmatch(uid, study) and re.fullmatch(uid, series):
        return "classic"
    if re.fullmatch(uid, study) and re.fullmatch(rf"[A-Z]{{2,4}}_{uid}", series):
        return "idc"
    if re.fullmatch(r"\d\d-\d\d-\d{4}-.*-\d+", study) and re.fullmatch(r"\d+\.\d+-.*-\d+", series):
        return "descriptive"
    return "other"

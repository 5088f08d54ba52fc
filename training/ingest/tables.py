"""The collection's spreadsheets, as xlsx or csv: which series is which, and the parameters as Duke tabulated them.

TCIA names them "File Path mapping tables" and "Clinical and Other Features".
"""

import csv
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

from reacquire.iap import Continuous, Value, load_vocabulary
from training.ingest.problem import IngestError
from training.ingest.typos import canonical, patient_of

MAPPING_NAMES = ("Breast-Cancer-MRI-filepath_filename-mapping",)
CLINICAL_NAMES = ("Clinical_and_Other_Features",)
ORIGINAL, CLASSIC, DESCRIPTIVE = "original_path_and_filename", "classic_path", "descriptive_path"
# Column of the clinical table -> DICOM keyword; spaces and line breaks around names are slips of the table
COLUMNS = {
    "Manufacturer": "Manufacturer",
    "Manufacturer Model Name": "ManufacturerModelName",
    "Field Strength (Tesla)": "MagneticFieldStrength",
    "Scan Options": "ScanOptions",
    "Flip Angle": "FlipAngle",
    "Slice Thickness": "SliceThickness",
    "TE (Echo Time)": "EchoTime",
    "TR (Repetition Time)": "RepetitionTime",
}


@dataclass(frozen=True)
class Roles:
    """What TCIA's table says a series is ("pre", "post_1", "T1", ...), by SeriesInstanceUID and by canonical folder."""

    by_uid: Mapping[str, str]
    by_folder: Mapping[str, str]

    def of(self, uid: str, folder: Path) -> str | None:
        """The role of a series on disk: by its own UID; else by its path, which is where the typos are."""
        if uid in self.by_uid:
            return self.by_uid[uid]
        return self.by_folder.get(canonical("/".join(folder.parts[-3:])))


@dataclass(frozen=True)
class Clinical:
    """Parameters by patient; unknown ones are absent."""

    records: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    def of(self, patient: str) -> Mapping[str, Value]:
        return self.records.get(patient, {})


def find_table(root: Path, names: Sequence[str]) -> Path | None:
    """The table under one of its usual names in ``root`` or its parent."""
    for folder in (root, root.parent):
        for name in names:
            for path in sorted(folder.glob(f"{name}*")):
                if path.suffix.lower() in (".xlsx", ".csv"):
                    return path
    return None


def read_roles(path: Path) -> Roles:
    """The file path table.

    Raises
    ------
    IngestError
        When it cannot be read or lacks a column.
    """
    rows = _rows(path)
    columns = _columns(path, next(rows, []), required=(ORIGINAL, CLASSIC, DESCRIPTIVE))
    by_uid, by_folder = {}, {}
    for row in rows:
        original, classic, descriptive = (_text(row, columns[c]) for c in (ORIGINAL, CLASSIC, DESCRIPTIVE))
        parts = original.replace("\\", "/").split("/")
        patient = patient_of(original)
        if patient is None or len(parts) < 3:
            continue
        role = parts[2]  # DICOM_Images/Breast_MRI_001/pre/Breast_MRI_001_pre_001.dcm
        steps = classic.replace("\\", "/").strip("/").split("/")
        if len(steps) >= 4:
            by_uid[steps[-2]] = role
        folder = canonical(descriptive).rsplit("/", 1)[0].split("/")
        if len(folder) >= 2:
            by_folder["/".join([patient, *folder[-2:]])] = role
    return Roles(by_uid, by_folder)


def read_clinical(path: Path) -> Clinical:
    """The clinical table: names in its second line, codes in its third ("Avanto=0, ..."), then a line per patient.

    Raises
    ------
    IngestError
        When it cannot be read or lacks a column.
    """
    rows = _rows(path)
    next(rows, [])  # groups of columns
    columns = _columns(path, next(rows, []), required=("Patient ID", *COLUMNS))
    legend = next(rows, [])
    codes = {name: _codes(_text(legend, columns[name])) for name in COLUMNS}
    records = {}
    for row in rows:
        patient = patient_of(_text(row, columns["Patient ID"]))
        if patient is not None:
            values = {k: _value(k, _text(row, columns[name]), codes[name]) for name, k in COLUMNS.items()}
            records[patient] = {k: v for k, v in values.items() if v is not None}
    return Clinical(records)


def file_digest(path: Path | None) -> str | None:
    """sha256 of a table, so that a resumed ingest notices another one."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path else None


def _codes(legend: str) -> dict[str, str]:
    pairs = (part.rsplit("=", 1) for part in legend.split(",") if "=" in part)
    return {code.strip(): name.strip() for name, code in pairs}


def _value(keyword: str, cell: str, codes: Mapping[str, str]) -> Value | None:
    """A cell in the vocabulary's terms, numbers as numbers; None when it says nothing."""
    if codes:
        cell = codes.get(re.sub(r"\.0$", "", cell), "")
    if not cell:
        return None
    parameter = load_vocabulary()[keyword]
    if isinstance(parameter, Continuous) or parameter.tolerance:
        try:
            return float(cell)
        except ValueError:
            return None
    return cell


def _rows(path: Path) -> Iterator[Sequence[object]]:
    try:
        if path.suffix.lower() == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                yield from csv.reader(file)
        else:
            from openpyxl import load_workbook  # slow to import, and many runs read csv

            book = load_workbook(path, read_only=True, data_only=True)
            try:
                yield from book.worksheets[0].iter_rows(values_only=True)
            finally:
                book.close()
    except (OSError, BadZipFile, KeyError, UnicodeDecodeError) as error:
        raise IngestError(f"{path} cannot be read ({type(error).__name__}); download the table again") from error


def _columns(path: Path, names: Sequence[object], *, required: Sequence[str]) -> dict[str, int]:
    found = {" ".join(str(name).split()): i for i, name in reversed(list(enumerate(names))) if name is not None}
    missing = [name for name in required if name not in found]
    if missing:
        raise IngestError(
            f"{path} has no column {', '.join(repr(m) for m in missing)}; give the table as TCIA offers it, unedited"
        )
    return found


def _text(row: Sequence[object], index: int) -> str:
    value = row[index] if index < len(row) else None
    return "" if value is None else str(value).strip()

"""Where TCIA's file path table and the folders on disk spell one path differently, as a table.

The NBIA Data Retriever leaves out characters that file systems dislike; the "File Path mapping tables" keep them, and
add slips of their own. ``canonical`` turns either spelling into that of the disk. Rows come from what published
importers of the collection work around, each named in its row; their code was read, not copied.
"""

import re
from typing import NamedTuple

# pedromorao/Counterfactual-MRI-Data-Augmentation: build_dataset.py (fix_path and the list after it)
AUTHORS = "the paper's authors, build_dataset.py"
# mazurowski-lab/3D-Breast-FGT-and-Blood-Vessel-Segmentation: preprocessing.py
DUKE_SEGMENTATION = "Duke, preprocessing.py of the segmentation repository"
# mazurowski-lab/MRI-parameter-prediction: data/dbc/png_extractor.py
DUKE_PARAMETERS = "Duke, png_extractor.py of the parameter repository"


class Fix(NamedTuple):
    """One slip: a pattern of the table's spelling, what the disk has instead, an example of both, and who met it."""

    pattern: str
    disk: str
    example: str
    on_disk: str
    source: str


FIXES = (
    Fix(r"\\", "/", r"Duke\Breast_MRI_001\x", "Duke/Breast_MRI_001/x", "tables saved on Windows"),
    Fix(r"Breast_?MRI_?(\d{3})\b", r"Breast_MRI_\1", "/BreastMRI001/", "/Breast_MRI_001/", AUTHORS),
    Fix(r"(\d\d-\d\d-\d{4})-NA-", r"\1-", "01-01-1990-NA-MRI BREAST", "01-01-1990-MRI BREAST", AUTHORS),
    Fix(r"W \+ W/O", "W  WO", "BILATERAL W + W/O-51972", "BILATERAL W  WO-51972", AUTHORS),
    Fix(r"W/ & WO", "W  WO", "BILATERAL W/ & WO-51972", "BILATERAL W  WO-51972", AUTHORS),
    Fix(r"W & W/?O", "W  WO", "BILATERAL W & WO-51972", "BILATERAL W  WO-51972", AUTHORS),
    Fix(r"W/WO", "WWO", "BREAST BILATERAL W/WO-97538", "BREAST BILATERAL WWO-97538", AUTHORS),
    Fix(r"W WO CONTRAST W", "WWO CONTRAST W", "W WO CONTRAST W 3D-95246", "WWO CONTRAST W 3D-95246", AUTHORS),
    Fix(r"W AND W/O", "W AND WO", "BREAST W AND W/O-12345", "BREAST W AND WO-12345", AUTHORS),
    Fix(r"([Bb][Rr][Ee][Aa][Ss][Tt])\^", r"\1", "MRI BREAST^ROUTINE-1", "MRI BREASTROUTINE-1", AUTHORS),
    Fix(r"-e\+1", "-e1", "dyn-e+1-83574", "dyn-e1-83574", AUTHORS),
    Fix(r"Ph([1-4])/([Aa])x", r"Ph\1\2x", "600.000000-Ph1/ax dyn-2", "600.000000-Ph1ax dyn-2", AUTHORS),
    Fix(r" \+c-", " c-", "26.000000-ax t1 tse +c-58582", "26.000000-ax t1 tse c-58582", AUTHORS),
    Fix(r"(?<!:)//+", "/", "ax dyn pre-93877//1-001.dcm", "ax dyn pre-93877/1-001.dcm", DUKE_SEGMENTATION),
    Fix(r"/(\d+)-0*(\d+)\.dcm$", r"/\1-\2.dcm", "UID/1-012.dcm", "UID/1-12.dcm", DUKE_PARAMETERS),
)


def canonical(path: str) -> str:
    """The path in one spelling, whichever of the two it came in; equal paths become equal texts."""
    for fix in FIXES:
        path = re.sub(fix.pattern, fix.disk, path)
    return re.sub(r" +", " ", path).strip("/ ")


def patient_of(text: str) -> str | None:
    """``Breast_MRI_001`` out of any spelling of a path or file name of the collection."""
    found = re.search(r"(Breast|Phantom)_?MRI_?(\d{3})(?!\d)", text)
    return f"{found[1]}_MRI_{found[2]}" if found else None

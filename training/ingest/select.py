"""Which of a patient's series is the one before contrast: the paper trains on that one alone.

TCIA's file path table decides where it is given; the authors keep what it files under ``pre``. Without the table (an
IDC download has none) the series descriptions decide, by rules of our own.
"""

import re
from collections.abc import Mapping, Sequence

from training.ingest.layout import Series
from training.ingest.problem import Excluded
from training.ingest.tables import Roles

DYNAMIC = re.compile(r"dyn|vibrant|fl3d", re.IGNORECASE)
PRE = re.compile(r"(?<![a-z])pre(?![a-z])", re.IGNORECASE)
AFTER = re.compile(r"^ph\d|\d(st|nd|rd|th)|post|pass|\+c|sub|mip", re.IGNORECASE)


def pre_contrast(
    patient: str, series: Sequence[Series], roles: Roles | None, chosen: Mapping[str, str] | None = None
) -> Series:
    """The pre-contrast series of one patient.

    Parameters
    ----------
    chosen : by patient, the SeriesInstanceUID or folder name to take whatever tables and descriptions say

    Raises
    ------
    Excluded
        When none or more than one claims to be it.
    """
    wanted = (chosen or {}).get(patient)
    if wanted is not None:
        claims = [s for s in series if wanted in (s.uid, s.folder.name)]
    elif roles is not None:
        claims = [s for s in series if roles.of(s.uid, s.folder) == "pre"]
    else:
        claims = by_description(series)
    if len(claims) == 1:
        return claims[0]
    how = f"name the right one with --choose {patient}=FOLDER"
    if not claims:
        damaged = [str(s.unreadable) for s in series if s.unreadable]
        hint = f" ({damaged[0]} cannot be read; download it again)" if damaged else ""
        raise Excluded("no-pre-contrast-series", f"{patient} has no series that claims to be pre-contrast{hint}; {how}")
    folders = " and ".join(str(s.folder) for s in claims)
    raise Excluded("two-pre-contrast-series", f"{folders} both claim to be pre-contrast; {how}")


def by_description(series: Sequence[Series]) -> list[Series]:
    """Series that say "pre"; if none does, dynamic ones that show no sign of contrast ("Ph1", "2nd pass", ...)."""
    images = [s for s in series if s.modality == "MR" and not AFTER.search(s.description)]
    said = [s for s in images if PRE.search(s.description)]
    return said or [s for s in images if DYNAMIC.search(s.description)]

"""The acquisition parameters in a classic MR header: tag, VR, unit, normaliser and citation of each (the tag map).

Normalises spelling only. Whether a value is one that the models know is the vocabulary's question (``reacquire.iap``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from reacquire.dicom import values

Value = str | float
GAUSS_PER_TESLA = 10_000.0


@dataclass(frozen=True)
class Attribute:
    """Where one acquisition parameter lives and how its header value is read.

    Attributes
    ----------
    tag : int
        Group and element.
    read : callable
        Data set and keyword -> normalised value, None when absent or empty; raises ``invalid-attribute-value``.
    target : bool
        Whether a counterfactual's header takes the target value (slices do not move, so the thickness never does).
    """

    keyword: str
    tag: int
    vr: str
    unit: str | None
    read: Callable[[Dataset, str], Value | None]
    citation: str
    target: bool = True


def _tesla(ds: Dataset, keyword: str) -> float | None:
    value = values.positive(ds, keyword)
    # Nobody scans a breast above 20 T: such numbers are gauss, which old headers used.
    return value if value is None or value <= 20 else value / GAUSS_PER_TESLA


def _hundredths(ds: Dataset, keyword: str) -> float | None:
    value = values.positive(ds, keyword)
    return None if value is None else round(value, 2)  # vendors write single precision, e.g. 1.1000000238419


def _joined_codes(ds: Dataset, keyword: str) -> str | None:
    joined = "\\".join(c for c in values.codes(ds, keyword) if c)
    return joined or None


ATTRIBUTES = (
    Attribute("Manufacturer", 0x00080070, "LO", None, values.text, "PS3.3 C.7.5.1", target=False),
    Attribute("ManufacturerModelName", 0x00081090, "LO", None, values.text, "PS3.3 C.7.5.1", target=False),
    Attribute("MagneticFieldStrength", 0x00180087, "DS", "T", _tesla, "PS3.3 C.8.3.1"),
    Attribute("ScanOptions", 0x00180022, "CS", None, _joined_codes, "PS3.3 C.8.3.1"),
    Attribute("FlipAngle", 0x00181314, "DS", "deg", values.positive, "PS3.3 C.8.3.1"),
    Attribute("SliceThickness", 0x00180050, "DS", "mm", _hundredths, "PS3.3 C.7.6.2", target=False),
    Attribute("EchoTime", 0x00180081, "DS", "ms", values.positive, "PS3.3 C.8.3.1"),
    Attribute("RepetitionTime", 0x00180080, "DS", "ms", values.positive, "PS3.3 C.8.3.1"),
)


def read_iap(ds: Dataset) -> dict[str, Value]:
    """The acquisition parameters of a header by keyword; absent and empty ones are left out (unknown).

    Raises
    ------
    DatasetError
        ``invalid-attribute-value`` for a number that is none, not finite or not positive.
    """
    found = {a.keyword: a.read(ds, a.keyword) for a in ATTRIBUTES}
    return {keyword: value for keyword, value in found.items() if value is not None}


def parameter_sources(ds: Dataset, groups: Mapping[str, str]) -> dict[str, str]:
    """Where the value of each parameter was found, or why there is none.

    Parameters
    ----------
    groups : mapping of str to str
        The functional group of each parameter of an Enhanced MR frame (``Origin.sources``); empty for classic files.

    Returns
    -------
    dict
        By keyword: ``attribute``, the name of a functional group, ``empty`` or ``absent``.
    """
    sources = {}
    for a in ATTRIBUTES:
        missing = "empty" if Tag(a.tag) in ds else "absent"
        sources[a.keyword] = missing if a.read(ds, a.keyword) is None else groups.get(a.keyword, "attribute")
    return sources

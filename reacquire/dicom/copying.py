"""The allow-list: which elements a derived object takes over from its source, byte for byte.

What is not listed stays behind: private groups, protocol and device details, sequences with free text. Values that
break their VR are blanked (Type 2) or left out (Type 3) rather than copied, on all instances of a series alike.
"""

import math
import re
from collections.abc import Sequence

from pydicom.charset import convert_encodings, python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag
from pydicom.valuerep import format_number_as_ds

from reacquire.dicom import values

PATIENT = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
)
STUDY = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
)
SPACE = (
    "PatientPosition",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SliceLocation",
    "SliceThickness",
    "SpacingBetweenSlices",
    "PixelSpacing",
    "InstanceNumber",
)
ACQUISITION = (
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionNumber",
    "BodyPartExamined",
    "ContrastBolusAgent",
    "MRAcquisitionType",
    "EchoTrainLength",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
# Type 2 of the MR Image IOD (PS3.3 A.4): present, if need be empty.
TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientPosition",
    "PositionReferenceIndicator",
    "SliceThickness",
    "InstanceNumber",
    "MRAcquisitionType",
    "EchoTrainLength",
)
# Carried when any source has one: Type 2 of the Contrast/Bolus module, and Type 1C that the writers then complete.
MAY_BE_EMPTY = ("ContrastBolusAgent", "DeidentificationMethod")
CHARSET = "SpecificCharacterSet"
ISSUER = "IssuerOfAccessionNumberSequence"
_ISSUER_MEMBERS = ("LocalNamespaceEntityID", "UniversalEntityID", "UniversalEntityIDType")  # PS3.3 table 10-17
_FORMS = {  # PS3.5 section 6.2, one value each
    "AS": r"\d{3}[DWMY]",
    "CS": r"[A-Z0-9_ ]{0,16}",
    "DA": r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])",
    "DS": r" *[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)? *",
    "IS": r" *[-+]?\d{1,11} *",
    "TM": r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?",
    "UI": r"(?=.{1,64}$)(0|[1-9]\d*)(\.(0|[1-9]\d*))*",
}


def carried(sources: Sequence[Dataset], keywords: Sequence[str]) -> tuple[str, ...]:
    """Which of ``keywords`` the objects derived from ``sources`` have, all of them alike.

    Every instance of a series must have the same attributes, so an optional one is carried only when each source has
    a sound value. Type 2 attributes always are; those that may be empty, when any source has one.
    """
    charset = (CHARSET,) if any(_charset(source) for source in sources) else ()
    return charset + tuple(
        keyword
        for keyword in keywords
        if keyword in TYPE_2
        or (any if keyword in MAY_BE_EMPTY else all)(sound(source, keyword) is not None for source in sources)
    )


def inherit(source: Dataset, keywords: Sequence[str]) -> Dataset:
    """A data set for Explicit VR Little Endian with the listed elements of ``source``, their bytes unchanged.

    All of them are present, empty where the source has no sound value. The character set comes along; where it is
    listed and the source has none, Latin 1 is declared, which holds the default repertoire.
    """
    target = _with_charset(source, explicit=CHARSET in keywords)
    for keyword in keywords:
        if keyword != CHARSET:
            copy_element(source, target, keyword)
    return target


def copy_element(source: Dataset, target: Dataset, keyword: str) -> None:
    """Copy one string element as it is encoded, empty when it is absent or breaks its VR."""
    tag, vr = Tag(tag_for_keyword(keyword) or 0), dictionary_VR(keyword)
    padded = sound(source, keyword) or b""
    if len(padded) % 2:
        padded += b"\0" if vr == "UI" else b" "
    target[tag] = RawDataElement(tag, vr, len(padded), padded, 0, False, True)


def sound(source: Dataset, keyword: str) -> bytes | None:
    """The encoded value of a string element, None when it is absent, empty or breaks its VR.

    Codes come in upper case, and decimal strings above 16 characters are shortened to them. Names, identifiers and
    texts stay as they are, whatever their length: another spelling would be another patient.
    """
    encoded, vr = values.raw(source, keyword), dictionary_VR(keyword)
    if encoded is None or vr not in _FORMS:
        return encoded
    parts = [_fitted(part, vr) for part in encoded.decode("latin-1").split("\\")]
    if not all(re.fullmatch(_FORMS[vr], part) for part in parts) or not all(_in_range(part, vr) for part in parts):
        return None
    return "\\".join(parts).encode("latin-1")


def _fitted(part: str, vr: str) -> str:
    """One value in a spelling that its VR allows, where there is one."""
    if vr == "CS":
        return part.upper()
    if vr == "DS" and len(part) > 16 and re.fullmatch(_FORMS["DS"], part) and math.isfinite(float(part)):
        return format_number_as_ds(float(part))
    return part


def _in_range(part: str, vr: str) -> bool:
    if vr == "DS":
        return math.isfinite(float(part))  # 1e400 is a decimal string
    return vr != "IS" or -(2**31) <= int(part) < 2**31


def copy_issuer(source: Dataset, target: Dataset) -> None:
    """Copy who issued the AccessionNumber, member by member: sequences of sources hold free text and odd charsets."""
    try:
        items = source[ISSUER].value if ISSUER in source else None
    except Exception:  # pydicom parses the sequence only now, and raises many kinds on a damaged one
        return
    if not isinstance(items, Items) or not items:
        return
    issuer = Dataset()
    for keyword in _ISSUER_MEMBERS:
        encoded = values.raw(items[0], keyword)
        if encoded is not None and encoded.isascii():
            setattr(issuer, keyword, encoded.decode("ascii"))
    if len(issuer):
        setattr(target, ISSUER, [issuer])


def ascii_text(source: Dataset, keyword: str, length: int = 64) -> str | None:
    """A header string for a text of our own: the default repertoire only, others become ``?``."""
    encoded = values.raw(source, keyword)
    if encoded is None:
        return None
    return re.sub(r"[^\x20-\x5b\x5d-\x7e]", "?", encoded.decode("latin-1"))[:length]


def _charset(source: Dataset) -> tuple[str, ...]:
    """The declared repertoires when each of them is known, else none."""
    declared = values.texts(source, "SpecificCharacterSet")
    return declared if all(v in python_encoding for v in declared) else ()


def _with_charset(source: Dataset, *, explicit: bool) -> Dataset:
    """An empty data set whose raw strings will be written as they are: pydicom re-encodes when the charsets differ."""
    target = Dataset()
    declared = _charset(source) or (("ISO_IR 100",) if explicit else ())
    if declared:
        target.SpecificCharacterSet = list(declared) if len(declared) > 1 else declared[0]
    target.set_original_encoding(False, True, convert_encodings(list(declared) or [""]))
    return target

"""The allow-list: which elements a derived object takes over from its source, byte for byte.

What is not listed stays behind: private groups, protocol and device details, sequences with free text. Values that
break their VR are blanked (Type 2) or left out (Type 3) rather than copied.
"""

import re

from pydicom.charset import convert_encodings, python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

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
    "ScanningSequence",
    "SequenceVariant",
    "MRAcquisitionType",
    "EchoTrainLength",
    "InversionTime",
    "LossyImageCompression",
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
_FORMS = {
    "DA": r"\d{8}",
    "TM": r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?",
    "AS": r"\d{3}[DWMY]",
    "DS": r"[-+0-9.eE ]{1,16}(\\[-+0-9.eE ]{1,16})*",
    "IS": r"[-+0-9 ]{1,12}(\\[-+0-9 ]{1,12})*",
}


def inherit(source: Dataset, keywords: tuple[str, ...]) -> Dataset:
    """A data set for Explicit VR Little Endian with the listed elements of ``source``, bytes unchanged.

    Type 2 elements among them are always present. The character set comes along.
    """
    target = _with_charset(source)
    for keyword in keywords:
        copy_element(source, target, keyword)
    return target


def copy_element(source: Dataset, target: Dataset, keyword: str) -> None:
    """Copy one string element as it is encoded; blank it (Type 2) or leave it out when it breaks its VR."""
    tag, vr = Tag(tag_for_keyword(keyword) or 0), dictionary_VR(keyword)
    encoded = values.raw(source, keyword)
    if encoded is not None and vr in _FORMS and not re.fullmatch(_FORMS[vr], encoded.decode("latin-1")):
        encoded = None
    if encoded is None and keyword not in TYPE_2 and tag not in source:
        return
    if encoded is None and keyword not in (*TYPE_2, "ContrastBolusAgent"):
        return
    padded = encoded or b""
    if len(padded) % 2:
        padded += b"\0" if vr == "UI" else b" "
    target[tag] = RawDataElement(tag, vr, len(padded), padded, 0, False, True)


def ascii_text(source: Dataset, keyword: str, length: int = 64) -> str | None:
    """A header string for a text of our own: the default repertoire only, others become ``?``."""
    encoded = values.raw(source, keyword)
    if encoded is None:
        return None
    return re.sub(r"[^\x20-\x5b\x5d-\x7e]", "?", encoded.decode("latin-1"))[:length]


def _with_charset(source: Dataset) -> Dataset:
    """An empty data set whose raw strings will be written as they are: pydicom re-encodes when the charsets differ."""
    target = Dataset()
    declared = values.texts(source, "SpecificCharacterSet")
    if declared and all(v in python_encoding for v in declared):
        target.SpecificCharacterSet = list(declared) if len(declared) > 1 else declared[0]
        target.set_original_encoding(False, True, convert_encodings(list(declared)))
    else:
        target.set_original_encoding(False, True, convert_encodings([""]))
    return target

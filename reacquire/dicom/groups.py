"""What one frame of an Enhanced MR object says, as the attributes of a classic MR image (PS3.3 C.7.6.16, C.8.13).

A value is looked for in the shared functional groups, then in those of the frame, then at the top level. Vendors keep
further copies in private sequences; those are never looked at.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from reacquire.dicom import values
from reacquire.dicom.tags import ATTRIBUTES
from reacquire.errors import SuitabilityError

# Classic attribute <- functional group and its attribute (PS3.3 C.8.13.5 and C.7.6.16.2).
FROM_GROUPS = (
    ("RepetitionTime", "MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    ("FlipAngle", "MRTimingAndRelatedParametersSequence", "FlipAngle"),
    ("EchoTrainLength", "MRTimingAndRelatedParametersSequence", "EchoTrainLength"),
    ("EchoTime", "MREchoSequence", "EffectiveEchoTime"),
    ("InversionTime", "MRModifierSequence", "InversionTimes"),
    ("SliceThickness", "PixelMeasuresSequence", "SliceThickness"),
    ("SpacingBetweenSlices", "PixelMeasuresSequence", "SpacingBetweenSlices"),
    ("PixelSpacing", "PixelMeasuresSequence", "PixelSpacing"),
    ("ImagePositionPatient", "PlanePositionSequence", "ImagePositionPatient"),
    ("ImageOrientationPatient", "PlaneOrientationSequence", "ImageOrientationPatient"),
    ("RescaleSlope", "PixelValueTransformationSequence", "RescaleSlope"),
    ("RescaleIntercept", "PixelValueTransformationSequence", "RescaleIntercept"),
    ("ImageType", "MRImageFrameTypeSequence", "FrameType"),
    ("ComplexImageComponent", "MRImageFrameTypeSequence", "ComplexImageComponent"),
    ("ImageLaterality", "FrameAnatomySequence", "FrameLaterality"),
)
PARAMETERS = frozenset(a.keyword for a in ATTRIBUTES)
BREAST = frozenset(
    {"76752008", "T-04000", "80248007", "T-04030", "73056007", "T-04020", "63762007", "T-04080"}
)  # breast, left, right, both; SCT and the SRT codes that older files use (PS3.16 CID 4)
_STRINGS = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UT"))
MAX_TEXT = 1024


@dataclass(frozen=True)
class Groups:
    """The functional groups of one frame."""

    shared: Dataset
    frame: Dataset

    def find(self, sequence: str, keyword: str) -> tuple[str, str] | None:
        """(value as text, ``Shared:`` or ``PerFrame:`` with the group) or None when neither has one."""
        for place, groups in (("Shared", self.shared), ("PerFrame", self.frame)):
            for item in first_item(groups, sequence):
                value = _as_text(item, keyword)
                if value is not None:
                    return value, f"{place}:{sequence}"
        return None

    def codes(self, sequence: str, inner: str) -> tuple[str, ...]:
        """The code values in a sequence within a functional group, of the first place that has one."""
        for groups in (self.shared, self.frame):
            for item in first_item(groups, sequence):
                found = tuple(code_value(code) for code in first_item(item, inner))
                if found:
                    return found
        return ()


def first_item(ds: Dataset, keyword: str) -> Iterator[Dataset]:
    """The first item of a sequence, if there is one."""
    if keyword in ds:
        value = ds[keyword].value
        yield from [item for item in (value or ()) if isinstance(item, Dataset)][:1]


def code_value(item: Dataset) -> str:
    return values.text(item, "CodeValue") or ""


def plain_texts(top: Dataset) -> dict[str, bytes]:
    """The short string elements at the top level as they are encoded, by keyword; private ones are left out."""
    kept = {}
    for tag in list(top.keys()):
        if tag.is_private or tag.group > 0x0040:
            continue
        keyword = _keyword(tag)
        value = values.raw(top, keyword) if keyword else None
        if keyword and value is not None and len(value) <= MAX_TEXT:
            kept[keyword] = value
        elif keyword in PARAMETERS:
            kept[keyword] = b""  # empty and absent are told apart
    return kept


def frame_attributes(top: Dataset, groups: Groups) -> tuple[dict[str, str], Mapping[str, str]]:
    """The classic attributes that come from the functional groups, and the group of each acquisition parameter."""
    found: dict[str, str] = {}
    sources: dict[str, str] = {}
    for keyword, sequence, inner in FROM_GROUPS:
        hit = groups.find(sequence, inner)
        if hit is not None:
            found[keyword] = hit[0]
            if keyword in PARAMETERS:
                sources[keyword] = hit[1]
    found |= _sequence_kind(top) | _body_part(top, groups)
    if values.raw(top, "ScanOptions") is None and values.codes(top, "SpectrallySelectedSuppression") == ("FAT",):
        found["ScanOptions"] = "FS"  # PS3.3 C.8.3.1: fat saturation; Siemens and Canon have no ScanOptions here
        sources["ScanOptions"] = "SpectrallySelectedSuppression"
    return found, sources


def check_magnitude(kind: Mapping[str, str], top: Dataset) -> None:
    """Row 29 for one frame: a magnitude image whose type is told (PS3.3 C.8.13.3.1).

    Raises
    ------
    SuitabilityError
        ``unsupported-image-type``.
    """
    component = kind.get("ComplexImageComponent") or values.text(top, "ComplexImageComponent") or "MAGNITUDE"
    if component.strip().upper() != "MAGNITUDE":
        raise SuitabilityError(
            "only magnitude frames are read", code="unsupported-image-type", where="ComplexImageComponent"
        )
    words = kind.get("ImageType") or values.text(top, "ImageType") or ""
    if "MIXED" in (word.strip().upper() for word in words.split("\\")):
        raise mixed_frames()


def mixed_frames() -> SuitabilityError:
    """The refusal of an object whose frames are of several kinds."""
    return SuitabilityError(
        "the frames are of several kinds; send one kind of image per file",
        code="unsupported-image-type",
        where="FrameType",
    )


def _sequence_kind(top: Dataset) -> dict[str, str]:
    """ScanningSequence of the classic module from the flags of the enhanced one (PS3.3 C.8.13.4)."""
    kinds = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}
    names = list(kinds.get("".join(values.codes(top, "EchoPulseSequence")), []))
    names += ["IR"] if values.codes(top, "InversionRecovery") == ("YES",) else []
    names += ["EP"] if values.codes(top, "EchoPlanarPulseSequence") == ("YES",) else []
    return {"ScanningSequence": "\\".join(names)} if names else {}


def _body_part(top: Dataset, groups: Groups) -> dict[str, str]:
    """BodyPartExamined from the coded anatomy, where the object has no text (row 27)."""
    if values.raw(top, "BodyPartExamined") is not None:
        return {}
    found = groups.codes("FrameAnatomySequence", "AnatomicRegionSequence")
    found = found or tuple(code_value(item) for item in first_item(top, "AnatomicRegionSequence"))
    return {"BodyPartExamined": "BREAST" if set(found) <= BREAST else "OTHER"} if found else {}


def _as_text(item: Dataset, keyword: str) -> str | None:
    """One value as a classic string: text as it is, a double as DS (PS3.5 section 6.2, at most 16 characters)."""
    if dictionary_VR(keyword) != "FD":
        return values.text(item, keyword)
    tag = Tag(tag_for_keyword(keyword) or 0)
    if tag not in item:
        return None
    element = item.get_item(tag)
    if not isinstance(element, RawDataElement):
        return f"{float(element.value):.10g}"
    if not element.value or len(element.value) != 8:
        return None
    return f"{struct.unpack('<d' if element.is_little_endian else '>d', element.value)[0]:.10g}"


def _keyword(tag: BaseTag) -> str | None:
    known = dictionary_has_tag(tag) and dictionary_VR(tag) in _STRINGS
    return keyword_for_tag(tag) if known else None

"""Small Enhanced MR files for tests, laid out as the vendors do (shared and per-frame groups differ)."""

from typing import Any

import numpy as np
from builders import (
    ABSENT,
    BIG_ENDIAN,
    EXPLICIT,
    SOUND,
    make_mr,
    make_pixels,
    to_bytes,
)
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID

from reacquire.dicom.container import open_part10
from reacquire.dicom.frames import ENHANCED_MR
from reacquire.dicom.header import open_slice

NOT_AT_THE_TOP = (
    "FlipAngle", "SliceThickness", "EchoTime", "RepetitionTime", "EchoTrainLength", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "ScanningSequence", "SequenceVariant", "ScanOptions",
)  # fmt: skip
TOP = {
    **{k: v for k, v in SOUND.items() if k not in NOT_AT_THE_TOP},
    "SOPClassUID": ENHANCED_MR,
    "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
    "ComplexImageComponent": "MAGNITUDE",
    "EchoPulseSequence": "GRADIENT",
    "SpectrallySelectedSuppression": "FAT",
    "AcquisitionDateTime": "20200102101112",
}
TIMING = ("MRTimingAndRelatedParametersSequence", {"RepetitionTime": "4.05", "FlipAngle": 10, "EchoTrainLength": 1})
ECHO = ("MREchoSequence", {"EffectiveEchoTime": 1.42})
MEASURES = (
    "PixelMeasuresSequence",
    {"PixelSpacing": [1.25, 1.5], "SliceThickness": "1.1000000238419", "SpacingBetweenSlices": 2},
)
PLANE = ("PlaneOrientationSequence", {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]})
KIND = (
    "MRImageFrameTypeSequence",
    {"FrameType": ["ORIGINAL", "PRIMARY", "T1", "NONE"], "ComplexImageComponent": "MAGNITUDE"},
)
RESCALE = ("PixelValueTransformationSequence", {"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "US"})

# (top-level changes, shared groups, per-frame groups) after the files of the vendors
LAYOUTS: dict[str, tuple[dict[str, Any], tuple[Any, ...], tuple[Any, ...]]] = {
    "philips": (
        {"Manufacturer": "Philips", "ManufacturerModelName": "Ingenia Elition X", "ScanOptions": "FS"},
        (TIMING, KIND),
        (ECHO, MEASURES, PLANE, RESCALE),
    ),
    "siemens": (
        {"Manufacturer": "Siemens Healthineers", "ManufacturerModelName": "MAGNETOM Vida"},
        (TIMING, PLANE, KIND, RESCALE),
        (ECHO, MEASURES),
    ),
    "canon": (
        {"Manufacturer": "CANON_MEC", "ManufacturerModelName": "Galan 3T", "BitsStored": 16, "HighBit": 15,
         "PixelRepresentation": 1, "MagneticFieldStrength": ABSENT},
        (TIMING, PLANE, MEASURES),
        (ECHO, KIND, RESCALE),
    ),
}  # fmt: skip


def item(values: dict[str, Any]) -> Dataset:
    """One sequence item; bytes are written as they are."""
    ds = Dataset()
    for keyword, value in values.items():
        vr, tag = dictionary_VR(keyword), Tag(tag_for_keyword(keyword) or 0)
        if isinstance(value, bytes):
            ds[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
        else:
            ds.add_new(tag, vr, value)
    ds.set_original_encoding(False, True, "iso8859")
    return ds


def groups(*parts: tuple[str, dict[str, Any]]) -> Dataset:
    """The functional groups of a frame, or the shared ones."""
    ds = Dataset()
    for sequence, values in parts:
        setattr(ds, sequence, Sequence([item(values)]))
    return ds


def decoy(ds: Dataset) -> None:
    """Philips repeats every frame's header in (2005,140F), with stale values now and then."""
    block = ds.private_block(0x2005, "Philips MR Imaging DD 005", create=True)
    stale = item({"EchoTime": "99", "RepetitionTime": "99", "FlipAngle": "99"})
    block.add_new(0x0F, "SQ", Sequence([stale]))


def enhanced_dataset(
    layout: str = "siemens",
    frames: int = 3,
    *,
    shared: dict[str, dict[str, Any]] | None = None,
    frame: dict[str, dict[str, Any]] | None = None,
    **changes: Any,
) -> Dataset:
    """An Enhanced MR object of ``frames`` axial frames, 2 mm apart.

    ``shared`` and ``frame`` update or add functional groups by sequence keyword (``frame``: in every frame),
    ``changes`` the top level as in ``builders.make_dataset``.
    """
    top, in_shared, in_frame = LAYOUTS[layout]
    shape = make_pixels().shape
    values = {**TOP, **top, "NumberOfFrames": frames, "Rows": shape[0], "Columns": shape[1], **changes}
    ds = item({k: v for k, v in values.items() if v is not ABSENT})
    ds.SharedFunctionalGroupsSequence = Sequence([groups(*merged(in_shared, shared))])
    items = []
    for n in range(frames):
        position = ("PlanePositionSequence", {"ImagePositionPatient": [-100.5, -90.25, 12.5 + 2 * n]})
        items.append(groups(*merged((*in_frame, position), frame)))
        if layout == "philips":
            decoy(items[-1])
    ds.PerFrameFunctionalGroupsSequence = Sequence(items)
    if "PixelData" not in changes:
        ds.add_new(0x7FE00010, "OW", b"".join(frame_pixels(n).astype("<u2").tobytes() for n in range(frames)))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    ds.file_meta.MediaStorageSOPClassUID = UID(ENHANCED_MR)
    ds.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4.1")
    return ds


def merged(parts: tuple[Any, ...], update: dict[str, dict[str, Any]] | None) -> list[tuple[str, dict[str, Any]]]:
    combined = {sequence: dict(values) for sequence, values in parts}
    for sequence, values in (update or {}).items():
        combined.setdefault(sequence, {}).update(values)
    return [(k, {i: v for i, v in values.items() if v is not ABSENT}) for k, values in combined.items()]


def frame_pixels(number: int) -> np.ndarray:
    """What frame ``number`` (from 0) holds."""
    return make_pixels() + np.uint16(number)


def make_enhanced(layout: str = "siemens", frames: int = 3, *, syntax: str = EXPLICIT, **options: Any) -> bytes:
    """The bytes of an Enhanced MR file (see ``enhanced_dataset``) in one transfer syntax."""
    ds = enhanced_dataset(layout, frames, **options)
    if syntax == BIG_ENDIAN:
        ds["PixelData"].value = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    elif UID(syntax).is_encapsulated:
        streams = [codestream(frame_pixels(n), syntax) for n in range(frames)]
        ds["PixelData"].value = encapsulate(streams)
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    return to_bytes(ds)


def codestream(pixels: np.ndarray, syntax: str) -> bytes:
    """One frame as the encoders of ``builders`` write it."""
    data = make_mr(pixels, syntax=syntax)
    start, stop = open_slice(data).layout.pixels
    return next(iter(generate_frames(bytes(open_part10(data).body[start:stop]), number_of_frames=1)))

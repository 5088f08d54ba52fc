"""A segmentation of one series as a DICOM SEG (BINARY), through highdicom (PS3.3 A.51).

highdicom meets only a minimal stand-in for each source, with a blank patient: it copies what it likes from sources and
warns with patient names. The patient and study modules are put in afterwards, byte for byte. Imported on first use:
reading and the API process do without highdicom.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.sr.coding import Code

from reacquire.dicom import codes, copying, values
from reacquire.dicom.checks import MR_IMAGE
from reacquire.dicom.derived import MANUFACTURER
from reacquire.dicom.header import Header
from reacquire.dicom.quiet import neutral_warnings
from reacquire.dicom.read import SliceImage
from reacquire.dicom.series import inconsistent, order_series
from reacquire.dicom.uids import derive_uid
from reacquire.dicom.write import serialise

# The network's class 1 is breast minus fibroglandular tissue: skin, vessels and nodes too. The label says so.
SEGMENTS = (
    ("Breast, non-FGT (mainly fat)", codes.ADIPOSE_TISSUE, (255, 221, 120)),
    ("Fibroglandular tissue", codes.ORGAN_PARENCHYMA, (0, 160, 200)),
)
_BLANKS = tuple(k for k in copying.PATIENT + copying.STUDY if k in copying.TYPE_2)  # highdicom reads them all


def write_segmentation(
    sources: Sequence[SliceImage], labels: NDArray[np.uint8], *, algorithm: tuple[str, str]
) -> bytes:
    """One SEG for the slices of one series.

    Parameters
    ----------
    sources : sequence of N SliceImage
        Slices of one series, in any order.
    labels : (N, R, C) uint8
        In the stored orientation of the sources: 0 background, 1 breast without fibroglandular tissue, 2
        fibroglandular tissue. Frames come out sorted by position, so readers must go by the references.
    algorithm : (str, str)
        Name and version.

    Raises
    ------
    DatasetError
        ``inconsistent-series`` or ``duplicate-instance`` when the sources are not one series.
    ValueError
        For labels of another shape, type or range: the caller's mistake.
    """
    headers = [source.header for source in sources]
    expected = (len(headers), headers[0].rows, headers[0].columns)
    if labels.dtype != np.uint8 or labels.shape != expected or labels.max(initial=0) > len(SEGMENTS):
        raise ValueError(f"labels must be uint8 from 0 to {len(SEGMENTS)} of shape {expected}")
    if len(order_series(headers)) != len(headers):
        raise inconsistent("one slice was given twice", "SOPInstanceUID")
    key = (sorted(h.sop_instance_uid for h in headers), algorithm, hashlib.sha256(labels.tobytes()).hexdigest())
    with neutral_warnings():
        ds = _with_patient(_build(headers, labels, algorithm, key), headers)
        return serialise(ds)


def _build(headers: list[Header], labels: NDArray[np.uint8], algorithm: tuple[str, str], key: tuple) -> Dataset:
    import highdicom as hd

    name, version = (part[:64] for part in algorithm)
    number = values.texts(headers[0].dataset, "SeriesNumber")
    return hd.seg.Segmentation(
        source_images=[_stand_in(header) for header in headers],
        pixel_array=labels,
        segmentation_type="BINARY",
        segment_descriptions=_descriptions(algorithm, key),
        series_instance_uid=derive_uid("segmentation series", *key),
        series_number=8000 + (int(number[0]) % 1000 if number and number[0].isdecimal() else 0),
        sop_instance_uid=derive_uid("segmentation", *key),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=name,
        software_versions=version,
        device_serial_number="none",  # Type 1 of Enhanced General Equipment; software has no serial number
        content_label="FAT_FGT",
        content_description="Breast and fibroglandular tissue, automatic, research use only",
        series_description="AI SEG breast, fibroglandular tissue",
    )


def _descriptions(algorithm: tuple[str, str], key: tuple) -> list[Any]:
    import highdicom as hd

    identification = hd.AlgorithmIdentificationSequence(
        name=algorithm[0][:64],
        family=Code("123110", "DCM", "Artificial Intelligence"),
        version=algorithm[1][:64],
        source=MANUFACTURER,
    )
    return [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=Code(*codes.TISSUE),
            segmented_property_type=Code(*kind),
            algorithm_type="AUTOMATIC",
            algorithm_identification=identification,
            tracking_uid=derive_uid("segment", number, *key),
            tracking_id=label,
            anatomic_regions=[Code(*codes.BREAST)],
            display_color=hd.color.CIELabColor.from_rgb(*colour),
        )
        for number, (label, kind, colour) in enumerate(SEGMENTS, start=1)
    ]


def _stand_in(header: Header) -> Dataset:
    """What highdicom needs to know of a source: identity, grid, equipment; nothing of the patient."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = MR_IMAGE, header.sop_instance_uid
    ds.SeriesInstanceUID, ds.Modality = header.series_key, "MR"
    ds.StudyInstanceUID = values.uid(header.dataset, "StudyInstanceUID")
    ds.FrameOfReferenceUID = values.uid(header.dataset, "FrameOfReferenceUID")
    ds.PositionReferenceIndicator = ""
    ds.Rows, ds.Columns = header.rows, header.columns
    for keyword in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"):
        setattr(ds, keyword, list(values.texts(header.dataset, keyword)))
    for keyword in ("SliceThickness", "SpacingBetweenSlices"):
        setattr(ds, keyword, values.number(header.dataset, keyword))
    for keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions"):
        if text := copying.ascii_text(header.dataset, keyword):
            setattr(ds, keyword, text)
    for keyword in _BLANKS:
        setattr(ds, keyword, "")
    return ds


def _with_patient(segmentation: Dataset, headers: list[Header]) -> Dataset:
    """The SEG with patient and study as its source encodes them, marked as synthetic where the source is."""
    source = headers[0].dataset
    ds = copying.inherit(source, copying.PATIENT + copying.STUDY + ("BodyPartExamined",))
    for element in correct_ambiguous_vr(segmentation, True):  # dcmwrite does it only for re-encoded data sets
        if element.tag not in ds and element.keyword != "SpecificCharacterSet":
            ds[element.tag] = element
    ds.ContentQualification = "RESEARCH"
    if any(header.lossy for header in headers):
        ds.LossyImageCompression = "01"  # must never go back to 00 (PS3.3 C.7.6.1.1.5)
    if any(header.synthetic for header in headers):
        ds.SyntheticData = "YES"  # PS3.3 C.12.1: what is derived from synthetic data is synthetic
    if values.codes(source, "PatientIdentityRemoved") == ("YES",) and "DeidentificationMethod" not in ds:
        ds.DeidentificationMethod = "Not stated by the source"
    return ds

"""A segmentation of one series as a DICOM SEG, through highdicom (PS3.3 A.51, A.102).

Imported on first use: reading and the API process do without highdicom. What it sees of a source is ``standin``'s.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from reacquire.dicom import codes, copying
from reacquire.dicom.header import Header
from reacquire.dicom.quiet import neutral_warnings
from reacquire.dicom.read import SliceImage
from reacquire.dicom.series import inconsistent, order_series
from reacquire.dicom.standin import adopt, stand_ins
from reacquire.dicom.synthetic import MANUFACTURER, now, series_number
from reacquire.dicom.uids import derive_uid
from reacquire.dicom.write import serialise

SegmentationType = Literal["binary", "labelmap", "fractional"]

# The network's class 1 is breast minus fibroglandular tissue: skin, vessels and nodes too. The label says so.
SEGMENTS = (
    ("Breast, non-FGT (mainly fat)", codes.ADIPOSE_TISSUE, (255, 221, 120)),
    ("Fibroglandular tissue", codes.ORGAN_PARENCHYMA, (0, 160, 200)),
)


@dataclass(frozen=True)
class _Plan:
    """What decides the content: the key of its UIDs, and under which root they lie."""

    key: tuple[Any, ...]
    root: str | None

    def uid(self, kind: str, *key: Any) -> str:
        return derive_uid(kind, *key, *self.key, root=self.root)


def write_segmentation(
    sources: Sequence[SliceImage],
    mask: NDArray[Any],
    *,
    algorithm: tuple[str, str],
    segmentation_type: SegmentationType = "binary",
    uid_root: str | None = None,
    created: datetime | None = None,
) -> bytes:
    """One SEG for the slices of one series.

    Parameters
    ----------
    sources : sequence of N SliceImage
        Slices of one series, in any order.
    mask : (N, R, C) uint8, or (N, R, C, 2) floating
        In the stored orientation of the sources. Labels: 0 background, 1 breast without fibroglandular tissue, 2
        fibroglandular tissue. For "fractional" the probabilities (0 to 1) of 1 and 2 instead. Frames come out sorted
        by position, so readers must go by the references.
    algorithm : (str, str)
        Name and version.
    segmentation_type : {"binary", "labelmap", "fractional"}
        "binary" is what receivers know; Label Map Segmentation Storage is young, and many refuse it.
    uid_root : str or None
        The site's own root for UIDs.
    created : datetime or None
        Time of creation, now (UTC) when None. UIDs do not depend on it.

    Raises
    ------
    DatasetError
        ``inconsistent-series`` or ``duplicate-instance`` when the sources are not one series.
    ValueError
        For a mask of another shape, type or range: the caller's mistake.
    """
    headers = [source.header for source in sources]
    _check_mask(headers, mask, segmentation_type)
    if len(order_series(headers)) != len(headers):
        raise inconsistent("one slice was given twice", "SOPInstanceUID")
    ordered = np.argsort([h.sop_instance_uid for h in headers])  # the same job in another order is the same job
    content = hashlib.sha256(mask[ordered].tobytes()).hexdigest()
    plan = _Plan((sorted(h.sop_instance_uid for h in headers), algorithm, content, segmentation_type), uid_root)
    with neutral_warnings():
        built = _build(headers, mask, algorithm, segmentation_type, plan)
        return serialise(_finish(built, headers, created or now(), uid_root))


def _check_mask(headers: list[Header], mask: NDArray[Any], segmentation_type: SegmentationType) -> None:
    expected: tuple[int, ...] = (len(headers), headers[0].rows, headers[0].columns)
    if segmentation_type == "fractional":
        expected = (*expected, len(SEGMENTS))
        if mask.shape != expected or not np.issubdtype(mask.dtype, np.floating):
            raise ValueError(f"probabilities must be floating of shape {expected}")
        if not (mask.min() >= 0 and mask.max() <= 1):
            raise ValueError("probabilities must lie between 0 and 1")
    elif mask.dtype != np.uint8 or mask.shape != expected or mask.max(initial=0) > len(SEGMENTS):
        raise ValueError(f"labels must be uint8 from 0 to {len(SEGMENTS)} of shape {expected}")


def _build(
    headers: list[Header],
    mask: NDArray[Any],
    algorithm: tuple[str, str],
    segmentation_type: SegmentationType,
    plan: _Plan,
) -> Dataset:
    import highdicom as hd

    name, version = (part[:64] for part in algorithm)
    sources = stand_ins(headers)
    for source in sources:
        if source.SliceThickness is None:  # Type 1C of the volume that the frames make up
            source.SliceThickness = source.get("SpacingBetweenSlices")
    built = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=mask,
        segmentation_type=segmentation_type.upper(),
        segment_descriptions=_descriptions(algorithm, plan),
        series_instance_uid=plan.uid("segmentation series"),
        series_number=8000 + series_number(headers[0].dataset),
        sop_instance_uid=plan.uid("segmentation"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=name,
        software_versions=version,
        device_serial_number="none",  # Type 1 of Enhanced General Equipment; software has no serial number
        content_label="FAT_FGT",
        content_description="Breast and fibroglandular tissue, automatic, research use only",
        series_description="AI SEG breast, fibroglandular tissue",
    )
    if len(sources) == 1 and "SpacingBetweenSlices" not in sources[0]:  # highdicom writes 1 mm where nobody knows it
        for groups in built.SharedFunctionalGroupsSequence:
            groups.PixelMeasuresSequence[0].pop("SpacingBetweenSlices", None)
    return built


def _descriptions(algorithm: tuple[str, str], plan: _Plan) -> list[Any]:
    import highdicom as hd

    identification = hd.AlgorithmIdentificationSequence(
        name=algorithm[0][:64],
        family=Code(*codes.ARTIFICIAL_INTELLIGENCE),
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
            tracking_uid=plan.uid("segment", number),
            tracking_id=label,
            anatomic_regions=[Code(*codes.BREAST)],
            display_color=hd.color.CIELabColor.from_rgb(*colour),
        )
        for number, (label, kind, colour) in enumerate(SEGMENTS, start=1)
    ]


def _finish(built: Dataset, headers: list[Header], created: datetime, uid_root: str | None) -> Dataset:
    """The SEG of the real slices, and what it has to say beyond highdicom."""
    ds = adopt(built, headers, created=created, uid_root=uid_root)
    if copying.sound(headers[0].dataset, "BodyPartExamined") is not None:
        copying.copy_element(headers[0].dataset, ds, "BodyPartExamined")
    lossy = [header.dataset for header in headers if header.lossy]
    if lossy:
        ds.LossyImageCompression = "01"  # must never go back to 00 (PS3.3 C.7.6.1.1.5)
        for keyword in copying.carried(lossy[:1], ("LossyImageCompressionRatio", "LossyImageCompressionMethod")):
            if keyword != copying.CHARSET:
                copying.copy_element(lossy[0], ds, keyword)
    return ds

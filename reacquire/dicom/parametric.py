"""Mean and spread of samples per pixel of one series as a DICOM Parametric Map, through highdicom (PS3.3 A.75).

Imported on first use, as ``segmentation`` is. The values are those of a synthetic image, and the object says so.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from reacquire.dicom import codes, copying
from reacquire.dicom.quiet import neutral_warnings
from reacquire.dicom.read import SliceImage
from reacquire.dicom.series import inconsistent, order_series
from reacquire.dicom.standin import adopt, stand_ins
from reacquire.dicom.synthetic import MANUFACTURER, WARNING_TEXT, now, series_number
from reacquire.dicom.uids import derive_uid
from reacquire.dicom.write import serialise

Quantity = Literal["mean", "spread"]


class _Kind(NamedTuple):
    number: int
    label: str
    meaning: codes.Code
    description: str


_KINDS: dict[Quantity, _Kind] = {
    "mean": _Kind(1, "CF_MEAN", codes.SAMPLE_MEAN, "Mean of synthetic images, not for diagnosis"),
    "spread": _Kind(2, "CF_SPREAD", codes.SAMPLE_SPREAD, "Standard deviation of synthetic images"),
}


def write_parametric_map(
    sources: Sequence[SliceImage],
    values: NDArray[np.float32],
    *,
    quantity: Quantity,
    algorithm: tuple[str, str],
    uid_root: str | None = None,
    created: datetime | None = None,
) -> bytes:
    """One Parametric Map for the slices of one series, in the frame of reference of the source.

    Parameters
    ----------
    sources : sequence of N SliceImage
        Slices of one series, in any order.
    values : (N, R, C) float32
        In the stored orientation of the sources and in their unit: the grey values of the series, after its rescale.
        Frames come out sorted by position, so readers must go by the references.
    quantity : {"mean", "spread"}
    algorithm : (str, str)
        Name and version.
    uid_root, created
        As for ``write_segmentation``.

    Raises
    ------
    DatasetError
        ``inconsistent-series`` or ``duplicate-instance`` when the sources are not one series.
    ValueError
        For values of another shape or type, or that are not finite: the caller's mistake.
    """
    headers = [source.header for source in sources]
    expected = (len(headers), headers[0].rows, headers[0].columns)
    if values.dtype != np.float32 or values.shape != expected or not np.isfinite(values).all():
        raise ValueError(f"values must be finite float32 of shape {expected}")
    if len(order_series(headers)) != len(headers):
        raise inconsistent("one slice was given twice", "SOPInstanceUID")
    ordered = np.argsort([h.sop_instance_uid for h in headers])
    content = hashlib.sha256(values[ordered].tobytes()).hexdigest()
    members = sorted(h.sop_instance_uid for h in headers)
    with neutral_warnings():
        sop_uid = derive_uid("parametric map", quantity, members, algorithm, content, root=uid_root)
        # one series for both maps of one answer would need a key that both share; each is a series of its own
        series_uid = derive_uid("parametric map series", quantity, members, algorithm, content, root=uid_root)
        built = _build(stand_ins(headers), values, quantity, algorithm, (series_uid, sop_uid))
        built.SeriesNumber = 6000 + series_number(headers[0].dataset)
        ds = adopt(built, headers, created=created or now(), uid_root=uid_root)
        ds.SyntheticData = "YES"  # PS3.3 C.12.1
        ds.ImageComments = WARNING_TEXT
        ds.CodingSchemeIdentificationSequence = codes.scheme_identification()
        if copying.sound(headers[0].dataset, "BodyPartExamined") is not None:
            copying.copy_element(headers[0].dataset, ds, "BodyPartExamined")
        ds.Laterality = ""  # Type 2C of a paired body part; a slice holds both sides, for which it has no value
        return serialise(ds)


def _build(
    stand: list[Dataset],
    values: NDArray[np.float32],
    quantity: Quantity,
    algorithm: tuple[str, str],
    uids: tuple[str, str],
) -> Dataset:
    import highdicom as hd

    kind = _KINDS[quantity]
    low, high = (float(v) for v in np.percentile(values, (0 if quantity == "spread" else 1, 99.5)))
    mapping = hd.pm.RealWorldValueMapping(
        lut_label=kind.label,
        lut_explanation=kind.meaning[2],
        unit=Code(*codes.UNITS[None]),  # MR grey values have none
        value_range=(float(values.min()), float(values.max())),
        slope=1.0,
        intercept=0.0,
        quantity_definition=Code(*kind.meaning),
    )
    name, version = (part[:64] for part in algorithm)
    for source in stand:
        if source.SliceThickness is None:  # Type 1C of the volume that the frames make up
            source.SliceThickness = source.get("SpacingBetweenSlices")
    return hd.pm.ParametricMap(
        source_images=stand,
        pixel_array=values,
        series_instance_uid=uids[0],
        series_number=6000,
        sop_instance_uid=uids[1],
        instance_number=kind.number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=name,
        software_versions=version,
        device_serial_number="none",  # Type 1 of Enhanced General Equipment; software has no serial number
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        window_center=(low + high) / 2,
        window_width=max(high - low, 1e-3),
        content_label=kind.label,
        content_description=kind.description,
        series_description=f"SYNTHETIC counterfactual: {quantity} of samples",
    )

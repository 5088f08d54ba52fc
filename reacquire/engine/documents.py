"""The parts of the JSON document that goes with every result: what was read, found, replaced and measured."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reacquire.bundles.store import BundleInfo
from reacquire.dicom import SliceImage
from reacquire.engine.judges import CLASSES
from reacquire.engine.work import Prediction, Raw, Work
from reacquire.errors import DatasetError
from reacquire.iap import ResolvedTarget, Support

MM3_PER_ML = 1000.0


def header_value(work: Work, keyword: str) -> dict[str, Any]:
    """The header's value and, where it can't be compared, the reason."""
    values = [slice_.iap.get(keyword) for slice_ in work.slices]
    if any(value is None for value in values):
        return {"header": None, "header_note": "absent or empty in the header"}
    if any(value != values[0] for value in values):
        return {"header": None, "header_note": "not the same on every slice"}
    if keyword not in work.recognised:
        return {"header": values[0], "header_note": "outside the vocabulary of the models"}
    return {"header": values[0], "header_note": None}


def prediction_document(prediction: Prediction) -> dict[str, Any]:
    return {"values": dict(prediction.values), "probabilities": dict(prediction.probabilities)}


def common(work: Work, bundle: BundleInfo) -> dict[str, Any]:
    warnings = sorted({warning for slice_ in work.slices for warning in slice_.warnings})
    return {
        "operation": work.spec.operation,
        "slices_read": len(work.slices),
        "order": "feet to head",
        "instance_numbers": [_instance_number(slice_) for slice_ in work.slices],
        "bundle": {"name": bundle.name, "version": bundle.version, "sha256": bundle.sha256},
        "warnings": warnings,
        "notice": "Research use only; not for diagnosis. " + bundle.manifest.training_data,
    }


def far_from_training(support: Support | None) -> list[str]:
    """One warning per reason why the target lies outside what the weights were trained on."""
    return [] if support is None else [f"target: {note}" for note in support.notes]


def uncertainty(work: Work, raw: Raw) -> dict[str, Any] | None:
    """How far several samples differ, against how much they change, over the breast as segmented on the source."""
    if raw.mean is None or raw.spread is None or raw.logits is None:
        return None
    breast = raw.logits.argmax(1) > 0
    change = (raw.mean - np.stack([image.values for image in work.images]))[breast]
    found = breast.any()
    return {
        "samples": work.spec.options.samples,
        "median_spread": round(float(np.median(raw.spread[breast])), 4) if found else None,
        "median_change": round(float(np.median(np.abs(change))), 4) if found else None,
        "measured_on": "the breast on the model grid, where the 10th percentile is 0 and the 99th 1",
        "note": "what the samples share in error does not show: a small spread is not a small error",
    }


def replaced(work: Work, target: ResolvedTarget) -> list[str]:
    """One warning per parameter whose own header value the models do not know, so that another one took its place."""
    foreign = {k for slice_ in work.slices for k in slice_.iap} - work.recognised.keys()
    return [
        f"{keyword}: the header's value is outside what the models know or differs between slices; used: {source}"
        for keyword, source in target.provenance.items()
        if keyword in foreign and source != "target"
    ]


def _instance_number(slice_: SliceImage) -> int | None:
    """InstanceNumber, which says which slice a list's entry belongs to."""
    text = str(slice_.header.dataset.get("InstanceNumber", "")).strip()
    return int(text) if text.isdecimal() else None


def volumes(slices: tuple[SliceImage, ...], labels: list[NDArray[np.uint8]]) -> Mapping[str, Any]:
    """Areas per slice (mm2) and volumes (mL, area x slice spacing), and the fibroglandular share of the breast."""
    areas = np.array(
        [
            [(mask == k).sum() * np.prod(s.pixel_spacing_mm) for k in (1, 2)]
            for s, mask in zip(slices, labels, strict=True)
        ]
    )
    total = areas.sum(0)
    spacing_mm = _slice_spacing_mm(slices)
    volumes = total * spacing_mm / MM3_PER_ML if spacing_mm else None
    breast = total.sum()
    return {
        "area_mm2": {name: [round(float(a), 1) for a in areas[:, i]] for i, name in enumerate(CLASSES[1:])},
        "volume_ml": None
        if volumes is None
        else {name: round(float(v), 2) for name, v in zip(CLASSES[1:], volumes, strict=True)},
        "fibroglandular_share": round(float(total[1] / breast), 4) if breast else None,
        "found": bool(breast),
        "note": "breast-non-fgt is mainly fat but holds skin, vessels and nodes as well",
    }


def _slice_spacing_mm(slices: tuple[SliceImage, ...]) -> float | None:
    """Mean distance of neighbouring slices; the header's own for a single one, None where it has none."""
    if len(slices) == 1:
        try:
            return slices[0].slice_spacing_mm
        except DatasetError:
            return None
    first, last = (np.asarray(slices[i].header.geometry.ipp, dtype=float) for i in (0, -1))
    return float(np.linalg.norm(last - first)) / (len(slices) - 1)

"""Post: what the networks said, back on the native grid, as DICOM objects, pictures and one JSON document."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reacquire import __version__
from reacquire.bundles.store import BundleInfo
from reacquire.dicom import Provenance, SliceImage, series_window, write_counterfactual, write_segmentation
from reacquire.engine.judges import CLASSES
from reacquire.engine.preview import comparison_png, overlay_png
from reacquire.engine.work import Outcome, Prediction, Raw, Work
from reacquire.errors import DatasetError
from reacquire.iap import Categorical, ResolvedTarget, Vocabulary
from reacquire.imaging import Preprocessing

MM3_PER_ML = 1000.0


def finish_counterfactual(work: Work, raw: Raw, bundle: BundleInfo, preprocessing: Preprocessing) -> Outcome:
    """One derived MR image per slice, a preview of the middle one, and the evidence that the edit worked."""
    if raw.edited is None or raw.target is None or raw.prediction is None or raw.prediction_after is None:
        raise ValueError("the work was not run as a counterfactual")
    natives = [
        preprocessing.apply_change(slice_.canonical(), image, after, stored_range=slice_.stored_range)
        for slice_, image, after in zip(work.slices, work.images, raw.edited, strict=True)
    ]
    window = series_window(natives)
    options = work.spec.options
    made_with = {**options.model_dump(exclude_none=True), **raw.settings}
    provenance = Provenance(
        bundle_name=bundle.name,
        bundle_version=bundle.version,
        bundle_sha256=bundle.sha256,
        service_version=__version__,
        target=dict(raw.target.values),
        source=dict(work.recognised),
        provenance=dict(raw.target.provenance),
        options={**made_with, "window": window},  # what the pixels and their display depend on is part of the UID
    )
    artifacts = {
        _name("counterfactual", number, len(natives)): write_counterfactual(
            slice_,
            slice_.from_canonical(native),
            provenance=provenance,
            window=window,
            header_values=options.header_values,
            watermark=options.watermark,
        )
        for number, (slice_, native) in enumerate(zip(work.slices, natives, strict=True), start=1)
    }
    middle = len(natives) // 2
    artifacts["preview.png"] = comparison_png(work.slices[middle].canonical(), natives[middle])
    common = _common(work, bundle)
    document = {
        **common,
        "warnings": common["warnings"] + _replaced(work, raw.target),
        "target": dict(raw.target.values),
        "provenance": dict(raw.target.provenance),
        "options": made_with,
        "predicted": {
            "before": _prediction(raw.prediction),
            "after": _prediction(raw.prediction_after),
        },
        "evidence": {
            "measured_on": "the model grid, before the change was put back on the native one",
            "ssim": [round(s, 4) for s in raw.ssim],
            "segmentation_dice_before_after": dict(raw.anatomy_dice),
        },
        "synthetic": True,
    }
    return Outcome(artifacts, document)


def finish_segmentation(work: Work, raw: Raw, bundle: BundleInfo, preprocessing: Preprocessing) -> Outcome:
    """One SEG for the series, an overlay of its middle slice, areas and volumes."""
    if raw.logits is None:
        raise ValueError("the work was not run as a segmentation")
    labels = [
        preprocessing.labels_to_native(logits, slice_.canonical().shape)
        for slice_, logits in zip(work.slices, raw.logits, strict=True)
    ]
    stored = np.stack([slice_.from_canonical(mask) for slice_, mask in zip(work.slices, labels, strict=True)])
    algorithm = (f"Reacquire {bundle.name}", f"{bundle.version}+{bundle.sha256[:12]}")
    middle = len(labels) // 2
    artifacts = {
        "segmentation.dcm": write_segmentation(work.slices, stored, algorithm=algorithm),
        "preview.png": overlay_png(work.slices[middle].canonical(), labels[middle]),
    }
    document = {**_common(work, bundle), "classes": list(CLASSES), **_volumes(work.slices, labels)}
    return Outcome(artifacts, document)


def finish_prediction(work: Work, raw: Raw, bundle: BundleInfo, vocabulary: Vocabulary) -> Outcome:
    """Each parameter as the pixels show it, beside what the header says and whether the vocabulary knows that."""
    if raw.prediction is None:
        raise ValueError("the work was not run as a prediction")
    parameters = {
        parameter.keyword: {
            "value": raw.prediction.values[parameter.keyword],
            "unit": parameter.unit,
            "probability": raw.prediction.probabilities.get(parameter.keyword),
            **_header(work, parameter.keyword),
        }
        for parameter in vocabulary.parameters
        if parameter.keyword in raw.prediction.values
    }
    slices = [dict(prediction.values) for prediction in raw.predictions]
    kinds = {p.keyword: "categorical" if isinstance(p, Categorical) else "continuous" for p in vocabulary.parameters}
    for keyword, entry in parameters.items():
        entry["kind"] = kinds[keyword]
    return Outcome({}, {**_common(work, bundle), "parameters": parameters, "slices": slices})


def _header(work: Work, keyword: str) -> dict[str, Any]:
    """The header's value and, where it can't be compared, the reason."""
    values = [slice_.iap.get(keyword) for slice_ in work.slices]
    if any(value is None for value in values):
        return {"header": None, "header_note": "absent or empty in the header"}
    if any(value != values[0] for value in values):
        return {"header": None, "header_note": "not the same on every slice"}
    if keyword not in work.recognised:
        return {"header": values[0], "header_note": "outside the vocabulary of the models"}
    return {"header": values[0], "header_note": None}


def _prediction(prediction: Prediction) -> dict[str, Any]:
    return {"values": dict(prediction.values), "probabilities": dict(prediction.probabilities)}


def _common(work: Work, bundle: BundleInfo) -> dict[str, Any]:
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


def _replaced(work: Work, target: ResolvedTarget) -> list[str]:
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


def _volumes(slices: tuple[SliceImage, ...], labels: list[NDArray[np.uint8]]) -> Mapping[str, Any]:
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


def _name(stem: str, number: int, count: int) -> str:
    return f"{stem}.dcm" if count == 1 else f"{stem}-{number:04d}.dcm"

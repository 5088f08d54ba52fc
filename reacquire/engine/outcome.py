"""Post: what the networks said, back on the native grid, as DICOM objects, pictures and one JSON document."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reacquire import __version__
from reacquire.bundles.store import BundleInfo
from reacquire.dicom import (
    Finding,
    Form,
    Provenance,
    SliceImage,
    write_parametric_map,
    write_report,
    write_segmentation,
    write_series,
)
from reacquire.dicom.padding import keep_padding
from reacquire.dicom.parametric import Quantity
from reacquire.dicom.watermark import burn_in
from reacquire.engine.documents import (
    common,
    far_from_training,
    header_value,
    prediction_document,
    replaced,
    uncertainty,
    volumes,
)
from reacquire.engine.judges import CLASSES
from reacquire.engine.preview import comparison_png, overlay_png
from reacquire.engine.work import Outcome, Raw, Work
from reacquire.iap import Categorical, Vocabulary
from reacquire.imaging import Preprocessing
from reacquire.jobs.spec import Options

NOT_OF_COUNTERFACTUALS = {"segmentation_type", "report", "samples"}  # options that leave no trace in a counterfactual


def finish_counterfactual(
    work: Work, raw: Raw, bundle: BundleInfo, preprocessing: Preprocessing, *, uid_root: str | None = None
) -> Outcome:
    """One derived image per slice, a preview of the middle one, and the evidence that the edit worked."""
    if raw.edited is None or raw.target is None or raw.prediction is None or raw.prediction_after is None:
        raise ValueError("the work was not run as a counterfactual")
    natives = [
        _put_back(
            slice_, preprocessing.apply_change(slice_.canonical(), image, after, stored_range=slice_.stored_range)
        )
        for slice_, image, after in zip(work.slices, work.images, raw.edited, strict=True)
    ]
    options = work.spec.options
    made_with = {**options.model_dump(exclude_none=True, exclude=NOT_OF_COUNTERFACTUALS), **raw.settings}
    provenance = Provenance(
        bundle_name=bundle.name,
        bundle_version=bundle.version,
        bundle_sha256=bundle.sha256,
        service_version=__version__,
        target=dict(raw.target.values),
        source=dict(work.recognised),
        provenance=dict(raw.target.provenance),
        options=made_with,
    )
    files = write_series(work.slices, natives, provenance=provenance, form=_form(options, uid_root))
    artifacts = {_name("counterfactual", number, len(files)): data for number, data in enumerate(files, start=1)}
    middle = work.slices[len(natives) // 2]
    after = middle.orientation.to_canonical(natives[len(natives) // 2])
    artifacts["preview.png"] = comparison_png(middle.canonical(), after)
    artifacts |= _maps(work, raw, bundle, preprocessing, uid_root)
    shared = common(work, bundle)
    document = {
        **shared,
        "warnings": shared["warnings"] + replaced(work, raw.target) + far_from_training(raw.support),
        "target": dict(raw.target.values),
        "provenance": dict(raw.target.provenance),
        "support": None if raw.support is None else raw.support.score,
        "options": made_with,
        "predicted": {
            "before": prediction_document(raw.prediction),
            "after": prediction_document(raw.prediction_after),
        },
        "evidence": {
            "measured_on": "the model grid, before the change was put back on the native one",
            "ssim": [round(s, 4) for s in raw.ssim],
            "segmentation_dice_before_after": dict(raw.anatomy_dice),
        },
        "uncertainty": uncertainty(work, raw),
        "synthetic": True,
    }
    return Outcome(artifacts, document)


def _maps(
    work: Work, raw: Raw, bundle: BundleInfo, preprocessing: Preprocessing, uid_root: str | None
) -> dict[str, bytes]:
    """Mean and spread of several samples on the native grid, where they were asked for."""
    if raw.mean is None or raw.spread is None:
        return {}
    triples = list(zip(work.slices, work.images, raw.mean, raw.spread, strict=True))
    native: dict[Quantity, list[NDArray[Any]]] = {
        "mean": [preprocessing.add_change(s.canonical(), image, mean) for s, image, mean, _ in triples],
        "spread": [preprocessing.deviation_to_native(s.canonical().shape, image, sd) for s, image, _, sd in triples],
    }
    maps = {}
    for quantity, values in native.items():
        stored = [s.from_canonical(v).astype(np.float32) for s, v in zip(work.slices, values, strict=True)]
        if quantity == "mean" and work.spec.options.watermark:  # it looks like a scan, so it says what it is
            bright = float(np.percentile(np.stack(stored), 99.5))
            stored = [burn_in(image, bright=bright) for image in stored]
        maps[f"{quantity}.dcm"] = write_parametric_map(
            work.slices,
            np.stack(stored),
            quantity=quantity,
            algorithm=_algorithm(bundle),
            uid_root=uid_root,
        )
    return maps


def _put_back(slice_: SliceImage, canonical: NDArray[np.int32]) -> NDArray[np.int32]:
    """An edited image in the slice's stored orientation, its padding untouched."""
    return keep_padding(slice_, slice_.from_canonical(canonical))


def _form(options: Options, uid_root: str | None) -> Form:
    return Form(options.header_values, options.watermark, options.output_class, uid_root)


def finish_segmentation(
    work: Work, raw: Raw, bundle: BundleInfo, preprocessing: Preprocessing, *, uid_root: str | None = None
) -> Outcome:
    """One SEG for the series, an overlay of its middle slice, areas and volumes."""
    if raw.logits is None:
        raise ValueError("the work was not run as a segmentation")
    labels = [
        preprocessing.labels_to_native(logits, slice_.canonical().shape)
        for slice_, logits in zip(work.slices, raw.logits, strict=True)
    ]
    kind = work.spec.options.segmentation_type
    if kind == "fractional":
        mask = np.stack(
            [_probabilities(s, logits, preprocessing) for s, logits in zip(work.slices, raw.logits, strict=True)]
        )
    else:
        mask = np.stack([slice_.from_canonical(label) for slice_, label in zip(work.slices, labels, strict=True)])
    written = write_segmentation(
        work.slices, mask, algorithm=_algorithm(bundle), segmentation_type=kind, uid_root=uid_root
    )
    middle = len(labels) // 2
    preview = overlay_png(work.slices[middle].canonical(), labels[middle])
    document = {**common(work, bundle), "classes": list(CLASSES), **volumes(work.slices, labels)}
    return Outcome({"segmentation.dcm": written, "preview.png": preview}, document)


def _probabilities(
    slice_: SliceImage, logits: NDArray[np.float32], preprocessing: Preprocessing
) -> NDArray[np.float32]:
    """(R, C, 2): the probability of each tissue class in the slice's stored orientation."""
    canonical = preprocessing.probabilities_to_native(logits, slice_.canonical().shape)[1:]
    return np.moveaxis(slice_.from_canonical(canonical), 0, -1)


def _algorithm(bundle: BundleInfo) -> tuple[str, str]:
    return f"Reacquire {bundle.name}", f"{bundle.version}+{bundle.sha256[:12]}"


def finish_prediction(
    work: Work, raw: Raw, bundle: BundleInfo, vocabulary: Vocabulary, *, uid_root: str | None = None
) -> Outcome:
    """Each parameter as the pixels show it, beside what the header says and whether the vocabulary knows that."""
    if raw.prediction is None:
        raise ValueError("the work was not run as a prediction")
    parameters = {
        parameter.keyword: {
            "value": raw.prediction.values[parameter.keyword],
            "unit": parameter.unit,
            "probability": raw.prediction.probabilities.get(parameter.keyword),
            **header_value(work, parameter.keyword),
        }
        for parameter in vocabulary.parameters
        if parameter.keyword in raw.prediction.values
    }
    slices = [dict(prediction.values) for prediction in raw.predictions]
    kinds = {p.keyword: "categorical" if isinstance(p, Categorical) else "continuous" for p in vocabulary.parameters}
    for keyword, entry in parameters.items():
        entry["kind"] = kinds[keyword]
    artifacts = {}
    if work.spec.options.report:
        findings = [
            Finding(keyword, entry["value"], entry["probability"], entry["header"], entry["unit"])
            for keyword, entry in parameters.items()
        ]
        settings = {"weights sha256": bundle.sha256, "vocabulary": vocabulary.name}
        artifacts["report.dcm"] = write_report(
            work.slices, findings, algorithm=_algorithm(bundle), settings=settings, uid_root=uid_root
        )
    return Outcome(artifacts, {**common(work, bundle), "parameters": parameters, "slices": slices})


def _name(stem: str, number: int, count: int) -> str:
    return f"{stem}.dcm" if count == 1 else f"{stem}-{number:04d}.dcm"

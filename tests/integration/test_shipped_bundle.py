"""The weights that ship: sound, small, honest about their origin, and better than doing nothing on a known case."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from examples.demo import TARGET
from examples.phantom_case import phantom_case, score
from reacquire.bundles.store import BundleInfo, open_bundle
from reacquire.dicom import read_slice
from reacquire.engine import CLASSES, Pipeline, load_pipeline
from reacquire.jobs.spec import OperationSpec, Options

FOLDER = Path(__file__).resolve().parents[2] / "bundles" / "phantom-v1"
LARGEST_BYTES = 40_000_000


@pytest.fixture(scope="module")
def bundle() -> BundleInfo:
    return open_bundle(FOLDER)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load_pipeline(FOLDER)


def test_it_is_small(bundle: BundleInfo) -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= LARGEST_BYTES


def test_it_says_that_no_patient_data_was_seen(bundle: BundleInfo) -> None:
    assert not bundle.manifest.patient_data
    for text in (bundle.manifest.training_data, (FOLDER / "docs" / "README.md").read_text(encoding="utf-8")):
        assert "no patient data was seen" in text


def test_it_carries_what_was_measured_on_held_out_women(bundle: BundleInfo) -> None:
    assert bundle.metrics["cohort"]["women"] >= 20
    assert {"gap_closed", "gap_closed_ci_low", "gap_ceiling"} <= bundle.metrics["editor"].keys()
    assert {"accuracy_Manufacturer", "mse_EchoTime"} <= bundle.metrics["predictor"].keys()
    assert "dice_fibroglandular" in bundle.metrics["segmenter"]


def test_it_names_the_categories_it_never_saw(bundle: BundleInfo) -> None:
    assert "Trio" in bundle.unseen["ManufacturerModelName"]


def test_a_known_case_is_better_than_doing_nothing(pipeline: Pipeline) -> None:
    case = phantom_case(TARGET)
    assert case.truth is not None
    spec = OperationSpec(operation="counterfactual", target=TARGET, options=Options(allow_synthetic=True))
    work = pipeline.prepare(spec, [case.source_dicom])
    (raw,) = pipeline.run([work])
    derived = pipeline.finish(work, raw).artifacts["counterfactual.dcm"]
    source, result = (read_slice(data, allow_synthetic=True) for data in (case.source_dicom, derived))
    assert score(case.truth, source, result)["gap_closed"] > 0.5
    plain = replace(pipeline, editor=replace(pipeline.editor, tone=None))
    (untoned,) = plain.run([plain.prepare(spec, [case.source_dicom])])
    gland = torch.from_numpy(raw.logits).argmax(1).numpy() == CLASSES.index("fibroglandular")
    assert (raw.edited - untoned.edited)[gland].mean() > 0.05  # the editor alone darkens it with the fat
    assert raw.prediction.values["Manufacturer"] == "SIEMENS"
    assert raw.prediction_after.values["Manufacturer"] == "GE MEDICAL SYSTEMS"

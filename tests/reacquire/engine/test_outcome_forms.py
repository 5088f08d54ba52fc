"""In which form results leave the engine: the options and the site's UID root, through the whole pipeline."""

import io
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from builders import IMPLICIT, make_mr, make_pixels, make_series
from tiny_bundle import pack_tiny

from reacquire.engine import Pipeline, load_pipeline
from reacquire.jobs.spec import OperationSpec, Options

ROOT = "1.2.826.0.1.3680043.10.99999"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_tiny(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Pipeline:
    return load_pipeline(folder, uid_root=ROOT)


def artifacts(pipeline: Pipeline, operation: str, *files: bytes, **options) -> dict[str, bytes]:
    target = {"EchoTime": 2.4} if operation == "counterfactual" else {}
    spec = OperationSpec(operation=operation, target=target, options=Options(**options))
    work = pipeline.prepare(spec, files or [make_mr()])
    (raw,) = pipeline.run([work])
    return dict(pipeline.finish(work, raw).artifacts)


def read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data))


@pytest.mark.parametrize(
    ("operation", "options", "name"),
    [
        ("counterfactual", {}, "counterfactual.dcm"),
        ("counterfactual", {"output_class": "secondary-capture"}, "counterfactual.dcm"),
        ("segment", {}, "segmentation.dcm"),
        ("predict-iap", {"report": True}, "report.dcm"),
    ],
)
def test_results_lie_under_the_sites_root(folder, pipeline, operation, options, name):
    ds = read(artifacts(pipeline, operation, **options)[name])
    assert ds.SOPInstanceUID.startswith(f"{ROOT}.")
    assert ds.SeriesInstanceUID.startswith(f"{ROOT}.")
    plain = read(artifacts(load_pipeline(folder), operation, **options)[name])
    assert plain.SOPInstanceUID.startswith("2.25.")


def test_a_site_may_have_secondary_captures(pipeline):
    files = artifacts(pipeline, "counterfactual", *make_series(2), output_class="secondary-capture")
    classes = {read(data).SOPClassUID for name, data in files.items() if name.endswith(".dcm")}
    assert classes == {"1.2.840.10008.5.1.4.1.1.7"}


def test_options_of_other_operations_leave_no_trace_in_a_counterfactual(pipeline):
    plain = read(artifacts(pipeline, "counterfactual")["counterfactual.dcm"])
    other = artifacts(pipeline, "counterfactual", segmentation_type="labelmap", report=True)["counterfactual.dcm"]
    assert plain.SOPInstanceUID == read(other).SOPInstanceUID


def test_padding_is_no_tissue_and_stays(pipeline):
    pixels = make_pixels()
    pixels[:, :4] = 7
    derived = read(
        artifacts(pipeline, "counterfactual", make_mr(pixels, syntax=IMPLICIT, PixelPaddingValue=7))[
            "counterfactual.dcm"
        ]
    )
    assert (derived.pixel_array[:, :4] == 7).all()
    assert (derived.pixel_array[:, 4:] != pixels[:, 4:]).any()


def test_the_segmentation_comes_in_three_types(pipeline):
    files = make_series(2)
    written = {
        kind: artifacts(pipeline, "segment", *files, segmentation_type=kind)["segmentation.dcm"]
        for kind in ("binary", "labelmap", "fractional")
    }
    assert {kind: read(data).SegmentationType for kind, data in written.items()} == {k: k.upper() for k in written}
    uids = [read(data).SOPInstanceUID for data in files]
    labels = [
        hd.seg.segread(io.BytesIO(written[kind])).get_pixels_by_source_instance(
            uids, combine_segments=True, assert_missing_frames_are_empty=True
        )
        for kind in ("binary", "labelmap")
    ]
    assert np.array_equal(*labels)
    odds = hd.seg.segread(io.BytesIO(written["fractional"])).get_pixels_by_source_instance(
        uids, assert_missing_frames_are_empty=True
    )
    every = np.concatenate([1 - odds.sum(-1, keepdims=True), odds], axis=-1)  # background, then the two classes
    chosen = np.take_along_axis(every, labels[0][..., None].astype(int), axis=-1)[..., 0]
    assert (every.max(-1) - chosen).max() <= 2 / 255  # the label is the most probable class, up to quantisation


def test_a_report_is_written_when_asked_for(pipeline):
    assert artifacts(pipeline, "predict-iap") == {}
    data = artifacts(pipeline, "predict-iap", make_mr(ScanOptions=""), report=True)["report.dcm"]
    (group,) = hd.sr.srread(io.BytesIO(data)).content.get_image_measurement_groups()
    found = [(m.name.meaning, m.derivation.value) for m in group.get_measurements()]
    assert ("Echo Time", "PRED") in found
    assert ("Echo Time", "HDR") in found
    evaluated = [e.name.value for e in group.get_qualitative_evaluations()]
    assert evaluated.count("ScanOptions") == 1  # the header has none
    assert evaluated.count("113879") == 2

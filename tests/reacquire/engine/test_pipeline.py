"""Bytes in, bytes out: the way of a slice through the engine, with small networks of random weights."""

import io
import math
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from builders import make_mr, make_pixels, make_series
from PIL import Image
from tiny_bundle import pack_tiny

from reacquire.dicom import read_slice
from reacquire.engine import CLASSES, Pipeline, direct, load_pipeline
from reacquire.errors import InputError, PixelError, TargetError
from reacquire.jobs.spec import OperationSpec, Options


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return load_pipeline(pack_tiny(tmp_path_factory.mktemp("bundle")))


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return load_pipeline(pack_tiny(tmp_path_factory.mktemp("bundle"), "sdedit"))


def counterfactual(target: dict | None = None, **options) -> OperationSpec:
    return OperationSpec(operation="counterfactual", target=target or {"EchoTime": 2.4}, options=Options(**options))


def finished(pipeline: Pipeline, spec: OperationSpec, *files: bytes):
    work = pipeline.prepare(spec, files or [make_mr()])
    (raw,) = pipeline.run([work])
    return pipeline.finish(work, raw)


def test_a_counterfactual_is_a_derived_image_on_the_native_grid(pipeline: Pipeline) -> None:
    source = make_mr()
    outcome = finished(pipeline, counterfactual(), source)
    derived, original = (pydicom.dcmread(io.BytesIO(b)) for b in (outcome.artifacts["counterfactual.dcm"], source))
    assert derived.SyntheticData == "YES"
    assert derived.pixel_array.shape == original.pixel_array.shape
    assert (derived.pixel_array != original.pixel_array).any()
    assert outcome.document["target"]["EchoTime"] == 2.4
    assert outcome.document["provenance"]["EchoTime"] == "target"
    assert outcome.document["predicted"]["after"]["values"].keys() == set(pipeline.vocabulary.keywords)
    assert Image.open(io.BytesIO(outcome.artifacts["preview.png"])).size[0] == 3 * original.Columns


def test_the_same_seed_gives_the_same_pixels_and_another_seed_other_noise(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    # random weights see hardly any difference in noise between two acquisitions
    monkeypatch.setattr(direct, "missing_noise", lambda wanted, _: torch.full_like(wanted, 0.05))

    def pixels(seed: int) -> np.ndarray:
        outcome = finished(pipeline, counterfactual(seed=seed, noise=True))
        return read_slice(outcome.artifacts["counterfactual.dcm"], allow_synthetic=True).pixels

    assert np.array_equal(pixels(1), pixels(1))
    assert not np.array_equal(pixels(1), pixels(2))


def test_a_result_does_not_depend_on_its_batch_mates(pipeline: Pipeline) -> None:
    works = [pipeline.prepare(counterfactual(seed=s), [make_mr(make_pixels() * s)]) for s in (1, 2, 3)]
    together = pipeline.run(works)
    for work, raw in zip(works, together, strict=True):
        (alone,) = pipeline.run([work])
        np.testing.assert_allclose(raw.edited, alone.edited, atol=1e-4)


def test_a_dropped_work_gives_none_and_spares_its_mates(paper: Pipeline) -> None:
    works = [paper.prepare(counterfactual(seed=s, steps=3), [make_mr(make_pixels() * s)]) for s in (1, 2)]
    seen = []

    def on_step(done: int, total: int) -> set[int]:
        seen.append((done, total))
        return {0} if done >= 1 else set()

    first, second = paper.run(works, on_step)
    (alone,) = paper.run(works[1:])
    assert first is None
    np.testing.assert_allclose(second.edited, alone.edited, atol=1e-4)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_slice_gets_the_same_pixels_alone_and_in_a_series(pipeline: Pipeline) -> None:
    series = make_series(3)
    together = finished(pipeline, counterfactual(seed=5), *series).artifacts["counterfactual-0003.dcm"]
    alone = finished(pipeline, counterfactual(seed=5), series[2]).artifacts["counterfactual.dcm"]
    one, other = (pydicom.dcmread(io.BytesIO(data)) for data in (together, alone))
    assert np.abs(one.pixel_array.astype(int) - other.pixel_array).max() <= 1
    assert (one.SOPInstanceUID == other.SOPInstanceUID) == (one.WindowCenter == other.WindowCenter)


def test_everything_that_decides_the_pixels_is_recorded(pipeline: Pipeline) -> None:
    made_with = finished(pipeline, counterfactual(seed=5)).document["options"]
    assert {"seed": 5, "method": "direct", "noise": True}.items() <= made_with.items()


def test_everything_that_decides_the_papers_pixels_is_recorded(paper: Pipeline) -> None:
    made_with = finished(paper, counterfactual(seed=5)).document["options"]
    expected = {"seed": 5, "sampler": "ancestral", "steps": 2, "guidance_scale": 3.0, "method": "sdedit", "start": 49}
    assert expected.items() <= made_with.items()


def test_more_steps_than_timesteps_are_refused(paper: Pipeline) -> None:
    paper.prepare(counterfactual(sampler="ddim", steps=50), [make_mr()])
    with pytest.raises(InputError, match="at most 50"):
        paper.prepare(counterfactual(sampler="ddim", steps=51), [make_mr()])


@pytest.mark.parametrize("options", [{"steps": 2}, {"sampler": "ddim"}, {"guidance_scale": 3.0}], ids=str)
def test_a_direct_edit_refuses_the_options_of_diffusion(pipeline: Pipeline, options: dict) -> None:
    with pytest.raises(InputError, match="leave it out") as caught:
        pipeline.prepare(counterfactual(**options), [make_mr()])
    assert caught.value.where == f"/options/{next(iter(options))}"


def test_a_direct_edit_takes_the_options_that_are_true_of_it(pipeline: Pipeline) -> None:
    plain, spelt = (
        pipeline.run([pipeline.prepare(counterfactual(**options), [make_mr()])])[0].edited
        for options in ({}, {"steps": 1, "guidance_scale": 1.0})
    )
    np.testing.assert_array_equal(plain, spelt)


def test_the_papers_method_refuses_noise(paper: Pipeline) -> None:
    with pytest.raises(InputError, match="noise"):
        paper.prepare(counterfactual(noise=True), [make_mr()])


def test_the_source_parameters_come_from_the_header_then_from_the_predictor(pipeline: Pipeline) -> None:
    (known,) = pipeline.run([pipeline.prepare(counterfactual(), [make_mr()])])
    assert known.source.provenance["EchoTime"] == "header"
    (foreign,) = pipeline.run([pipeline.prepare(counterfactual(), [make_mr(ManufacturerModelName="Aera")])])
    assert foreign.source.provenance["ManufacturerModelName"] in ("predicted", "unknown")


def test_a_target_far_from_training_is_warned_of(pipeline: Pipeline) -> None:
    near, far = (finished(pipeline, counterfactual({"FlipAngle": angle})).document for angle in (10.0, 7.0))
    assert near["support"] == 1
    assert far["support"] < 1
    assert any("FlipAngle" in warning for warning in far["warnings"])
    assert not any("target:" in warning for warning in near["warnings"])


def test_the_header_of_the_source_reaches_the_editor(pipeline: Pipeline) -> None:
    target = {"EchoTime": 2.4, "FlipAngle": 10.0}
    one, other = (
        pipeline.run([pipeline.prepare(counterfactual(target), [make_mr(FlipAngle=angle)])])[0].edited
        for angle in (8.0, 12.0)
    )
    assert not np.allclose(one, other)


def test_a_category_that_was_never_shown_is_refused_as_target_and_unknown_as_header(tmp_path: Path) -> None:
    pipeline = load_pipeline(pack_tiny(tmp_path, unseen={"ManufacturerModelName": ["Trio", "Skyra"]}))
    with pytest.raises(TargetError, match="never shown"):
        pipeline.prepare(counterfactual({"ManufacturerModelName": "Trio"}), [make_mr()])
    work = pipeline.prepare(counterfactual(), [make_mr(ManufacturerModelName="Skyra")])
    assert "ManufacturerModelName" not in work.recognised


def test_guidance_changes_the_result(paper: Pipeline) -> None:
    plain, guided = (paper.run([paper.prepare(counterfactual(guidance_scale=w), [make_mr()])])[0] for w in (1.0, 3.0))
    assert not np.allclose(plain.edited, guided.edited)


@pytest.mark.parametrize("sampler", ["ddim", "ancestral", "dpmpp-2m"])
def test_every_sampler_gives_a_finite_image(paper: Pipeline, sampler: str) -> None:
    (raw,) = paper.run([paper.prepare(counterfactual(sampler=sampler), [make_mr()])])
    assert np.isfinite(raw.edited).all()


def test_a_series_is_edited_as_one_job(pipeline: Pipeline) -> None:
    first, second, third = make_series(3)
    outcome = finished(pipeline, counterfactual(), third, first, second)
    derived = [pydicom.dcmread(io.BytesIO(outcome.artifacts[f"counterfactual-000{i}.dcm"])) for i in (1, 2, 3)]
    sources = [pydicom.dcmread(io.BytesIO(data)) for data in (first, second, third)]
    assert [d.ImagePositionPatient for d in derived] == [s.ImagePositionPatient for s in sources]
    assert len({d.SeriesInstanceUID for d in derived}) == 1
    assert len({(d.WindowCenter, d.WindowWidth) for d in derived}) == 1


def test_a_segmentation_counts_what_it_painted(pipeline: Pipeline) -> None:
    outcome = finished(pipeline, OperationSpec(operation="segment"))
    seg = pydicom.dcmread(io.BytesIO(outcome.artifacts["segmentation.dcm"]))
    assert seg.Modality == "SEG"
    frames = np.reshape(seg.pixel_array, (-1, seg.Rows, seg.Columns))
    numbers = [f.SegmentIdentificationSequence[0].ReferencedSegmentNumber for f in seg.PerFrameFunctionalGroupsSequence]
    pixel_mm2 = math.prod(pydicom.dcmread(io.BytesIO(make_mr())).PixelSpacing)
    for number, name in enumerate(CLASSES[1:], start=1):
        painted = sum(int(frame.sum()) for frame, n in zip(frames, numbers, strict=True) if n == number)
        assert outcome.document["area_mm2"][name][0] == pytest.approx(painted * pixel_mm2, abs=0.1)
    assert outcome.document["found"] == bool(frames.any())


def test_a_prediction_stands_beside_the_header(pipeline: Pipeline) -> None:
    document = finished(pipeline, OperationSpec(operation="predict-iap"), make_mr(ScanOptions="")).document
    assert set(document["parameters"]) == set(pipeline.vocabulary.keywords)
    assert document["parameters"]["ScanOptions"]["header"] is None
    assert "absent" in document["parameters"]["ScanOptions"]["header_note"]
    assert 0 <= document["parameters"]["ManufacturerModelName"]["probability"] <= 1


def test_a_model_outside_the_vocabulary_is_said_to_be_so(pipeline: Pipeline) -> None:
    document = finished(
        pipeline, OperationSpec(operation="predict-iap"), make_mr(ManufacturerModelName="Aera")
    ).document
    assert "outside" in document["parameters"]["ManufacturerModelName"]["header_note"]


def test_a_counterfactual_warns_where_a_foreign_scanner_was_replaced(pipeline: Pipeline) -> None:
    foreign = finished(pipeline, counterfactual(), make_mr(ManufacturerModelName="Aera")).document["warnings"]
    known = finished(pipeline, counterfactual(), make_mr()).document["warnings"]
    assert [w.split(":")[0] for w in foreign if w not in known] == ["ManufacturerModelName"]


def test_predicted_model_and_manufacturer_never_contradict(pipeline: Pipeline) -> None:
    for seed in range(5):
        outputs = torch.randn(1, 25, generator=torch.Generator().manual_seed(seed)) * 5
        prediction = pipeline.predictor.read(outputs)
        values = prediction.values
        assert pipeline.vocabulary.manufacturer_of(values["ManufacturerModelName"]) == values["Manufacturer"]
        makers = outputs[0, :2].softmax(0)
        position = ["GE MEDICAL SYSTEMS", "SIEMENS"].index(values["Manufacturer"])
        assert prediction.probabilities["Manufacturer"] == pytest.approx(float(makers[position]))


@pytest.mark.parametrize(
    ("spec", "files", "error"),
    [
        (counterfactual({"EchoTime": 99.0}), [make_mr()], TargetError),
        (counterfactual(), [], InputError),
        (counterfactual(), [make_mr(np.full((48, 64), 7, np.uint16))], PixelError),
    ],
    ids=["target", "nothing", "constant"],
)
def test_refusals_come_from_prepare(pipeline: Pipeline, spec: OperationSpec, files: list, error: type) -> None:
    with pytest.raises(error):
        pipeline.prepare(spec, files)


def test_the_papers_method_runs_on_a_paper_bundle(paper: Pipeline) -> None:
    work = paper.prepare(counterfactual(steps=3), [make_mr()])
    assert work.evaluations == 6
    (raw,) = paper.run([work])
    low, high = np.percentile(raw.edited, (10, 99))
    assert (low, high) == (pytest.approx(0, abs=1e-3), pytest.approx(1, abs=1e-3))  # rescaled at every step

"""Bad input to an edit, for every method: a named refusal, or the result that is documented."""

import numpy as np
import pytest
from builders import make_mr, make_pixels
from pydantic import ValidationError
from tiny_bundle import pack_tiny

from reacquire.engine import Pipeline, load_pipeline
from reacquire.errors import BundleError, ReacquireError, TargetError
from reacquire.jobs.spec import OperationSpec, Options

METHODS = ["direct", "sdedit"]
GE_MODEL = {"ManufacturerModelName": "Signa HDxt"}


@pytest.fixture(scope="module", params=METHODS)
def pipeline(request, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return load_pipeline(pack_tiny(tmp_path_factory.mktemp("bundle"), request.param))


def outcome(pipeline: Pipeline, data: bytes, target: dict):
    work = pipeline.prepare(OperationSpec(operation="counterfactual", target=target), [data])
    (raw,) = pipeline.run([work])
    return raw


@pytest.mark.parametrize(
    ("pixels", "target", "code"),
    [
        (np.full((48, 64), 7, np.uint16), {"EchoTime": 2.4}, "degenerate-image"),
        (np.zeros((48, 64), np.uint16), {"EchoTime": 2.4}, "degenerate-image"),
        (make_pixels(), {"EchoTime": float("nan")}, "target-out-of-domain"),
        (make_pixels(), {"EchoTime": 99.0}, "target-out-of-domain"),
        (make_pixels(), {"Manufacturer": "SIEMENS", **GE_MODEL}, "target-out-of-domain"),
    ],
    ids=["constant", "empty", "NaN", "out of range", "model against manufacturer"],
)
def test_it_is_refused_by_name(pipeline: Pipeline, pixels: np.ndarray, target: dict, code: str) -> None:
    with pytest.raises(ReacquireError) as caught:
        outcome(pipeline, make_mr(pixels), target)
    assert caught.value.code == code


@pytest.mark.parametrize("options", [{"steps": 0}, {"guidance_scale": -1.0}, {"samples": 0}, {"seed": -1}], ids=str)
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValidationError):
        Options(**options)


@pytest.mark.parametrize("shape", [(16, 256), (256, 16)], ids=str)
def test_extreme_aspect_ratios_come_back_in_their_shape(pipeline: Pipeline, shape: tuple[int, int]) -> None:
    work = pipeline.prepare(
        OperationSpec(operation="counterfactual", target={"EchoTime": 2.4}), [make_mr(make_pixels(*shape))]
    )
    (raw,) = pipeline.run([work])
    assert np.isfinite(raw.edited).all()
    assert "counterfactual.dcm" in pipeline.finish(work, raw).artifacts


def test_mixed_targets_in_one_batch_do_not_mix(pipeline: Pipeline) -> None:
    targets = [{"EchoTime": 2.4}, GE_MODEL, {"FlipAngle": 12.0, "MagneticFieldStrength": 1.5}]
    works = [pipeline.prepare(OperationSpec(operation="counterfactual", target=t), [make_mr()]) for t in targets]
    for raw, target in zip(pipeline.run(works), targets, strict=True):
        np.testing.assert_allclose(raw.edited, outcome(pipeline, make_mr(), target).edited, atol=1e-4)


def test_what_training_never_saw_is_warned_of_or_refused_as_the_site_wants(tmp_path) -> None:
    folder, far = pack_tiny(tmp_path), {"FlipAngle": 7.0}
    assert 0 < outcome(load_pipeline(folder), make_mr(), far).support.score < 1
    strict = load_pipeline(folder, least_support=1.0)
    refused = outcome(strict, make_mr(), far)
    assert isinstance(refused, TargetError) and refused.code == "target-unsupported"
    assert "FlipAngle: training saw" in refused.detail
    assert outcome(strict, make_mr(), {"FlipAngle": 10.0}).support.score == 1


def test_support_cannot_be_demanded_of_a_bundle_that_lists_nothing(tmp_path, monkeypatch) -> None:
    folder = pack_tiny(tmp_path)
    import reacquire.engine as engine

    loaded = engine.load_bundle(folder)
    manifest = loaded.info.manifest.model_copy(update={"trained_on": []})
    bare = loaded._replace(info=type(loaded.info)(**{**vars(loaded.info), "manifest": manifest}))
    monkeypatch.setattr(engine, "load_bundle", lambda *_, **__: bare)
    assert load_pipeline(folder).least_support == 0
    with pytest.raises(BundleError, match="trained on"):
        load_pipeline(folder, least_support=0.5)

"""Several samples of one request: what they leave alone, what spreads, and what comes out."""

import io

import numpy as np
import pydicom
import pytest
import torch
from builders import make_mr, make_pixels, make_series
from pydantic import ValidationError
from tiny_bundle import pack_tiny

from reacquire.bundles.manifest import DirectSetup
from reacquire.engine import Pipeline, load_pipeline
from reacquire.engine.method import Settings
from reacquire.engine.samples import SHIFT, Moments, Variation, passes
from reacquire.iap import ResolvedTarget
from reacquire.jobs.spec import OperationSpec, Options

DIRECT = DirectSetup(method="direct", noise=True)
HEADER = ResolvedTarget({"EchoTime": 1.4}, {"EchoTime": "header"})


@pytest.fixture(scope="module", params=["direct", "sdedit"])
def pipeline(request, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return load_pipeline(pack_tiny(tmp_path_factory.mktemp("bundle"), request.param))


def spec(**options) -> OperationSpec:
    return OperationSpec(operation="counterfactual", target={"EchoTime": 2.4}, options=Options(**options))


def ran(pipeline: Pipeline, *files: bytes, **options):
    work = pipeline.prepare(spec(**options), files or [make_mr()])
    return work, pipeline.run([work])[0]


def test_samples_leave_the_counterfactual_alone(pipeline: Pipeline) -> None:
    plain, several = (ran(pipeline, samples=n)[1] for n in (1, 4))
    np.testing.assert_array_equal(plain.edited, several.edited)
    assert plain.spread is None
    assert several.spread.shape == several.edited.shape and (several.spread >= 0).all() and several.spread.any()


def test_the_spread_of_a_job_does_not_depend_on_its_batch_mates(pipeline: Pipeline) -> None:
    works = [pipeline.prepare(spec(samples=3, seed=s), [make_mr(make_pixels() * s)]) for s in (1, 2)]
    for work, raw in zip(works, pipeline.run(works), strict=True):
        (alone,) = pipeline.run([work])
        np.testing.assert_allclose(raw.spread, alone.spread, atol=1e-4)


def test_progress_counts_every_pass_and_a_dropped_job_gives_none(pipeline: Pipeline) -> None:
    work = pipeline.prepare(spec(samples=3), [make_mr()])
    seen: list[tuple[int, int]] = []
    pipeline.run([work], lambda done, total: seen.append((done, total)))
    assert seen == [(n + 1, seen[-1][1]) for n in range(len(seen))]
    assert pipeline.run([work], lambda done, total: {0} if done > total // 2 else set()) == [None]


def test_the_result_has_mean_and_spread_as_objects_and_in_words(pipeline: Pipeline) -> None:
    work, raw = ran(pipeline, *make_series(2), samples=3)
    outcome = pipeline.finish(work, raw)
    for name in ("mean.dcm", "spread.dcm"):
        ds = pydicom.dcmread(io.BytesIO(outcome.artifacts[name]))
        assert (ds.NumberOfFrames, ds.Rows, ds.SyntheticData) == (2, 48, "YES")
    assert outcome.document["uncertainty"]["samples"] == 3
    assert "small error" in outcome.document["uncertainty"]["note"]


def test_the_mean_carries_the_notice_where_the_counterfactual_does(pipeline: Pipeline) -> None:
    large = make_mr(make_pixels(96, 128))
    work, raw = ran(pipeline, large, samples=2)
    marked = pipeline.prepare(spec(samples=2, watermark=True), [large])
    for name, differs in (("mean.dcm", True), ("spread.dcm", False)):
        plain, noticed = (pydicom.dcmread(io.BytesIO(pipeline.finish(w, raw).artifacts[name])) for w in (work, marked))
        assert (plain.FloatPixelData != noticed.FloatPixelData) == differs


def test_without_samples_nothing_is_said_of_uncertainty(pipeline: Pipeline) -> None:
    work, raw = ran(pipeline)
    outcome = pipeline.finish(work, raw)
    assert outcome.document["uncertainty"] is None
    assert not {"mean.dcm", "spread.dcm"} & set(outcome.artifacts)


def test_a_longer_job_is_announced_to_the_batch_budget(pipeline: Pipeline) -> None:
    costs = [pipeline.prepare(spec(samples=n), [make_mr()]) for n in (1, 2, 8)]
    assert costs[0].evaluations < costs[1].evaluations < costs[2].evaluations
    assert costs[0].batch_key != costs[1].batch_key


@pytest.mark.parametrize("samples", [0, 9, -1])
def test_other_numbers_are_refused(samples: int) -> None:
    with pytest.raises(ValidationError):
        Options(samples=samples)


def test_noise_is_left_out_of_mean_and_spread() -> None:
    runs = passes(Settings.of(Options(), DIRECT), 3)
    assert [(r.sample, r.settings.noise, r.counted) for r in runs] == [
        (0, True, False), (0, False, True), (1, False, True), (2, False, True)]  # fmt: skip
    assert len(passes(Settings.of(Options(noise=False), DIRECT), 3)) == 3


@pytest.mark.parametrize("sample", range(4))
def test_a_variation_is_undone_exactly_where_it_matters(sample: int) -> None:
    variation, image = Variation.of(DIRECT, 5, sample, HEADER), torch.rand(1, 32, 32)
    torch.testing.assert_close(variation.undo(variation.apply(image)), image)
    assert (variation == Variation()) == (sample == 0)
    assert max(map(abs, variation.shift)) <= SHIFT


def test_predicted_parameters_are_withheld_more_often_than_stated_ones() -> None:
    both = ResolvedTarget({}, {"EchoTime": "header", "FlipAngle": "predicted"})
    drawn = [Variation.of(DIRECT, seed, 1, both).forgotten for seed in range(400)]
    shares = [sum(k in f for f in drawn) / len(drawn) for k in ("EchoTime", "FlipAngle")]
    assert shares == pytest.approx([0.1, 0.5], abs=0.08)


def test_moments_are_those_of_numpy() -> None:
    images = torch.randn(5, 3, 1, 4, 4)
    moments = Moments.like(images[0])
    for sample in images:
        moments.add([0, 2], sample[[0, 2]])
    torch.testing.assert_close(moments.mean[[0, 2]], images.mean(0)[[0, 2]])
    torch.testing.assert_close(moments.spread([0, 2]), images.std(0)[[0, 2]])

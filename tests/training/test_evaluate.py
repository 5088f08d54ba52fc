"""Figures of the evaluation on a cohort whose answers are known."""

from dataclasses import replace

import pytest
import torch
from fake_cache import write_fake_cache
from tiny_bundle import pack_tiny

from reacquire.engine import Pipeline, load_pipeline
from reacquire.iap import Record
from training.cache import SliceCache
from training.evaluate import draw_pairs, evaluate


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> SliceCache:
    return write_fake_cache(tmp_path_factory.mktemp("cohort") / "cache", size=64)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return load_pipeline(pack_tiny(tmp_path_factory.mktemp("bundle")))


class Oracle:
    """An editor that knows the truth: a GE slice is a Siemens slice at twice the brightness."""

    def __init__(self, inner) -> None:
        self.setup = inner.setup

    def edit(self, source, targets, seeds, settings, on_step=None, *, sources=None):
        def brightness(record: Record) -> float:
            return 2.0 if record["Manufacturer"] == "GE MEDICAL SYSTEMS" else 1.0

        wanted = [brightness(t) for t in targets]
        shown = [2.0 if s.max() > 1.5 else 1.0 for s in source]
        return source * torch.tensor([w / s for w, s in zip(wanted, shown, strict=True)]).view(-1, 1, 1, 1)


def test_an_oracle_closes_the_gap_up_to_noise(pipeline: Pipeline, cache: SliceCache) -> None:
    figures = evaluate(replace(pipeline, editor=Oracle(pipeline.editor)), cache)["editor"]
    assert figures["gap_closed"] > 0.85
    assert figures["gap_ceiling"] > 0.9
    assert figures["contrast_transfer_fibroglandular"] == pytest.approx(1, abs=0.02)
    assert figures["composition_error"] == pytest.approx(0, abs=1e-6)


def test_every_group_is_measured(pipeline: Pipeline, cache: SliceCache) -> None:
    report = evaluate(pipeline, cache)
    assert report["cohort"] == {"split": "test", "women": 4, "slices": 8, "pairs": 8}
    assert {"accuracy_Manufacturer", "mse_EchoTime"} <= report["predictor"].keys()
    assert {"dice_fibroglandular", "dice_fibroglandular_ci_low"} <= report["segmenter"].keys()
    assert report["editor"]["gap_closed_ci_low"] <= report["editor"]["gap_closed"]


def test_pairs_are_drawn_within_one_position(cache: SliceCache) -> None:
    pairs = draw_pairs(cache.split("test"), 1)
    assert len(pairs) == 4
    assert all(p.source.pair_group == p.target.pair_group and p.source != p.target for p in pairs)


def test_a_cohort_without_truth_is_refused(pipeline: Pipeline, cache: SliceCache) -> None:
    with pytest.raises(ValueError, match="truth"):
        evaluate(pipeline, replace(cache, cleans=None))

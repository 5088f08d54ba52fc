"""Batches depend on (seed, step) alone, and pairs show one anatomy."""

import numpy as np
import pytest
import torch
from fake_cache import write_fake_cache

from reacquire.iap import Encoding, load_vocabulary
from training.batches import Batches
from training.cache import SliceCache

ENCODING = Encoding(load_vocabulary())


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> SliceCache:
    return write_fake_cache(tmp_path_factory.mktemp("cohort") / "cache")


def batches(cache: SliceCache, **changes) -> Batches:
    return Batches(cache, cache.split("train"), ENCODING, **{"batch_size": 4, "seed": 1, "paired": True, **changes})


def test_a_step_always_gives_the_same_batch(cache: SliceCache) -> None:
    first, again = batches(cache)(7), batches(cache)(7)
    assert torch.equal(first.target, again.target)
    assert torch.equal(first.source, again.source)


def test_an_epoch_shows_every_slice_once(cache: SliceCache) -> None:
    source = batches(cache, mirror=False)
    seen = torch.cat([source(step).target for step in range(source.per_epoch)]).flatten(1)
    shown = sorted(row.sum().item() for row in seen)
    there = sorted(float(cache.images[row.index].astype(np.float32).sum()) for row in cache.split("train"))
    assert shown == pytest.approx(there, rel=1e-5)


def test_mirroring_is_what_the_preset_says(cache: SliceCache) -> None:
    plain, mirrored = batches(cache, mirror=False)(0), batches(cache, mirror=True)(0)
    for one, other in zip(plain.target, mirrored.target, strict=True):
        assert torch.equal(one, other) or torch.equal(one, other.flip(-1))
    assert not torch.equal(plain.target, mirrored.target)


def test_source_and_target_show_the_same_woman_under_other_parameters(cache: SliceCache) -> None:
    batch = batches(cache)(0)
    for target, source in zip(batch.target.flatten(1), batch.source.flatten(1), strict=True):
        assert np.corrcoef(target, source)[0, 1] > 0.98
        assert not torch.allclose(target, source, atol=0.2)


def test_unpaired_batches_have_themselves_as_source(cache: SliceCache) -> None:
    batch = batches(cache, paired=False)(0)
    assert torch.equal(batch.source, batch.target)


def test_shrinking_averages_images_and_keeps_the_share_of_each_label(cache: SliceCache) -> None:
    full, batch = batches(cache)(0), batches(cache, size=16)(0)
    assert batch.target.shape == (4, 1, 16, 16)
    for label in range(3):
        share, shrunk = ((labels == label).float().mean().item() for labels in (full.labels, batch.labels))
        assert shrunk == pytest.approx(share, abs=0.05)


def test_a_batch_larger_than_the_split_is_refused(cache: SliceCache) -> None:
    with pytest.raises(ValueError, match="fewer than one batch"):
        batches(cache, batch_size=1000)

"""The structure-conditioned denoiser's objective: contrast can't be copied, anatomy can."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_cache import write_fake_cache
from tiny_bundle import LICENCE, METHODS, tiny_run
from torch import Generator, Tensor, nn

from reacquire.bundles.load import load_bundle
from reacquire.diffusion import NoiseSchedule
from reacquire.errors import BundleError
from reacquire.networks import Condition
from training.batches import Batch
from training.config import PRESETS, Phase
from training.pack import MODELS, STRUCTURE, Card, pack_bundle
from training.record import read_record, write_record
from training.runs import run_training
from training.structure import StructureDenoising, with_random_contrast

COUNT, SIZE = 24, 32


def draws(count: int = COUNT) -> list[Generator]:
    return [Generator().manual_seed(i) for i in range(count)]


def slices() -> Tensor:
    return torch.rand(COUNT, 1, SIZE, SIZE, generator=Generator().manual_seed(3))


def batch(images: Tensor) -> Batch:
    condition = Condition(torch.ones(len(images), 23), torch.ones(len(images), 7, dtype=torch.bool))
    return Batch(images, condition, images, torch.empty(len(images), 0, 0), condition, images)


class Copying(nn.Module):
    """Answers with what it is shown beside the noise."""

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.noisy, self.times, self.known = x[:, :1], t, condition.known
        return x[:, 1:]


def test_another_contrast_keeps_the_shape_and_most_of_the_order() -> None:
    """Shading, blur and noise disturb the order a little, the curve not at all."""
    images = slices()
    changed = with_random_contrast(images, draws())
    assert changed.shape == images.shape
    assert changed.isfinite().all()
    ranks = torch.stack([images.flatten(1), changed.flatten(1)]).argsort(2).argsort(2).double()
    for before, after in ranks.unbind(1):
        assert torch.corrcoef(torch.stack([before, after]))[0, 1] > 0.6
    moved = (changed - images).abs().mean((1, 2, 3))
    assert moved.median() > 0.02


def test_an_items_contrast_is_its_generators() -> None:
    images = slices()
    together = with_random_contrast(images, draws())
    alone = with_random_contrast(images[4:5], [Generator().manual_seed(4)])
    assert torch.equal(together[4:5], alone)


def test_who_copies_the_slice_pays_for_its_contrast() -> None:
    images, network = slices(), Copying()
    loss = StructureDenoising(NoiseSchedule.paper_cosine(), 0.15)(network, batch(images), draws())
    assert loss > 1e-3
    assert network.noisy.shape == images.shape
    assert network.times.unique().numel() > COUNT // 2
    told = network.known.sum(1)
    assert told.min() == 0, "all of a slice's parameters are dropped sometimes"
    assert ((told > 0) & (told < network.known.shape[1])).any(), "and single ones"
    assert type(loss) is Tensor  # MONAI's own kind would be dragged through the whole network


def test_a_run_needs_no_pairs_and_says_its_method(tmp_path: Path) -> None:
    write_fake_cache(tmp_path / "cache")
    preset = PRESETS["editor", "structure-two-core"]
    config = replace(preset, phases=(Phase(2, 4, 1e-3),))
    assert not config.learns_from_pairs
    run_training(tmp_path / "cache", tmp_path / "run", config, resume=False, report=lambda *_: None)
    record = read_record(tmp_path / "run")
    assert record.method == METHODS["structure"]
    assert record.network["in_channels"] == 2


def test_a_network_of_another_method_is_refused_by_name(tmp_path: Path) -> None:
    """Its channels say which method it is for: the paper's has one, and this method shows it two."""
    runs = {name: tiny_run(tmp_path / name, name, "sdedit") for name in MODELS}
    record = read_record(runs["editor"])
    write_record(runs["editor"], replace(record, method=METHODS["structure"]))
    card = Card("odd", "1.0.0", "of two methods", "2026-01-01")
    pack_bundle(tmp_path / "odd", card, runs, STRUCTURE, metrics={}, licence_file=LICENCE)
    with pytest.raises(BundleError, match="channels"):
        load_bundle(tmp_path / "odd")

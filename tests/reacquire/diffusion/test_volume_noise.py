"""The noise of a volume: correlated from slice to slice, and a function of seed and position alone."""

import pytest
import torch

from reacquire.diffusion import ItemNoise, SliceSeed
from reacquire.diffusion.noise import NEIGHBOURS

LIKE = torch.zeros(1, 1, 96, 96)


def drawn(*positions: float, seed: int = 7) -> torch.Tensor:
    return ItemNoise([SliceSeed(seed, p) for p in positions]).draw(0, LIKE).flatten(1)


@pytest.mark.parametrize("start", [0.0, 0.3, -41.5])
def test_neighbours_correlate_as_stated_and_far_slices_do_not(start: float) -> None:
    correlation = torch.corrcoef(drawn(*(start + i for i in (0, 1, 2, 6))))[0]
    assert correlation[1].item() == pytest.approx(NEIGHBOURS, abs=0.04)
    assert correlation[2].item() == pytest.approx(0.13, abs=0.04)
    assert abs(correlation[3].item()) < 0.04


@pytest.mark.parametrize("position", [0.0, 0.25, 0.5, 3.75, -2.49])
def test_it_is_standard_normal_at_every_position(position: float) -> None:
    noise = drawn(position)
    assert noise.mean().item() == pytest.approx(0, abs=0.03)
    assert noise.std().item() == pytest.approx(1, abs=0.03)


def test_a_slice_is_the_same_alone_and_among_any_others() -> None:
    together = drawn(4.0, 1.0, 2.0, 3.0)
    for row, position in zip(together, (4.0, 1.0, 2.0, 3.0), strict=True):
        assert torch.equal(drawn(position)[0], row)


def test_it_changes_little_over_a_small_distance() -> None:
    """Also across the point where another plane becomes the nearest."""
    assert (drawn(1.499) - drawn(1.501)).abs().max() < 0.05


def test_volumes_differ_and_so_do_a_volume_and_an_item() -> None:
    assert abs(torch.corrcoef(torch.cat([drawn(1.0), drawn(1.0, seed=8)]))[0, 1].item()) < 0.04
    assert abs(torch.corrcoef(torch.cat([drawn(1.0), ItemNoise([7]).draw(0, LIKE).flatten(1)]))[0, 1].item()) < 0.04

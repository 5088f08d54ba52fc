"""Measures against closed forms."""

import pytest
import torch

from reacquire.metrics import (
    contrast_transfer,
    dice,
    flicker,
    gap_closed,
    neighbour_correlation,
    ssim,
    through_plane_ratio,
)


def images(seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_dice_by_hand() -> None:
    predicted = torch.tensor([[0, 1, 1, 2]])
    true = torch.tensor([[0, 1, 2, 2]])
    assert dice(predicted, true, classes=4).tolist()[:3] == pytest.approx([1.0, 2 / 3, 2 / 3])


def test_dice_of_an_absent_class_is_nan() -> None:
    assert dice(torch.zeros(1, 4), torch.zeros(1, 4), classes=2)[1].isnan()


def test_gap_closed_of_target_source_and_halfway() -> None:
    source, target, mask = images(0), images(1), torch.ones(2, 1, 32, 32, dtype=torch.bool)
    assert gap_closed(target, target, source, mask).tolist() == pytest.approx([1, 1])
    assert gap_closed(source, target, source, mask).tolist() == pytest.approx([0, 0])
    assert gap_closed((source + target) / 2, target, source, mask).tolist() == pytest.approx([0.5, 0.5])


def test_gap_closed_looks_inside_the_mask_only() -> None:
    source, target = images(0), images(1)
    mask = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    mask[:, :, :16] = True
    outside_wrong = target.clone()
    outside_wrong[:, :, 16:] += 9
    assert gap_closed(outside_wrong, target, source, mask).tolist() == pytest.approx([1, 1])


def test_ssim_is_one_for_equal_and_symmetric() -> None:
    a, b = images(0), images(1)
    assert ssim(a, a).tolist() == pytest.approx([1, 1])
    assert ssim(a, b).tolist() == pytest.approx(ssim(b, a).tolist())


def test_ssim_of_flat_images_is_the_luminance_term() -> None:
    a, b = torch.full((1, 1, 16, 16), 0.5), torch.full((1, 1, 16, 16), 1.0)
    c1 = 0.01**2
    assert ssim(a, b).item() == pytest.approx((2 * 0.5 + c1) / (0.25 + 1 + c1), rel=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, 1.5])
def test_contrast_transfer_is_the_share_of_the_change(share: float) -> None:
    source = images(0)
    target = source + torch.tensor([0.3, -0.2]).view(2, 1, 1, 1)
    mask = torch.ones_like(source, dtype=torch.bool)
    edited = source + share * (target - source)
    assert contrast_transfer(edited, source, target, mask).item() == pytest.approx(share, abs=1e-5)


def slab() -> tuple[torch.Tensor, torch.Tensor]:
    """Six smooth slices, and a mask."""
    return torch.linspace(0, 1, 6)[:, None, None, None] + images(2)[:1], torch.ones(6, 1, 32, 32, dtype=torch.bool)


def test_roughness_along_the_slab_is_that_of_the_target_or_more_or_less() -> None:
    target, mask = slab()
    assert through_plane_ratio(target + 3, target, mask).item() == pytest.approx(1)
    assert through_plane_ratio(target / 2, target, mask).item() == pytest.approx(0.5)
    assert through_plane_ratio(target + torch.randn(6, 1, 32, 32), target, mask) > 2


def test_flicker_is_what_comes_and_goes_and_not_what_stays() -> None:
    target, mask = slab()
    assert flicker(target + 0.3, target, mask).item() == pytest.approx(0, abs=1e-6)
    jumps = 0.1 * (torch.arange(6) % 2)[:, None, None, None]
    assert flicker(target + jumps, target, mask).item() == pytest.approx(0.1, rel=1e-4)
    outside = mask.clone()
    outside[:, :, 16:] = False
    assert flicker(target + jumps * ~outside, target, outside).item() == pytest.approx(0, abs=1e-6)


def test_correlation_of_neighbours_by_hand() -> None:
    noise, mask = torch.randn(1, 1, 64, 64).expand(4, -1, -1, -1), torch.ones(4, 1, 64, 64, dtype=torch.bool)
    assert neighbour_correlation(noise, mask).item() == pytest.approx(1)
    signs = torch.tensor([1.0, -1, 1, -1])[:, None, None, None]
    assert neighbour_correlation(noise * signs, mask).item() == pytest.approx(-1)
    assert abs(neighbour_correlation(torch.randn(4, 1, 64, 64), mask).item()) < 0.05

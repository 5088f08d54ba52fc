"""Measures against closed forms."""

import pytest
import torch

from reacquire.metrics import contrast_transfer, dice, gap_closed, ssim


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

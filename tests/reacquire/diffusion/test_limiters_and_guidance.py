"""Limiters and guidance, against NumPy and MONAI."""

import numpy as np
import pytest
import torch
from monai.transforms import ScaleIntensityRangePercentiles

from reacquire.diffusion import Clamp, NoLimit, PercentileRescale, combine, limiters


@pytest.fixture
def batch() -> torch.Tensor:
    return torch.randn(5, 1, 24, 31, generator=torch.Generator().manual_seed(0)) * 3 + 1


def test_percentile_rescale_equals_the_authors_loop_bit_for_bit(batch: torch.Tensor) -> None:
    scaler = ScaleIntensityRangePercentiles(lower=10, upper=99, b_min=0.0, b_max=1.0, clip=False)
    expected = torch.stack([torch.as_tensor(scaler(image)) for image in batch])
    assert torch.equal(PercentileRescale()(batch), expected)


def test_percentile_rescale_maps_each_images_own_percentiles(batch: torch.Tensor) -> None:
    low, high = np.percentile(PercentileRescale()(batch).flatten(1).numpy(), [10, 99], axis=1)
    assert np.allclose(low, 0, atol=1e-5) and np.allclose(high, 1, atol=1e-5)


def test_percentile_rescale_hides_gain_and_offset(batch: torch.Tensor) -> None:
    assert torch.allclose(PercentileRescale()(batch * 7 - 2), PercentileRescale()(batch), atol=1e-5)


def test_percentile_rescale_of_a_flat_image_is_zero() -> None:
    assert not PercentileRescale()(torch.full((1, 1, 8, 8), 5.0)).any()


def test_percentile_rescale_takes_batches_beyond_the_limit_of_quantile(
    batch: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = PercentileRescale()(batch)
    monkeypatch.setattr(limiters, "_QUANTILE_LIMIT", 2 * 24 * 31)
    assert torch.equal(PercentileRescale()(batch), expected)


def test_clamp_and_no_limit(batch: torch.Tensor) -> None:
    assert torch.equal(NoLimit()(batch), batch)
    clamped = Clamp(-1.0, 2.0)(batch)
    assert clamped.min() == -1 and clamped.max() == 2


def test_guidance_is_algorithm_1(batch: torch.Tensor) -> None:
    null, target = batch, batch.flip(0)
    assert torch.equal(combine(null, target, 0.0), null)
    assert torch.allclose(combine(null, target, 1.0), target, atol=1e-5)
    assert torch.allclose(combine(null, target, 3.0), (1 - 3) * null + 3 * target, atol=1e-5)

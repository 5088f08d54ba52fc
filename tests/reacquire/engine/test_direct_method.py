"""The direct method around a network: one evaluation, and noise that belongs to the item."""

import pytest
import torch
from torch import Tensor, nn

from reacquire.bundles.manifest import DirectSetup
from reacquire.diffusion import ItemNoise
from reacquire.engine.direct import Direct, smoothed, with_noise
from reacquire.engine.method import Settings
from reacquire.jobs.spec import Options
from reacquire.networks import Condition

SETUP = DirectSetup(method="direct", noise=True)
LEVEL = 0.05


class Doubling(nn.Module):
    """Doubles the source, or takes ``cleaning`` off when asked for the source's own parameters; predicts noise
    everywhere as strong as the first entry of the target's vector says."""

    def __init__(self, cleaning: float = 0.0) -> None:
        super().__init__()
        self.cleaning = cleaning

    def forward(self, image: Tensor, source: Condition, target: Condition) -> Tensor:
        assert len(image) == len(source.vector) == len(target.vector)
        same = (source.vector == target.vector).all(1)[:, None, None, None]
        change = torch.where(same, -self.cleaning, image)
        return torch.cat([change, target.vector[:, :1, None, None].expand_as(image)], dim=1)


def condition(count: int, level: float) -> Condition:
    return Condition(torch.full((count, 25), level), torch.ones(count, 8, dtype=torch.bool))


def edited(
    images: Tensor, seeds: list[int], *, noise: bool, present: float = 0.0, cleaning: float = 0.0, on_step=None
) -> Tensor:
    source, target = (condition(len(images), level) for level in (present, LEVEL))
    settings = Settings.of(Options(noise=noise), SETUP)
    return Direct(Doubling(cleaning), SETUP).edit(images, source, target, seeds, settings, on_step)


def halves(count: int = 1, size: int = 64) -> Tensor:
    """Air on the left, tissue of grey level 0.5 on the right."""
    image = torch.zeros(count, 1, size, size)
    image[..., size // 2 :] = 0.5
    return image


def test_without_noise_the_answer_is_the_networks() -> None:
    images = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(edited(images, [1, 2], noise=False), 2 * images)


def test_noise_has_its_level_in_tissue_and_a_floor_in_air() -> None:
    result = edited(halves(size=128), [3], noise=True)[0, 0]
    tissue, air = result[:, 64:], result[:, :64]
    assert tissue.std().item() == pytest.approx(LEVEL, rel=0.05)
    assert tissue.mean().item() == pytest.approx(1.0, abs=0.005)
    assert air.mean().item() == pytest.approx(LEVEL * (torch.pi / 2) ** 0.5, rel=0.05)  # Rayleigh


def test_only_the_noise_that_the_source_lacks_is_added() -> None:
    result = edited(halves(size=128), [3], noise=True, present=0.03)[0, 0]
    assert result[:, 64:].std().item() == pytest.approx((LEVEL**2 - 0.03**2) ** 0.5, rel=0.05)
    images = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(edited(images, [3], noise=True, present=0.06), 2 * images)


def test_an_edit_to_the_sources_own_parameters_is_the_source() -> None:
    images = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(edited(images, [3, 4], noise=True, present=LEVEL, cleaning=0.1), images)


def test_the_sources_own_noise_stays_at_the_level_of_the_target() -> None:
    images = halves()
    kept = edited(images, [3], noise=True, present=2 * LEVEL, cleaning=0.1) - 2 * images
    torch.testing.assert_close(kept, torch.full_like(kept, 0.1 / 2))


def test_noise_belongs_to_the_item() -> None:
    images = torch.rand(3, 1, 16, 16)
    together = edited(images, [5, 6, 5], noise=True)
    torch.testing.assert_close(edited(images[1:2], [6], noise=True)[0], together[1])
    swapped = edited(images.flip(0), [5, 6, 5], noise=True)
    torch.testing.assert_close(swapped.flip(0), together)
    assert not torch.equal(*edited(images[:1].expand(2, -1, -1, -1), [1, 2], noise=True))


def test_a_dropped_row_is_nan_and_the_rest_is_kept() -> None:
    result = edited(torch.rand(2, 1, 8, 8), [1, 2], noise=False, on_step=lambda done, total: {0})
    assert result[0].isnan().all()
    assert result[1].isfinite().all()


def test_specks_of_the_noise_level_are_taken_out_and_slow_changes_kept() -> None:
    slope = torch.linspace(0.01, 0.05, 112).expand(1, 1, 112, 112).clone()
    specked = slope.clone()
    specked[..., 40:60, 50:55] = 1.0
    result = smoothed(specked)
    assert result.shape == slope.shape
    assert (result - slope).abs().max() < 0.006


def test_noise_of_level_zero_changes_nothing() -> None:
    image = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(with_noise(image, torch.zeros_like(image), ItemNoise([1]), torch.tensor([0])), image)

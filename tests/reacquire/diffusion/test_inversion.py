"""Inversion: what is encoded comes back, whatever the denoiser says."""

import pytest
import torch
from torch import Tensor

from reacquire.diffusion import CLEAN, Ancestral, ItemNoise, NoiseSchedule, noise_maps

SCHEDULE = NoiseSchedule.paper_cosine()


def image() -> Tensor:
    return 0.4 + 0.1 * torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("timesteps", [[49], [49, 20, 3, 0], [700, 300, 12]], ids=str)
def test_noise_maps_lead_back_to_the_image_whatever_the_denoiser_says(timesteps: list[int]) -> None:
    def predict(x: Tensor, t: int) -> Tensor:
        return torch.tanh(3 * x) - t / 1000

    start, missing = noise_maps(predict, image(), timesteps, schedule=SCHEDULE, noise=ItemNoise([3, 4]))
    levels = [*(SCHEDULE.level(t) for t in timesteps), CLEAN]
    x = start
    for i, t in enumerate(timesteps):
        x = Ancestral().step(x, predict(x, t), levels[i], levels[i + 1], None, None) + missing[i]
    torch.testing.assert_close(x, image(), atol=1e-10, rtol=0)


def test_noisy_copies_belong_to_their_items() -> None:
    both = noise_maps(lambda x, t: x, image(), [49, 3], schedule=SCHEDULE, noise=ItemNoise([3, 4]))
    alone = noise_maps(lambda x, t: x, image()[1:], [49, 3], schedule=SCHEDULE, noise=ItemNoise([4]))
    torch.testing.assert_close(alone.start[0], both.start[1])
    torch.testing.assert_close(alone.missing[1][0], both.missing[1][1])

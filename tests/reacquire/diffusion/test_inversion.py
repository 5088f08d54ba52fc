"""Inversions against denoisers whose answer is known: what is encoded comes back, and the shift is the ODE's own."""

import math

import pytest
import torch
from torch import Tensor

from reacquire.diffusion import (
    CLEAN,
    DDIM,
    Ancestral,
    Epsilon,
    ItemNoise,
    NoiseSchedule,
    invert,
    lambda_uniform,
    noise_maps,
    run,
)

SCHEDULE = NoiseSchedule.paper_cosine()
VARIANCE = 0.01


def gaussian_x0(x: Tensor, t: int, mean: float) -> Tensor:
    """The perfect prediction for data N(mean, VARIANCE)."""
    alpha, sigma = SCHEDULE.level(t)
    return mean + alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2) * (x - alpha * mean)


def gaussian_epsilon(x: Tensor, t: int, mean: float) -> Tensor:
    return Epsilon().target(gaussian_x0(x, t, mean), x, SCHEDULE.level(t))


def re_decoded(image: Tensor, start: int, steps: int, *, iterations: int, shift: float = 0.0) -> Tensor:
    """Encoded under mean 0.4, decoded under mean 0.4 + shift."""
    timesteps = lambda_uniform(SCHEDULE, start, steps)
    code = invert(lambda x, t: gaussian_epsilon(x, t, 0.4), image, timesteps, schedule=SCHEDULE, iterations=iterations)
    return run(
        lambda x, t, _: gaussian_x0(x, t, 0.4 + shift),
        code,
        timesteps,
        DDIM(0.0),
        schedule=SCHEDULE,
        noise=ItemNoise([0] * len(image)),
    )


def image() -> Tensor:
    return 0.4 + math.sqrt(VARIANCE) * torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("start", [49, 200, 700])
def test_decoding_undoes_encoding_and_iterations_bring_it_closer(start: int) -> None:
    errors = [float((re_decoded(image(), start, 10, iterations=n) - image()).abs().max()) for n in (1, 3, 30)]
    assert errors[2] < 1e-5
    assert errors[2] < errors[1] < errors[0]


@pytest.mark.parametrize(("start", "share"), [(50, 0.27), (200, 0.72), (700, 0.95)])
def test_the_deeper_the_code_the_more_of_the_target_comes_through(start: int, share: float) -> None:
    """1 - (1 + sigma^2 / (alpha^2 S))^-1/2 of the shift between the two means."""
    alpha, sigma = SCHEDULE.level(start)
    exact = 1 - (1 + sigma**2 / (alpha**2 * VARIANCE)) ** -0.5
    assert exact == pytest.approx(share, abs=0.01)
    moved = re_decoded(image(), start, start + 1, iterations=20, shift=0.1) - image()
    assert float(moved.mean()) == pytest.approx(0.1 * exact, rel=0.04)  # of the steps
    assert float(moved.std()) < 1e-4  # the same shift everywhere: what is the slice's own stays


def test_without_timesteps_nothing_is_encoded() -> None:
    assert torch.equal(invert(lambda x, t: x, image(), [], schedule=SCHEDULE), image())
    torch.testing.assert_close(re_decoded(image(), 49, 0, iterations=1), image())


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

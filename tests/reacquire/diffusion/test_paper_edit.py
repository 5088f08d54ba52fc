"""Algorithm 1 as released, against an independent transcription on MONAI's scheduler."""

import math

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler
from monai.transforms import ScaleIntensityRangePercentiles
from torch import Tensor

from reacquire.diffusion import (
    Ancestral,
    Epsilon,
    ItemNoise,
    NoiseSchedule,
    PercentileRescale,
    combine,
    paper_edit,
    paper_step,
    run,
)

SCHEDULE = NoiseSchedule.paper_cosine()


def images(items: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return PercentileRescale()(torch.rand(items, 1, 24, 24, generator=generator) ** 2)


def eps_model(x: Tensor, t: Tensor, items: Tensor) -> Tensor:
    """A nonlinear network with a null and a target branch; the condition of item i is i + 1."""
    condition = torch.cat([torch.zeros(len(items)), items + 1.0])[:, None, None, None]
    return torch.tanh(3 * x) + 0.1 * condition * torch.sin(5 * x) + t[:, None, None, None] / 1000


def released_tables() -> tuple[list[Tensor], list[Tensor]]:
    """beta and abar, accumulated in float32 from the clipped ratio of squared cosines."""
    grid = torch.linspace(0, 1000, 1001)
    curve = torch.cos((grid / 1000 + 8e-3) / (1 + 8e-3) * torch.pi * 0.5).square()
    curve /= curve[0].clone()
    betas = 1.0 - (curve[1:] / curve[:-1]).clamp(0.0001, 0.9999)
    return list(betas), list(torch.cumprod(1.0 - betas, 0))


def released_reverse_step(eps: Tensor, t: int, x: Tensor, noise: Tensor) -> Tensor:
    """DDPM's eq. 7 and 15 with each image's predicted x_0 rescaled on its own by MONAI."""
    betas, abars = released_tables()
    abar, before = abars[t], abars[t - 1] if t else torch.ones(())
    scaler = ScaleIntensityRangePercentiles(lower=10, upper=99, b_min=0.0, b_max=1.0, clip=False, channel_wise=True)
    predicted = (x - (1 - abar).pow(0.5) * eps) / abar.pow(0.5)
    predicted = torch.as_tensor(scaler(predicted[:, 0]))[:, None]  # the batch axis taken for channels, as released
    coefficient_x0 = before.pow(0.5) * betas[t] / (1 - abar)
    coefficient_x = (1.0 - betas[t]).pow(0.5) * (1 - before) / (1 - abar)
    moved = coefficient_x0 * predicted + coefficient_x * x
    if t == 0:
        return moved
    return moved + ((1 - before) / (1 - abar) * betas[t]).clamp(min=1e-20).pow(0.5) * noise


def test_one_step_equals_the_transcription_bit_for_bit() -> None:
    x, eps, noise = torch.randn(3, 2, 1, 24, 24, generator=torch.Generator().manual_seed(1))
    for t in (0, 1, 12, 13, 49, 999):
        assert torch.equal(paper_step(eps, t, x, noise)[0], released_reverse_step(eps, t, x, noise))


@pytest.mark.parametrize("start_t", [1, 50])
def test_edit_equals_the_transcription_bit_for_bit(start_t: int) -> None:
    x0, seeds = images(2), [8, 9]
    draws = ItemNoise(seeds)
    abar = released_tables()[1][start_t]
    x = abar.pow(0.5) * x0 + (1 - abar).pow(0.5) * draws.draw(0, x0)  # noised at start_t ...
    for i, t in enumerate(range(start_t - 1, -1, -1)):  # ... but denoised from start_t - 1
        both = eps_model(torch.cat([x, x]), torch.full((4,), t), torch.arange(2))
        eps = both[:2] + 3.0 * (both[2:] - both[:2])
        x = released_reverse_step(eps, t, x, draws.draw(i + 1, x0))
    assert torch.equal(paper_edit(eps_model, x0, seeds=seeds, start_t=start_t, guidance_scale=3.0), x)


@pytest.mark.parametrize("t", [1, 49, 700])
def test_one_step_agrees_with_monai_when_the_schedule_is_put_right(t: int) -> None:
    x, eps = torch.randn(2, 1, 1, 24, 24, generator=torch.Generator().manual_seed(2))
    scheduler = DDPMScheduler(num_train_timesteps=1000, clip_sample=False)
    betas, abars = released_tables()
    scheduler.betas, scheduler.alphas_cumprod = torch.stack(betas), torch.stack(abars)
    scheduler.alphas = 1.0 - scheduler.betas
    theirs, _ = scheduler.step(eps, t, x, generator=torch.Generator().manual_seed(3))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    level, before = SCHEDULE.level(t), SCHEDULE.level(t - 1)
    x0 = Epsilon().to_x0(eps, x, level)
    assert torch.allclose(Ancestral().step(x, x0, level, before, noise, None), theirs, atol=2e-4)


def test_general_sampler_agrees_with_the_released_arithmetic() -> None:
    """The corrected code reproduces the quirks to float32 rounding when it is told them."""
    x0, noise = images(2), ItemNoise([8, 9])

    def denoise(x: Tensor, t: int, items: Tensor) -> Tensor:
        null, target = eps_model(torch.cat([x, x]), torch.full((2 * len(x),), t), items).chunk(2)
        return Epsilon().to_x0(combine(null, target, 3.0), x, SCHEDULE.level(t))

    general = run(
        denoise,
        SCHEDULE.q_sample(x0, 50, noise.draw(0, x0)),
        list(range(49, -1, -1)),
        Ancestral(),
        schedule=SCHEDULE,
        noise=noise,
        limiter=PercentileRescale(),
    )
    released = paper_edit(eps_model, x0, seeds=[8, 9], start_t=50, guidance_scale=3.0)
    assert torch.allclose(general, released, atol=5e-4)


def test_output_is_normalised_because_the_last_step_returns_the_rescaled_x0() -> None:
    edited = paper_edit(eps_model, images(2), seeds=[1, 2], start_t=10)
    assert torch.allclose(PercentileRescale()(edited), edited, atol=1e-5)


def test_items_are_independent_and_can_leave() -> None:
    x0 = images(3)
    together = paper_edit(eps_model, x0, seeds=[1, 2, 3], start_t=20)
    left = paper_edit(eps_model, x0, seeds=[1, 2, 3], start_t=20, on_step=lambda done, total: [1] if done == 5 else [])
    assert torch.isnan(left[1]).all()
    assert torch.allclose(left[[0, 2]], together[[0, 2]], atol=1e-5)
    alone = paper_edit(eps_model, x0[:1], seeds=[1], start_t=20)
    assert torch.allclose(alone[0], together[0], atol=1e-5)


def test_start_at_zero_is_the_identity_and_outside_is_refused() -> None:
    x0 = images(1)
    assert torch.equal(paper_edit(eps_model, x0, seeds=[1], start_t=0), x0)
    with pytest.raises(ValueError, match="start_t"):
        paper_edit(eps_model, x0, seeds=[1], start_t=1000)


def test_noise_at_the_papers_start_is_small() -> None:
    # signal-to-noise 114 at t = 50: why published counterfactuals move texture rather than contrast
    level = SCHEDULE.level(50)
    assert (level.alpha / level.sigma) ** 2 == pytest.approx(114.5, abs=0.5)
    assert math.isclose(level.sigma, 0.0930, abs_tol=5e-5)

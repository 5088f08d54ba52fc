"""Samplers against a case with a closed form: data N(m, s^2), for which the perfect denoiser is known.

E[x_0 | x_t] = m + alpha s^2 / (alpha^2 s^2 + sigma^2) (x_t - alpha m), and the probability-flow ODE keeps
z = (x_t - alpha m) / sqrt(alpha^2 s^2 + sigma^2) constant.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from reacquire.diffusion import (
    CLEAN,
    DDIM,
    Ancestral,
    DPMSolverPP2M,
    ItemNoise,
    Level,
    NoiseSchedule,
    Previous,
    Sampler,
    lambda_uniform,
    run,
    sampler_from_name,
)

MEAN, SD = 0.4, 0.25
SCHEDULE = NoiseSchedule.paper_cosine()


def posterior_mean(x: Tensor, level: Level) -> Tensor:
    gain = level.alpha * SD**2 / (level.alpha**2 * SD**2 + level.sigma**2)
    return MEAN + gain * (x - level.alpha * MEAN)


def variance_preserving(log_snr: float) -> Level:
    return Level((1 + math.exp(-2 * log_snr)) ** -0.5, (1 + math.exp(2 * log_snr)) ** -0.5)


def ode_error(sampler: Sampler, steps: int) -> float:
    """Global error of the probability-flow ODE from lambda -2 to 2 in ``steps`` steps even in lambda."""
    levels = [variance_preserving(v) for v in np.linspace(-2, 2, steps + 1)]
    exact = [level.alpha * MEAN + 1.3 * math.sqrt(level.alpha**2 * SD**2 + level.sigma**2) for level in levels]
    x, previous = torch.tensor([[[[exact[0]]]]], dtype=torch.float64), None
    for here, there in pairwise(levels):
        x0 = posterior_mean(x, here)
        x, previous = sampler.step(x, x0, here, there, None, previous), Previous(x0, here)
    return abs(x.item() - exact[-1])


@pytest.mark.parametrize(("sampler", "order"), [(DDIM(0.0), 1), (DPMSolverPP2M(), 2)])
def test_convergence_order_on_the_gaussian_ode(sampler: Sampler, order: int) -> None:
    steps = np.array([160, 320, 640, 1280])  # with fewer, errors of second and third order partly cancel
    errors = [ode_error(sampler, n) for n in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.12)


@pytest.mark.parametrize(
    ("sampler", "steps"),
    [(Ancestral(), 1000), (DDIM(1.0), 1000), (DDIM(0.5), 1000), (DDIM(0.0), 1000), (DPMSolverPP2M(), 60)],
)
def test_samplers_reproduce_the_gaussian(sampler: Sampler, steps: int) -> None:
    noise = ItemNoise([3, 4])
    start = noise.draw(0, torch.zeros(2, 1, 100, 100))
    result = run(
        lambda x, t, items: posterior_mean(x, SCHEDULE.level(t)),
        start,
        lambda_uniform(SCHEDULE, 999, steps),
        sampler,
        schedule=SCHEDULE,
        noise=noise,
    )
    assert result.mean().item() == pytest.approx(MEAN, abs=4 * SD / math.sqrt(result.numel()))
    assert result.std().item() == pytest.approx(SD, rel=0.02)


@pytest.mark.parametrize(("here", "there"), [(50, 49), (1, 0), (999, 400), (49, 8)])
def test_ancestral_equals_ddim_of_eta_one(here: int, there: int) -> None:
    x, x0, noise = torch.randn(3, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    levels = SCHEDULE.level(here), SCHEDULE.level(there)
    ours, theirs = (s.step(x, x0, *levels, noise, None) for s in (Ancestral(), DDIM(1.0)))
    assert torch.allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("sampler", [Ancestral(), DDIM(0.0), DDIM(0.3), DDIM(1.0), DPMSolverPP2M()])
def test_a_true_x0_is_carried_to_the_right_marginal(sampler: Sampler) -> None:
    """From x_t = alpha x_0 + sigma z the step lands at alpha' x_0 with total noise sigma'."""
    generator = torch.Generator().manual_seed(1)
    x0 = torch.full((1, 1, 300, 300), 0.7, dtype=torch.float64)
    z, fresh = torch.randn(2, *x0.shape, generator=generator, dtype=torch.float64)
    here, there = SCHEDULE.level(400), SCHEDULE.level(250)
    x = here.alpha * x0 + here.sigma * z
    landed = sampler.step(x, x0, here, there, fresh if sampler.stochastic else None, None)
    assert landed.mean().item() == pytest.approx(there.alpha * 0.7, abs=0.01)
    assert landed.std().item() == pytest.approx(there.sigma, rel=0.01)


@pytest.mark.parametrize("sampler", [Ancestral(), DDIM(0.0), DDIM(1.0), DPMSolverPP2M()])
def test_the_step_to_no_noise_returns_x0(sampler: Sampler) -> None:
    x, x0, old = torch.randn(3, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    landed = sampler.step(x, x0, SCHEDULE.level(5), CLEAN, None, Previous(old, SCHEDULE.level(9)))
    assert torch.allclose(landed, x0, atol=1e-12)


def test_ddpm_step_golden_value() -> None:
    """Ho et al. (2020), eq. 7, at t = 50 in their own symbols, from abar(49), abar(50) of the paper's schedule."""
    abar, abar_before = 0.9913435644160976, 0.9916260498876106
    alpha = abar / abar_before
    beta = 1 - alpha
    x, x0, noise = 0.8, 0.5, -1.2
    mean = math.sqrt(abar_before) * beta / (1 - abar) * x0 + math.sqrt(alpha) * (1 - abar_before) / (1 - abar) * x
    expected = mean + math.sqrt((1 - abar_before) / (1 - abar) * beta) * noise
    x_t, clean, z = (torch.full((1, 1, 2, 2), v, dtype=torch.float64) for v in (x, x0, noise))
    step = Ancestral().step(x_t, clean, SCHEDULE.level(50), SCHEDULE.level(49), z, None)
    assert torch.allclose(step, torch.full_like(step, expected), atol=1e-12)


def test_samplers_by_name() -> None:
    assert sampler_from_name("ddim", eta=0.5) == DDIM(0.5)
    assert sampler_from_name("ancestral") == Ancestral() and Ancestral().stochastic
    assert sampler_from_name("dpmpp-2m") == DPMSolverPP2M() and not DPMSolverPP2M().stochastic
    with pytest.raises(ValueError, match="euler"):
        sampler_from_name("euler")
    with pytest.raises(ValueError, match="eta"):
        DDIM(1.5)

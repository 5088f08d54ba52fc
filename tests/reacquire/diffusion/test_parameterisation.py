"""Parameterisations: output -> x_0 and x_0 -> target are inverse, and SourceResidual has its stated limits."""

import pytest
import torch

from reacquire.diffusion import (
    Epsilon,
    Level,
    NoiseSchedule,
    Parameterisation,
    Sample,
    SourceResidual,
    Velocity,
)

SCHEDULE = NoiseSchedule.paper_cosine()
EVERY: list[Parameterisation] = [Epsilon(), Sample(), Velocity(), SourceResidual(0.2)]


def images(seed: int, items: int = 3, side: int = 32) -> tuple[torch.Tensor, ...]:
    """x_0, source = x_0 plus a difference of spread 0.2, and noise; float64."""
    generator = torch.Generator().manual_seed(seed)
    x0, difference, noise = torch.randn(3, items, 1, side, side, generator=generator, dtype=torch.float64)
    return x0, x0 + 0.2 * difference, noise


@pytest.mark.parametrize("parameterisation", EVERY)
def test_target_and_x0_are_inverse(parameterisation: Parameterisation) -> None:
    x0, source, noise = images(0)
    t = torch.tensor([0, 50, 700])
    x_t, level = SCHEDULE.q_sample(x0, t, noise), SCHEDULE.levels(t, x0)
    target = parameterisation.target(x0, x_t, level, source)
    assert torch.allclose(parameterisation.to_x0(target, x_t, level, source), x0, atol=1e-9)


def test_targets_are_what_their_names_say() -> None:
    x0, _, noise = images(1)
    level = SCHEDULE.level(120)
    x_t = SCHEDULE.q_sample(x0, 120, noise)
    assert torch.allclose(Epsilon().target(x0, x_t, level), noise, atol=1e-9)
    assert torch.equal(Sample().target(x0, x_t, level), x0)
    velocity = level.alpha * noise - level.sigma * x0
    assert torch.allclose(Velocity().target(x0, x_t, level), velocity, atol=1e-9)


@pytest.mark.parametrize("t", [0, 10, 50, 300, 700, 990])
def test_source_residual_input_and_target_have_unit_variance_at_every_level(t: int) -> None:
    x0, source, noise = images(2, items=1, side=300)
    method, level = SourceResidual(0.2), SCHEDULE.level(t)
    x_t = SCHEDULE.q_sample(x0, t, noise)
    innovation = method.network_input(x_t, level, source)[:, :1]
    target = method.target(x0, x_t, level, source)
    assert innovation.std().item() == pytest.approx(1, abs=0.02)
    assert target.std().item() == pytest.approx(1, abs=0.02)
    assert (innovation * target).mean().item() == pytest.approx(0, abs=0.02)  # nothing linear is left to learn


def test_source_residual_without_noise_returns_x_t_and_in_noise_the_source() -> None:
    x0, source, noise = images(3)
    output, method = torch.ones_like(x0), SourceResidual(0.3)
    clean = Level(1.0, 1e-9)
    assert torch.allclose(method.to_x0(output, x0, clean, source), x0, atol=1e-8)
    drowned = Level(1e-9, 1.0)
    x_t = drowned.alpha * x0 + drowned.sigma * noise
    assert torch.allclose(method.to_x0(output, x_t, drowned, source), source + 0.3 * output, atol=1e-8)


def test_source_residual_of_a_silent_network_is_the_bayes_estimate() -> None:
    # the product of the two Gaussians of the docstring, by precision weighting rather than by the code's formula
    x0, source, noise = images(4)
    level = SCHEDULE.level(200)
    x_t = SCHEDULE.q_sample(x0, 200, noise)
    p_source, p_noisy = 1 / 0.2**2, (level.alpha / level.sigma) ** 2
    expected = (p_source * source + p_noisy * x_t / level.alpha) / (p_source + p_noisy)
    estimate = SourceResidual(0.2).to_x0(torch.zeros_like(x0), x_t, level, source)
    assert torch.allclose(estimate, expected, atol=1e-12)
    assert (estimate - x0).square().mean() < torch.minimum(
        (source - x0).square().mean(), (x_t / level.alpha - x0).square().mean()
    )


@pytest.mark.parametrize("parameterisation", [Epsilon(), Sample(), Velocity()])
def test_network_input_takes_the_source_as_second_channel(parameterisation: Parameterisation) -> None:
    x0, source, _ = images(5)
    assert parameterisation.network_input(x0, SCHEDULE.level(3)).shape[1] == 1
    both = parameterisation.network_input(x0, SCHEDULE.level(3), source)
    assert torch.equal(both, torch.cat([x0, source], dim=1))


def test_source_residual_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="spread"):
        SourceResidual(0.0)
    with pytest.raises(ValueError, match="source"):
        SourceResidual().to_x0(torch.zeros(1), torch.zeros(1), Level(0.9, 0.1))

"""Parameterisations: output -> x_0 and x_0 -> target are inverse, and are what their names say."""

import pytest
import torch

from reacquire.diffusion import (
    Epsilon,
    NoiseSchedule,
    Parameterisation,
    Sample,
    Velocity,
)

SCHEDULE = NoiseSchedule.paper_cosine()
EVERY: list[Parameterisation] = [Epsilon(), Sample(), Velocity()]


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


@pytest.mark.parametrize("parameterisation", [Epsilon(), Sample(), Velocity()])
def test_network_input_takes_the_source_as_second_channel(parameterisation: Parameterisation) -> None:
    x0, source, _ = images(5)
    assert parameterisation.network_input(x0, SCHEDULE.level(3)).shape[1] == 1
    both = parameterisation.network_input(x0, SCHEDULE.level(3), source)
    assert torch.equal(both, torch.cat([x0, source], dim=1))

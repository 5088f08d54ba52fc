"""The loop: what an item gets does not depend on the company it keeps, and a dropped one leaves."""

import pytest
import torch
from torch import Tensor

from reacquire.diffusion import (
    DDIM,
    Ancestral,
    Clamp,
    Denoise,
    DPMSolverPP2M,
    ItemNoise,
    NoiseSchedule,
    Sampler,
    edit,
    lambda_uniform,
    run,
)

SCHEDULE = NoiseSchedule.paper_cosine()
SAMPLERS = [Ancestral(), DDIM(0.0), DDIM(0.5), DPMSolverPP2M()]
NODES = lambda_uniform(SCHEDULE, 300, 6)
SEEDS = [5, 6, 7]
GAINS = torch.tensor([0.3, 0.6, 0.9])


def denoiser(items_of_the_batch: list[int]) -> Denoise:
    """A nonlinear denoiser whose condition differs by item; ``items`` index the batch, as the engine's does."""
    gains = GAINS[items_of_the_batch]

    def denoise(x: Tensor, t: int, items: Tensor) -> Tensor:
        return torch.tanh(x * gains[items, None, None, None]) + t / 1000

    return denoise


def images() -> Tensor:
    return torch.rand(3, 1, 12, 12, generator=torch.Generator().manual_seed(0))


def edited(items: list[int], sampler: Sampler, **options: object) -> Tensor:
    noise = ItemNoise([SEEDS[i] for i in items])
    return edit(denoiser(items), images()[items], NODES, sampler, schedule=SCHEDULE, noise=noise, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_item_alone_equals_the_item_in_a_batch(sampler: Sampler) -> None:
    together = edited([0, 1, 2], sampler)
    for i in range(3):
        assert torch.allclose(edited([i], sampler)[0], together[i], atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0.01


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_dropping_a_mate_midway_changes_nothing_for_the_others(sampler: Sampler) -> None:
    together = edited([0, 1, 2], sampler)
    rows: list[list[int]] = []
    inner = denoiser([0, 1, 2])

    def watched(x: Tensor, t: int, items: Tensor) -> Tensor:
        rows.append(items.tolist())
        return inner(x, t, items)

    dropped = edit(
        watched,
        images(),
        NODES,
        sampler,
        schedule=SCHEDULE,
        noise=ItemNoise(SEEDS),
        on_step=lambda done, total: {0} if done == 2 else (),
    )
    assert rows == [[0, 1, 2]] * 2 + [[1, 2]] * 4
    assert torch.isnan(dropped[0]).all()
    assert torch.allclose(dropped[1:], together[1:], atol=1e-5)


def test_a_batch_without_survivors_stops_at_once() -> None:
    calls: list[tuple[int, int]] = []

    def on_step(done: int, total: int) -> list[int]:
        calls.append((done, total))
        return [0, 1, 2]

    assert torch.isnan(edited([0, 1, 2], DDIM(0.0), on_step=on_step)).all()
    assert calls == [(1, 6)]


def test_progress_counts_every_step() -> None:
    calls: list[tuple[int, int]] = []
    edited([0], Ancestral(), on_step=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 6) for i in range(1, 7)]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_zero_steps_are_the_identity(sampler: Sampler) -> None:
    x0 = images()
    result = edit(denoiser([0, 1, 2]), x0, [], sampler, schedule=SCHEDULE, noise=ItemNoise(SEEDS))
    assert torch.equal(result, x0)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_denoiser_that_knows_the_image_returns_it(sampler: Sampler) -> None:
    x0 = images()
    result = edit(lambda x, t, items: x0[items], x0, NODES, sampler, schedule=SCHEDULE, noise=ItemNoise(SEEDS))
    assert torch.allclose(result, x0, atol=1e-5)


def test_limiter_acts_on_every_prediction() -> None:
    result = edited([0, 1, 2], Ancestral(), limiter=Clamp(0.0, 0.2))
    assert result.min() >= 0 and result.max() <= 0.2


def test_same_seed_repeats_and_another_differs() -> None:
    again, first = edited([0], Ancestral()), edited([0], Ancestral())
    assert torch.equal(again, first)
    other = edit(denoiser([0]), images()[:1], NODES, Ancestral(), schedule=SCHEDULE, noise=ItemNoise([99]))
    assert (other - first).abs().max() > 1e-3


@pytest.mark.parametrize("timesteps", [[10, 10], [5, 9], [1000, 3], [-1]])
def test_timesteps_must_descend_within_the_schedule(timesteps: list[int]) -> None:
    with pytest.raises(ValueError, match=r"descend|must lie"):
        run(denoiser([0]), images()[:1], timesteps, DDIM(0.0), schedule=SCHEDULE, noise=ItemNoise([1]))


def test_seeds_must_match_the_batch() -> None:
    with pytest.raises(ValueError, match="2 seeds for a batch of 1"):
        run(denoiser([0]), images()[:1], NODES, DDIM(0.0), schedule=SCHEDULE, noise=ItemNoise([1, 2]))

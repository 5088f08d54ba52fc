"""The reverse loop: walks a list of timesteps, and lets items leave the batch between steps.

Knows neither networks nor conditions: the caller's ``denoise`` closes over both and predicts x_0.
"""

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from reacquire.diffusion.limiters import Limiter, NoLimit
from reacquire.diffusion.noise import ItemNoise
from reacquire.diffusion.samplers import Previous, Sampler
from reacquire.diffusion.schedule import CLEAN, NoiseSchedule

# (x, t, original batch indices of its rows) -> predicted x_0
Denoise = Callable[[Tensor, int, Tensor], Tensor]
# (steps done, steps in all) -> original indices to drop, or None
OnStep = Callable[[int, int], Collection[int] | None]
# (number of the step, x, original indices, memory) -> (next x, memory); tensors have the same rows
Advance = Callable[[int, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor | None]]


@torch.no_grad()
def run(
    denoise: Denoise,
    x_start: Tensor,
    timesteps: Sequence[int],
    sampler: Sampler,
    *,
    schedule: NoiseSchedule,
    noise: ItemNoise,
    limiter: Limiter | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Solve the reverse process from ``x_start`` to a clean image.

    Parameters
    ----------
    denoise : callable (x (N, 1, H, W), t: int, items LongTensor (N,)) -> x_0 (N, 1, H, W)
        ``items`` names the original batch row of each row of ``x``, so that conditions and sources can be picked.
    x_start : Tensor (B, 1, H, W)
        The image at the noise level of ``timesteps[0]``.
    timesteps : sequence of int
        Strictly descending indices, one evaluation each; the step after the last one goes to zero noise. None at all
        returns ``x_start``.
    sampler : Sampler
    schedule : NoiseSchedule
    noise : ItemNoise
        Of B seeds; step i (from 1) adds draw number i.
    limiter : Limiter or None
        Applied to every predicted x_0, the final one included.
    on_step : callable or None
        Called after every step; the items it returns are no longer computed.

    Returns
    -------
    Tensor (B, 1, H, W)
        Rows of dropped items are NaN.

    Raises
    ------
    ValueError
        When the timesteps do not descend or the seeds do not match the batch.
    """
    if any(later >= sooner for sooner, later in pairwise(timesteps)):
        raise ValueError("timesteps must descend strictly")
    limiter = limiter or NoLimit()
    levels = [*(schedule.level(t) for t in timesteps), CLEAN]

    def advance(i: int, x: Tensor, items: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        here, there = levels[i], levels[i + 1]
        x0 = limiter(denoise(x, timesteps[i], items))
        fresh = noise.draw(i + 1, x, items) if sampler.stochastic and there.sigma > 0 else None
        previous = None if memory is None else Previous(memory, levels[i - 1])
        return sampler.step(x, x0, here, there, fresh, previous), x0

    return iterate(advance, x_start, len(timesteps), noise, on_step)


def iterate(advance: Advance, x_start: Tensor, steps: int, noise: ItemNoise, on_step: OnStep | None) -> Tensor:
    """Apply ``advance`` ``steps`` times to the items that are still wanted; see `run` for the arguments."""
    if len(noise.seeds) != len(x_start):
        raise ValueError(f"{len(noise.seeds)} seeds for a batch of {len(x_start)}")
    x, memory = x_start, None
    items = torch.arange(len(x_start))
    for i in range(steps):
        x, memory = advance(i, x, items, memory)
        dropped = on_step(i + 1, steps) if on_step else None
        if dropped:
            keep = torch.tensor([int(item) not in dropped for item in items])
            items, x = items[keep], x[keep.to(x.device)]
            memory = None if memory is None else memory[keep.to(memory.device)]
        if len(items) == 0:
            break
    result = torch.full_like(x_start, torch.nan)
    result[items.to(result.device)] = x
    return result


def edit(
    denoise: Denoise,
    x0: Tensor,
    timesteps: Sequence[int],
    sampler: Sampler,
    *,
    schedule: NoiseSchedule,
    noise: ItemNoise,
    limiter: Limiter | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Algorithm 1 with its indices aligned: noise ``x0`` to ``timesteps[0]``, then `run` back from that very index.

    Without timesteps the image is returned as it is. Arguments and result as for `run`.
    """
    start = schedule.q_sample(x0, timesteps[0], noise.draw(0, x0)) if timesteps else x0
    return run(denoise, start, timesteps, sampler, schedule=schedule, noise=noise, limiter=limiter, on_step=on_step)

"""Algorithm 1 exactly as the authors run it, quirks included (docs/paper.md rows 1, 3, 4).

Kept apart from the general loop because it is reproduced in the authors' own arithmetic: float32 tables, where
1 - abar loses up to four digits, and their order of operations. For everything else use `edit`.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from reacquire.diffusion.guidance import combine
from reacquire.diffusion.limiters import PercentileRescale
from reacquire.diffusion.loop import OnStep, iterate
from reacquire.diffusion.noise import ItemNoise, Seed

TIMESTEPS = 1000

# (x (2N, 1, H, W), t LongTensor (2N,), original batch indices (N,)) -> noise (2N, 1, H, W)
EpsilonModel = Callable[[Tensor, Tensor, Tensor], Tensor]


class Tables(NamedTuple):
    """beta, alpha and abar, each (1000,) float32 on the CPU."""

    beta: Tensor
    alpha: Tensor
    abar: Tensor


@lru_cache
def paper_tables() -> Tables:
    """The patched cosine schedule in the float32 arithmetic of the authors' library."""
    x = torch.linspace(0, TIMESTEPS, TIMESTEPS + 1, dtype=torch.float32)
    curve = torch.cos(((x / TIMESTEPS) + 8e-3) / (1 + 8e-3) * torch.pi * 0.5) ** 2
    curve = curve / curve[0].item()
    beta = 1.0 - torch.clip(curve[1:] / curve[:-1], 0.0001, 0.9999)
    alpha = 1.0 - beta
    return Tables(beta, alpha, torch.cumprod(alpha, dim=0))


def paper_step(output: Tensor, t: int, x: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
    """One reverse step t -> t - 1 with the percentile rescale inside.

    Parameters
    ----------
    output : Tensor (B, 1, H, W)
        Guided noise prediction.
    t : int
        0..999; at 0 the result is the rescaled x_0 itself.
    x : Tensor (B, 1, H, W)
        x_t.
    noise : Tensor (B, 1, H, W) or None
        Standard normal; unused at t = 0.

    Returns
    -------
    tuple of Tensor
        x_{t-1} and the rescaled x_0.
    """
    beta, alpha, abar = paper_tables()
    abar_here = abar[t]
    abar_there = abar[t - 1] if t > 0 else torch.tensor(1.0)
    variance_here, variance_there = 1 - abar_here, 1 - abar_there
    x0 = PercentileRescale()((x - variance_here**0.5 * output) / abar_here**0.5)
    # Ho et al. 2020, eq. 7
    mean = (abar_there**0.5 * beta[t]) / variance_here * x0 + alpha[t] ** 0.5 * variance_there / variance_here * x
    if t == 0 or noise is None:
        return mean, x0
    variance = torch.clamp(variance_there / variance_here * beta[t], min=1e-20)
    return mean + variance**0.5 * noise, x0


@torch.no_grad()
def paper_edit(
    eps_model: EpsilonModel,
    x0: Tensor,
    *,
    seeds: Sequence[Seed],
    start_t: int = 50,
    guidance_scale: float = 3.0,
    on_step: OnStep | None = None,
) -> Tensor:
    """Edit images as the released code does: noise at index ``start_t``, then steps ``start_t`` - 1 ... 0.

    The network is so told a level one index below the one it sees (docs/paper.md row 3). Both branches of guidance go
    through the network together. One deviation: noise is drawn per item from its seed, where the authors draw from
    the global generator.

    Parameters
    ----------
    eps_model : callable (x (2N, 1, H, W), t LongTensor (2N,), items LongTensor (N,)) -> noise (2N, 1, H, W)
        Rows 0..N-1 are to be conditioned on null, rows N..2N-1 on the target; ``items`` are the original batch
        indices of either half.
    x0 : Tensor (B, 1, H, W)
        Normalised images (10th percentile 0, 99th 1).
    seeds : sequence of int or SliceSeed
        One per image.
    start_t : int
        1..999; 0 returns the images as they are.
    guidance_scale : float
        w of Algorithm 1.
    on_step : callable or None
        As for `reacquire.diffusion.run`.

    Returns
    -------
    Tensor (B, 1, H, W)
        Rows of dropped items are NaN.

    Raises
    ------
    ValueError
        When ``start_t`` lies outside the schedule.
    """
    if not 0 <= start_t < TIMESTEPS:
        raise ValueError(f"start_t must lie in 0..{TIMESTEPS - 1}, not {start_t}")
    noise = ItemNoise(seeds)
    if start_t == 0:
        return x0.clone()
    abar = paper_tables().abar[start_t]
    start = abar**0.5 * x0 + (1 - abar) ** 0.5 * noise.draw(0, x0)

    def advance(i: int, x: Tensor, items: Tensor, _memory: Tensor | None) -> tuple[Tensor, None]:
        t = start_t - 1 - i
        times = torch.full((2 * len(x),), t, dtype=torch.long, device=x.device)
        null, target = eps_model(torch.cat([x, x]), times, items).chunk(2)
        fresh = noise.draw(i + 1, x, items) if t > 0 else None
        return paper_step(combine(null, target, guidance_scale), t, x, fresh)[0], None

    return iterate(advance, start, start_t, noise, on_step)

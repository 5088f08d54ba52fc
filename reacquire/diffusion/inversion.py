"""From a clean image to noise that decodes to it: the two kinds of abduction, as loops over a caller's denoiser.

``invert`` runs the probability-flow ODE of DDIM backwards (Song et al. 2021, section 4.3). Every step is solved for the
very point from which the decoding step comes back (fixed-point iteration; Pan et al. 2023), so that the two undo each
other although the steps are few. ``noise_maps`` draws independent noisy copies of the image instead and keeps what the
reverse steps miss (edit-friendly DDPM inversion; Huberman-Spiegelglas et al. 2024).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from reacquire.diffusion.noise import ItemNoise
from reacquire.diffusion.samplers import Ancestral
from reacquire.diffusion.schedule import CLEAN, NoiseSchedule

# (x, t) -> predicted noise; all rows of the batch, in its order
Epsilon = Callable[[Tensor, int], Tensor]
PredictX0 = Callable[[Tensor, int], Tensor]


@torch.no_grad()
def invert(
    epsilon: Epsilon, x0: Tensor, timesteps: Sequence[int], *, schedule: NoiseSchedule, iterations: int = 3
) -> Tensor:
    """Encode ``x0`` (B, 1, H, W) at the level of ``timesteps[0]``.

    Parameters
    ----------
    epsilon : callable (x (B, 1, H, W), t: int) -> predicted noise (B, 1, H, W)
    timesteps : sequence of int
        Strictly descending, as the decoding `reacquire.diffusion.run` takes them with `DDIM` of eta 0.
    iterations : int
        Evaluations per step; 1 is the plain inversion of Song et al.

    Returns
    -------
    Tensor (B, 1, H, W)
        The image itself without timesteps.
    """
    x, here = x0, CLEAN
    for t in reversed(timesteps):
        there = schedule.level(t)
        ratio = there.alpha / here.alpha
        slope = there.sigma - here.sigma * ratio
        noisier = x
        for _ in range(iterations):
            noisier = ratio * x + slope * epsilon(noisier, t)
        x, here = noisier, there
    return x


class NoiseMaps(NamedTuple):
    """``start`` (B, 1, H, W) is the image at the first timestep; ``missing[i]`` what step i has to add to its mean."""

    start: Tensor
    missing: tuple[Tensor, ...]


@torch.no_grad()
def noise_maps(
    predict_x0: PredictX0, x0: Tensor, timesteps: Sequence[int], *, schedule: NoiseSchedule, noise: ItemNoise
) -> NoiseMaps:
    """What the reverse steps miss on a walk through independent noisy copies of ``x0`` (B, 1, H, W).

    The last step's share leads to ``x0`` itself, so that decoding with the same predictions gives ``x0`` back exactly.
    Copy i takes draw number i of ``noise``.
    """
    copies = [schedule.q_sample(x0, t, noise.draw(i, x0)) for i, t in enumerate(timesteps)]
    levels = [*(schedule.level(t) for t in timesteps), CLEAN]
    wanted = [*copies[1:], x0]
    missing = tuple(
        wanted[i] - Ancestral().step(copies[i], predict_x0(copies[i], t), levels[i], levels[i + 1], None, None)
        for i, t in enumerate(timesteps)
    )
    return NoiseMaps(copies[0] if copies else x0, missing)

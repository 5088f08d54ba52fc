"""From a clean image to noise that decodes to it, as a loop over a caller's denoiser.

Independent noisy copies of the image are drawn, and what the reverse steps miss between them is kept (edit-friendly
DDPM inversion; Huberman-Spiegelglas et al. 2024).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from reacquire.diffusion.noise import ItemNoise
from reacquire.diffusion.samplers import Ancestral
from reacquire.diffusion.schedule import CLEAN, NoiseSchedule

# (x, t) -> predicted clean image; all rows of the batch, in its order
PredictX0 = Callable[[Tensor, int], Tensor]


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

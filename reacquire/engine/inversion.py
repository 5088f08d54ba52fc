"""Abduction, action, prediction with the paper's denoiser: the noise that leads to the slice under its own parameters
is kept and decoded under the target's (edit-friendly DDPM inversion; Huberman-Spiegelglas et al. 2024).

The negative branch of guidance is the source, so an edit to the source's own parameters gives the source back at any
scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reacquire.bundles.manifest import InversionSetup
from reacquire.diffusion import (
    CLEAN,
    Ancestral,
    ItemNoise,
    OnStep,
    Seed,
    iterate,
    lambda_uniform,
    noise_maps,
)
from reacquire.engine.guided import Guided, check_walk
from reacquire.engine.method import Settings
from reacquire.errors import InputError
from reacquire.jobs.spec import Options
from reacquire.networks import Condition


@dataclass(frozen=True)
class Inversion:
    """``guided`` predicts the noise of (x_t, t) under a condition."""

    guided: Guided
    setup: InversionSetup

    def check(self, options: Options) -> None:
        """Refuse what an inversion can't give.

        Raises
        ------
        InputError
            For a sampler, ``noise``, or more steps than there are timesteps up to the depth.
        """
        if options.sampler is not None:
            raise InputError("a slice is inverted without any sampler: leave it out", where="/options/sampler")
        check_walk(options, self.setup.start + 1)

    def evaluations(self, settings: Settings) -> int:
        """Encoding and decoding; guidance doubles the latter."""
        return settings.steps * (2 if settings.guidance_scale == 1 else 3)

    def edit(
        self,
        source: Tensor,
        source_iap: Condition,
        target_iap: Condition,
        seeds: Sequence[Seed],
        settings: Settings,
        on_step: OnStep | None = None,
    ) -> Tensor:
        schedule, noise = self.guided.schedule, ItemNoise(seeds)
        timesteps = lambda_uniform(schedule, self.setup.start, settings.steps)
        levels = [*(schedule.level(t) for t in timesteps), CLEAN]

        def encode(x: Tensor, t: int) -> Tensor:
            return self.guided.x0(x, t, source_iap, source_iap, 1)

        start, missing = noise_maps(encode, source, timesteps, schedule=schedule, noise=noise)

        def advance(i: int, x: Tensor, items: Tensor, _memory: Tensor | None) -> tuple[Tensor, None]:
            away, towards = source_iap.index(items), target_iap.index(items)
            x0 = self.guided.x0(x, timesteps[i], away, towards, settings.guidance_scale)
            mean = Ancestral().step(x, x0, levels[i], levels[i + 1], None, None)
            return mean + missing[i][items.to(x.device)], None

        with torch.no_grad():
            return iterate(advance, start, len(timesteps), noise, on_step)

"""Abduction, action, prediction with the paper's denoiser: encode the slice under its own parameters, decode it under
the target's.

``ddim`` follows the probability-flow ODE both ways (Song et al. 2021, section 4.3), so that nothing random enters;
``edit-friendly`` keeps the noise maps of independent noisy copies (Huberman-Spiegelglas et al. 2024). The negative
branch of guidance is the source, so an edit to the source's own parameters gives the source back at any scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from reacquire.bundles.manifest import InversionSetup
from reacquire.diffusion import (
    CLEAN,
    DDIM,
    Ancestral,
    ItemNoise,
    OnStep,
    Seed,
    invert,
    iterate,
    lambda_uniform,
    noise_maps,
    run,
)
from reacquire.engine.guided import Branches, Guided, check_walk
from reacquire.engine.method import Settings
from reacquire.errors import InputError
from reacquire.jobs.spec import Options
from reacquire.networks import Condition

ITERATIONS = 3  # evaluations per step of the encoding


@dataclass(frozen=True)
class Inversion:
    """``network`` predicts the noise of (x_t, t) under a condition."""

    network: nn.Module
    setup: InversionSetup

    @cached_property
    def guided(self) -> Guided:
        return Guided.of(self.network, self.setup)

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
        encoding = ITERATIONS if self.setup.kind == "ddim" else 1
        return settings.steps * (encoding + (1 if settings.guidance_scale == 1 else 2))

    def edit(
        self,
        source: Tensor,
        source_iap: Condition,
        target_iap: Condition,
        seeds: Sequence[Seed],
        settings: Settings,
        on_step: OnStep | None = None,
    ) -> Tensor:
        branches = Branches(source_iap, target_iap, "source")
        timesteps = lambda_uniform(self.guided.schedule, self.setup.start, settings.steps)
        noise = ItemNoise(seeds)
        if self.setup.kind == "ddim":
            return self._along_the_ode(source, branches, timesteps, noise, settings.guidance_scale, on_step)
        return self._through_noise_maps(source, branches, timesteps, noise, settings.guidance_scale, on_step)

    def _along_the_ode(
        self,
        source: Tensor,
        branches: Branches,
        timesteps: Sequence[int],
        noise: ItemNoise,
        scale: float,
        on_step: OnStep | None,
    ) -> Tensor:
        def encode(x: Tensor, t: int) -> Tensor:
            return self.guided.guided(x, t, branches.source, branches.source, 1)

        def decode(x: Tensor, t: int, items: Tensor) -> Tensor:
            return self.guided.x0(x, t, *branches.of(items), scale)

        schedule = self.guided.schedule
        code = invert(encode, source, timesteps, schedule=schedule, iterations=ITERATIONS)
        return run(decode, code, timesteps, DDIM(0.0), schedule=schedule, noise=noise, on_step=on_step)

    def _through_noise_maps(
        self,
        source: Tensor,
        branches: Branches,
        timesteps: Sequence[int],
        noise: ItemNoise,
        scale: float,
        on_step: OnStep | None,
    ) -> Tensor:
        def encode(x: Tensor, t: int) -> Tensor:
            return self.guided.x0(x, t, branches.source, branches.source, 1)

        schedule = self.guided.schedule
        start, missing = noise_maps(encode, source, timesteps, schedule=schedule, noise=noise)
        levels = [*(schedule.level(t) for t in timesteps), CLEAN]

        def advance(i: int, x: Tensor, items: Tensor, _memory: Tensor | None) -> tuple[Tensor, None]:
            x0 = self.guided.x0(x, timesteps[i], *branches.of(items), scale)
            mean = Ancestral().step(x, x0, levels[i], levels[i + 1], None, None)
            return mean + missing[i][items.to(x.device)], None

        with torch.no_grad():
            return iterate(advance, start, len(timesteps), noise, on_step)

"""Generation from noise beside the slice: anatomy is read off the slice, contrast comes from the parameters.

The denoiser learned with the contrast of the slice beside it randomised (``training.structure``; as in SynthSeg, Billot
et al. 2023), so that it has to take contrast from the condition. It never saw a pair. With ``residual`` the same walk,
with the same noise, is done under the source's own parameters, and the slice gets the difference of the two: what the
network can't make of the slice stays, and an edit to its own parameters is the slice (abduction, action, prediction).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from reacquire.bundles.manifest import StructureSetup
from reacquire.diffusion import ItemNoise, OnStep, Seed, lambda_uniform, run, sampler_from_name
from reacquire.engine.guided import Branches, Guided, check_walk
from reacquire.engine.method import Settings
from reacquire.jobs.spec import Options
from reacquire.networks import Condition


@dataclass(frozen=True)
class Structure:
    """``network`` predicts the clean slice from (x_t and the slice as two channels, t) under a condition."""

    network: nn.Module
    setup: StructureSetup

    @cached_property
    def guided(self) -> Guided:
        return Guided.of(self.network, self.setup)

    def check(self, options: Options) -> None:
        """Refuse what a walk from noise can't give.

        Raises
        ------
        InputError
            For ``noise``, or more steps than there are timesteps.
        """
        check_walk(options, self.setup.start + 1)

    def evaluations(self, settings: Settings) -> int:
        """Guidance doubles them, and so does the walk under the source's own parameters."""
        return settings.steps * (1 if settings.guidance_scale == 1 else 2) * (2 if self.setup.residual else 1)

    def edit(
        self,
        source: Tensor,
        source_iap: Condition,
        target_iap: Condition,
        seeds: Sequence[Seed],
        settings: Settings,
        on_step: OnStep | None = None,
    ) -> Tensor:
        if not self.setup.residual:
            return self._made(source, target_iap, seeds, settings, on_step)
        both = Condition.concat([target_iap, source_iap])
        walks = self._made(torch.cat([source, source]), both, [*seeds, *seeds], settings, _of_both(on_step, len(seeds)))
        there, here = walks.chunk(2)
        return source + (there - here)

    def _made(
        self, source: Tensor, iap: Condition, seeds: Sequence[Seed], settings: Settings, on_step: OnStep | None
    ) -> Tensor:
        """(B, 1, S, S): the slices as the network thinks they look under ``iap``."""
        branches, noise = Branches(iap, iap, "null"), ItemNoise(seeds)

        def denoise(x: Tensor, t: int, items: Tensor) -> Tensor:
            beside = source[items.to(source.device)]
            return self.guided.x0(x, t, *branches.of(items), settings.guidance_scale, beside)

        schedule = self.guided.schedule
        timesteps = lambda_uniform(schedule, self.setup.start, settings.steps)
        sampler = sampler_from_name(settings.sampler or self.setup.sampler, eta=self.setup.eta)
        start = noise.draw(0, source)
        return run(denoise, start, timesteps, sampler, schedule=schedule, noise=noise, on_step=on_step)


def _of_both(on_step: OnStep | None, count: int) -> OnStep | None:
    """A slice that leaves takes both of its walks along."""
    if on_step is None:
        return None

    def told(done: int, total: int) -> set[int]:
        return {walk for item in on_step(done, total) or () for walk in (item, item + count)}

    return told

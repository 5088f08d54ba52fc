"""What the parameters change in a slice made from noise: anatomy is read off the slice, contrast comes from them.

The denoiser learned with the contrast of the slice beside it randomised (``training.structure``; as in SynthSeg, Billot
et al. 2023), so that it has to take contrast from the condition. It never saw a pair. Two walks from the same noise,
one under the target's parameters and one under the source's, tell what the parameters change, and that is added to the
slice: what the network can't make of the slice stays, and an edit to its own parameters is the slice (abduction,
action, prediction).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reacquire.bundles.manifest import StructureSetup
from reacquire.diffusion import ItemNoise, OnStep, Seed, lambda_uniform, run, sampler_from_name
from reacquire.engine.guided import Guided, check_walk
from reacquire.engine.method import Settings
from reacquire.jobs.spec import Options
from reacquire.networks import Condition


@dataclass(frozen=True)
class Structure:
    """``guided`` predicts the clean slice from (x_t and the slice as two channels, t) under a condition."""

    guided: Guided
    setup: StructureSetup

    def check(self, options: Options) -> None:
        """Refuse what a walk from noise can't give.

        Raises
        ------
        InputError
            For ``noise``, or more steps than there are timesteps.
        """
        check_walk(options, self.setup.start + 1)

    def evaluations(self, settings: Settings) -> int:
        """Two walks."""
        return 2 * settings.steps

    def edit(
        self,
        source: Tensor,
        source_iap: Condition,
        target_iap: Condition,
        seeds: Sequence[Seed],
        settings: Settings,
        on_step: OnStep | None = None,
    ) -> Tensor:
        both, shown = Condition.concat([target_iap, source_iap]), torch.cat([source, source])

        def denoise(x: Tensor, t: int, items: Tensor) -> Tensor:
            under = both.index(items)
            return self.guided.x0(x, t, under, under, 1, shown[items.to(shown.device)])

        schedule, noise = self.guided.schedule, ItemNoise([*seeds, *seeds])
        timesteps = lambda_uniform(schedule, self.setup.start, settings.steps)
        sampler = sampler_from_name(settings.sampler or self.setup.sampler, eta=self.setup.eta)
        start, told = noise.draw(0, shown), _of_both(on_step, len(seeds))
        walks = run(denoise, start, timesteps, sampler, schedule=schedule, noise=noise, on_step=told)
        there, here = walks.chunk(2)
        return source + settings.guidance_scale * (there - here)


def _of_both(on_step: OnStep | None, count: int) -> OnStep | None:
    """A slice that leaves takes both of its walks along."""
    if on_step is None:
        return None

    def told(done: int, total: int) -> set[int]:
        return {walk for item in on_step(done, total) or () for walk in (item, item + count)}

    return told

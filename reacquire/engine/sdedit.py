"""Algorithm 1 of the paper: noise the slice, denoise it under the target parameters (SDEdit, Meng et al. 2022).

``ancestral`` runs it as the authors' released code does (docs/paper.md); the other samplers take the indices aligned.
The parameters of the source are not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from reacquire.bundles.manifest import SdeditSetup
from reacquire.diffusion import (
    Epsilon,
    ItemNoise,
    NoiseSchedule,
    OnStep,
    Seed,
    combine,
    edit,
    lambda_uniform,
    paper_edit,
    sampler_from_name,
)
from reacquire.engine.method import Settings
from reacquire.errors import InputError
from reacquire.jobs.spec import Options
from reacquire.networks import Condition


@dataclass(frozen=True)
class Sdedit:
    """``network`` predicts the noise of (x_t, t) under a condition."""

    network: nn.Module
    setup: SdeditSetup

    @cached_property
    def schedule(self) -> NoiseSchedule:
        return NoiseSchedule(self.setup.schedule, self.setup.timesteps)

    def check(self, options: Options) -> None:
        """Refuse what the schedule can't give.

        Raises
        ------
        InputError
            For more steps than there are timesteps from the start on, or for ``noise``.
        """
        settings = Settings.of(options, self.setup)
        most = self.setup.timesteps - 1 if _authors_way(settings) else self.setup.start + 1
        if settings.steps > most:
            raise InputError(f"steps must be at most {most} with this bundle and sampler", where="/options/steps")
        if options.noise is not None:
            raise InputError("noise belongs to bundles that edit directly: leave it out", where="/options/noise")

    def evaluations(self, settings: Settings) -> int:
        """Guidance doubles them."""
        return settings.steps * (1 if settings.guidance_scale == 1 and not _authors_way(settings) else 2)

    def edit(
        self,
        source: Tensor,
        source_iap: Condition,  # noqa: ARG002 (Algorithm 1 knows the target only)
        target_iap: Condition,
        seeds: Sequence[Seed],
        settings: Settings,
        on_step: OnStep | None = None,
    ) -> Tensor:
        if _authors_way(settings):
            return self._as_the_authors(source, target_iap, seeds, settings, on_step)

        def denoise(x: Tensor, t: int, items: Tensor) -> Tensor:
            return self._predict_x0(x, t, target_iap.index(items), settings.guidance_scale)

        timesteps = lambda_uniform(self.schedule, self.setup.start, settings.steps)
        sampler = sampler_from_name(settings.sampler or self.setup.sampler, eta=self.setup.eta)
        return edit(
            denoise, source, timesteps, sampler, schedule=self.schedule, noise=ItemNoise(seeds), on_step=on_step
        )

    def _as_the_authors(
        self, source: Tensor, condition: Condition, seeds: Sequence[Seed], settings: Settings, on_step: OnStep | None
    ) -> Tensor:
        def epsilon(x: Tensor, t: Tensor, items: Tensor) -> Tensor:
            target = condition.index(items)
            return self._network(x, t, Condition.concat([target.null_like(), target]))

        return paper_edit(
            epsilon,
            source,
            seeds=seeds,
            start_t=settings.steps,
            guidance_scale=settings.guidance_scale,
            on_step=on_step,
        )

    @torch.inference_mode()
    def _network(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return self.network(x.contiguous(memory_format=torch.channels_last), t, condition).float()

    def _predict_x0(self, x: Tensor, t: int, condition: Condition, scale: float) -> Tensor:
        """Predicted x_0, the guidance pair in one batch; at w = 1 the unconditional branch is not needed."""
        times = torch.full((len(x),), t, dtype=torch.long, device=x.device)
        if scale == 1:
            output = self._network(x, times, condition)
        else:
            both = Condition.concat([condition.null_like(), condition])
            unconditional, conditional = self._network(torch.cat([x] * 2), times.repeat(2), both).chunk(2)
            output = combine(unconditional, conditional, scale)
        return Epsilon().to_x0(output, x, self.schedule.level(t), None)


def _authors_way(settings: Settings) -> bool:
    return settings.sampler == "ancestral"

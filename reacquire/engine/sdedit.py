"""Algorithm 1 of the paper: noise the slice, denoise it under the target parameters (SDEdit, Meng et al. 2022).

``ancestral`` runs it as the authors' released code does (docs/paper.md); the other samplers take the indices aligned.
The source's own parameters play no part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from reacquire.bundles.manifest import SdeditSetup
from reacquire.diffusion import (
    ItemNoise,
    OnStep,
    Seed,
    edit,
    lambda_uniform,
    paper_edit,
    sampler_from_name,
)
from reacquire.engine.guided import Guided, check_walk
from reacquire.engine.method import Settings
from reacquire.jobs.spec import Options
from reacquire.networks import Condition


@dataclass(frozen=True)
class Sdedit:
    """``guided`` predicts the noise of (x_t, t) under a condition."""

    guided: Guided
    setup: SdeditSetup

    def check(self, options: Options) -> None:
        """Refuse what the schedule can't give.

        Raises
        ------
        InputError
            For more steps than there are timesteps from the start on, or for ``noise``.
        """
        settings = Settings.of(options, self.setup)
        most = self.setup.timesteps - 1 if _authors_way(settings) else self.setup.start + 1
        check_walk(options, most)

    def evaluations(self, settings: Settings) -> int:
        """Guidance doubles them."""
        return settings.steps * (1 if settings.guidance_scale == 1 and not _authors_way(settings) else 2)

    def edit(
        self,
        source: Tensor,
        source_iap: Condition,  # noqa: ARG002  # the protocol's; the paper's method has no use for it
        target_iap: Condition,
        seeds: Sequence[Seed],
        settings: Settings,
        on_step: OnStep | None = None,
    ) -> Tensor:
        if _authors_way(settings):
            return self._as_the_authors(source, target_iap, seeds, settings, on_step)

        def denoise(x: Tensor, t: int, items: Tensor) -> Tensor:
            return self.guided.x0(x, t, *_branches(target_iap, items), settings.guidance_scale)

        schedule = self.guided.schedule
        timesteps = lambda_uniform(schedule, self.setup.start, settings.steps)
        sampler = sampler_from_name(settings.sampler or self.setup.sampler, eta=self.setup.eta)
        return edit(denoise, source, timesteps, sampler, schedule=schedule, noise=ItemNoise(seeds), on_step=on_step)

    def _as_the_authors(
        self, source: Tensor, target_iap: Condition, seeds: Sequence[Seed], settings: Settings, on_step: OnStep | None
    ) -> Tensor:
        def epsilon(x: Tensor, t: Tensor, items: Tensor) -> Tensor:
            return self.guided.answer(x, t, Condition.concat(_branches(target_iap, items)))

        return paper_edit(
            epsilon,
            source,
            seeds=seeds,
            start_t=settings.steps,
            guidance_scale=settings.guidance_scale,
            on_step=on_step,
        )


def _branches(target_iap: Condition, items: Tensor) -> tuple[Condition, Condition]:
    """(null, target's) parameters of some rows."""
    positive = target_iap.index(items)
    return positive.null_like(), positive


def _authors_way(settings: Settings) -> bool:
    return settings.sampler == "ancestral"

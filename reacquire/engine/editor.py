"""Makes counterfactuals of normalised slices with whichever method the bundle's denoiser was trained for.

``paired``: the denoiser sees the source slice and the target parameters; the reverse process starts at a level where
next to nothing of the source's own look is left. ``sdedit``: Algorithm 1 of the paper on the same interface.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from reacquire.bundles.manifest import DiffusionSetup
from reacquire.diffusion import (
    Epsilon,
    ItemNoise,
    NoiseSchedule,
    OnStep,
    Parameterisation,
    SourceResidual,
    combine,
    edit,
    lambda_uniform,
    paper_edit,
    sampler_from_name,
)
from reacquire.errors import InputError
from reacquire.iap import Encoding, Record
from reacquire.jobs.spec import Options, SamplerName
from reacquire.networks import Condition


@dataclass(frozen=True)
class Settings:
    """The options of one batch, completed from the bundle's own values."""

    sampler: SamplerName
    steps: int
    guidance_scale: float

    @classmethod
    def of(cls, options: Options, setup: DiffusionSetup) -> "Settings":
        return cls(
            options.sampler or setup.sampler,
            options.steps or setup.steps,
            setup.guidance_scale if options.guidance_scale is None else options.guidance_scale,
        )

    def record(self, setup: DiffusionSetup) -> dict[str, str | int | float]:
        """Everything that decides the numbers, for provenance."""
        return {
            **asdict(self),
            "method": setup.method,
            "schedule": setup.schedule,
            "start": setup.start,
            "eta": setup.eta,
        }


@dataclass(frozen=True)
class Editor:
    """The denoiser, the encoding of its condition, and how it is to be run."""

    denoiser: nn.Module
    encoding: Encoding
    setup: DiffusionSetup

    @cached_property
    def schedule(self) -> NoiseSchedule:
        return NoiseSchedule(self.setup.schedule, self.setup.timesteps)

    @cached_property
    def parameterisation(self) -> Parameterisation:
        return Epsilon() if self.setup.spread is None else SourceResidual(self.setup.spread)

    def check(self, options: Options) -> None:
        """Refuse what this bundle's method cannot do.

        Raises
        ------
        InputError
            For more steps than there are timesteps from the start on.
        """
        settings = Settings.of(options, self.setup)
        most = self.setup.timesteps - 1 if self._authors_way(settings) else self.setup.start + 1
        if settings.steps > most:
            raise InputError(f"steps must be at most {most} with this bundle and sampler", where="/options/steps")

    def _authors_way(self, settings: Settings) -> bool:
        return self.setup.method == "sdedit" and settings.sampler == "ancestral"

    def evaluations(self, options: Options) -> int:
        """Network evaluations per slice that the options ask for; guidance doubles them."""
        settings = Settings.of(options, self.setup)
        return settings.steps * (1 if settings.guidance_scale == 1 and not self._authors_way(settings) else 2)

    def edit(
        self,
        source: Tensor,
        targets: Sequence[Record],
        seeds: Sequence[int],
        settings: Settings,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Counterfactuals of a batch.

        Parameters
        ----------
        source : (B, 1, S, S) float32, normalised
        targets : B records; what they leave out is unknown
        seeds : B integers, one per slice
        settings : sampler, steps and guidance scale w
        on_step : told (steps done, steps in all); the rows that it answers leave the batch

        Returns
        -------
        (B, 1, S, S); rows that left are NaN
        """
        condition = Condition.stack([self.encoding.encode(self._encodable(t)) for t in targets], source.device)
        if self._authors_way(settings):
            return self._as_the_authors(source, condition, seeds, settings, on_step)

        def denoise(x: Tensor, t: int, items: Tensor) -> Tensor:
            return self._predict_x0(x, t, source[items], condition.index(items), settings.guidance_scale)

        timesteps = lambda_uniform(self.schedule, self.setup.start, settings.steps)
        sampler = sampler_from_name(settings.sampler, eta=self.setup.eta)
        return edit(
            denoise, source, timesteps, sampler, schedule=self.schedule, noise=ItemNoise(seeds), on_step=on_step
        )

    def _encodable(self, record: Record) -> Record:
        return {k: v for k, v in record.items() if k in self.encoding.slices}

    def _as_the_authors(
        self, source: Tensor, condition: Condition, seeds: Sequence[int], settings: Settings, on_step: OnStep | None
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
        return self.denoiser(x.contiguous(memory_format=torch.channels_last), t, condition).float()

    def _predict_x0(self, x: Tensor, t: int, source: Tensor, condition: Condition, scale: float) -> Tensor:
        """Predicted x_0, the guidance pair in one batch; at w = 1 the unconditional branch is not needed."""
        level = self.schedule.level(t)
        times = torch.full((len(x),), t, dtype=torch.long, device=x.device)
        shown = source if self.setup.method == "paired" else None
        inputs = self.parameterisation.network_input(x, level, shown)
        if scale == 1:
            output = self._network(inputs, times, condition)
        else:
            both = Condition.concat([condition.null_like(), condition])
            unconditional, conditional = self._network(torch.cat([inputs] * 2), times.repeat(2), both).chunk(2)
            output = combine(unconditional, conditional, scale)
        return self.parameterisation.to_x0(output, x, level, shown)

"""What every way of editing offers, and the options of one batch as it understands them.

A method is one module: ``sdedit`` is Algorithm 1 of the paper, ``inversion`` encodes the slice with the same network
instead of drowning it in noise, ``structure`` adds what the parameters change in a slice made from noise, ``direct`` is
one evaluation of a regression network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from reacquire.bundles.manifest import DirectSetup, EditorSetup, InversionSetup
from reacquire.diffusion import OnStep, Seed
from reacquire.jobs.spec import Options, SamplerName
from reacquire.networks import Condition


@dataclass(frozen=True)
class Settings:
    """The options of one batch, completed from the bundle's own values.

    ``sampler`` is None where the method has none, ``noise`` False where it can't leave noise out or put it in.
    """

    sampler: SamplerName | None
    steps: int
    guidance_scale: float
    noise: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")
        if not self.guidance_scale >= 0:
            raise ValueError(f"guidance_scale must not be negative, nor {self.guidance_scale}")

    @classmethod
    def of(cls, options: Options, setup: EditorSetup) -> "Settings":
        if isinstance(setup, DirectSetup):
            return cls(None, 1, 1.0, setup.noise if options.noise is None else options.noise)
        return cls(
            None if isinstance(setup, InversionSetup) else options.sampler or setup.sampler,
            options.steps or setup.steps,
            setup.guidance_scale if options.guidance_scale is None else options.guidance_scale,
        )

    def record(self, setup: EditorSetup) -> dict[str, str | int | float]:
        """Everything that decides the numbers, for provenance."""
        if isinstance(setup, DirectSetup):
            return {"method": setup.method, "noise": self.noise}
        own: dict[str, str | float] = {}
        if not isinstance(setup, InversionSetup):
            own = {"sampler": self.sampler or setup.sampler, "eta": setup.eta}
        return {
            "method": setup.method,
            **own,
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "schedule": setup.schedule,
            "start": setup.start,
        }


class Method(Protocol):
    """One way of editing, with its network inside."""

    def check(self, options: Options) -> None:
        """Refuse options that the method can't honour (InputError naming the option)."""

    def evaluations(self, settings: Settings) -> int:
        """Network evaluations per slice."""

    def edit(
        self,
        source: Tensor,
        source_iap: Condition,
        target_iap: Condition,
        seeds: Sequence[Seed],
        settings: Settings,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """(B, 1, S, S) normalised slices under other parameters; rows that ``on_step`` names come back as NaN."""

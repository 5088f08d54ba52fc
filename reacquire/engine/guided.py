"""A denoiser under two conditions at once: classifier-free guidance from a negative branch to the target.

What every method of diffusion shares. The negative branch is null, as in the paper, or the source's own parameters
(``inversion``): then guidance leads away from the look that the slice has, and at the source's own parameters there is
nothing to guide. ``structure`` takes one branch at a time, unguided.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reacquire.bundles.manifest import InversionSetup, SdeditSetup, StructureSetup
from reacquire.diffusion import Epsilon, NoiseSchedule, Parameterisation, Sample, combine
from reacquire.errors import InputError
from reacquire.jobs.spec import Options
from reacquire.networks import Condition


@dataclass(frozen=True)
class Guided:
    """``network`` answers (x_t, t) under a condition with what ``parameterisation`` says, the noise in the paper.

    ``schedule`` says how much noise t stands for.
    """

    network: nn.Module
    schedule: NoiseSchedule
    parameterisation: Parameterisation

    @classmethod
    def of(cls, network: nn.Module, setup: SdeditSetup | InversionSetup | StructureSetup) -> "Guided":
        """The network of a bundle under the schedule, and for the answer, that it was trained with."""
        answers = Sample() if isinstance(setup, StructureSetup) else Epsilon()
        return cls(network, NoiseSchedule(setup.schedule, setup.timesteps), answers)

    @torch.inference_mode()
    def answer(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """(N, channels, S, S) and indices (N,) -> what the network predicts, (N, 1, S, S) float32."""
        return self.network(x.contiguous(memory_format=torch.channels_last), t, condition).float()

    def guided(self, x: Tensor, t: int, negative: Condition, positive: Condition, scale: float) -> Tensor:
        """Both branches in one batch; at w = 1 the negative one is not needed."""
        times = torch.full((len(x),), t, dtype=torch.long, device=x.device)
        if scale == 1:
            return self.answer(x, times, positive)
        both = Condition.concat([negative, positive])
        without, under = self.answer(torch.cat([x, x]), times.repeat(2), both).chunk(2)
        return combine(without, under, scale)

    def x0(
        self,
        x: Tensor,
        t: int,
        negative: Condition,
        positive: Condition,
        scale: float,
        beside: Tensor | None = None,
    ) -> Tensor:
        """Predicted clean image of x_t; ``beside`` (N, 1, S, S) is what the network is shown with it."""
        level = self.schedule.level(t)
        seen = self.parameterisation.network_input(x, level, beside)
        return self.parameterisation.to_x0(self.guided(seen, t, negative, positive, scale), x, level, beside)


def check_walk(options: Options, most: int) -> None:
    """Refuse what no walk through noise can give.

    Raises
    ------
    InputError
        For ``noise``, or more steps than ``most``.
    """
    if options.noise is not None:
        raise InputError("noise belongs to bundles that edit directly: leave it out", where="/options/noise")
    if (options.steps or 1) > most:
        raise InputError(
            f"steps must be at most {most} with this bundle, and with this sampler where there is one",
            where="/options/steps",
        )

"""The paper's denoiser under two conditions at once: classifier-free guidance from a negative branch to the target.

What every method of diffusion shares. The negative branch is null, as in the paper, or the source's own parameters (the
authors' code holds that branch, commented out): then guidance leads away from the look that the slice has, and at the
source's own parameters there is nothing to guide.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from reacquire.bundles.manifest import InversionSetup, SdeditSetup
from reacquire.diffusion import Epsilon, NoiseSchedule, combine
from reacquire.networks import Condition

Negative = Literal["null", "source"]


@dataclass(frozen=True)
class Guided:
    """``network`` predicts the noise of (x_t, t) under a condition; ``schedule`` says how much noise t stands for."""

    network: nn.Module
    schedule: NoiseSchedule

    @classmethod
    def of(cls, network: nn.Module, setup: SdeditSetup | InversionSetup) -> "Guided":
        """The network of a bundle under the schedule that it was trained with."""
        return cls(network, NoiseSchedule(setup.schedule, setup.timesteps))

    @torch.inference_mode()
    def epsilon(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """(N, 1, S, S) and indices (N,) -> predicted noise (N, 1, S, S) float32."""
        return self.network(x.contiguous(memory_format=torch.channels_last), t, condition).float()

    def guided_epsilon(self, x: Tensor, t: int, negative: Condition, positive: Condition, scale: float) -> Tensor:
        """Both branches in one batch; at w = 1 the negative one is not needed."""
        times = torch.full((len(x),), t, dtype=torch.long, device=x.device)
        if scale == 1:
            return self.epsilon(x, times, positive)
        both = Condition.concat([negative, positive])
        without, under = self.epsilon(torch.cat([x, x]), times.repeat(2), both).chunk(2)
        return combine(without, under, scale)

    def x0(self, x: Tensor, t: int, negative: Condition, positive: Condition, scale: float) -> Tensor:
        """Predicted clean image of x_t."""
        output = self.guided_epsilon(x, t, negative, positive, scale)
        return Epsilon().to_x0(output, x, self.schedule.level(t), None)


@dataclass(frozen=True)
class Branches:
    """The two conditions of a batch, row by row."""

    source: Condition
    target: Condition
    negative: Negative

    def of(self, items: Tensor) -> tuple[Condition, Condition]:
        """(negative, positive) of some rows."""
        positive = self.target.index(items)
        return (positive.null_like() if self.negative == "null" else self.source.index(items)), positive

"""What a denoiser's output means: the three ways from network output to x_0 and back to a training target.

Each is a frozen object; a `Level` carries alpha and sigma, so none of them knows the schedule or the network.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from reacquire.diffusion.schedule import Level


class Parameterisation(Protocol):
    """How a network's input is made and its output read. All images are (B, 1, H, W)."""

    def network_input(self, x_t: Tensor, level: Level, source: Tensor | None = None) -> Tensor:
        """What the network is given: the noisy image, with the source as second channel when there is one."""

    def to_x0(self, output: Tensor, x_t: Tensor, level: Level, source: Tensor | None = None) -> Tensor:
        """The clean image that the output stands for."""

    def target(self, x0: Tensor, x_t: Tensor, level: Level, source: Tensor | None = None) -> Tensor:
        """The output that a perfect network would give: ``to_x0(target(x0)) == x0``."""


def _with_source(x_t: Tensor, source: Tensor | None) -> Tensor:
    return x_t if source is None else torch.cat([x_t, source], dim=1)


@dataclass(frozen=True)
class Epsilon:
    """The network predicts the noise (Ho et al. 2020, eq. 11-12), as in the paper."""

    def network_input(self, x_t: Tensor, level: Level, source: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return _with_source(x_t, source)

    def to_x0(self, output: Tensor, x_t: Tensor, level: Level, source: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return (x_t - level.sigma * output) / level.alpha

    def target(self, x0: Tensor, x_t: Tensor, level: Level, source: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return (x_t - level.alpha * x0) / level.sigma


@dataclass(frozen=True)
class Sample:
    """The network predicts the clean image itself."""

    def network_input(self, x_t: Tensor, level: Level, source: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return _with_source(x_t, source)

    def to_x0(self, output: Tensor, x_t: Tensor, level: Level, source: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return output

    def target(self, x0: Tensor, x_t: Tensor, level: Level, source: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return x0


@dataclass(frozen=True)
class Velocity:
    """The network predicts v = alpha z - sigma x_0 (Salimans and Ho 2022, appendix D)."""

    def network_input(self, x_t: Tensor, level: Level, source: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return _with_source(x_t, source)

    def to_x0(self, output: Tensor, x_t: Tensor, level: Level, source: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return level.alpha * x_t - level.sigma * output

    def target(self, x0: Tensor, x_t: Tensor, level: Level, source: Tensor | None = None) -> Tensor:  # noqa: ARG002
        # z = (x_t - alpha x_0) / sigma put into the definition, with alpha^2 + sigma^2 = 1
        return (level.alpha * x_t - x0) / level.sigma

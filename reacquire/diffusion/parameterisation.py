"""What a denoiser's output means: the four ways from network output to x_0 and back to a training target.

Each is a frozen object; a `Level` carries alpha and sigma, so none of them knows the schedule or the network.
"""

from dataclasses import dataclass
from typing import Any, Protocol

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


@dataclass(frozen=True)
class SourceResidual:
    """Ours, not the paper's: the preconditioning of Karras et al. (2022, EDM, table 1) about the source image.

    Two things are known about the target image x_0: the source resembles it, x_0 ~ N(source, s^2), and x_t is a noisy
    view of it, x_t / alpha ~ N(x_0, k^2) with k = sigma / alpha. The product of two Gaussians is a Gaussian; as a
    posterior of x_0 it has::

        mean      w x_t / alpha + (1 - w) source,   w = s^2 / (s^2 + k^2)
        variance  c_out^2 = s^2 k^2 / (s^2 + k^2)

    The network supplies only what this guess lacks, in units of its standard deviation:
    x_0 = mean + c_out * output. With r = x_0 - source this is EDM's D(r; k) = c_skip r_k + c_out F(c_in r_k) for
    sigma_data = s, so under the model the network's input c_in (x_t / alpha - source), c_in = (s^2 + k^2)^(-1/2), and
    its target both have unit variance at every level. As sigma -> 0 the answer is x_t whatever the network says; as
    sigma -> infinity it is source + s * output. A network that answers zero therefore already returns the source,
    sharpened by what x_t tells.

    Parameters
    ----------
    spread : float
        s, standard deviation of target - source in normalised units, above 0.
    """

    spread: float = 0.2

    def __post_init__(self) -> None:
        if not self.spread > 0:
            raise ValueError(f"spread must be positive, not {self.spread}")

    def network_input(self, x_t: Tensor, level: Level, source: Tensor | None = None) -> Tensor:
        """(B, 2, H, W): the scaled innovation c_in (x_t / alpha - source), and the source."""
        source = _required(source)
        _, _, c_in = self.coefficients(level)
        return torch.cat([c_in * (x_t / level.alpha - source), source], dim=1)

    def to_x0(self, output: Tensor, x_t: Tensor, level: Level, source: Tensor | None = None) -> Tensor:
        source = _required(source)
        w, c_out, _ = self.coefficients(level)
        return source + w * (x_t / level.alpha - source) + c_out * output

    def target(self, x0: Tensor, x_t: Tensor, level: Level, source: Tensor | None = None) -> Tensor:
        source = _required(source)
        w, c_out, _ = self.coefficients(level)
        return (x0 - source - w * (x_t / level.alpha - source)) / c_out

    def coefficients(self, level: Level) -> tuple[Any, Any, Any]:
        """(w, c_out, c_in) at a level, floats or tensors as the level has them."""
        k = level.sigma / level.alpha
        norm = (self.spread**2 + k**2) ** 0.5
        return (self.spread / norm) ** 2, self.spread * k / norm, 1 / norm


def _required(source: Tensor | None) -> Tensor:
    if source is None:
        raise ValueError("SourceResidual needs the source image")
    return source

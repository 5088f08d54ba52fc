"""Samplers: one reverse step from any level to any less noisy one, given the predicted x_0.

Each is a frozen object that holds hyper-parameters only; what the last step saw comes in as ``previous``. A level
without noise is a legal destination, where every sampler returns the predicted x_0.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from reacquire.diffusion.schedule import Level


class Previous(NamedTuple):
    """What a multistep solver remembers of the step before: the x_0 predicted there, and its level."""

    x0: Tensor
    level: Level


class Sampler(Protocol):
    """One reverse step."""

    @property
    def stochastic(self) -> bool:
        """Whether `step` wants noise."""

    def step(
        self, x: Tensor, x0: Tensor, here: Level, there: Level, noise: Tensor | None, previous: Previous | None
    ) -> Tensor:
        """Go from ``x`` at ``here`` to ``there``.

        Parameters
        ----------
        x, x0 : Tensor (B, C, H, W)
            The noisy image and its predicted clean one.
        here, there : Level
            Scalar levels, ``there`` the less noisy.
        noise : Tensor (B, C, H, W) or None
            Standard normal; None for a deterministic sampler or a destination without noise.
        previous : Previous or None
            Of the last step; None at the first one.

        Returns
        -------
        Tensor (B, C, H, W)
        """


def _posterior_sd(here: Level, there: Level) -> float:
    """Standard deviation of q(x_there | x_here, x_0) (Ho et al. 2020, eq. 7, for any two levels)."""
    shrink = (here.alpha / there.alpha) ** 2
    return there.sigma / here.sigma * math.sqrt(max(1 - shrink, 0.0))


@dataclass(frozen=True)
class Ancestral:
    """DDPM: sample q(x_there | x_here, x_0) (Ho et al. 2020, eq. 6-7) with the step's own beta, strided or not."""

    @property
    def stochastic(self) -> bool:
        return True

    def step(
        self,
        x: Tensor,
        x0: Tensor,
        here: Level,
        there: Level,
        noise: Tensor | None,
        previous: Previous | None,  # noqa: ARG002  # Sampler.step documents the arguments
    ) -> Tensor:
        shrink = (here.alpha / there.alpha) ** 2
        mean = there.alpha * (1 - shrink) / here.sigma**2 * x0 + math.sqrt(shrink) * (there.sigma / here.sigma) ** 2 * x
        return mean if noise is None else mean + _posterior_sd(here, there) * noise


@dataclass(frozen=True)
class DDIM:
    """Song et al. (2021), eq. 12 and 16: eta 0 is the deterministic ODE step, eta 1 equals `Ancestral`.

    Parameters
    ----------
    eta : float
        0 to 1, the share of the posterior's noise that is added afresh.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"eta must lie in [0, 1], not {self.eta}")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def step(
        self,
        x: Tensor,
        x0: Tensor,
        here: Level,
        there: Level,
        noise: Tensor | None,
        previous: Previous | None,  # noqa: ARG002  # Sampler.step documents the arguments
    ) -> Tensor:
        fresh = self.eta * _posterior_sd(here, there)
        kept = math.sqrt(max(there.sigma**2 - fresh**2, 0.0)) / here.sigma
        mean = (there.alpha - kept * here.alpha) * x0 + kept * x
        return mean if noise is None else mean + fresh * noise


@dataclass(frozen=True)
class DPMSolverPP2M:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): data prediction, second order from the previous x_0.

    First order at the first step, and into a level without noise, where log-SNR is infinite and x_0 itself is the
    answer.
    """

    @property
    def stochastic(self) -> bool:
        return False

    def step(
        self,
        x: Tensor,
        x0: Tensor,
        here: Level,
        there: Level,
        noise: Tensor | None,  # noqa: ARG002  # Sampler.step documents the arguments
        previous: Previous | None,
    ) -> Tensor:
        if there.sigma == 0:
            return there.alpha * x0
        h = there.log_snr - here.log_snr
        direction = x0
        if previous is not None:
            ratio = (here.log_snr - previous.level.log_snr) / h
            direction = x0 + (x0 - previous.x0) / (2 * ratio)
        return there.sigma / here.sigma * x - there.alpha * math.expm1(-h) * direction


def sampler_from_name(name: str, *, eta: float = 1.0) -> Sampler:
    """The sampler that an option names: ``ancestral``, ``ddim`` (with ``eta``) or ``dpmpp-2m``.

    Raises
    ------
    ValueError
        For another name.
    """
    if name == "ddim":
        return DDIM(eta)
    if name == "ancestral":
        return Ancestral()
    if name == "dpmpp-2m":
        return DPMSolverPP2M()
    raise ValueError(f"a sampler is one of ancestral, ddim, dpmpp-2m, not {name!r}")

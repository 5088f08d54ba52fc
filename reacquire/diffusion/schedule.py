"""The noise schedule: how much of the image and how much noise make up x_t.

x_t = alpha_t x_0 + sigma_t z with alpha_t^2 = abar_t and sigma_t^2 = 1 - abar_t (Ho et al. 2020, eq. 4). Everything is
computed in float64 and handed out as Python floats or in the image's dtype; nothing here is ever re-bound.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor

ScheduleName = Literal["paper_cosine", "linear"]


class Level(NamedTuple):
    """Signal and noise amplitude at one time: two floats, or two tensors (B, 1, 1, 1) in training."""

    alpha: Any
    sigma: Any

    @property
    def log_snr(self) -> float:
        """lambda = log(alpha / sigma) of a scalar level; infinite without noise (Lu et al. 2022)."""
        return math.inf if self.sigma == 0 else math.log(self.alpha / self.sigma)


CLEAN = Level(1.0, 0.0)


@dataclass(frozen=True)
class NoiseSchedule:
    """A discrete schedule with indices 0 (least noise) to ``timesteps`` - 1.

    Parameters
    ----------
    name : {"paper_cosine", "linear"}
        ``paper_cosine`` is the cosine of Nichol and Dhariwal (2021) as the authors patched it: each alpha is clipped
        to [1e-4, 0.9999], so index 0 already holds noise of 0.01. MONAI's "cosine" clips beta to [0, 0.999] instead
        and is another schedule. ``linear`` is that of Ho et al. (2020): beta from 1e-4 to 0.02.
    timesteps : int
        1000 in the paper.
    """

    name: ScheduleName = "paper_cosine"
    timesteps: int = 1000

    def __post_init__(self) -> None:
        if self.name not in ("paper_cosine", "linear"):
            raise ValueError(f"name must be 'paper_cosine' or 'linear', not {self.name!r}")
        if self.timesteps < 2:
            raise ValueError(f"a schedule needs two timesteps or more, not {self.timesteps}")

    @classmethod
    def paper_cosine(cls, timesteps: int = 1000) -> Self:
        """The authors' schedule."""
        return cls("paper_cosine", timesteps)

    @classmethod
    def linear(cls, timesteps: int = 1000) -> Self:
        """Ho et al. (2020), section 4."""
        return cls("linear", timesteps)

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """abar, (timesteps,) float64."""
        if self.name == "linear":
            return torch.cumprod(1 - torch.linspace(1e-4, 0.02, self.timesteps, dtype=torch.float64), dim=0)
        offset = 8e-3
        x = torch.linspace(0, 1, self.timesteps + 1, dtype=torch.float64)
        curve = torch.cos((x + offset) / (1 + offset) * math.pi / 2) ** 2
        return torch.cumprod((curve[1:] / curve[:-1]).clip(1e-4, 0.9999), dim=0)

    @cached_property
    def log_snr(self) -> Tensor:
        """lambda_t = log(alpha_t / sigma_t), (timesteps,) float64, falling with t."""
        return 0.5 * torch.log(self.alphas_cumprod / (1 - self.alphas_cumprod))

    def level(self, t: int) -> Level:
        """Signal and noise at one index, as Python floats.

        Raises
        ------
        ValueError
            When the index lies outside the schedule.
        """
        if not 0 <= t < self.timesteps:
            raise ValueError(f"t must lie in 0..{self.timesteps - 1}, not {t}")
        abar = self.alphas_cumprod[t].item()
        return Level(math.sqrt(abar), math.sqrt(1 - abar))

    def levels(self, t: Tensor, like: Tensor) -> Level:
        """Signal and noise for a batch of indices (B,), each shaped (B, 1, 1, 1) with dtype and device of ``like``."""
        abar = self.alphas_cumprod[t.to("cpu", torch.long)].to(like.device).view(-1, *[1] * (like.ndim - 1))
        return Level(abar.sqrt().to(like.dtype), (1 - abar).sqrt().to(like.dtype))

    def q_sample(self, x0: Tensor, t: int | Tensor, noise: Tensor) -> Tensor:
        """The forward process: x_t of (B, C, H, W) for one index or one per item (Ho et al. 2020, eq. 4)."""
        level = self.level(t) if isinstance(t, int) else self.levels(t, x0)
        return level.alpha * x0 + level.sigma * noise


def lambda_uniform(schedule: NoiseSchedule, start: int, steps: int) -> list[int]:
    """Timesteps from ``start`` down to 0, as even in lambda as the schedule's indices allow.

    Few-step solvers err least on such nodes (Lu et al. 2022). For the paper's start of 49, five nodes are
    49, 23, 8, 2, 0.

    Parameters
    ----------
    schedule : NoiseSchedule
    start : int
        First, noisiest index.
    steps : int
        Number of nodes, 0 to ``start`` + 1; one node is the start itself, none means no edit.

    Raises
    ------
    ValueError
        When there are not that many indices.
    """
    schedule.level(start)  # refuses an index outside the schedule
    if not 0 <= steps <= start + 1:
        raise ValueError(f"steps must lie in 0..{start + 1} for a start at {start}, not {steps}")
    log_snr = schedule.log_snr[: start + 1]
    nodes: list[int] = []
    for i, wanted in enumerate(torch.linspace(log_snr[start].item(), log_snr[0].item(), steps, dtype=torch.float64)):
        nearest = int((log_snr - wanted).abs().argmin())
        ceiling = nodes[-1] - 1 if nodes else start
        nodes.append(max(min(nearest, ceiling), steps - 1 - i))  # leaves room for the nodes still to come
    return nodes

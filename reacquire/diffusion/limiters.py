"""What is done to each predicted x_0 before the sampler uses it: nothing, a clamp, or the authors' rescale.

A limiter is a frozen callable on (B, C, H, W); it treats every image on its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Limiter = Callable[[Tensor], Tensor]

# torch.quantile refuses more elements than this in one call
_QUANTILE_LIMIT = 2**24


@dataclass(frozen=True)
class NoLimit:
    """The prediction as it is."""

    def __call__(self, x0: Tensor) -> Tensor:
        return x0


@dataclass(frozen=True)
class Clamp:
    """Clamp to ``low``..``high`` (DDPM's usual clipping)."""

    low: float = 0.0
    high: float = 1.0

    def __call__(self, x0: Tensor) -> Tensor:
        return x0.clamp(self.low, self.high)


@dataclass(frozen=True)
class PercentileRescale:
    """Map each image's percentiles ``lower``, ``upper`` to 0 and 1 without clipping.

    The authors do this inside every reverse step (docs/paper.md row 1), image by image in Python; this is the
    same arithmetic for the whole batch at once. It hides any global gain or offset of an edit, so only the paper's
    preset uses it. A flat image is shifted to 0 and not scaled, as MONAI does.
    """

    lower: float = 10.0
    upper: float = 99.0

    def __call__(self, x0: Tensor) -> Tensor:
        flat = x0.flatten(1)
        low, high = _quantiles(flat, self.lower, self.upper)
        width = high - low
        return ((flat - low) / torch.where(width == 0, torch.ones_like(width), width)).view_as(x0)


def _quantiles(flat: Tensor, lower: float, upper: float) -> tuple[Tensor, Tensor]:
    """Linearly interpolated percentiles of each row of (B, N), each (B, 1)."""
    q = torch.tensor([lower / 100, upper / 100], dtype=flat.dtype, device=flat.device)
    rows = max(1, _QUANTILE_LIMIT // flat.shape[1])
    both = torch.cat([torch.quantile(part, q, dim=1, keepdim=True) for part in flat.split(rows)], dim=1)
    return both[0], both[1]

"""Noise that belongs to an item, not to a batch: the same seed gives the same noise whoever shares the batch.

The slices of one volume share one field of noise, correlated from slice to slice as the noise of a scan is. It is a
function of seed and position alone: any slice can be computed without its neighbours.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

# Of the noise of neighbouring slices. Air of real Siemens series shows 0.46 to 0.77 (partial Fourier and zero filling
# along the slab), so a volume with independent noise flickers more than any scan.
NEIGHBOURS = 0.6
REACH = 2  # slices on either side; beyond, the kernel below weighs less than 2 %


class SliceSeed(NamedTuple):
    """The ``seed`` of a volume's noise, and where in it a slice lies: ``position`` in slice distances."""

    seed: int
    position: float


Seed = int | SliceSeed


def derive_seed(seed: int, *path: int) -> int:
    """A 63-bit seed for one use of ``seed``, the same on every machine and in every version of Python."""
    text = ":".join(str(part) for part in (seed, *path)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class ItemNoise:
    """Standard normal noise, one seed per item of the original batch.

    Every draw has its own CPU generator, seeded from the item's seed and the number of the draw. So there is no state:
    a draw depends neither on batch mates, nor on those that left, nor on whether a batch was split and run again. Nor
    does it depend on the device: a CUDA generator would give other numbers than a CPU, and other pixels
    (docs/decisions/0011).

    Parameters
    ----------
    seeds : tuple of int or SliceSeed
        By original batch index. An int is noise of its own; equal seeds in ``SliceSeed`` are one volume.
    """

    seeds: tuple[Seed, ...]

    def __init__(self, seeds: Sequence[Seed]) -> None:
        object.__setattr__(self, "seeds", tuple(s if isinstance(s, SliceSeed) else int(s) for s in seeds))

    def draw(self, number: int, like: Tensor, items: Sequence[int] | Tensor | None = None) -> Tensor:
        """The ``number``-th noise of some items.

        Parameters
        ----------
        number : int
            0 is the noise that starts an edit, i the one that step i adds.
        like : Tensor (B, C, H, W)
            Gives the shape of one item, the dtype and the device.
        items : sequence of int, Tensor (N,) or None
            Original batch indices; all of them by default.

        Returns
        -------
        Tensor (N, C, H, W)
            Drawn in float32, whatever the dtype of ``like``.
        """
        indices = range(len(self.seeds)) if items is None else [int(i) for i in items]

        @lru_cache(maxsize=2 * REACH + 2)  # neighbours in a batch share planes
        def plane(*path: int) -> Tensor:
            return torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(derive_seed(*path)))

        def one(seed: Seed) -> Tensor:
            if not isinstance(seed, SliceSeed):
                return plane(seed, number)
            weighted = (w * plane(seed.seed, number, k) for k, w in planes_of(seed.position))
            return torch.stack(list(weighted)).sum(0)

        return torch.stack([one(self.seeds[i]) for i in indices]).to(like.device, like.dtype)


def planes_of(position: float) -> list[tuple[int, float]]:
    """Which planes of independent noise make up the noise at ``position``, and how much of each.

    A moving average with Gaussian weights exp(-d^2 / (2 s^2)), its squares adding up to 1 at every position: the noise
    has variance 1 everywhere, and at distance 1 the correlation exp(-1 / (4 s^2)) = ``NEIGHBOURS``, at 2 about 0.13.
    """
    twice_s2 = -1 / (2 * math.log(NEIGHBOURS))
    nearest = math.floor(position + 0.5)
    planes = range(nearest - REACH, nearest + REACH + 1)
    weights = [math.exp(-((k - position) ** 2) / twice_s2) for k in planes]
    length = math.sqrt(sum(w * w for w in weights))
    return [(k, w / length) for k, w in zip(planes, weights, strict=True)]

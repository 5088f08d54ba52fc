"""Noise that belongs to an item, not to a batch: the same seed gives the same noise whoever shares the batch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def derive_seed(seed: int, *path: int) -> int:
    """A 63-bit seed for one use of ``seed``, the same on every machine and in every version of Python."""
    text = ":".join(str(part) for part in (seed, *path)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class ItemNoise:
    """Standard normal noise, one seed per item of the original batch.

    Every draw has its own CPU generator, seeded from the item's seed and the number of the draw. So there is no state:
    a draw depends neither on batch mates, nor on those that left, nor on whether a batch was split and run again.

    Parameters
    ----------
    seeds : tuple of int
        By original batch index.
    """

    seeds: tuple[int, ...]

    def __init__(self, seeds: Sequence[int]) -> None:
        object.__setattr__(self, "seeds", tuple(int(seed) for seed in seeds))

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
        shape = like.shape[1:]
        drawn = [torch.randn(shape, generator=self._generator(self.seeds[i], number)) for i in indices]
        return torch.stack(drawn).to(like.device, like.dtype)

    @staticmethod
    def _generator(seed: int, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(seed, number))

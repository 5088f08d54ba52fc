"""Batches as a pure function of (seed, step, part): what makes a resumed run equal to an unbroken one, bit for bit.

A part is what one process computes at once; the parts of a step are the same batch however many there are.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from reacquire.iap import Encoding
from reacquire.networks import Condition
from training.cache import Row, SliceCache
from training.config import TrainError


class Batch(NamedTuple):
    """``target`` (B, 1, S, S) and its parameters; ``source`` shows the same slice under other parameters.

    ``truth`` is the target without its noise; the target itself where the cohort has none, or nobody asked.
    """

    target: Tensor
    condition: Condition
    source: Tensor
    labels: Tensor  # (B, S, S) long
    source_condition: Condition
    truth: Tensor

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return Batch._make(part.to(device) for part in self)


@dataclass(frozen=True)
class Batches:
    """Draws batches of one split.

    ``size`` shrinks the slices (the coarse phases of training); with ``mirror`` they are flipped left-right at random.
    With ``paired`` the source is another slice of the same pair group, and the target itself for a share ``itself`` of
    the batch; without, it is always the target itself. ``labels`` and ``truth`` are read where the loss needs them;
    labels that nobody needs are (B, 0, 0).
    """

    cache: SliceCache
    rows: tuple[Row, ...]
    encoding: Encoding
    batch_size: int
    seed: int
    size: int | None = None
    paired: bool = False
    itself: float = 0.0
    mirror: bool = True
    labels: bool = True
    truth: bool = True

    def __post_init__(self) -> None:
        if len(self.rows) < self.batch_size:
            raise TrainError(
                f"{len(self.rows)} slices are fewer than one batch of {self.batch_size}: take more patients or a "
                "preset of smaller batches"
            )

    @property
    def per_epoch(self) -> int:
        return len(self.rows) // self.batch_size

    @cached_property
    def _mates(self) -> dict[str, list[int]]:
        groups = defaultdict(list)
        for row in self.rows:
            groups[row.pair_group].append(row.index)
        return dict(groups)

    def __call__(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        """Every ``parts``-th item of the batch of a step, from item ``part`` on."""
        epoch, position = divmod(step, self.per_epoch)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.rows))
        chosen = [self.rows[i] for i in order[position * self.batch_size :][: self.batch_size]]
        rng = np.random.default_rng([self.seed, 1, step])
        sources = [self.source(row, rng) for row in chosen]
        flip = (rng.random(self.batch_size) < 0.5) & self.mirror
        return self.load([row.index for row in chosen][part::parts], sources[part::parts], flip[part::parts])

    def load(self, targets: list[int], sources: list[int], flip: np.ndarray) -> Batch:
        """The batch of the named slices."""
        target, condition = self._images(self.cache.images, targets, flip), self._conditions(targets)
        same = sources == targets
        clean = self.cache.cleans if self.truth else None
        return Batch(
            target,
            condition,
            target if same else self._images(self.cache.images, sources, flip),
            self._labels(targets, flip) if self.labels else torch.empty(len(targets), 0, 0, dtype=torch.long),
            condition if same else self._conditions(sources),
            target if clean is None else self._images(clean, targets, flip),
        )

    def slices(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """(images (B, 1, S, S), labels (B, S, S)) of these rows, as they are drawn but for the mirroring."""
        flip = np.zeros(len(indices), bool)
        return self._images(self.cache.images, indices, flip), self._labels(indices, flip)

    def _conditions(self, indices: list[int]) -> Condition:
        return Condition.stack([self.encoding.encode(self.cache.rows[i].iap) for i in indices])

    def source(self, row: Row, rng: np.random.Generator) -> int:
        """Index of the slice that a target is edited from."""
        itself = self.itself > 0 and rng.random() < self.itself
        mates = self._mates[row.pair_group] if self.paired and not itself else ()
        others = [i for i in mates if i != row.index]
        return int(rng.choice(others)) if others else row.index

    def _images(self, array: np.ndarray, indices: list[int], flip: np.ndarray) -> Tensor:
        stack = torch.from_numpy(_mirrored(array, indices, flip).astype(np.float32))[:, None]
        return stack if self.size is None else adaptive_avg_pool2d(stack, self.size)

    def _labels(self, indices: list[int], flip: np.ndarray) -> Tensor:
        stack = torch.from_numpy(_mirrored(self.cache.labels, indices, flip).astype(np.int64))
        if self.size is None:
            return stack
        centres = ((torch.arange(self.size) + 0.5) * stack.shape[-1] / self.size).long()
        return stack[:, centres[:, None], centres]


def _mirrored(array: np.ndarray, indices: list[int], flip: np.ndarray) -> np.ndarray:
    return np.stack([array[i][:, ::-1] if f else array[i] for i, f in zip(indices, flip, strict=True)])

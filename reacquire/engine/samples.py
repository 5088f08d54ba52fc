"""Several answers to one request: which runs make them, how each differs from the plain one, their mean and spread.

A method that draws (SDEdit) is simply run again with other noise. One that computes (``direct``) always gives one
answer, so each sample changes what ought not to matter: the slice is mirrored, moved by a few pixels and normalised a
little differently (test-time augmentation, Wang et al. 2019, doi 10.1016/j.neucom.2019.01.103), and parameters of the
source are withheld: one in ten of those that the header states, as in training, and half of those that were only
predicted. Where the answers differ the edit hangs on something that is not known. The reverse does not hold: errors
that all answers share (other anatomy than in training, physics that the phantom lacks) do not show. The target's noise
is left out of mean and spread: it is known how strong it is, and it says nothing about the edit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from reacquire.bundles.manifest import DirectSetup, EditorSetup
from reacquire.diffusion import derive_seed
from reacquire.engine.method import Settings
from reacquire.iap import Record, ResolvedTarget

FORGET = {"header": 0.1}  # as often as training withheld a parameter
FORGET_OTHERWISE = 0.5  # of what was predicted: it may be wrong
SHIFT = 4  # pixels of the model grid
GAIN, OFFSET = 0.05, 0.02  # of the distance between the percentiles


@dataclass(frozen=True)
class Pass:
    """One run over all slices: ``counted`` if it enters mean and spread; ``sample`` 0 changes nothing."""

    sample: int
    settings: Settings
    counted: bool


def passes(settings: Settings, samples: int) -> list[Pass]:
    """The run that makes the counterfactual, then those that tell how sure it is."""
    if samples == 1:
        return [Pass(0, settings, counted=False)]
    quiet = replace(settings, noise=False)
    first = Pass(0, settings, counted=settings == quiet)
    return [first, *(Pass(j, quiet, counted=True) for j in range(int(first.counted), samples))]


@dataclass(frozen=True)
class Variation:
    """What one sample changes of a slice and of what is said about it; the default changes nothing."""

    mirror: bool = False
    shift: tuple[int, int] = (0, 0)
    gain: float = 1.0
    offset: float = 0.0
    forgotten: frozenset[str] = frozenset()

    @classmethod
    def of(cls, setup: EditorSetup, seed: int, sample: int, source: ResolvedTarget) -> "Variation":
        """The same for all slices of a series, so that mean and spread do not jump from one to the next."""
        if sample == 0 or not isinstance(setup, DirectSetup):
            return cls()
        rng = np.random.default_rng([derive_seed(seed, sample), 0x5A])
        chances = {k: FORGET.get(where, FORGET_OTHERWISE) for k, where in source.provenance.items()}
        forgotten = frozenset(k for k, chance in chances.items() if rng.random() < chance)
        rows, columns = (int(v) for v in rng.integers(-SHIFT, SHIFT + 1, 2))
        gain, offset = rng.uniform(1 - GAIN, 1 + GAIN), rng.uniform(-OFFSET, OFFSET)
        return cls(sample % 2 == 1, (rows, columns), float(gain), float(offset), forgotten)

    def apply(self, image: Tensor) -> Tensor:
        """(..., S, S) as the sample sees it; what leaves at one edge enters at the other, which is air."""
        image = image.flip(-1) if self.mirror else image
        return torch.roll(image, self.shift, dims=(-2, -1)) * self.gain + self.offset

    def undo(self, image: Tensor) -> Tensor:
        image = torch.roll((image - self.offset) / self.gain, (-self.shift[0], -self.shift[1]), dims=(-2, -1))
        return image.flip(-1) if self.mirror else image

    def known(self, record: Record) -> Record:
        return {k: v for k, v in record.items() if k not in self.forgotten}


@dataclass
class Moments:
    """Running mean and squared deviations of (N, 1, S, S) images, item by item (Welford 1962)."""

    mean: Tensor
    squares: Tensor
    count: Tensor

    @classmethod
    def like(cls, images: Tensor) -> "Moments":
        return cls(torch.zeros_like(images), torch.zeros_like(images), images.new_zeros(len(images), 1, 1, 1))

    def add(self, items: Sequence[int], images: Tensor) -> None:
        self.count[items] += 1
        before = images - self.mean[items]
        self.mean[items] += before / self.count[items]
        self.squares[items] += before * (images - self.mean[items])

    def spread(self, items: Sequence[int]) -> Tensor:
        """Standard deviation (n - 1) of the items' images."""
        return (self.squares[items] / (self.count[items] - 1)).sqrt()

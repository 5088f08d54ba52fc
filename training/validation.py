"""The loss on women who are not trained on, always the same slices with the same draws, and when it ends a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, nn

from reacquire.diffusion.noise import derive_seed
from training.batches import Batch, Batches
from training.cache import Row, SliceCache
from training.config import TrainConfig, TrainError

Objective = Callable[[nn.Module, Batch, Sequence[Generator]], torch.Tensor]
STREAM = 1  # of random numbers; 0 is that of training


@dataclass(frozen=True)
class Standing:
    """What validation knows of a run: the best loss, after which step, and how many losses since were no better."""

    loss: float = float("inf")
    step: int = 0
    stale: int = 0

    def after(self, loss: float, step: int) -> "Standing":
        """The standing once the loss after ``step`` steps is known; a NaN is never the best."""
        return Standing(loss, step) if loss < self.loss else replace(self, stale=self.stale + 1)


def validation_rows(config: TrainConfig, cache: SliceCache) -> tuple[Row, ...]:
    """The slices to validate on, at most ``validation_slices`` of them, drawn by the run's seed.

    Preset ``paper`` takes the test split where a cohort has no other, as the authors do for the segmenter.

    Raises
    ------
    TrainError
        When the run's end depends on a validation loss and the cohort has no slices for it.
    """
    if config.validate_every is None:
        return ()
    masked = config.model == "segmenter"
    rows = cache.split("val", masked=masked)
    if not rows and config.preset == "paper":
        rows = cache.split("test", masked=masked)
    if not rows and config.patience is not None:
        raise TrainError(
            "the cohort has no validation slices" + " with masks" * masked + ", which early stopping needs: split it "
            "again (reacquire-train split), or take another preset"
        )
    if config.validation_slices is None or len(rows) <= config.validation_slices:
        return rows
    drawn = np.random.default_rng([config.seed, 2]).permutation(len(rows))[: config.validation_slices]
    return tuple(rows[i] for i in sorted(drawn))


def draws(
    seed: int, stream: tuple[int, ...], items: Sequence[int], device: torch.device | str = "cpu"
) -> list[Generator]:
    """One generator per item, on the device that they will draw on."""
    return [Generator(device).manual_seed(derive_seed(seed, *stream, item)) for item in items]


@dataclass(frozen=True)
class Validation:
    """Takes the loss of all rows of ``batches``, ``batch_size`` at once, as they are: not mirrored."""

    batches: Batches
    objective: Objective

    @torch.no_grad()
    def total(self, network: nn.Module, part: int, parts: int, device: torch.device) -> torch.Tensor:
        """Sum over every ``parts``-th slice of the loss; the network is as it was before, in training mode or not."""
        training = network.training
        network.eval()
        rng = np.random.default_rng([self.batches.seed, 3])
        sources = [self.batches.source(row, rng) for row in self.batches.rows][part::parts]
        targets = [row.index for row in self.batches.rows][part::parts]
        total = torch.zeros((), device=device)
        for first in range(0, len(targets), self.batches.batch_size):
            items = slice(first, first + self.batches.batch_size)
            here = targets[items]
            loaded = self.batches.load(here, sources[items], np.zeros(len(here), bool)).to(device)
            total += len(here) * self.objective(network, loaded, draws(self.batches.seed, (STREAM,), here, device))
        network.train(training)
        return total

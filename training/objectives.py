"""One loss per network; each maps (network, batch, draws) to a scalar and owns no state.

``draws`` has one generator per item: the loss of an item depends neither on its batch mates nor on the number of
processes and parts that a batch is computed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import torch
from monai.losses import DiceCELoss
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from reacquire.diffusion import NoiseSchedule
from reacquire.iap import Categorical, Encoding
from reacquire.metrics import mean_inside
from reacquire.networks import drop
from training.batches import Batch
from training.cache import UNKNOWN, Row

CLASS_WEIGHT_CAP = 3.0  # of the default preset; the paper's has none
BREAST_FLOOR = 0.03  # added to a pair's gap before it divides the error: pairs that hardly differ must not rule
OUTSIDE_WEIGHT = 2.0  # of the mean error over the whole slice
# Beside the breast's own error, of which gland is a sixth, fat and gland count alike: their pixels and their means.
TISSUE_WEIGHT, MEAN_WEIGHT = 0.25, 0.5
LEAST_PIXELS = 8  # of a tissue: fewer have no mean to speak of
LABEL_WEIGHT = 0.3  # of telling tissues apart, where the network does
LABEL_WEIGHTS = (0.5, 1.0, 3.0)  # of background, fat and gland in it: about how rare they are
UNKNOWN_SOURCE = 0.1  # of the batch is edited without any word on how the source was acquired
NOISE_WEIGHT = 0.05  # of the likelihood of the noise level
# Mean of |noise| over its standard deviation: of a Gaussian, and of a Rayleigh variable, which noise is in air.
GAUSSIAN_MEAN = (2 / pi) ** 0.5
RAYLEIGH_MEAN = (pi / 2) ** 0.5


@dataclass(frozen=True)
class PaperDenoising:
    """Equation 1 of the paper: noise prediction at a uniform timestep, the whole condition dropped at once.

    A share ``used_levels`` of the timesteps is drawn below ``used`` instead. The best prediction at each timestep stays
    what it was; it is only learned sooner where an edit needs it.
    """

    schedule: NoiseSchedule
    dropout: float
    used_levels: float = 0.0
    used: int = 50

    def __call__(self, network: nn.Module, batch: Batch, draws: Sequence[Generator]) -> Tensor:
        x0 = batch.target
        t = timesteps(self.schedule, draws)
        if self.used_levels > 0:
            low = torch.cat([torch.rand(1, generator=g, device=g.device) for g in draws]) < self.used_levels
            t = torch.where(low, t % self.used, t)
        z = normal(x0, draws)
        condition = drop(batch.condition, self.dropout, draws, "whole")
        return mse_loss(network(self.schedule.q_sample(x0, t.cpu(), z), t.to(x0.device), condition), z)


def timesteps(schedule: NoiseSchedule, draws: Sequence[Generator]) -> Tensor:
    """A uniform timestep (B,) from each item's generator."""
    return torch.cat([torch.randint(schedule.timesteps, (1,), generator=g, device=g.device) for g in draws])


def normal(like: Tensor, draws: Sequence[Generator]) -> Tensor:
    """Standard normal noise in the shape of ``like`` (B, ...), from each item's generator."""
    return torch.stack([torch.randn(like.shape[1:], generator=g, device=g.device) for g in draws]).to(like)


@dataclass(frozen=True)
class DirectEditing:
    """Absolute error of the edited slice against the noiseless target, and the likelihood of the target's noise.

    Inside the breast the error counts in units of the gap between source and target, as the measure that the editor is
    judged by (``reacquire.metrics.gap_closed``); so do the error of each tissue and that of its mean grey level, which
    is its contrast. A network that tells tissues apart is shown which they are. Parameters are dropped one by one on
    both sides, so that any subset may be unknown.
    """

    dropout: float

    def __call__(self, network: nn.Module, batch: Batch, draws: Sequence[Generator]) -> Tensor:
        known = drop(batch.source_condition, self.dropout, draws, "independent")
        known = drop(known, UNKNOWN_SOURCE, draws, "whole")
        target = drop(batch.condition, self.dropout, draws, "independent")
        answer = network(batch.source, known, target)
        difference = batch.source + answer[:, :1] - batch.truth
        error = difference.abs()
        labels = batch.labels[:, None]
        breast = (labels == 1) | (labels == 2)
        gap = mean_inside((batch.source - batch.truth).abs(), breast) + BREAST_FLOOR
        loss = (
            (mean_inside(error, breast) / gap).mean()
            + (tissue_errors(difference, batch.labels) / gap).mean()
            + OUTSIDE_WEIGHT * error.mean()
            + NOISE_WEIGHT * noise_likelihood(batch.target, batch.truth, answer[:, 1:2])
        )
        return loss + LABEL_WEIGHT * label_loss(answer[:, 2:], batch.labels) if answer.shape[1] > 2 else loss


def tissue_errors(difference: Tensor, labels: Tensor) -> Tensor:
    """Weighted sum (B,) over fat and gland of the mean absolute ``difference`` (B, 1, S, S) and the absolute mean one.

    A tissue of fewer than ``LEAST_PIXELS`` pixels is left out. ``labels`` are (B, S, S).
    """
    total = torch.zeros(len(labels), device=difference.device)
    for tissue in (1, 2):
        mask = labels[:, None] == tissue
        pixels, mean = mean_inside(difference.abs(), mask), mean_inside(difference, mask).abs()
        total = total + (TISSUE_WEIGHT * pixels + MEAN_WEIGHT * mean) * (mask.sum((1, 2, 3)) >= LEAST_PIXELS)
    return total


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over all pixels of the weighted cross-entropy of (B, 3, S, S) logits, 0 where the tissue is unknown.

    Not over the sum of the weights, which PyTorch's mean is: that would differ from part to part of a batch.
    """
    weight = logits.new_tensor(LABEL_WEIGHTS)
    return cross_entropy(logits, labels, weight=weight, ignore_index=UNKNOWN, reduction="none").mean()


def noise_likelihood(noisy: Tensor, truth: Tensor, level: Tensor) -> Tensor:
    """Negative Laplace log-likelihood of |noisy - truth| under noise of standard deviation ``level``, all (B, 1, S, S).

    Its optimum is where the expected |noise| is met; in air, where nothing but noise is seen, that of a Rayleigh
    variable counts.
    """
    signal = truth - truth.amin((1, 2, 3), keepdim=True)
    mean = torch.where(signal > 2 * level.detach(), GAUSSIAN_MEAN, RAYLEIGH_MEAN) * level.clamp(min=1e-5)
    return ((noisy - truth).abs() / mean + mean.log()).mean()


@dataclass(frozen=True)
class Prediction:
    """Equation 2 of the paper: weighted cross-entropy per categorical parameter plus squared error per number.

    ``weights`` holds per categorical parameter the inverse frequency of each class among the training slices.
    """

    encoding: Encoding
    weights: dict[str, Tensor]

    def __call__(self, network: nn.Module, batch: Batch, draws: Sequence[Generator]) -> Tensor:  # noqa: ARG002
        outputs = network(batch.target)
        losses = []
        for i, parameter in enumerate(self.encoding.parameters):
            part, known = self.encoding.slices[parameter.keyword], batch.condition.known[:, i]
            predicted, true = outputs[known, part], batch.condition.vector[known, part]
            if not len(true):  # nobody in this batch knows it
                continue
            if isinstance(parameter, Categorical):
                weight = self.weights[parameter.keyword].to(outputs)
                losses.append(cross_entropy(predicted, true.argmax(1), weight=weight))
            else:
                losses.append(mse_loss(predicted, true))
        return torch.stack(losses).sum()


def class_weights(rows: tuple[Row, ...], encoding: Encoding, *, cap: float | None = None) -> dict[str, Tensor]:
    """Inverse class frequencies of each categorical parameter, mean 1 over the training slices; 0 for unseen ones.

    ``cap`` bounds them, so that a class of four slices does not carry most of its parameter's loss.
    """
    vectors = torch.stack([torch.from_numpy(encoding.encode(row.iap).vector) for row in rows])
    weights = {}
    for parameter in encoding.parameters:
        if isinstance(parameter, Categorical):
            counts = vectors[:, encoding.slices[parameter.keyword]].sum(0)
            seen = counts > 0
            weight = torch.where(seen, counts.sum() / (counts.clamp(min=1) * seen.sum()), 0.0)
            weights[parameter.keyword] = weight if cap is None else weight.clamp(max=cap)
    return weights


class Segmentation:
    """Dice plus cross-entropy over the three classes, as the authors' "diceCE"."""

    def __init__(self) -> None:
        self.loss = DiceCELoss(include_background=True, to_onehot_y=True, softmax=True)

    def __call__(self, network: nn.Module, batch: Batch, draws: Sequence[Generator]) -> Tensor:  # noqa: ARG002
        return self.loss(network(batch.target), batch.labels[:, None])

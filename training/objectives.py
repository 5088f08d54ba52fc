"""One loss per network; each maps (network, batch, generator) to a scalar and owns no state."""

from dataclasses import dataclass

import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from reacquire.diffusion import NoiseSchedule, Parameterisation
from reacquire.iap import Categorical, Encoding
from reacquire.networks import drop
from training.batches import Batch
from training.cache import Row

CLASS_WEIGHT_CAP = 3.0  # of the default preset; the paper's has none
BREAST_WEIGHT = 3.0  # a pixel of the breast counts as four of the rest: that is where counterfactuals are judged
NULL_SHARE = 0.1  # of the batch knows nothing of its target: the unconditional branch of guidance
START_SHARE = 0.5  # of the batch is trained at the very level where sampling starts


@dataclass(frozen=True)
class PaperDenoising:
    """Equation 1 of the paper: noise prediction at a uniform timestep, the whole condition dropped at once."""

    schedule: NoiseSchedule
    dropout: float

    def __call__(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        x0 = batch.target
        t = torch.randint(0, self.schedule.timesteps, (len(x0),), generator=generator)
        z = torch.randn(x0.shape, generator=generator).to(x0)
        condition = drop(batch.condition, self.dropout, generator, "whole")
        return mse_loss(network(self.schedule.q_sample(x0, t, z), t.to(x0.device), condition), z)


@dataclass(frozen=True)
class PairedDenoising:
    """Denoising of the target beside its source, at levels spread evenly in log-SNR from ``start`` to 0.

    Each parameter is dropped on its own, so that any subset can be asked for, and now and then all of them.
    """

    schedule: NoiseSchedule
    parameterisation: Parameterisation
    start: int
    dropout: float

    def __call__(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        x0, source = batch.target, batch.source
        t = self._timesteps(len(x0), generator)
        z = torch.randn(x0.shape, generator=generator).to(x0)
        x_t = self.schedule.q_sample(x0, t, z)
        level = self.schedule.levels(t, x0)
        condition = drop(batch.condition, self.dropout, generator, "independent")
        condition = drop(condition, NULL_SHARE, generator, "whole")
        inputs = self.parameterisation.network_input(x_t, level, source).contiguous(memory_format=torch.channels_last)
        output = network(inputs, t.to(x0.device), condition)
        error = (output - self.parameterisation.target(x0, x_t, level, source)) ** 2
        weight = 1 + BREAST_WEIGHT * (batch.labels[:, None] > 0)
        return (error * weight).sum() / weight.sum()

    def _timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        log_snr = self.schedule.log_snr[: self.start + 1].flip(0)  # ascending
        wanted = log_snr[0] + torch.rand(count, generator=generator, dtype=log_snr.dtype) * (log_snr[-1] - log_snr[0])
        t = self.start - torch.searchsorted(log_snr, wanted).clamp(max=self.start)
        at_start = torch.rand(count, generator=generator) < START_SHARE
        return torch.where(at_start, torch.full_like(t, self.start), t)


@dataclass(frozen=True)
class Prediction:
    """Equation 2 of the paper: weighted cross-entropy per categorical parameter plus squared error per number.

    ``weights`` holds per categorical parameter the inverse frequency of each class among the training slices.
    """

    encoding: Encoding
    weights: dict[str, Tensor]

    def __call__(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:  # noqa: ARG002
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

    def __call__(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        return self.loss(network(batch.target), batch.labels[:, None])

"""What travels through the engine: a prepared work, what the networks said of it, and the finished outcome."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reacquire.dicom import SliceImage
from reacquire.iap import ResolvedTarget, Support, Value
from reacquire.imaging import ModelImage
from reacquire.jobs.spec import Operation, OperationSpec


@dataclass(frozen=True)
class Work:
    """One operation on the slices of one series, read and normalised, ready for the networks.

    Attributes
    ----------
    spec : what was asked
    slices : the slices from feet to head, repeated files left out
    images : the same slices at model size
    recognised : the series' header values that the vocabulary holds
    evaluations : network evaluations per slice, for batch budgets
    """

    spec: OperationSpec
    slices: tuple[SliceImage, ...]
    images: tuple[ModelImage, ...]
    recognised: Mapping[str, Value]
    evaluations: int = 1

    @property
    def pixels_cost(self) -> int:
        """Slices x evaluations x pixels of the model image."""
        return len(self.images) * self.evaluations * self.images[0].values.size

    @property
    def batch_key(self) -> tuple:
        """Works with equal keys may share a batch."""
        options = self.spec.options
        return (
            self.spec.operation,
            options.sampler,
            options.steps,
            options.guidance_scale,
            options.noise,
            options.samples,
        )


@dataclass(frozen=True)
class Prediction:
    """The predictor's word on one series: values, and the probability of each categorical one."""

    values: Mapping[str, Value]
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class Raw:
    """What the networks said of one work; arrays are (N, ...) over its slices.

    ``edited`` (N, S, S) float32 normalised, made with ``settings``; ``mean`` and ``spread`` (standard deviation) of
    several samples, where they were asked for; ``logits`` (N, 3, S, S) float32 of the segmenter on
    the source; ``predictions`` one per slice; ``target`` and ``source`` hold all parameters of the result and of the
    input, ``support`` says how far the target lies from training.
    """

    operation: Operation
    prediction: Prediction | None = None
    predictions: tuple[Prediction, ...] = ()
    logits: NDArray[np.float32] | None = None
    edited: NDArray[np.float32] | None = None
    mean: NDArray[np.float32] | None = None
    spread: NDArray[np.float32] | None = None
    settings: Mapping[str, str | int | float] = field(default_factory=dict)
    target: ResolvedTarget | None = None
    source: ResolvedTarget | None = None
    support: Support | None = None
    prediction_after: Prediction | None = None
    ssim: tuple[float, ...] = ()
    anatomy_dice: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What the user gets: named files and a JSON document."""

    artifacts: Mapping[str, bytes]
    document: Mapping[str, Any]

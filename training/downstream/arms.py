"""What is done to the training slices, arm by arm; everything else of a training is the same in all arms.

Copies stand beside the originals, so that a batch holds both in proportion; intensity augmentation is drawn anew for
every slice that is shown. All arms are trained for the same number of optimiser steps (docs/paper.md row 22).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandScaleIntensityFixedMean,
    RandSimulateLowResolution,
)
from monai.utils import InterpolateMode
from torch import Tensor

Copies = Literal["histogram", "counterfactuals"]


@dataclass(frozen=True)
class Arm:
    """``copies`` are added to the training slices; ``intensity`` disturbs each slice that is shown."""

    name: str
    copies: Copies | None = None
    intensity: bool = False


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("none"),
        Arm("intensity", intensity=True),
        Arm("histogram", "histogram"),
        Arm("counterfactuals", "counterfactuals"),
        Arm("counterfactuals+intensity", "counterfactuals", intensity=True),
    )
}
BASELINE = "none"
PER_CHANNEL = 0.5  # nnU-Net draws blur and low resolution a second time for each channel; ours is one


def nnunet_intensity() -> Compose:
    """The intensity part of nnU-Net's augmentation (Isensee et al. 2021, supplementary note 4; probabilities and
    ranges of ``nnUNetTrainer``), for slices with mean 0 and standard deviation 1.

    nnU-Net hands its "noise variance" to a generator that takes a standard deviation; so do we.
    """
    return Compose(
        [
            RandGaussianNoise(prob=0.1, std=0.1, sample_std=True),
            RandGaussianSmooth(sigma_x=(0.5, 1.0), sigma_y=(0.5, 1.0), prob=0.2 * PER_CHANNEL),
            RandScaleIntensity(factors=0.25, prob=0.15),
            RandScaleIntensityFixedMean(prob=0.15, factors=0.25, preserve_range=True, fixed_mean=True),
            RandSimulateLowResolution(
                prob=0.25 * PER_CHANNEL, zoom_range=(0.5, 1.0), upsample_mode=InterpolateMode.BICUBIC
            ),
            RandAdjustContrast(prob=0.1, gamma=(0.7, 1.5), invert_image=True, retain_stats=True),
            RandAdjustContrast(prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
        ]
    )


def intensified(images: Tensor, *, seed: int, step: int, items: Sequence[int]) -> Tensor:
    """(B, 1, S, S) slices with nnU-Net's intensity augmentation, each from a random generator of its own.

    ``items`` says which of the step's batch they are.
    """
    chain = nnunet_intensity()
    disturbed = []
    for item, image in zip(items, images, strict=True):
        chain.set_random_state(int(np.random.default_rng([seed, 2, step, item]).integers(2**31)))
        mean, std = image.mean(), image.std().clamp(min=1e-6)
        disturbed.append(torch.as_tensor(chain((image - mean) / std)) * std + mean)
    return torch.stack(disturbed)

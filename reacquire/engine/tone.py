"""Brings the gland of an edited slice to the mean that the tone network tells; every other tissue stays as it is.

The segmenter says where gland is in the *source*: an edit moves no tissue, and the masks of a slice that was edited
badly would be bad too. Its probabilities are the weights of all means, so no edge of a mask shows in the result.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reacquire.networks import Condition

FAT, GLAND = 1, 2  # channels of the segmenter (``reacquire.engine.judges.CLASSES``)
BODY = 0.08  # grey level below which what is no breast counts as air
LEAST_PIXELS = 30.0  # of gland; with fewer the change fades out, for their mean says little


@dataclass(frozen=True)
class Tone:
    """The tone network and the segmenter whose probabilities it goes by."""

    network: nn.Module
    segmenter: nn.Module

    def correct(self, source: Tensor, edited: Tensor, here: Condition, there: Condition) -> Tensor:
        """``edited`` (B, 1, S, S) with its gland's mean moved, float32 on the device of the arguments.

        When both parameter sets are one, gland gets back the mean that it has in ``source``: a ``source`` that was not
        edited stays as it is. Where masks are unsure, the pixels around gland move by their share.
        """
        probabilities = self.probabilities(source)
        wanted = self.network(tissue_statistics(source, probabilities), here, there)
        gland = probabilities[:, GLAND : GLAND + 1]
        missing = wanted - weighted_mean(edited - source, gland)[:, 0]
        sure = (gland.sum((1, 2, 3)) / LEAST_PIXELS).clamp(max=1)
        return edited + gland * (missing * sure)[:, None, None, None]

    def probabilities(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) normalised slices -> (B, 3, S, S)."""
        logits: Tensor = self.segmenter(images.contiguous(memory_format=torch.channels_last))
        return logits.float().softmax(1)


def weighted_mean(images: Tensor, weights: Tensor) -> Tensor:
    """(B, 1, S, S) and weights (B, K, S, S) -> (B, K); 0 where there is no weight."""
    return (weights * images).sum((2, 3)) / weights.sum((2, 3)).clamp(min=1)


def tissue_statistics(images: Tensor, probabilities: Tensor) -> Tensor:
    """(B, 9): mean, standard deviation and share of the slice of fat, of gland, and of the body that is no breast."""
    rest = probabilities[:, :1] * (images > BODY)
    weights = torch.cat([probabilities[:, FAT:], rest], dim=1)
    means = weighted_mean(images, weights)
    variances = (weights * (images - means[:, :, None, None]) ** 2).sum((2, 3)) / weights.sum((2, 3)).clamp(min=1)
    return torch.cat([means, variances.sqrt(), weights.mean((2, 3))], dim=1)

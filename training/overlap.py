"""How far found labels overlap with the true ones, one woman at a time: over all her slices, and as the paper counts.

A woman's slices are pooled (row 19 of docs/paper.md): a mean of slices would count fat alone where one has no gland.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from math import nan

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from reacquire.engine import CLASSES
from reacquire.metrics import dice

LEGACY_DICE = "legacy_mean_dice_per_slice"


def tissue_dice(women: Sequence[Hashable], found: Tensor, true: Tensor) -> dict[Hashable, list[float]]:
    """Per woman the mean of the two tissues' Dice, each over all her slices.

    Parameters
    ----------
    women : whose slice is which, N
    found, true : (N, S, S) integer labels

    Returns
    -------
    one value a woman; NaN where no slice of hers has one of the tissues, nor was it found in any
    """
    where: dict[Hashable, list[int]] = defaultdict(list)
    for i, woman in enumerate(women):
        where[woman].append(i)
    return {woman: [float(dice(found[i], true[i], classes=len(CLASSES))[1:].mean())] for woman, i in where.items()}


def woman_scores(found: Tensor, true: Tensor) -> dict[str, float]:
    """Scores of one woman's (N, S, S) labels."""
    whole = dice(found, true, classes=len(CLASSES))
    slices = torch.stack([dice(a, b, classes=len(CLASSES)) for a, b in zip(found, true, strict=True)])
    a, b = (one_hot(x, len(CLASSES)).bool() for x in (found, true))
    scores = {LEGACY_DICE: float(slices[:, 1:].nanmean(1).nanmean())}
    for i, label in enumerate(CLASSES):
        if i:
            scores[f"dice_{label}"] = float(whole[i])
        scores[f"accuracy_{label}"] = float((a[..., i] == b[..., i]).double().mean())  # paper, eq. 3
        scores[f"hits_{label}"] = float((a[..., i] & b[..., i]).sum())
        scores[f"size_{label}"] = float(b[..., i].sum())
    return scores


def legacy_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """Of a woman's scores those that the paper's code prints as accuracy and mean Dice (rows 18 and 19 of
    docs/paper.md); the recall of a class that she lacks is NaN."""
    recalls = {
        f"legacy_recall_{label}": scores[f"hits_{label}"] / scores[f"size_{label}"] if scores[f"size_{label}"] else nan
        for label in CLASSES
    }
    return {**recalls, LEGACY_DICE: scores[LEGACY_DICE]}

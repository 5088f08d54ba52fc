"""Measures of counterfactuals and of the two judges; pure functions on tensors.

Each says on which region and in which units it works; statistics over patients are the evaluation's business.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, one_hot


def dice(predicted: Tensor, true: Tensor, *, classes: int) -> Tensor:
    """Dice-Sorensen coefficient per class (paper eq. 8), over all pixels given.

    Parameters
    ----------
    predicted, true : (..., H, W) integer labels 0..classes-1
    classes : number of classes

    Returns
    -------
    (classes,) float; NaN for a class that neither holds.
    """
    a, b = (one_hot(x.long(), classes).flatten(0, -2).double() for x in (predicted, true))
    return (2 * (a * b).sum(0) / (a.sum(0) + b.sum(0))).float()


def gap_closed(counterfactual: Tensor, target: Tensor, source: Tensor, mask: Tensor) -> Tensor:
    """Share of the difference between source and true target that the counterfactual removed.

    1 - mean|cf - target| / mean|source - target| inside ``mask``: 1 is a perfect re-acquisition, 0 as good as doing
    nothing, negative worse than nothing.

    Parameters
    ----------
    counterfactual, target, source, mask : (B, 1, H, W); mask bool

    Returns
    -------
    (B,) float
    """
    weight = mask / mask.sum((1, 2, 3), keepdim=True)
    left = ((counterfactual - target).abs() * weight).sum((1, 2, 3))
    return 1 - left / ((source - target).abs() * weight).sum((1, 2, 3))


def ssim(x: Tensor, y: Tensor, *, data_range: float = 1.0, size: int = 11, sigma: float = 1.5) -> Tensor:
    """Structural similarity (paper eq. 6), Gaussian window, mean over the valid region.

    Parameters
    ----------
    x, y : (B, 1, H, W)
    data_range : L of the constants c1 = (0.01 L)^2 and c2 = (0.03 L)^2

    Returns
    -------
    (B,) float
    """
    mean_x, mean_y, var_x, var_y, cov = _local_moments(x, y, size, sigma)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    score = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return score.mean((1, 2, 3))


def structure(x: Tensor, y: Tensor, *, data_range: float = 1.0, size: int = 11, sigma: float = 1.5) -> Tensor:
    """Structure term of SSIM: local correlation, blind to brightness and contrast (Wang et al. 2004, eq. 10).

    (cov + c3) / (sd_x sd_y + c3) with c3 = (0.03 L)^2 / 2; same arguments and shape of the answer as ``ssim``.
    """
    _, _, var_x, var_y, cov = _local_moments(x, y, size, sigma)
    c3 = (0.03 * data_range) ** 2 / 2
    return ((cov + c3) / ((var_x.clamp(min=0) * var_y.clamp(min=0)).sqrt() + c3)).mean((1, 2, 3))


def _local_moments(x: Tensor, y: Tensor, size: int, sigma: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(mean of x, mean of y, variance of x, variance of y, covariance) under a Gaussian window."""
    offset = torch.arange(size, dtype=x.dtype, device=x.device) - (size - 1) / 2
    profile = torch.softmax(-(offset**2) / (2 * sigma**2), 0)
    window = (profile[:, None] * profile[None, :])[None, None]
    mean_x, mean_y, xx, yy, xy = (conv2d(v, window) for v in (x, y, x * x, y * y, x * y))
    return mean_x, mean_y, xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y


def region_mean(images: Tensor, mask: Tensor) -> Tensor:
    """Mean of each image inside its mask, both (B, 1, H, W): (B,), NaN where the mask is empty."""
    return (images * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))


def mean_inside(values: Tensor, mask: Tensor) -> Tensor:
    """``region_mean``, but 0 where the mask is empty, which adds nothing to a sum and has a gradient: (B,)."""
    return (values * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp(min=1)


def contrast_transfer(counterfactual: Tensor, source: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Contrast-transfer ratio of one tissue, pooled over the batch.

    Sum over items of (mean_cf - mean_source) * (mean_target - mean_source), divided by the sum of the squared true
    changes: the least-squares slope of the achieved on the true change; 1 means that contrast really moved, 0 that
    only texture did.

    Parameters
    ----------
    counterfactual, source, target, mask : (B, 1, H, W); mask bool, the tissue

    Returns
    -------
    () float; NaN when no item holds the tissue
    """
    cf, src, tgt = (region_mean(v, mask)[mask.any((1, 2, 3))] for v in (counterfactual, source, target))
    return ((cf - src) * (tgt - src)).sum() / ((tgt - src) ** 2).sum()


def through_plane_ratio(volume: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """How rough a volume is from slice to slice, against how rough it should be.

    Root mean square of the difference of neighbouring slices, over voxels that ``mask`` holds in both, divided by the
    same of ``target``. Above 1 the volume flickers or is noisier, below 1 it is blurred along the slab.

    Parameters
    ----------
    volume, target, mask : (Z, 1, H, W), Z >= 2, in order of position; mask bool

    Returns
    -------
    () float
    """
    both = mask[1:] & mask[:-1]
    steps = [(v[1:] - v[:-1])[both].square().mean().sqrt() for v in (volume, target)]
    return steps[0] / steps[1]


def flicker(volume: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """How much the grey level of whole slices jumps, in the units of the images.

    Root mean square, over neighbouring slices, of the change of the mean error (volume - target) inside ``mask``: an
    error that all slices share costs nothing, one that comes and goes does.

    Parameters
    ----------
    volume, target, mask : as for ``through_plane_ratio``

    Returns
    -------
    () float; NaN without a mask
    """
    error = ((volume - target) * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))
    return (error[1:] - error[:-1]).square().mean().sqrt()


def neighbour_correlation(volume: Tensor, mask: Tensor) -> Tensor:
    """Pearson correlation of each slice with the next one over voxels that ``mask`` holds in both, averaged: of noise
    alone (a volume minus its noiseless self), whether it is a scan's (0.46 to 0.77) or drawn slice by slice (0).

    Parameters
    ----------
    volume, mask : (Z, 1, H, W), Z >= 2, in order of position; mask bool

    Returns
    -------
    () float
    """
    both = mask[1:] & mask[:-1]
    pairs = zip(volume[:-1], volume[1:], both, strict=True)
    return torch.stack([torch.corrcoef(torch.stack([a[m], b[m]]))[0, 1] for a, b, m in pairs]).mean()

"""Distances between two sets of feature vectors or images. Pure functions, no networks."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics.pairwise import polynomial_kernel

Features = NDArray[np.float64]


def frechet(x: Features, y: Features) -> float:
    """Fréchet distance between Gaussians fitted to (N, F) and (M, F) features (paper, eq. 5).

    |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)). The trace of the root is the nuclear norm of the product of the
    centred samples, which needs no root of a matrix and is exact where there are fewer samples than features.
    """
    a, b = (v - v.mean(0) for v in (x, y))
    scale = np.sqrt((len(x) - 1) * (len(y) - 1))
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum() / scale
    spread = (a**2).sum() / (len(x) - 1) + (b**2).sum() / (len(y) - 1)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + spread - 2 * root)


def kid(x: Features, y: Features) -> float:
    """Kernel distance (Bińkowski et al. 2018): unbiased squared MMD, kernel (x.y / F + 1)^3; may be negative."""
    n, m = len(x), len(y)
    xx, yy, xy = (polynomial_kernel(a, b, degree=3, coef0=1) for a, b in ((x, x), (y, y), (x, y)))
    same = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(same - 2 * xy.mean())


def mmd_linear(x: NDArray, y: NDArray) -> float:
    """The paper's MMD as its code computes it: linear kernel on pixels, so the squared difference of the two mean
    images, averaged over pixels (row 14 of docs/paper.md)."""
    return float(((x.mean(0, dtype=np.float64) - y.mean(0, dtype=np.float64)) ** 2).mean())

"""Twenty hand-made features of a normalised slice, for the leak gates of section 5 of the phantom notes.

A simulator whose repetition time or slice thickness can be read from such features exactly is wrong. Works on what the
networks see: 224 x 224, area-averaged, p10 -> 0 and p99 -> 1, no scale in counts.
"""

from functools import lru_cache

import numpy as np
import scipy.ndimage
import scipy.sparse
from numpy.typing import NDArray

SIZE = 224
FEATURES = (
    "raw p10 / p99", "p50", "p75", "p90", "p99.9", "mean", "SD", "share below 0.01", "share above 0.9",
    "front air mean", "front air SD", "back corner SD", "tissue median", "dark tissue / bright tissue",
    "tissue roughness", "edge strength", "high band energy, rows", "high band energy, columns",
    "left / right", "centre roughness / side roughness",
)  # fmt: skip


@lru_cache(maxsize=8)
def _area_matrix(count: int) -> scipy.sparse.csr_matrix:
    """Averaging windows of adaptive area pooling, (SIZE, count): 448 -> 224 is exact, 512 -> 224 alternates 3 and 4."""
    starts = np.floor(np.arange(SIZE) * count / SIZE).astype(int)
    stops = np.ceil((np.arange(SIZE) + 1) * count / SIZE).astype(int)
    matrix = scipy.sparse.lil_matrix((SIZE, count), dtype=np.float32)
    for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        matrix[row, start:stop] = 1 / (stop - start)
    return matrix.tocsr()


def to_authors_input(image: NDArray) -> NDArray[np.float32]:
    """(R, C) stored pixels -> (224, 224) float32, p10 -> 0 and p99 -> 1 of the resized image, not clipped."""
    small = (_area_matrix(image.shape[1]) @ (_area_matrix(image.shape[0]) @ image.astype(np.float32)).T).T
    low, high = np.percentile(small, [10, 99])
    return ((small - low) / max(high - low, 1e-6)).astype(np.float32)


def mask_air(image: NDArray) -> NDArray:
    """The image with everything outside a smoothed body mask set to zero: the masked-air ablation."""
    smooth = scipy.ndimage.uniform_filter(image.astype(np.float32), 9)
    return np.where(smooth > 0.08 * np.percentile(image, 99), image, 0)


def hand_features(image: NDArray) -> NDArray[np.float64]:
    """The features (20,) of one slice as stored, (R, C); see ``FEATURES``."""
    x = to_authors_input(image)
    raw = np.percentile(image, [10, 99])
    tissue = scipy.ndimage.uniform_filter(x, 5) > 0.12
    body = x[tissue] if tissue.any() else np.ones(1, np.float32)
    rough = np.abs(scipy.ndimage.laplace(x))
    quarter = np.percentile(body, [25, 50, 90])
    rows, columns = (np.abs(np.fft.rfft(x, axis=a)).mean(axis=1 - a) for a in (0, 1))
    centre = rough[:, 92:132][tissue[:, 92:132]]
    sides = rough[:, 40:72][tissue[:, 40:72]]
    gradient = np.hypot(*np.gradient(x))
    values = [
        raw[0] / max(raw[1], 1e-6), *np.percentile(x, [50, 75, 90, 99.9]), x.mean(), x.std(), (x < 0.01).mean(),
        (x > 0.9).mean(), x[3:20].mean(), x[3:20].std(), x[-24:-4, 4:20].std(), quarter[1],
        quarter[0] / max(quarter[2], 1e-6), np.median(rough[tissue]) if tissue.any() else 0.0,
        np.percentile(gradient, 99), np.log(rows[-20:].mean() / rows[4:20].mean()),
        np.log(columns[-20:].mean() / columns[4:20].mean()),
        np.log(max(x[:, :112].mean(), 1e-3) / max(x[:, 112:].mean(), 1e-3)),
        np.log((np.median(centre) if centre.size else 1e-3) + 1e-4)
        - np.log((np.median(sides) if sides.size else 1e-3) + 1e-4),
    ]  # fmt: skip
    return np.nan_to_num(np.array(values, dtype=np.float64))

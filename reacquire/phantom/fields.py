"""Random fields and separable linear resampling: the numerical ground under anatomy and acquisition.

Knows nothing of tissues or scanners. All lengths are in units of the caller's grid unless a name says mm.
"""

from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.sparse
from numpy.typing import NDArray

F32 = NDArray[np.float32]


def gaussian_field(
    rng: np.random.Generator, shape: tuple[int, ...], *, exponent: float, corner: float, stretch: tuple[float, ...]
) -> F32:
    """Gaussian random field of zero mean and unit variance with a power-law spectrum.

    Power is ``(k^2 + corner^2)^(-exponent/2)`` with ``k`` in cycles per voxel, each axis of the field stretched by its
    factor (a larger factor makes longer structures along that axis).

    Parameters
    ----------
    shape : tuple of int
    exponent : float
        Of the power spectrum of the full field; a plane through a 3-D field has one less.
    corner : float
        Cycles per voxel below which the spectrum is flat.
    """
    sizes = [scipy.fft.next_fast_len(n, real=True) for n in shape]
    axes = [scipy.fft.fftfreq(n) for n in sizes[:-1]] + [scipy.fft.rfftfreq(sizes[-1])]
    k2 = np.float32(corner**2)
    for axis, (freq, s) in enumerate(zip(axes, stretch, strict=True)):
        view = [1] * len(shape)
        view[axis] = -1
        k2 = k2 + np.square(freq.astype(np.float32) * np.float32(s)).reshape(view)
    amplitude = np.power(k2, np.float32(-exponent / 4), dtype=np.float32)
    amplitude.flat[0] = 0.0
    half = rng.standard_normal((*amplitude.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    half *= amplitude
    field = scipy.fft.irfftn(half, s=sizes, workers=1, overwrite_x=True)
    field = field[tuple(slice(n) for n in shape)].astype(np.float32, copy=False)
    field -= field.mean()
    field /= field.std() + np.float32(1e-12)
    return np.ascontiguousarray(field)


def double_axis(volume: F32, axis: int) -> F32:
    """Linear upsampling by two along one axis: n nodes become 2n - 1."""
    n = volume.shape[axis]
    shape = list(volume.shape)
    shape[axis] = 2 * n - 1
    out = np.empty(shape, volume.dtype)
    take = lambda s: tuple(s if a == axis else slice(None) for a in range(volume.ndim))  # noqa: E731
    out[take(slice(0, None, 2))] = volume
    middle = out[take(slice(1, None, 2))]
    np.add(volume[take(slice(0, n - 1))], volume[take(slice(1, n))], out=middle)
    middle *= np.float32(0.5)
    return out


def double(volume: F32) -> F32:
    """Linear upsampling by two along every axis."""
    for axis in range(volume.ndim):
        volume = double_axis(volume, axis)
    return volume


@lru_cache(maxsize=256)
def linear_matrix(source: int, count: int, start: float, step: float, clamp: bool) -> scipy.sparse.csr_matrix:
    """Sparse (count, source) matrix of linear interpolation at ``start + step * i`` in source samples.

    Outside the source the value is zero, or the border value when ``clamp``.
    """
    position = start + step * np.arange(count)
    if clamp:
        position = np.clip(position, 0, source - 1)
    left = np.floor(position).astype(int)
    weight = position - left
    rows = np.concatenate([np.arange(count)] * 2)
    columns = np.concatenate([left, left + 1])
    values = np.concatenate([1 - weight, weight])
    inside = (columns >= 0) & (columns < source) & (values > 0)
    entries = (values[inside].astype(np.float32), (rows[inside], columns[inside]))
    return scipy.sparse.csr_matrix(entries, shape=(count, source))


def resample(plane: NDArray, rows: scipy.sparse.csr_matrix, columns: scipy.sparse.csr_matrix) -> NDArray:
    """Separable linear resampling of a (R, C) plane by two matrices of ``linear_matrix``."""
    first = rows @ plane
    return np.ascontiguousarray((columns @ np.ascontiguousarray(first.T)).T)


def smoothstep(x: NDArray | float, low: float, high: float) -> NDArray:
    """Cubic ramp from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((np.asarray(x, np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)

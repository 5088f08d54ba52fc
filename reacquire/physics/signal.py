"""Spoiled gradient-echo signal and the six-line fat spectrum: closed-form physics, no anatomy, no scanner."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

GAMMA_MHZ_T = 42.577
# Chemical shift from water (ppm) and relative amplitude of the six-line fat model; 8.6 % lies near the water line.
FAT_PPM = np.array([-3.80, -3.40, -2.60, -1.94, -0.39, 0.60])
FAT_AMPLITUDE = np.array([0.087, 0.693, 0.128, 0.004, 0.039, 0.048])
FAT_AMPLITUDE = FAT_AMPLITUDE / FAT_AMPLITUDE.sum()


def spgr(
    t1_ms: ArrayLike,
    *,
    tr_ms: ArrayLike,
    flip_deg: ArrayLike,
    te_ms: ArrayLike = 0.0,
    t2s_ms: ArrayLike = np.inf,
    pd: ArrayLike = 1.0,
) -> NDArray[np.float64]:
    """Steady-state spoiled gradient-echo signal (Ernst; phantom notes section 2).

    ``S = pd sin(a) (1 - E1) / (1 - E1 cos(a)) exp(-TE / T2*)`` with ``E1 = exp(-TR / T1)``; the arguments broadcast.

    Returns
    -------
    ndarray of float64
        Signal in units of the fully relaxed magnetisation of water.
    """
    angle = np.deg2rad(np.asarray(flip_deg, float))
    e1 = np.exp(-np.asarray(tr_ms, float) / np.asarray(t1_ms, float))
    decay = np.exp(-np.asarray(te_ms, float) / np.asarray(t2s_ms, float))
    return np.asarray(pd) * np.sin(angle) * (1 - e1) / (1 - e1 * np.cos(angle)) * decay


def ernst_angle_deg(t1_ms: float, tr_ms: float) -> float:
    """Flip angle of the largest spoiled gradient-echo signal: arccos(exp(-TR / T1))."""
    return float(np.rad2deg(np.arccos(np.exp(-tr_ms / t1_ms))))


def ppm_to_hz(ppm: ArrayLike, field_t: float) -> NDArray[np.float64]:
    """Frequency offset in Hz of a shift in ppm at a field strength in T."""
    return np.asarray(ppm, float) * GAMMA_MHZ_T * field_t


def fat_phasors(te_ms: ArrayLike, field_t: float) -> NDArray[np.complex128]:
    """Amplitude and phase of each fat line (6,), or (..., 6) for echo times (..., 1); water has phase zero."""
    return FAT_AMPLITUDE * np.exp(2j * np.pi * ppm_to_hz(FAT_PPM, field_t) * np.asarray(te_ms, float) * 1e-3)


def slope_in_t1(t1_ms: float, *, tr_ms: float, flip_deg: float) -> float:
    """Relative change of the signal per relative change of T1 (negative)."""
    up, down = (float(spgr(t1_ms * s, tr_ms=tr_ms, flip_deg=flip_deg)) for s in (1.01, 0.99))
    return (up - down) / (0.02 * float(spgr(t1_ms, tr_ms=tr_ms, flip_deg=flip_deg)))

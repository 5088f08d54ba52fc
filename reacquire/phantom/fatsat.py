"""Spectral fat suppression: what a preparation leaves of each fat line at the centre of k-space and at its edge."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reacquire.physics.signal import FAT_PPM, fat_phasors

CENTRE_PPM = -3.4  # main methylene line
EDGE = 0.12  # assumed softness of the spectral profile


@dataclass(frozen=True)
class FatPreparation:
    """One scanner's fat suppression.

    ``inversion``: adiabatic (SFS, blind to B1) or ``repeats`` saturations by ``angle_deg`` (FS, sensitive to B1);
    ``inverted``: magnetisation of fat on resonance right after an inversion, -1..0;
    ``overshoot``: of a saturation beyond null, in units of the equilibrium; ``half_width_ppm``: of the profile;
    ``pulses``: excitations between preparation and the centre of k-space;
    ``span``: further excitations until its edge, along the phase-encoding axis.
    """

    inversion: bool
    angle_deg: float
    repeats: int
    inverted: float
    half_width_ppm: float
    overshoot: float
    pulses: float
    span: float


def spectral_profile(offset_ppm: ArrayLike, half_width_ppm: float) -> NDArray[np.float64]:
    """Share 0..1 of the preparation that acts at an offset (ppm from water, off-resonance included)."""
    distance = np.abs(np.asarray(offset_ppm, float) - CENTRE_PPM) / half_width_ppm
    return 1 / (1 + np.exp((distance - 0.75) / EDGE))


def _loss(preparation: FatPreparation, b1: NDArray) -> NDArray | float:
    """1 - m0 on resonance: how much of the magnetisation the preparation takes away."""
    if preparation.inversion:
        return 1 - preparation.inverted
    return 1 - np.cos(b1 * np.deg2rad(preparation.angle_deg)) ** preparation.repeats + preparation.overshoot


def suppressed_fat(
    preparation: FatPreparation, *, te_ms: float, field_t: float, db0_ppm: NDArray, b1: NDArray
) -> tuple[complex, NDArray[np.complex64]]:
    """The two parts of fat's signal, ``A - B q^n``, after ``n`` excitations that each keep ``q`` of the deficit.

    Returns
    -------
    complex
        A: unsuppressed sum of the six lines at the echo.
    ndarray of complex64
        B: the same sum weighted by each line's loss, with the shape of ``db0_ppm``.
    """
    phasors = fat_phasors(te_ms, field_t)
    weighted = sum(
        p * spectral_profile(ppm + db0_ppm, preparation.half_width_ppm) for p, ppm in zip(phasors, FAT_PPM, strict=True)
    )
    return complex(phasors.sum()), (weighted * _loss(preparation, b1)).astype(np.complex64)


def surviving_water(
    preparation: FatPreparation, *, q_water: float, db0_ppm: NDArray, b1: NDArray
) -> NDArray[np.float32]:
    """Share of water left where off-resonance brings it under the fat pulse."""
    loss = spectral_profile(db0_ppm, preparation.half_width_ppm) * _loss(preparation, b1) * q_water**preparation.pulses
    return np.abs(1 - loss).astype(np.float32)

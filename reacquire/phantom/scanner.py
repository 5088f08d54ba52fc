"""One scanner instance: what a site's machine does besides the protocol, drawn from overlapping distributions.

Every draw is per scan, never per model, so that no model has one deterministic watermark.
"""

from dataclasses import dataclass, replace

import numpy as np

from reacquire.phantom.fatsat import FatPreparation
from reacquire.phantom.protocols import Protocol

# Excitations from fat preparation to the centre of k-space, per protocol: calibrated on measured fat/gland contrast.
FAT_PULSES = {
    "S1": (6.0, 8.0),
    "S2": (11.5, 13.5),
    "S3": (14.0, 15.8),
    "S4": (8.5, 10.5),
    "G1": (2.0, 7.0),
    "G2": (2.0, 7.0),
    "G3": (0.0, 0.5),
    "G4": (0.0, 0.5),
    "G5": (0.0, 0.5),
    "G6": (2.0, 5.5),
    "G7": (2.0, 5.5),
}

DUAL_ASYMMETRY = 0.02  # of a transmit field with two sources
FAT_ANGLE = {"S": (90.0, 105.0), "G": (86.0, 98.0)}


@dataclass(frozen=True)
class Scanner:
    """One instance.

    Attributes
    ----------
    gamma : float
        Exponent of the receive normalisation, 0 (none) .. 1.
    filter_width : float
        Siemens: SD of the Gaussian k-space filter, in units of the Nyquist frequency. GE: radius of the Fermi filter.
    fills_zero : bool
        Partial Fourier by zero filling (blurs) rather than by conjugate symmetry (noisier).
    coil_shift_mm : tuple of float
        Pose of the receive coil against the woman's own, z, y, x.
    b1_sign, b1_asymmetry : float
        Left-right transmit asymmetry.
    noise_gain : float
        Noise relative to the SNR law.
    counts : float
        Grey level of the 99th percentile, about.
    zero_background : bool
        Soft background suppression (GE).
    sharpen : float
        Strength of the 3-tap sharpening after interpolation.
    ghost, ghost_shift : float, float
        Strength of cardiac ghosts and their distance in mm along left-right.
    receive_phase : tuple of float
        Coefficients of a smooth receive phase in rad: constant, per x, per y, quadratic (at 150 mm).
    sat_band : bool
        Whether a saturation band covers the heart's inflow.
    warp_px : float
        Depth of the black arcs that distortion correction leaves at the edges.
    fat : FatPreparation
    """

    gamma: float
    filter_width: float
    fills_zero: bool
    coil_shift_mm: tuple[float, float, float]
    b1_sign: float
    b1_asymmetry: float
    noise_gain: float
    counts: float
    zero_background: bool
    sharpen: float
    ghost: float
    ghost_shift: float
    receive_phase: tuple[float, float, float, float]
    sat_band: bool
    warp_px: float
    fat: FatPreparation

    def with_contrast_of(self, other: "Scanner") -> "Scanner":
        """This scanner's reconstruction with the fat preparation of another: the L0 truth."""
        return replace(self, fat=other.fat, sat_band=other.sat_band)


def sample_scanner(rng: np.random.Generator, protocol: Protocol) -> Scanner:
    """Draw an instance that can run ``protocol``."""
    siemens = protocol.is_siemens
    dual = protocol.iap["ManufacturerModelName"] == "Skyra" and rng.random() < 0.5
    if siemens:
        gamma, width = rng.uniform(0.6, 0.95), rng.uniform(0.55, 0.65)
        counts = np.exp(rng.normal(np.log(165), 0.2))
    else:
        gamma = 0.0 if rng.random() < 0.4 else rng.uniform(0.7, 0.9)
        width, counts = rng.uniform(0.82, 0.98), np.exp(rng.normal(np.log(1500), 0.5))
    return Scanner(
        gamma=float(gamma),
        filter_width=float(width),
        fills_zero=bool(rng.random() < 0.5),
        coil_shift_mm=tuple(float(v) for v in rng.uniform(-8, 8, 3)),  # type: ignore[arg-type]
        b1_sign=float(rng.choice([-1, 1])),
        b1_asymmetry=DUAL_ASYMMETRY if dual else float(np.clip(rng.normal(0.08, 0.03), 0, 0.16)),
        noise_gain=float(np.exp(rng.normal(0, 0.28))),
        counts=float(counts),
        zero_background=not siemens,
        sharpen=float(rng.uniform(0.05, 0.2)) if siemens and rng.random() < 0.3 else 0.0,
        ghost=float(rng.uniform(0.02, 0.08)),
        ghost_shift=float(rng.uniform(25, 150)),
        receive_phase=tuple(float(v) for v in rng.normal(0, 1, 4) * [3.0, 0.8, 0.8, 0.5]),  # type: ignore[arg-type]
        sat_band=bool(rng.random() < 0.3) and not siemens,
        warp_px=float(rng.uniform(1, 4)) if siemens and rng.random() < 0.5 else 0.0,
        fat=_fat_preparation(rng, protocol),
    )


def same_site(scanner: Scanner, before: Protocol, after: Protocol, rng: np.random.Generator) -> Scanner:
    """``scanner`` under another protocol: whatever the protocol does not decide stays as it was.

    Coil pose, transmit asymmetry, receive phase, ghosts and gain are kept, and fat preparation keeps its place in the
    range of the new protocol. The vendor's own reconstruction is kept within a vendor and drawn anew for another one.
    """
    fresh = sample_scanner(rng, after)
    if after.is_siemens == before.is_siemens:
        kept = replace(scanner, fat=_moved(scanner.fat, before, after))
    else:
        names = ("coil_shift_mm", "b1_sign", "b1_asymmetry", "noise_gain", "ghost", "ghost_shift", "receive_phase")
        shared = {name: getattr(scanner, name) for name in names}
        kept = replace(fresh, **shared, fat=_moved(scanner.fat, before, after))
    if _model(before) != _model(after) and DUAL_ASYMMETRY in (scanner.b1_asymmetry, fresh.b1_asymmetry):
        return replace(kept, b1_asymmetry=fresh.b1_asymmetry)  # dual transmission belongs to the model
    return kept


def _model(protocol: Protocol) -> str:
    return str(protocol.iap["ManufacturerModelName"])


def _moved(fat: FatPreparation, before: Protocol, after: Protocol) -> FatPreparation:
    """The preparation at the same relative place of each range of the new protocol."""
    old, new = _fat_ranges(before), _fat_ranges(after)
    values = {}
    for name, (low, high) in new.items():
        start, end = old[name]
        share = (getattr(fat, name) - start) / (end - start) if end > start else 0.5
        values[name] = low + share * (high - low)
    return replace(fat, inversion=after.inversion, repeats=_repeats(after), **values)


def _repeats(protocol: Protocol) -> int:
    # Two saturations leave the low contrast measured on GE in spite of its transmit field; assumed.
    return 1 if protocol.is_siemens else 2


def _fat_ranges(protocol: Protocol) -> dict[str, tuple[float, float]]:
    """Limits of the uniform draws, in the order in which they are drawn."""
    siemens = protocol.is_siemens
    return {
        "angle_deg": FAT_ANGLE[protocol.protocol_id[0]],
        "inverted": (-0.62, -0.48),
        # Assumed: 1.9 ppm for Siemens; the wider GE profile meets the lower contrast measured there.
        "half_width_ppm": (1.8, 2.0) if siemens else (2.1, 2.4),
        "overshoot": (0.1, 0.26) if not siemens and protocol.field_t > 2 else (0.0, 0.0),
        "pulses": FAT_PULSES[protocol.protocol_id],
        "span": (0.0, 20.0 if siemens else 8.0),
    }


def _fat_preparation(rng: np.random.Generator, protocol: Protocol) -> FatPreparation:
    ranges = _fat_ranges(protocol)
    values = {name: float(rng.uniform(*limits)) if limits[1] > limits[0] else 0.0 for name, limits in ranges.items()}
    return FatPreparation(inversion=protocol.inversion, repeats=_repeats(protocol), **values)

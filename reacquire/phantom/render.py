"""A woman under a protocol, before the scanner: water and fat density planes, and the smooth fields around them.

Owns the slice profile (partial volume through the slice) and the tissue signal tables. Smooth fields belong to
``maps``, k-space and everything after it to ``acquire``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reacquire.phantom.fields import F32, resample
from reacquire.phantom.maps import Grid, gland_curve, grid_matrices, smooth_fields
from reacquire.phantom.protocols import Protocol
from reacquire.phantom.scanner import Scanner
from reacquire.phantom.subject import TEXTURE_SIZE, Subject
from reacquire.physics import tissue
from reacquire.physics.signal import GAMMA_MHZ_T, slope_in_t1, spgr

T1_TEXTURE_CV = 0.03
# Magnetisation transfer: a tissue's ratio under a dedicated pulse (ISMRM10-4745), and the share fat pulses cause.
MT_LOSS = {tissue.MUSCLE: 0.42, tissue.FGT: 0.33, tissue.MALIGNANT: 0.20, tissue.BENIGN: 0.20, tissue.MYOCARDIUM: 0.40}
MT_SHARE = 0.15
INFLOW = {tissue.BLOOD: 0.06, tissue.VESSEL: 0.30}  # share of unsaturated blood, assumed


@dataclass(frozen=True)
class Rendered:
    """Planes (R, R) on the pixel grid, complex64: ``stationary`` = water + unsuppressed fat, ``deficit`` = what fat
    lacks right after its preparation (it decays with ``q_fat`` per excitation); ``receive`` (R, R) float32: what a
    prescan normalisation knows of |C|."""

    stationary: NDArray[np.complex64]
    deficit: NDArray[np.complex64]
    receive: F32
    q_fat: float
    gland_signal: float


def place_grid(subject: Subject, protocol: Protocol) -> Grid:
    """Where the field of view lies: the sternum at the protocol's share of it, the nipples inside with a margin."""
    top = min(-protocol.chest_fraction * protocol.fov_mm, subject.nipple_mm - 12)
    pixel = protocol.fov_mm / protocol.rows
    return Grid(protocol.rows, protocol.fov_mm, top + pixel / 2, -protocol.fov_mm / 2 + pixel / 2)


def slice_weights(subject: Subject, z_mm: float, thickness_mm: float) -> list[tuple[int, float]]:
    """Label planes under the slice profile and their weights (they add up to 1).

    The profile is a raised cosine whose width at half maximum is 1.3 times the nominal thickness, the effect of
    zero filling and partial Fourier along the slice direction.
    """
    width = 1.3 * thickness_mm
    centre = z_mm - subject.origin_mm[0]
    planes = np.arange(int(np.floor(centre - width)), int(np.ceil(centre + width)) + 1)
    weight = np.where(np.abs(planes - centre) < width, 1 + np.cos(np.pi * (planes - centre) / width), 0.0)
    planes = np.clip(planes, 0, subject.labels.shape[0] - 1)
    weight /= weight.sum()
    return [(int(k), float(w)) for k, w in zip(planes, weight, strict=True) if w > 0.01]


def signal_table(subject: Subject, protocol: Protocol, scanner: Scanner) -> tuple[F32, F32, F32]:
    """Per tissue (T,): water signal, its slope in b1 beyond the gland's own curve, and fat density."""
    t1 = tissue.t1_ms(protocol.field_t) * subject.t1_scale
    t2s, pd, ff = tissue.t2s_ms(protocol.field_t), tissue.proton_density(), tissue.fat_fraction()
    # The few per cent of water in adipose tissue relax like gland, not like fat.
    t1_water = t1.copy()
    t1_water[[tissue.FAT, tissue.SUBCUTANEOUS, tissue.SKIN_EDGE]] = t1[tissue.FGT]
    mt = np.ones(len(t1))
    for label, ratio in MT_LOSS.items():
        mt[label] = 1 - MT_SHARE * ratio

    def water(b1: float) -> NDArray[np.float64]:
        flip = protocol.flip_deg * b1
        steady = spgr(t1_water, tr_ms=protocol.tr_ms, flip_deg=flip, te_ms=protocol.te_ms, t2s_ms=t2s, pd=pd) * mt
        fresh = pd * np.sin(np.deg2rad(flip)) * np.exp(-protocol.te_ms / t2s)
        for label, share in INFLOW.items():
            share = 0.0 if scanner.sat_band else share
            steady[label] = share * fresh[label] + (1 - share) * steady[label]
        return steady * (1 - ff)

    centre, up, down = water(1.0), water(1.1), water(0.9)
    curve = lambda b1: gland_curve(subject, protocol, b1)  # noqa: E731
    slope = (up / curve(1.1) - down / curve(0.9)) / 0.2
    fat_t1, fat_t2s = t1[tissue.FAT], t2s[tissue.FAT]
    unit = spgr(fat_t1, tr_ms=protocol.tr_ms, flip_deg=protocol.flip_deg, te_ms=protocol.te_ms, t2s_ms=fat_t2s)
    return centre.astype(np.float32), slope.astype(np.float32), (pd * ff * unit).astype(np.float32)


def render(subject: Subject, z_mm: float, protocol: Protocol, scanner: Scanner, grid: Grid) -> Rendered:
    """Planes of one slice on the pixel grid; see ``Rendered``."""
    table = signal_table(subject, protocol, scanner)
    planes = _tissue_planes(subject, z_mm, protocol, table)
    _add_ghosts(planes, subject, z_mm, scanner)
    shift_mm = 3.4 * GAMMA_MHZ_T * protocol.field_t / protocol.bandwidth_hz_px * grid.fov_mm / protocol.matrix[0]
    water, slope = (_to_grid(p, subject, grid, 0.0) for p in planes[:2])
    fat = _to_grid(planes[2], subject, grid, shift_mm)
    fields = smooth_fields(subject, z_mm, protocol, scanner, grid)
    slope *= fields.b1_offset
    water += slope
    water *= fields.water_gain
    stationary = fields.receive * water
    fat_received = fields.receive * fat
    stationary += np.complex64(fields.fat_full) * fat_received
    fat_received *= fields.fat_deficit
    t1_fat = tissue.t1_ms(protocol.field_t)[tissue.FAT] * subject.t1_scale[tissue.FAT]
    q_fat = float(np.exp(-protocol.tr_ms / t1_fat) * np.cos(np.deg2rad(protocol.flip_deg)))
    return Rendered(stationary, fat_received, fields.magnitude, q_fat, float(table[0][tissue.FGT]))


def _tissue_planes(subject: Subject, z_mm: float, protocol: Protocol, table: tuple[F32, F32, F32]) -> list[F32]:
    """Water at b1 = 1, its slope in b1, and fat density, each (Y, X) on the label grid."""
    shape = subject.labels.shape[1:]
    planes = [np.zeros(shape, np.float32) for _ in range(3)]
    # The gland is a fraction on top of fat: both labels read the fat entry, and the fraction adds the difference.
    bases, steps = [], []
    for values in table:
        base = values.copy()
        base[tissue.FGT] = base[tissue.FAT]
        bases.append(base)
        steps.append(np.float32((values[tissue.FGT] - values[tissue.FAT]) / 255))
    for k, weight in slice_weights(subject, z_mm, protocol.thickness_mm):
        labels = subject.labels[k]
        share = subject.alpha[k] * np.float32(weight / 255)
        gland = subject.fgt[k] * share
        for plane, base, step in zip(planes, bases, steps, strict=True):
            part = base.take(labels)
            part *= share
            plane += part
            plane += gland * step
    t1 = float(tissue.t1_ms(protocol.field_t)[tissue.FGT])
    response = slope_in_t1(t1, tr_ms=protocol.tr_ms, flip_deg=protocol.flip_deg) * T1_TEXTURE_CV
    tile = subject.texture[subject.plane(z_mm) % TEXTURE_SIZE].astype(np.float32)
    tile *= np.float32(response)
    tile += 1
    repeats = tuple(-(-n // TEXTURE_SIZE) for n in shape)
    planes[0] *= np.tile(tile, repeats)[: shape[0], : shape[1]]
    return planes


def _add_ghosts(planes: list[F32], subject: Subject, z_mm: float, scanner: Scanner) -> None:
    """Displaced copies of heart and aorta along left-right, the phase-encoding axis."""
    labels = subject.labels[subject.plane(z_mm)]
    moving = planes[0] * ((labels == tissue.BLOOD) | (labels == tissue.MYOCARDIUM))
    moving *= np.float32(scanner.ghost / 2)
    shift = round(scanner.ghost_shift)
    planes[0][:, shift:] += moving[:, :-shift]
    planes[0][:, :-shift] += moving[:, shift:]


def _to_grid(plane: F32, subject: Subject, grid: Grid, shift_mm: float) -> F32:
    rows, columns = grid_matrices(subject, grid, plane.shape, 1.0, shift_mm, clamp=False)
    return resample(plane, rows, columns)

"""The smooth fields of a slice: receive sensitivity and phase, transmit field, off-resonance, fat suppression.

They are evaluated every ``SMOOTH_MM`` and interpolated to pixels. Owns the pixel grid; tissue belongs to ``render``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from reacquire.phantom.fatsat import suppressed_fat, surviving_water
from reacquire.phantom.fields import F32, linear_matrix, resample, smoothstep
from reacquire.phantom.protocols import Protocol
from reacquire.phantom.scanner import Scanner
from reacquire.phantom.subject import FIELD_MM, Subject
from reacquire.physics import tissue
from reacquire.physics.signal import GAMMA_MHZ_T, spgr

SMOOTH_MM = 4.0  # step at which the fields are evaluated before they are interpolated to pixels
# The prescan map between its floor far from the coil and its front, where the conductors are; in units of its value
# inside a breast. Assumed, to meet the measured growth of noise and fall of signal towards the back.
RECEIVE_FLOOR, RECEIVE_FRONT = 0.28, 2.2
HOT_SPOT, HOT_SPOT_MM = 1.0, 15.0  # gain next to a loop that the smooth prescan map does not see, assumed


@dataclass(frozen=True)
class Grid:
    """The reconstructed pixel grid: ``rows`` square, side ``fov_mm``, first pixel centre at (``y_mm``, ``x_mm``)."""

    rows: int
    fov_mm: float
    y_mm: float
    x_mm: float

    @property
    def pixel_mm(self) -> float:
        return self.fov_mm / self.rows


def grid_matrices(
    subject: Subject, grid: Grid, shape: tuple[int, int], step: float, shift_mm: float, *, clamp: bool
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Row and column matrices that sample a plane of the subject's extent at the pixel centres."""
    _, y0, x0 = subject.origin_mm
    return (
        linear_matrix(shape[0], grid.rows, (grid.y_mm + shift_mm - y0) / step, grid.pixel_mm / step, clamp),
        linear_matrix(shape[1], grid.rows, (grid.x_mm - x0) / step, grid.pixel_mm / step, clamp),
    )


def gland_curve(subject: Subject, protocol: Protocol, b1: F32 | float) -> NDArray[np.float64]:
    """Signal of gland at a relative transmit field over its signal at the nominal one."""
    t1 = tissue.t1_ms(protocol.field_t)[tissue.FGT] * subject.t1_scale[tissue.FGT]
    at = spgr(t1, tr_ms=protocol.tr_ms, flip_deg=protocol.flip_deg * np.asarray(b1))
    return at / spgr(t1, tr_ms=protocol.tr_ms, flip_deg=protocol.flip_deg)


@dataclass(frozen=True)
class SmoothFields:
    """Planes (R, R) on the pixel grid."""

    receive: NDArray[np.complex64]  # coil magnitude x receive phase x off-resonance phase
    magnitude: F32
    b1_offset: F32  # b1 - 1
    water_gain: F32  # gland's b1 curve x water that survives the fat pulse
    fat_full: complex
    fat_deficit: NDArray[np.complex64]


def smooth_fields(subject: Subject, z_mm: float, protocol: Protocol, scanner: Scanner, grid: Grid) -> SmoothFields:
    """All smooth fields, evaluated every ``SMOOTH_MM`` over the field of view and interpolated to pixels."""
    count = int(np.ceil(grid.fov_mm / SMOOTH_MM)) + 1
    coarse = Grid(count, count * SMOOTH_MM, grid.y_mm, grid.x_mm)
    y = (coarse.y_mm + SMOOTH_MM * np.arange(count, dtype=np.float32))[:, None]
    x = (coarse.x_mm + SMOOTH_MM * np.arange(count, dtype=np.float32))[None, :]
    db0 = _field_plane(subject, subject.db0_ppm, z_mm, coarse)
    b1 = transmit_field(
        subject, protocol.field_t, scanner, z_mm, y, x, _field_plane(subject, subject.b1_field, z_mm, coarse)
    )
    magnitude = receive_field(subject, scanner, z_mm, y, x)
    # In the air before the breasts, between the coil's conductors, a prescan map stays high. Behind, it stops at a
    # floor; both set how noise grows from anterior to posterior (measured: 5 to 7 times).
    middle = float(subject.coil_mm[:, 1].mean())
    known = np.maximum(receive_field(subject, scanner, z_mm, np.maximum(y, middle), x), RECEIVE_FLOOR)
    known = known * (1 + (RECEIVE_FRONT - 1) * smoothstep(subject.nipple_mm + 10 - y, 0, 60))
    c0, cx, cy, cq = scanner.receive_phase
    magnitude = magnitude * _hot_spots(subject, scanner, z_mm, y, x)
    phase = c0 + (cx * x + cy * y) / 150 + cq * (x * x + y * y) / 150**2
    phase = phase + 2 * np.pi * db0 * GAMMA_MHZ_T * protocol.field_t * protocol.te_ms * 1e-3
    receive = (magnitude * np.exp(1j * phase)).astype(np.complex64)
    full, deficit = suppressed_fat(scanner.fat, te_ms=protocol.te_ms, field_t=protocol.field_t, db0_ppm=db0, b1=b1)
    t1 = tissue.t1_ms(protocol.field_t)[tissue.FGT]
    q_water = float(np.exp(-protocol.tr_ms / t1) * np.cos(np.deg2rad(protocol.flip_deg)))
    water = gland_curve(subject, protocol, b1) * surviving_water(scanner.fat, q_water=q_water, db0_ppm=db0, b1=b1)
    # Fat's own b1 curve is folded into the deficit's and the full signal's common factor: it is flat to 3 % here.
    up = linear_matrix(count, grid.rows, 0.0, grid.pixel_mm / SMOOTH_MM, True)
    return SmoothFields(
        receive=_up_complex(receive, up),
        magnitude=resample(known.astype(np.float32), up, up),
        b1_offset=resample((b1 - 1).astype(np.float32), up, up),
        water_gain=resample(water.astype(np.float32), up, up),
        fat_full=full,
        fat_deficit=_up_complex(deficit, up),
    )


def _up_complex(plane: NDArray[np.complex64], up: sparse.csr_matrix) -> NDArray[np.complex64]:
    # Interpolated as pairs of floats: a complex sparse product costs twice as much.
    rows = (up @ np.ascontiguousarray(plane).view(np.float32)).view(np.complex64)
    columns = (up @ np.ascontiguousarray(rows.T).view(np.float32)).view(np.complex64)
    return np.ascontiguousarray(columns.T)


def _field_plane(subject: Subject, field: F32, z_mm: float, coarse: Grid) -> F32:
    position = np.clip((z_mm - subject.origin_mm[0]) / FIELD_MM, 0, field.shape[0] - 1.001)
    k = int(position)
    w = np.float32(position - k)
    plane = (1 - w) * field[k] + w * field[k + 1]
    rows, columns = grid_matrices(subject, coarse, plane.shape, FIELD_MM, 0.0, clamp=True)
    return resample(plane, rows, columns)


def transmit_field(
    subject: Subject, field_t: float, scanner: Scanner, z_mm: float, y: F32, x: F32, pattern: F32
) -> F32:
    """Relative transmit field b1: left-right asymmetry, dielectric dip at 3 T, and a smooth pattern of the woman."""
    high = field_t > 2
    dip = subject.dielectric if high else 0.0
    sd = 0.07 if high else 0.04
    r2 = x * x + (y + 20) ** 2 + z_mm * z_mm
    b1 = 1 + scanner.b1_sign * scanner.b1_asymmetry * np.tanh(x / 70) - dip * np.exp(-r2 / 90**2) + sd * pattern
    return np.clip(b1, 0.6, 1.4).astype(np.float32)


def _hot_spots(subject: Subject, scanner: Scanner, z_mm: float, y: F32, x: F32) -> F32:
    gain = np.ones(np.broadcast_shapes(np.shape(y), np.shape(x)), np.float32)
    for lz, ly, lx in subject.coil_mm + np.array(scanner.coil_shift_mm, np.float32):
        r2 = ((z_mm - lz) / 2.5) ** 2 + ((y - ly) / 2.5) ** 2 + (x - lx) ** 2  # elongated along the conductor
        gain += np.float32(HOT_SPOT) * np.exp(-r2 / (2 * HOT_SPOT_MM**2))
    return gain


def receive_field(subject: Subject, scanner: Scanner, z_mm: float, y: F32, x: F32) -> F32:
    """Receive sensitivity |C|: root of the summed loops, 1 at the middle of a breast cluster."""
    loops = subject.coil_mm + np.array(scanner.coil_shift_mm, np.float32)
    centres = loops.reshape(2, -1, 3).mean(axis=1)

    def total(z: F32 | float, y: F32, x: F32) -> F32:
        power = np.zeros(np.broadcast_shapes(np.shape(y), np.shape(x)), np.float32)
        for lz, ly, lx in loops:
            r2 = (z - lz) ** 2 + (y - ly) ** 2 + (x - lx) ** 2
            power = power + (1 + r2 / 55**2) ** -3
        return np.sqrt(power)

    reference = total(centres[:, 0], centres[:, 1], centres[:, 2]).mean()
    return (total(z_mm, y, x) / reference).astype(np.float32)

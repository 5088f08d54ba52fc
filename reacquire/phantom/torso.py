"""What lies behind the breasts: fat wall, muscle, ribs, sternum, lungs, heart, great vessels, liver, spine, axilla.

Context for the network, not a target: sizes are assumptions within the published ranges. Labels only, no signal.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reacquire.phantom.fields import F32, gaussian_field, smoothstep
from reacquire.phantom.shape import SHAPE, TORSO_COARSE_ROW, Body, axes_mm
from reacquire.physics import tissue

LABELS = NDArray[np.uint8]
FIRST_ROW = (
    2 * TORSO_COARSE_ROW
)  # the torso begins at y = -8 mm; every array of this module starts at this row of the volume


def torso_axes() -> tuple[F32, F32, F32]:
    """Broadcastable z, y, x coordinates (mm) of the torso's part of the volume."""
    z, y, x = axes_mm(1.0, SHAPE)
    return z, y[:, FIRST_ROW:], x


def chest_depth(body: Body, torso: F32) -> F32:
    """Depth (mm) behind the front of the muscle layer; negative in the fat wall and outside. ``torso`` is consumed."""
    z, y, x = torso_axes()
    lateral = smoothstep(np.abs(x), 70, 150)
    wall = (7 + (body.fat_wall_mm - 7) * lateral) + 0 * y  # thin before the sternum and under the breasts
    wall = wall + (body.fat_wall_mm * 0.6) * smoothstep(y, 60, 160) * (1 - lateral)
    axilla = 22 * smoothstep(z, 25, 75) * smoothstep(np.abs(x), 90, 140) * (1 - smoothstep(y, 60, 130))
    np.negative(torso, out=torso)
    torso -= wall
    torso -= axilla
    return torso


def paint_torso(labels: LABELS, depth: F32, body: Body, rng: np.random.Generator) -> F32:
    """Paint everything behind the fat wall into ``labels``; returns the muscle layer's thickness (mm)."""
    z, y, x = torso_axes()
    muscle = _muscle_thickness(body, z, y, x)
    cage = depth - muscle
    labels[depth > 0] = tissue.MUSCLE
    _marble(labels, depth, rng)
    seam = (muscle > 8) & (np.abs(depth - np.float32(0.55) * muscle) < 0.8) & (depth > 0) & (y < 45)
    labels[seam] = tissue.SUBCUTANEOUS  # fat between the pectoral muscles
    inside = cage > 9
    shell = (cage > 0) & ~inside
    _paint_ribs(labels, shell, cage, z, y, x, rng)
    labels[inside] = tissue.LUNG
    top_front = 11.0 + muscle.min()
    _paint_mediastinum(labels, inside, rng)
    _paint_sternum(labels, rng)
    _paint_heart(labels, inside, top_front, rng)
    _paint_vessels_and_spine(labels, inside, body, rng)
    _paint_liver(labels, inside, rng)
    return muscle


def _marble(labels: LABELS, depth: F32, rng: np.random.Generator) -> None:
    """Streaks of fat between the muscle fibres: one periodic 64 mm pattern, cut at 6 % of the voxels."""
    tile = gaussian_field(rng, (64, 64, 64), exponent=3.0, corner=0.06, stretch=(1.0, 1.0, 3.0)) > 1.55
    tile = np.tile(tile, [-(-n // 64) for n in depth.shape])[tuple(slice(n) for n in depth.shape)]
    tile &= depth > 1
    labels[tile] = tissue.SUBCUTANEOUS


def _paint_mediastinum(labels: LABELS, inside: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Fat about the great vessels: a chain of overlapping ellipsoids from the sternum to the spine."""
    for z in range(-80, 100, 24):
        for y in range(25, 190, 30):
            centre = (z, y + rng.uniform(-6, 6), 4 + rng.uniform(-7, 7))
            _paint_ellipsoid(labels, inside, centre, (30, 26, rng.uniform(14, 24)), tissue.SUBCUTANEOUS)


def _muscle_thickness(body: Body, z: F32, y: F32, x: F32) -> F32:
    """Pectoral belly beside the sternum in the upper half, serratus and latissimus to the side and back."""
    side = np.abs(x)
    belly = body.pectoral_mm * smoothstep(side, 14, 45) * (1 - 0.5 * smoothstep(side, 105, 150))
    belly = belly * (0.35 + 0.65 * smoothstep(z, -45, 15))
    back = 7 * smoothstep(y, 60, 140)
    return (2.5 + belly + back).astype(np.float32)


def _paint_ribs(
    labels: LABELS, shell: NDArray[np.bool_], cage: F32, z: F32, y: F32, x: F32, rng: np.random.Generator
) -> None:
    spacing, slope = rng.uniform(21, 27), rng.uniform(0.35, 0.6)
    index = np.nonzero(shell)
    z, y, x = z[index[0], 0, 0], y[0, index[1], 0], x[0, 0, index[2]]
    # Ribs fall towards the front, so an axial slice cuts several of them as slanted segments.
    phase = np.mod(z + slope * (np.abs(x) * np.float32(0.55) - y * np.float32(0.9)) + rng.uniform(0, 25), spacing)
    rib, core = phase < 11.5, (phase > 1.7) & (phase < 9.8)
    depth = cage[index]
    marrow = core & (depth > 1.6) & (depth < 7.6)
    labels[index] = np.where(marrow, tissue.MARROW, np.where(rib, tissue.BONE, labels[index]))


def _ellipsoid(centre: Sequence[float], half: Sequence[float]) -> tuple[tuple[slice, ...], F32]:
    """Bounding box on the 1 mm grid and the squared normalised radius within it; centre and half-axes (z, y, x) mm."""
    axes = torso_axes()
    box, radius = [], np.zeros((1, 1, 1), np.float32)
    for axis, c, h in zip(axes, centre, half, strict=True):
        flat = axis.ravel()
        low, high = np.searchsorted(flat, [c - h, c + h])
        box.append(slice(int(low), int(max(high, low + 1))))
        view = [1, 1, 1]
        view[len(box) - 1] = -1
        radius = radius + np.square((flat[box[-1]] - np.float32(c)) / np.float32(h)).reshape(view)
    return tuple(box), radius


def _paint_ellipsoid(
    labels: LABELS,
    where: NDArray[np.bool_] | None,
    centre: Sequence[float],
    half: Sequence[float],
    label: int,
) -> None:
    box, radius = _ellipsoid(centre, half)
    mask = radius < 1
    if where is not None:
        mask = mask & where[box]
    labels[box][mask] = label


def _paint_sternum(labels: LABELS, rng: np.random.Generator) -> None:
    depth, width = 15.0 + rng.uniform(-1, 2), rng.uniform(14, 18)
    _paint_ellipsoid(labels, None, (35, depth, 0), (110, 7.5, width), tissue.BONE)
    _paint_ellipsoid(labels, None, (35, depth, 0), (109, 6.6, width - 1.0), tissue.MARROW)
    for side in (-1, 1):  # internal mammary artery and vein, seen as dots beside the sternum
        for offset in (0.0, 4.5):
            centre = (0.0, depth + 6 + rng.uniform(-1, 2), side * (width + 4 + offset))
            _paint_ellipsoid(labels, None, centre, (400, 1.5, 1.5), tissue.VESSEL)


def _paint_heart(labels: LABELS, inside: NDArray[np.bool_], front: float, rng: np.random.Generator) -> None:
    jitter = rng.uniform(-6, 6, 3)
    z0, y0, x0 = -22 + jitter[0], front + 52 + jitter[1], 22 + jitter[2]
    size = rng.uniform(0.9, 1.12)
    outer = (58 * size, 44 * size, 60 * size)
    _paint_ellipsoid(labels, inside, (z0, y0, x0), [h + 4 for h in outer], tissue.SUBCUTANEOUS)
    _paint_ellipsoid(labels, inside, (z0, y0, x0), outer, tissue.MYOCARDIUM)
    chambers = (  # left ventricle, right ventricle, right atrium, left atrium: offsets and half-axes of the outer ones
        ((-2, 4, 27), (34, 21, 23)),
        ((-4, -20, -6), (36, 17, 34)),
        ((2, 0, -36), (30, 26, 17)),
        ((14, 25, -2), (24, 13, 28)),
    )
    for offset, half in chambers:
        centre = (z0 + offset[0] * size, y0 + offset[1] * size, x0 + offset[2] * size)
        _paint_ellipsoid(labels, inside, centre, [h * size for h in half], tissue.BLOOD)
    for y, x, r in ((y0 - 14, x0 - 24, 15), (y0 - 22, x0 - 4, 13), (y0 - 4, x0 - 46, 10)):  # aorta, pulmonary, cava
        _paint_ellipsoid(labels, inside, (z0 + 95, y, x), (75, r, r), tissue.BLOOD)


def _paint_vessels_and_spine(labels: LABELS, inside: NDArray[np.bool_], body: Body, rng: np.random.Generator) -> None:
    back = 2 * body.half_ap_mm
    _paint_ellipsoid(labels, None, (0, back - 62, 0), (900, 17, 21), tissue.BONE)
    _paint_ellipsoid(labels, None, (0, back - 62, 0), (900, 15.5, 19.5), tissue.MARROW)
    _paint_ellipsoid(labels, inside, (0, back - 92 + rng.uniform(-3, 3), 24), (900, 11, 11), tissue.BLOOD)
    for _ in range(36):  # pulmonary vessels
        z, y, x = rng.uniform(-80, 80), rng.uniform(50, 160), rng.uniform(35, 120) * rng.choice([-1, 1])
        r = rng.uniform(1.2, 3.2)
        _paint_ellipsoid(labels, inside, (z, y, x), (r * rng.uniform(2, 9), r, r), tissue.BLOOD)


def _paint_liver(labels: LABELS, inside: NDArray[np.bool_], rng: np.random.Generator) -> None:
    top = rng.uniform(-75, -25)
    _paint_ellipsoid(labels, inside, (top - 110, 95, -60), (112, 85, 85), tissue.LIVER)
    # The left hemidiaphragm: stomach and spleen are drawn as muscle-like tissue.
    _paint_ellipsoid(labels, inside, (top - 125, 120, 80), (112, 75, 70), tissue.MUSCLE)

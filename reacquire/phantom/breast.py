"""The inside of the breasts: fibroglandular tissue, ducts, septa, vessels, lesions, nodes.

The fibroglandular pattern is an anisotropic Gaussian random field plus radial profiles and sectors, cut at the level
that gives the drawn share of tissue. Works on one breast at a time, in a box of the 1 mm grid.
"""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from reacquire.phantom.fields import F32, double, gaussian_field, smoothstep
from reacquire.phantom.shape import ORIGIN_MM, Body, Mound, mound_radius
from reacquire.physics import tissue

LABELS = NDArray[np.uint8]

# Share of fibroglandular tissue by distance from the skin (4 mm bins) and by depth from chest wall to nipple (tenths),
# measured on 55 label maps of real women.
BY_SKIN_DISTANCE = (0.09, 0.09, 0.15, 0.22, 0.27, 0.31, 0.33, 0.33, 0.31, 0.29, 0.28, 0.27)
BY_DEPTH = (0.14, 0.17, 0.20, 0.22, 0.23, 0.23, 0.21, 0.19, 0.17, 0.18)


@dataclass(frozen=True)
class Texture:
    """Parameters of the fibroglandular field, tuned on the statistics of real label maps."""

    exponent: float = 4.3
    corner: float = 0.04
    stretch: float = 1.6
    skin_gain: float = 0.75
    depth_gain: float = 1.2
    nipple_gain: float = 0.8
    sector_sd: float = 0.5
    noise_sd: float = 1.5
    transition: float = 0.09


def breast_region(mound: Mound, z: F32, y: F32, x: F32, soft: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels of one breast: fat wall and mound within the mound's base, in front of the muscle."""
    rho = mound_radius(mound, z, x, y)
    outside_torso = y < 2
    reach = np.where(outside_torso, np.float32(1.15), np.float32(0.98))
    return soft & (rho < reach)


def box_of(mound: Mound) -> tuple[slice, slice, slice]:
    """The part of the 1 mm grid that can hold one breast."""
    lean = abs(mound.tilt) * mound.depth_mm + 10
    half = mound.half_width_mm * 1.15 + lean
    extent = mound.half_extent_mm * 1.15 + abs(mound.sag) * mound.depth_mm + 6
    limits = (
        (mound.z_mm - extent, mound.z_mm + extent, 161),
        (-mound.depth_mm - 12, 50.0, 325),
        (mound.x_mm - half, mound.x_mm + half, 401),
    )
    return tuple(
        slice(max(int(low - o), 0), min(int(high - o) + 1, n))
        for (low, high, n), o in zip(limits, ORIGIN_MM, strict=True)
    )  # type: ignore[return-value]


def glandular_fraction(
    rng: np.random.Generator,
    mound: Mound,
    inner: NDArray[np.bool_],
    skin_distance: F32,
    z: F32,
    y: F32,
    x: F32,
    share: float,
    texture: Texture = Texture(),
) -> F32:
    """Fibroglandular fraction 0..1 of every voxel of one breast's box.

    Parameters
    ----------
    inner : (Z, Y, X) bool
        The breast without its skin.
    skin_distance : (Z, Y, X) float32
        Distance from the skin surface in mm, positive inside.
    z, y, x : broadcastable float32
        Coordinates in mm.
    share : float
        Fibroglandular share of ``inner``.
    """
    stretch = (1.0, texture.stretch, 1.0)
    score = gaussian_field(rng, inner.shape, exponent=texture.exponent, corner=texture.corner, stretch=stretch)
    score *= np.float32(texture.noise_sd)
    bins = np.arange(len(BY_SKIN_DISTANCE)) * 4.0 + 2.0
    score += np.float32(texture.skin_gain) * _profile(skin_distance, bins, BY_SKIN_DISTANCE)
    tenths = (y - 2.0) / -(mound.depth_mm + 2.0)
    score += np.float32(texture.depth_gain) * _profile(tenths, np.arange(10) / 10 + 0.05, BY_DEPTH)
    # The two profiles are marginal; near the nipple both apply and would count twice.
    score += texture.nipple_gain * smoothstep(tenths, 0.7, 1.0)
    score += _sectors(rng, mound, z, x, texture.sector_sd)
    # Glandular tissue ends before the edge of the base: what lies beyond is the fat of the chest wall.
    score -= 4 * smoothstep(mound_radius(mound, z, x), 0.82, 1.05)
    values = score[inner]
    half = texture.transition / 2
    low, high = np.quantile(
        values[:: max(1, values.size // 200_000)], [1 - share - half, min(1 - share + half, 0.9995)]
    )
    score -= np.float32(low)
    score /= np.float32(max(high - low, 1e-3))
    np.clip(score, 0, 1, out=score)
    score *= inner
    return score


def _profile(position: F32, nodes: NDArray, shares: tuple[float, ...]) -> F32:
    logit = np.log(np.array(shares) / (1 - np.array(shares)))
    table = np.interp(np.linspace(nodes[0], nodes[-1], 256), nodes, logit).astype(np.float32)
    index = (position - np.float32(nodes[0])) * np.float32(255 / (nodes[-1] - nodes[0]))
    return table[np.clip(index, 0, 255).astype(np.uint8)]


def _sectors(rng: np.random.Generator, mound: Mound, z: F32, x: F32, sd: float) -> F32:
    """Lobes: 8 to 12 sectors about the nipple axis, each with its own offset, blended at their borders."""
    count = int(rng.integers(8, 13))
    offsets = sd * rng.standard_normal(count)
    offsets[0] += 0.0
    angle = np.arctan2(z - mound.z_mm, (x - mound.x_mm) * mound.side)
    nodes = np.linspace(-np.pi, np.pi, count + 1)
    # The upper outer quadrant holds more tissue.
    quadrant = 0.35 * np.cos(angle - np.pi / 4)
    return (np.interp(angle, nodes, np.append(offsets, offsets[0])) + quadrant).astype(np.float32)


def septa(rng: np.random.Generator, shape: tuple[int, ...], *, cell_mm: float, thickness_mm: float) -> F32:
    """Cooper's septa: partial volume 0..1 of thin sheets (zero levels of a band-limited field) on the 1 mm grid."""
    coarse = tuple(n // 2 + 2 for n in shape)
    field = gaussian_field(rng, coarse, exponent=5.5, corner=0.55 * 2 / cell_mm, stretch=(1.0, 1.8, 1.0))
    gz, gy, gx = np.gradient(field, 2.0)
    slope = np.sqrt(gz * gz + gy * gy + gx * gx) + np.float32(1e-4)
    distance = double(np.abs(field) / slope)[tuple(slice(n) for n in shape)]
    # A sheet thinner than a voxel fills `thickness` of the voxels it crosses.
    return np.clip(1.2 - distance, 0, 1) * np.float32(thickness_mm)


def strands(rng: np.random.Generator, shape: tuple[int, ...]) -> F32:
    """Fine fibrous streaks towards the nipple, partial volume 0..0.35 on the 1 mm grid."""
    coarse = (shape[0] // 2 + 2, shape[1] // 2 + 2, shape[2] // 2 + 2)
    fine = gaussian_field(rng, shape, exponent=4.0, corner=0.11, stretch=(1.0, 3.2, 1.0))
    patch = double(gaussian_field(rng, coarse, exponent=5.0, corner=0.06, stretch=(1, 1, 1)))
    fine *= np.clip(0.6 + 0.5 * patch[tuple(slice(n) for n in shape)], 0, 1.4)
    return np.clip(0.16 * fine - 0.06, 0, 0.35)


def ducts(rng: np.random.Generator, mound: Mound) -> tuple[NDArray, NDArray]:
    """Points (N, 3) z, y, x in mm and radii (N,) in mm of a ductal tree that opens at the nipple."""
    tip = np.array([mound.z_mm - mound.sag * mound.depth_mm, -mound.depth_mm + 3, _tip_x(mound)])
    points: list[NDArray] = []
    radii: list[NDArray] = []
    for _ in range(int(rng.integers(8, 14))):
        angle, spread = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.75)
        heading = np.array([np.sin(angle) * spread, 1.0, np.cos(angle) * spread])
        _grow(rng, tip + rng.normal(0, 1.5, 3), heading, 1.0, int(rng.integers(3, 6)), points, radii)
    return np.concatenate(points), np.concatenate(radii)


def _tip_x(mound: Mound) -> float:
    return mound.x_mm + mound.side * mound.tilt * mound.depth_mm


def _grow(
    rng: np.random.Generator, start: NDArray, heading: NDArray, radius: float, generations: int,
    points: list[NDArray], radii: list[NDArray],
) -> None:  # fmt: skip
    length = int(rng.uniform(8, 22))
    turns = np.cumsum(rng.normal(0, 0.12, (length, 3)), axis=0)
    steps = heading / np.linalg.norm(heading) + turns
    path = start + 0.7 * np.cumsum(steps, axis=0)
    points.append(path)
    radii.append(np.full(length, radius))
    if generations > 1:
        for _ in range(2):
            bent = steps[-1] + rng.normal(0, 0.45, 3)
            _grow(rng, path[-1], bent, max(radius * 0.75, 0.3), generations - 1, points, radii)


def splat(volume: F32, points_mm: NDArray, radii_mm: NDArray, corner_mm: NDArray) -> None:
    """Raise ``volume`` to the share that thin tubes fill of the voxels they cross."""
    index = np.rint(points_mm - corner_mm).astype(int)
    inside = np.all((index >= 0) & (index < volume.shape), axis=1)
    index, fill = index[inside], np.minimum(np.pi * radii_mm[inside] ** 2, 1.0).astype(np.float32)
    np.maximum.at(volume, tuple(index.T), fill)


def veins(rng: np.random.Generator, mound: Mound, count: int) -> list[tuple[NDArray, float]]:
    """Superficial veins as (points (N, 2) of z, x in mm, radius in mm); their depth follows the skin."""
    paths = []
    for _ in range(count):
        heading = rng.uniform(0, 2 * np.pi)
        start = np.array([mound.z_mm, mound.x_mm]) + rng.normal(0, 0.3, 2) * [mound.half_extent_mm, mound.half_width_mm]
        turn = np.cumsum(rng.normal(0, 0.06, 160)) + heading
        steps = 0.6 * np.stack([np.sin(turn), np.cos(turn)], axis=1)
        paths.append((start + np.cumsum(steps, axis=0), float(rng.uniform(0.8, 1.5))))
    return paths


def paint_veins(labels: LABELS, rng: np.random.Generator, mound: Mound, front: NDArray, corner_mm: NDArray) -> None:
    """Draw the veins 3 to 7 mm under the skin; ``front`` (Z, X) is the first body row of each column of the box."""
    for path, radius in veins(rng, mound, int(rng.integers(2, 5))):
        zi, xi = np.rint(path - corner_mm[[0, 2]]).astype(int).T
        good = (zi >= 0) & (zi < front.shape[0]) & (xi >= 0) & (xi < front.shape[1])
        zi, xi = zi[good], xi[good]
        if zi.size:
            smooth = scipy.ndimage.uniform_filter1d(front[zi, xi].astype(float), 9, mode="nearest")
            _dot(labels, zi, np.rint(smooth + rng.uniform(4, 8)).astype(int), xi, radius)


def _dot(labels: LABELS, z: NDArray, y: NDArray, x: NDArray, radius: float) -> None:
    reach = int(np.ceil(radius))
    span = np.arange(-reach, reach + 1)
    for dz, dy, dx in np.stack(np.meshgrid(span, span, span), -1).reshape(-1, 3):
        if dz * dz + dy * dy + dx * dx <= radius * radius + 0.3:
            zz, yy, xx = z + dz, y + dy, x + dx
            ok = (
                (zz >= 0)
                & (yy >= 0)
                & (xx >= 0)
                & (zz < labels.shape[0])
                & (yy < labels.shape[1])
                & (xx < labels.shape[2])
            )
            part = labels[zz[ok], yy[ok], xx[ok]]
            labels[zz[ok], yy[ok], xx[ok]] = np.where((part == tissue.FAT) | (part == tissue.FGT), tissue.VESSEL, part)


def paint_lesion(labels: LABELS, rng: np.random.Generator, candidates: NDArray, label: int, diameter_mm: float) -> None:
    """A lobulated or spiculated mass at one of the candidate voxels (N, 3) of the box."""
    centre = candidates[int(rng.integers(len(candidates)))]
    reach = int(diameter_mm * 0.8) + 2
    box = tuple(slice(max(c - reach, 0), min(c + reach + 1, n)) for c, n in zip(centre, labels.shape, strict=True))
    shape = tuple(s.stop - s.start for s in box)
    grids = np.meshgrid(*(np.arange(s.start, s.stop) - c for s, c in zip(box, centre, strict=True)), indexing="ij")
    stretch = rng.uniform(0.7, 1.2, 3)
    distance = np.sqrt(sum((g * s) ** 2 for g, s in zip(grids, stretch, strict=True)))
    exponent = rng.choice([3.0, 4.5])  # rough edges read as spiculation, smooth ones as lobulation
    warp = gaussian_field(rng, shape, exponent=float(exponent), corner=1.2 / diameter_mm, stretch=(1, 1, 1))
    mask = distance + 0.12 * diameter_mm * warp < diameter_mm / 2
    part = labels[box]
    mask &= (part == tissue.FAT) | (part == tissue.FGT)
    part[mask] = label


def lesion_plan(rng: np.random.Generator) -> list[tuple[int, float]]:
    """Which lesions a woman has, as (tissue, diameter in mm): masses in 60 % of women, cysts in 10 %."""
    plan = []
    if rng.random() < 0.6:
        kind = tissue.MALIGNANT if rng.random() < 0.6 else tissue.BENIGN
        plan.append((kind, float(np.clip(np.exp(rng.normal(2.6, 0.5)), 5, 40))))
    if rng.random() < 0.1:
        plan.extend((tissue.CYST, float(rng.uniform(4, 15))) for _ in range(int(rng.integers(1, 4))))
    return plan


def fatness(body: Body) -> float:
    """0 for a dense breast, 1 for a fatty one: septa show in fatty breasts."""
    return float(np.clip(1.25 - 2.5 * body.fgt_fraction, 0.2, 1.0))

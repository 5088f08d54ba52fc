"""A simulated woman: her tissue volume and the fields that travel with her through any scanner.

Nothing here may depend on a protocol. The volume's frame is that of ``shape``; arrays are indexed [z, y, x] at 1 mm.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reacquire.phantom import breast, torso
from reacquire.phantom.fields import F32, gaussian_field
from reacquire.phantom.shape import ORIGIN_MM, SHAPE, Body, axes_mm, body_distance, draw_body
from reacquire.physics import tissue

FIELD_MM = 8.0  # step of the smooth fields
TEXTURE_SIZE = 64  # period of the tissue texture, mm
_MIXED = np.isin(np.arange(256), [tissue.FAT, tissue.FGT, tissue.SKIN_EDGE])  # labels that carry a gland fraction


@dataclass(frozen=True, eq=False)
class Subject:
    """One woman.

    Attributes
    ----------
    labels : (Z, Y, X) uint8
        Tissue of each 1 mm voxel, numbered as in ``tissue``.
    fgt : (Z, Y, X) uint8
        Fibroglandular fraction of breast voxels, 255 = 1; skin's share where the label is ``SKIN_EDGE``; else zero.
    alpha : (Z, Y, X) uint8
        Share of the voxel inside the body, 255 = 1: partial volume at the skin.
    breast : (Z, Y, X) bool
        The mounds in front of the pectoral muscle.
    origin_mm : tuple of float
        z, y, x of the first voxel's centre; x to the left, y to posterior, z to superior, sternal skin at y = 0.
    z_range : tuple of float
        First and last z (mm) whose slice shows both mounds well.
    t1_scale : (T,) float32
        Her T1 relative to the table.
    db0_ppm, b1_field : (z, y, x) float32
        Off-resonance in ppm and a unit-variance transmit pattern at ``FIELD_MM`` over the same extent as the labels.
    dielectric : float
        Depth of the 3 T dielectric dip, 0..0.15.
    texture : (64, 64, 64) float16
        Periodic unit-variance pattern of T1 within tissue.
    coil_mm : (8, 3) float32
        Loop positions z, y, x of the receive coil.
    nipple_mm : float
        y of the foremost point of the body.
    """

    seed: int
    labels: NDArray[np.uint8]
    fgt: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    breast: NDArray[np.bool_]
    origin_mm: tuple[float, float, float]
    z_range: tuple[float, float]
    t1_scale: F32
    db0_ppm: F32
    b1_field: F32
    dielectric: float
    texture: NDArray[np.float16]
    coil_mm: F32
    nipple_mm: float
    fgt_fraction: float

    def plane(self, z_mm: float) -> int:
        """Index of the label plane nearest to ``z_mm``.

        Raises
        ------
        ValueError
            Outside the volume.
        """
        index = round(z_mm - self.origin_mm[0])
        if not 0 <= index < self.labels.shape[0]:
            raise ValueError(
                f"z lies outside the subject; it has {self.origin_mm[0]} mm and {self.labels.shape[0]} planes"
            )
        return index


def make_subject(seed: int, *, density: float | None = None) -> Subject:
    """Draw a woman.

    Parameters
    ----------
    seed : int
        Equal seeds give equal women, bit for bit.
    density : float, optional
        Fibroglandular share of the breast's volume, 0.02..0.6; drawn from the measured distribution when absent.

    Raises
    ------
    ValueError
        For a density outside that range.
    """
    if density is not None and not 0.02 <= density <= 0.6:
        raise ValueError(f"density is a share between 0.02 and 0.6, not {density}")
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence([seed, 0x5EED]).spawn(5)]
    body = draw_body(streams[0], density)
    surface, torso_distance = body_distance(body, streams[1])
    labels, alpha, fgt = _outline(surface, body)
    depth = torso.chest_depth(body, torso_distance)
    rows = slice(torso.FIRST_ROW, None)
    depth[surface[:, rows] > -body.skin_mm - 1] = -1
    torso.paint_torso(labels[:, rows], depth, body, streams[2])
    del depth, torso_distance
    inside = np.zeros(SHAPE, np.bool_)
    for mound, stream in zip(body.mounds, streams[3].spawn(2), strict=True):
        _fill_breast(labels, fgt, inside, surface, body, mound, stream)
    fgt[~_MIXED[labels]] = 0
    return assemble(seed, labels, fgt, alpha, inside, ORIGIN_MM, streams[4], body.fgt_fraction)


def assemble(
    seed: int,
    labels: NDArray[np.uint8],
    fgt: NDArray[np.uint8],
    alpha: NDArray[np.uint8],
    inside: NDArray[np.bool_],
    origin_mm: tuple[float, float, float],
    rng: np.random.Generator,
    fgt_fraction: float,
) -> Subject:
    """Add the fields of section "per-woman fields" to an anatomy."""
    shape = tuple(int(np.ceil((n - 1) / FIELD_MM)) + 1 for n in labels.shape)
    rows = np.flatnonzero(inside.any(axis=(0, 2)))
    nipple = origin_mm[1] + float(rows[0])
    width = (inside.any(axis=1).sum(axis=1) > 0).nonzero()[0]
    depth_by_plane = np.array([_depth(inside[k], origin_mm[1]) for k in range(0, labels.shape[0], 2)])
    good = np.flatnonzero(depth_by_plane > 0.5 * depth_by_plane.max()) * 2
    if not good.size:
        good = width
    z_range = (origin_mm[0] + float(good[0]), origin_mm[0] + float(good[-1]))
    return Subject(
        seed=seed,
        labels=labels,
        fgt=fgt,
        alpha=alpha,
        breast=inside,
        origin_mm=origin_mm,
        z_range=z_range,
        t1_scale=tissue.draw_t1_scale(rng),
        db0_ppm=_off_resonance(rng, shape, origin_mm, nipple),
        b1_field=gaussian_field(rng, shape, exponent=5.0, corner=0.1, stretch=(1, 1, 1)),
        dielectric=float(rng.uniform(0, 0.15)),
        texture=_tile(rng),
        coil_mm=_coil(rng, inside, origin_mm),
        nipple_mm=nipple,
        fgt_fraction=fgt_fraction,
    )


def _depth(plane: NDArray[np.bool_], y0: float) -> float:
    rows = np.flatnonzero(plane.any(axis=1))
    return -(y0 + float(rows[0])) if rows.size else 0.0


def _outline(surface: F32, body: Body) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Air, skin and fat from the body's distance; partial volume at its border; skin's share of its inner voxels."""
    z, y, _ = axes_mm(1.0, SHAPE)
    # Skin is up to 1.5 times thicker in the inferior fold.
    skin = np.float32(body.skin_mm) * (1 + 0.5 * np.clip(-z / 80, 0, 1) * np.clip((y + 40) / 60, 0, 1))
    labels = np.where(surface < 0, np.uint8(tissue.FAT), np.uint8(tissue.AIR))
    alpha = np.where(surface < 0, np.uint8(255), np.uint8(0))
    share = np.zeros(surface.shape, np.uint8)
    # Only voxels near the surface need arithmetic.
    near = np.flatnonzero(np.abs(surface) < 6)
    distance = surface.reshape(-1)[near]
    thickness = np.broadcast_to(skin, (*surface.shape[:2], 1)).reshape(-1)[near // surface.shape[2]]
    # Where the inner border of the skin crosses a voxel, a fraction of gland-like signal stands for the skin's share:
    # skin is one or two voxels thick, and whole voxels would make it look like a string of beads.
    filled = np.clip(distance + (thickness + np.float32(0.5)), 0, 1)
    edge = np.clip(0.5 - distance, 0, 1)
    kind = np.select([edge == 0, filled >= 1, filled > 0], [tissue.AIR, tissue.SKIN, tissue.SKIN_EDGE], tissue.FAT)
    labels.reshape(-1)[near] = kind
    alpha.reshape(-1)[near] = 255 * edge
    share.reshape(-1)[near] = np.where((filled >= 1) | (edge == 0), 0, 255 * filled)
    return labels, alpha, share


def _fill_breast(
    labels: NDArray[np.uint8], fgt: NDArray[np.uint8], inside: NDArray[np.bool_], surface: F32, body: Body,
    mound: breast.Mound, rng: np.random.Generator,
) -> None:  # fmt: skip
    box = breast.box_of(mound)
    z, y, x = (a[tuple(s if a.shape[i] > 1 else slice(None) for i, s in enumerate(box))] for a in axes_mm(1.0, SHAPE))
    part, distance = labels[box], -surface[box]
    soft = (part == tissue.FAT) | (part == tissue.SKIN) | (part == tissue.SKIN_EDGE)
    region = breast.breast_region(mound, z, y, x, soft)
    region &= (x * mound.side) > 0
    inner = region & (part == tissue.FAT)
    fraction = breast.glandular_fraction(rng, mound, inner, distance, z, y, x, body.fgt_fraction)
    cell = rng.uniform(12, 25)
    sheets = breast.septa(rng, part.shape, cell_mm=cell, thickness_mm=rng.uniform(0.3, 0.6) * breast.fatness(body))
    sheets += breast.strands(rng, part.shape)
    np.maximum(fraction, np.minimum(sheets, 0.49), out=fraction)
    corner = np.array([o + s.start for o, s in zip(ORIGIN_MM, box, strict=True)])
    points, radii = breast.ducts(rng, mound)
    breast.splat(fraction, points, radii, corner)
    fraction *= inner
    part[inner & (fraction >= 0.5)] = tissue.FGT
    candidates = np.argwhere(inner[::3, ::3, ::3] & (distance[::3, ::3, ::3] > 10)) * 3
    for label, diameter in breast.lesion_plan(rng):
        if len(candidates) and rng.random() < 0.6:  # the plan is the woman's, drawn for each side
            breast.paint_lesion(part, rng, candidates, label, diameter)
    front = np.argmax(distance > 0, axis=1)
    breast.paint_veins(part, rng, mound, front, corner)
    fgt[box] = np.maximum(fgt[box], np.rint(255 * fraction).astype(np.uint8))
    inside[box] |= region


def _off_resonance(
    rng: np.random.Generator, shape: tuple[int, ...], origin_mm: tuple[float, float, float], nipple_mm: float
) -> F32:
    """Residual dB0 in ppm after a first-order shim: slopes, a smooth field, and failures at axilla, fold or edge."""
    z, y, x = (
        (o + FIELD_MM * np.arange(n, dtype=np.float32)).reshape([-1 if i == a else 1 for i in range(3)])
        for a, (o, n) in enumerate(zip(origin_mm, shape, strict=True))
    )
    span = max(40.0, -nipple_mm)
    field = rng.normal(0, 0.35) * (y - nipple_mm / 2) / span + rng.normal(0, 0.2) * x / 150
    field = field + 0.25 * gaussian_field(rng, shape, exponent=5.0, corner=FIELD_MM / 60, stretch=(1, 1, 1))
    sites = ((60, 20, 130), (60, 20, -130), (-60, 0, 75), (-60, 0, -75), (0, 90, 180), (0, 90, -180))
    for site, chance in zip(sites, (0.5, 0.5, 0.25, 0.25, 0.5, 0.5), strict=True):
        if rng.random() < chance:
            centre = np.array(site) + rng.normal(0, 12, 3)
            sign, height, radius = rng.choice([-1, 1]), rng.uniform(1, 3), rng.uniform(18, 40)
            r2 = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
            field = field + sign * height * np.exp(-r2 / (2 * radius**2))
    return np.ascontiguousarray(field, dtype=np.float32)


def _tile(rng: np.random.Generator) -> NDArray[np.float16]:
    shape = (TEXTURE_SIZE,) * 3
    return gaussian_field(rng, shape, exponent=5.0, corner=0.1, stretch=(1, 1, 1)).astype(np.float16)


def _coil(rng: np.random.Generator, inside: NDArray[np.bool_], origin_mm: tuple[float, float, float]) -> F32:
    """Two clusters of four loops around the breasts, posed within 8 mm."""
    loops = []
    middle = inside.shape[2] // 2
    for half in (slice(0, middle), slice(middle, None)):
        zs, ys, xs = (np.flatnonzero(inside[:, :, half].any(axis=a)) for a in ((1, 2), (0, 2), (0, 1)))
        z, y, x = (o + float(v.mean()) for o, v in zip(origin_mm, (zs, ys, xs + half.start), strict=True))
        reach = 0.5 * float(xs[-1] - xs[0]) + 12
        pose = rng.uniform(-8, 8, 3)
        for dz, dx in ((45, 0), (-45, 0), (0, reach), (0, -reach)):
            loops.append(np.array([z + dz, y - 5, x + dx]) + pose + rng.uniform(-4, 4, 3))
    return np.array(loops, np.float32)

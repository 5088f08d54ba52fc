"""One woman's size and outline: the joint draw of her measures and the body surface as a signed distance.

Frame (mm): x to the patient's left with the sternum at 0, y to posterior with the sternal skin at 0, z to superior
with the nipples near 0. Owns the surface only; what lies under it belongs to ``torso`` and ``breast``.
"""

from dataclasses import dataclass

import numpy as np

from reacquire.phantom.fields import F32, double, double_axis, gaussian_field, smoothstep

COARSE_MM = 2.0
ORIGIN_MM = (-80.0, -144.0, -200.0)  # z, y, x of the first voxel
COARSE_SHAPE = (81, 163, 201)
TORSO_COARSE_ROW = 68  # the torso lies behind this row
SHAPE = tuple(2 * n - 1 for n in COARSE_SHAPE)  # at 1 mm


@dataclass(frozen=True)
class Mound:
    """One breast: centre and half-axes of its base, height beyond the sternal skin, exponents of its profile (mm)."""

    side: int  # +1 left (x > 0), -1 right
    x_mm: float
    z_mm: float
    half_width_mm: float
    half_extent_mm: float
    depth_mm: float
    base_exponent: float
    side_exponent: float
    tip_exponent: float
    tilt: float  # lateral shift of the tip per depth
    sag: float  # downward shift of the tip per depth


@dataclass(frozen=True)
class Body:
    """One woman's measures (mm) and her fibroglandular share of breast volume."""

    mounds: tuple[Mound, Mound]
    half_lr_mm: float
    half_ap_mm: float
    fat_wall_mm: float
    pectoral_mm: float
    skin_mm: float
    fgt_fraction: float


BASE_MM = 14.0  # how far the mounds' super-quadrics reach behind the sternal skin


def draw_body(rng: np.random.Generator, density: float | None) -> Body:
    """Draw size and density jointly: depth follows volume (r .89), density runs against it (r -.46)."""
    size = float(np.clip(rng.standard_normal(), -1.9, 1.9))

    def tied(mean: float, sd: float, r: float, low: float, high: float) -> float:
        value = mean + sd * (r * size + np.sqrt(1 - r * r) * rng.standard_normal())
        return float(np.clip(value, low, high))

    depth = tied(98, 21, 0.89, 58, 130)
    width = tied(91, 14, 0.85, 68, 120)
    extent = tied(127, 14, 0.8, 92, 150)
    logit = -1.43 + 0.47 * (-0.46 * size + 0.888 * rng.standard_normal())
    fraction = float(np.clip(1 / (1 + np.exp(-logit)), 0.05, 0.55)) if density is None else float(density)
    gap = rng.normal(24, 6)
    mounds = tuple(_draw_mound(rng, side, depth, width, extent, max(gap, 12.0)) for side in (-1, 1))
    return Body(
        mounds=mounds,  # type: ignore[arg-type]
        half_lr_mm=tied(151, 13, 0.6, 126, 185),
        half_ap_mm=tied(105, 12, 0.5, 80, 135),
        fat_wall_mm=tied(20, 8, 0.7, 8, 40),
        pectoral_mm=float(rng.uniform(8, 16)),
        skin_mm=float(np.clip(rng.normal(1.44, 0.25), 0.87, 2.34)),
        fgt_fraction=fraction,
    )


def _draw_mound(rng: np.random.Generator, side: int, depth: float, width: float, extent: float, gap: float) -> Mound:
    scale = float(np.exp(0.08 / 3 * rng.standard_normal()))  # volume ratio of the two sides LN(0, .08)
    base, flank, tip = rng.uniform(2.2, 2.8), rng.uniform(3.0, 4.2), rng.uniform(2.0, 2.8)
    total = depth * scale + BASE_MM
    # Half-width of the base such that the mound is `width` wide at half of its depth.
    half_depth_share = (1 - ((depth * scale / 2 + BASE_MM) / total) ** tip) ** (1 / flank)
    half_width = width * scale / 2 / half_depth_share
    return Mound(
        side=side,
        x_mm=side * (width / 2 + gap),
        z_mm=float(rng.normal(4, 3)),
        half_width_mm=half_width,
        half_extent_mm=extent * scale / 2 / half_depth_share,
        depth_mm=depth * scale,
        base_exponent=float(base),
        side_exponent=float(flank),
        tip_exponent=float(tip),
        tilt=float(rng.normal(0.02, 0.06)),
        sag=float(rng.normal(0.05, 0.05)),
    )


def axes_mm(step: float, shape: tuple[int, ...]) -> tuple[F32, F32, F32]:
    """Broadcastable z, y, x coordinates (mm) of the volume at a step."""
    z, y, x = (o + step * np.arange(n, dtype=np.float32) for o, n in zip(ORIGIN_MM, shape, strict=True))
    return z[:, None, None].astype(np.float32), y[None, :, None].astype(np.float32), x[None, None, :].astype(np.float32)


def torso_surface(body: Body, z: F32, y: F32, x: F32) -> F32:
    """Approximate signed distance (mm, negative inside) to the torso without breasts: a flattened super-ellipse."""
    widen = 26 * smoothstep(z, 28, 80) - 6 * smoothstep(-z, 30, 90)
    half_lr = body.half_lr_mm + widen
    # The sternum lies a few mm behind the chest wall beside it.
    front = y - 4 * np.exp(-np.square(x / 25))
    ap = np.float32(body.half_ap_mm)
    u, v = np.abs(x) / half_lr, np.abs(front - ap) / ap
    radius = np.power(u * u * np.sqrt(u) + v * v * np.sqrt(v), np.float32(0.4))
    return ((radius - 1) * np.float32(0.5) * (ap + half_lr)).astype(np.float32)


def mound_radius(mound: Mound, z: F32, x: F32, y: F32 | float = 0.0) -> F32:
    """Radius in units of the base's super-ellipse, the axis leaning with depth."""
    height = np.maximum(-np.asarray(y, np.float32), 0)
    dx = np.abs(x - (mound.x_mm + mound.side * mound.tilt * height)) / np.float32(mound.half_width_mm)
    dz = np.abs(z - (mound.z_mm - mound.sag * height)) / np.float32(mound.half_extent_mm)
    p = np.float32(mound.base_exponent)
    return np.power(np.power(dx, p) + np.power(dz, p), 1 / p)


def mound_surface(mound: Mound, z: F32, y: F32, x: F32) -> F32:
    """Approximate signed distance (mm) to one prone mound: a super-quadric that hangs towards anterior."""
    rho = mound_radius(mound, z, x, y)
    total = np.float32(mound.depth_mm + BASE_MM)
    behind = np.float32(0.9) * np.maximum(y - (BASE_MM - 10), 0)  # the mound tapers off into the torso
    height = np.maximum(BASE_MM - y, 0) / total
    level = np.power(rho, np.float32(mound.side_exponent)) + np.power(height, np.float32(mound.tip_exponent))
    # The root makes the field grow about linearly across the surface.
    scale = np.float32(0.5 * (mound.half_width_mm + mound.half_extent_mm))
    return ((np.power(level, np.float32(1 / mound.side_exponent)) - 1) * scale + behind).astype(np.float32)


def body_distance(body: Body, rng: np.random.Generator) -> tuple[F32, F32]:
    """Signed distances (mm, negative inside) on the 1 mm grid: of the whole body, and of the torso alone from
    row ``2 * TORSO_COARSE_ROW`` on."""
    z, y, x = axes_mm(COARSE_MM, COARSE_SHAPE)
    torso = _to_distance(torso_surface(body, z, y, x))
    union = torso.copy()
    for mound in body.mounds:
        columns = slice(0, 121) if mound.side < 0 else slice(80, None)
        rows = slice(0, 90)
        part = union[:, rows, columns]
        distance = mound_surface(mound, z, y[:, rows], x[..., columns])
        part[...] = _smooth_min(part, distance, np.float32(16))
    shape = tuple(-(-n // 8) for n in COARSE_SHAPE)
    bumps = gaussian_field(rng, shape, exponent=3.0, corner=0.15, stretch=(1, 1, 1))
    for axis in range(3):
        bumps = _double_axis_to(bumps, axis, COARSE_SHAPE[axis])
    union += np.float32(1.3) * bumps
    return double(_to_distance(union)), double(torso[:, TORSO_COARSE_ROW:])


def _double_axis_to(volume: F32, axis: int, size: int) -> F32:
    """Linear upsampling by 8 along an axis, cut to ``size``."""
    for _ in range(3):
        volume = double_axis(volume, axis)
    if volume.shape[axis] < size:
        volume = np.concatenate([volume, np.repeat(np.take(volume, [-1], axis), size - volume.shape[axis], axis)], axis)
    return np.take(volume, np.arange(size), axis)


def _smooth_min(a: F32, b: F32, width: np.float32) -> F32:
    """Polynomial smooth minimum: a fillet of about ``width`` mm where two surfaces meet."""
    h = np.maximum(width - np.abs(a - b), 0) / width
    return np.minimum(a, b) - h * h * width * np.float32(0.25)


def _to_distance(level: F32) -> F32:
    """Divide by the gradient's length near the surface, so that values become millimetres there."""
    gz, gy, gx = np.gradient(level, COARSE_MM)
    slope = np.sqrt(gz * gz + gy * gy + gx * gx)
    return (level / np.maximum(slope, np.float32(0.25))).astype(np.float32)

"""Label volumes of real women as anatomy: for evaluation, never for weights that ship.

A volume brings the breasts; the torso behind it is procedural. Its frame is turned to the phantom's (x left,
y posterior, z superior) by its affine, resampled to 1 mm, and placed with the sternal skin at y = 0.
"""

from collections.abc import Mapping

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from reacquire.phantom import torso
from reacquire.phantom.fields import F32
from reacquire.phantom.shape import ORIGIN_MM, SHAPE, axes_mm, draw_body, torso_surface
from reacquire.phantom.subject import Subject, assemble
from reacquire.physics import tissue

# The labels of the public MRI-derived breast models: skin, muscle interface, gland low/median/high, transition,
# fat low/median/high, benign, malignant.
MODEL_LABELS: Mapping[int, int] = {
    0: tissue.AIR,
    1: tissue.SKIN,
    2: tissue.MUSCLE,
    3: tissue.FGT,
    4: tissue.FGT,
    5: tissue.FGT,
    6: tissue.FAT,
    7: tissue.FAT,
    8: tissue.FAT,
    9: tissue.FAT,
    10: tissue.BENIGN,
    11: tissue.MALIGNANT,
}
TRANSITION = 6  # half gland, half fat


def label_map_subject(
    volume: NDArray[np.integer],
    affine: NDArray[np.float64],
    *,
    seed: int,
    labels: Mapping[int, int] = MODEL_LABELS,
    with_torso: bool = True,
    skin_mm: float = 1.44,
) -> Subject:
    """A subject from a label volume.

    Parameters
    ----------
    volume : (I, J, K) integer array
        As read from NIfTI.
    affine : (4, 4) array
        NIfTI affine, voxel index to RAS mm; axes may be permuted or flipped, not oblique.
    seed : int
        Of the woman's fields and relaxation times, and of the procedural torso.
    labels : mapping of int to int
        Volume label to ``tissue`` index; label 6 is a half-filled transition voxel.
    with_torso : bool
        Whether to put a procedural chest behind the breasts.
    skin_mm : float
        Skin is thinned to this: segmented skin is about 3.6 voxels thick.

    Raises
    ------
    ValueError
        For a volume that is not 3-D, an oblique affine, or an unknown label.
    """
    tissue_map, gland = _to_frame(np.asarray(volume), np.asarray(affine, float), labels)
    tissue_map = _thin_skin(tissue_map, skin_mm)
    sternum = _sternal_row(tissue_map)
    full, fraction, inside, alpha = _place(tissue_map, gland, sternum)
    rng = np.random.default_rng([seed, 0x1ABE1])
    if with_torso:
        _add_torso(full, alpha, rng)
    fraction[(full != tissue.FAT) & (full != tissue.FGT)] = 0
    share = float(fraction[inside].mean()) / 255
    return assemble(seed, full, fraction, alpha, inside, ORIGIN_MM, rng, share)


def _to_frame(
    volume: NDArray, affine: NDArray[np.float64], labels: Mapping[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Tissue and gland fraction (0..255), axes [z, y, x] at 1 mm, x left, y posterior, z superior."""
    if volume.ndim != 3 or affine.shape != (4, 4):
        raise ValueError("a label volume has three axes and its affine is 4 x 4")
    unknown = sorted(set(np.unique(volume).tolist()) - set(labels))
    if unknown:
        raise ValueError(f"labels {unknown} have no tissue; give a mapping for them")
    scale = affine[:3, :3]
    spacing = np.abs(scale).max(axis=0)
    world = np.abs(scale).argmax(axis=0)  # which patient axis each array axis runs along
    if sorted(world) != [0, 1, 2] or np.any(np.abs(scale).sum(axis=0) > 1.05 * spacing):
        raise ValueError("the affine is oblique; resample the volume to the patient's axes first")
    order = [int(np.flatnonzero(world == axis)[0]) for axis in (2, 1, 0)]
    turned = np.transpose(volume, order)
    # RAS to LPS turns the first two patient axes round; z keeps its sense.
    for position, (axis, wanted) in enumerate(zip(order, (1, -1, -1), strict=True)):
        if np.sign(scale[world[axis], axis]) != wanted:
            turned = np.flip(turned, position)
    table = np.zeros(max(labels) + 1, np.uint8)
    share = np.zeros(max(labels) + 1, np.uint8)
    for label, kind in labels.items():
        table[label] = kind
        share[label] = 255 if kind == tissue.FGT else 0
    if labels is MODEL_LABELS:
        share[TRANSITION] = 110
    zoom = spacing[order]
    shape = tuple(round(n * s) for n, s in zip(turned.shape, zoom, strict=True))
    index = [np.clip(np.rint((np.arange(n) + 0.5) / s - 0.5), 0, m - 1).astype(int)
             for n, s, m in zip(shape, zoom, turned.shape, strict=True)]  # fmt: skip
    resampled = turned[np.ix_(*index)]
    return table[resampled], share[resampled]


def _thin_skin(tissues: NDArray[np.uint8], skin_mm: float) -> NDArray[np.uint8]:
    """Turn skin deeper than ``skin_mm`` into fat."""
    air = tissues == tissue.AIR
    # Air behind the chest wall is not outside; only the anterior air counts.
    behind = np.cumsum(~air, axis=1) > 0
    depth = scipy.ndimage.distance_transform_edt(behind | ~air)
    out = tissues.copy()
    out[(tissues == tissue.SKIN) & (depth > skin_mm + 0.5)] = tissue.FAT
    return out


def _sternal_row(tissues: NDArray[np.uint8]) -> int:
    """Row of the skin between the breasts: the hindmost front of the middle columns over the central planes."""
    planes, _, columns = tissues.shape
    middle = slice(columns // 2 - 12, columns // 2 + 13)
    body = tissues[planes // 4 : 3 * planes // 4, :, middle] != tissue.AIR
    front = np.where(body.any(axis=1), body.argmax(axis=1), 0)
    return int(np.median(front.max(axis=1)))


def _place(
    tissues: NDArray[np.uint8], gland: NDArray[np.uint8], sternum: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_], NDArray[np.uint8]]:
    """Centre the volume in the phantom's grid: labels, gland fraction, breast mask, body share."""
    full, fraction = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    starts = ((SHAPE[0] - tissues.shape[0]) // 2, round(-ORIGIN_MM[1]) - sternum, (SHAPE[2] - tissues.shape[2]) // 2)
    target = tuple(slice(max(s, 0), min(s + n, m)) for s, n, m in zip(starts, tissues.shape, SHAPE, strict=True))
    source = tuple(slice(t.start - s, t.stop - s) for t, s in zip(target, starts, strict=True))
    full[target], fraction[target] = tissues[source], gland[source]
    alpha = scipy.ndimage.uniform_filter((full > 0).astype(np.float32), 2)
    alpha = (255 * np.clip(alpha * 1.6 - 0.3, 0, 1)).astype(np.uint8)
    alpha[full == tissue.AIR] = 0
    return full, fraction, _mounds(full), alpha


def _mounds(full: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tissue before the muscle where the mound is over a quarter of the deepest: beyond it labels are fall-off."""
    y0 = ORIGIN_MM[1]
    body = (full != tissue.AIR) & (full != tissue.MUSCLE)
    front = np.where(body.any(axis=1), body.argmax(axis=1) + y0, 999)
    depth = np.maximum(-front, 0)
    column = depth > 0.25 * np.percentile(depth[depth > 0], 99)
    y = (y0 + np.arange(full.shape[1]))[None, :, None]
    return body & column[:, None, :] & (y < 25)


def _add_torso(full: NDArray[np.uint8], alpha: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Fill the empty voxels behind the volume with a procedural chest."""
    body = draw_body(rng, None)
    z, y, x = axes_mm(1.0, SHAPE)
    surface = torso_surface(body, z, y, x).astype(np.float32)
    empty = (full == tissue.AIR) & (surface < 0) & (y > 6)
    chest = np.full(SHAPE, tissue.SUBCUTANEOUS, np.uint8)
    chest[surface > -body.skin_mm] = tissue.SKIN
    rows = slice(torso.FIRST_ROW, None)
    depth: F32 = torso.chest_depth(body, surface[:, rows].copy())
    torso.paint_torso(chest[:, rows], depth, body, rng)
    full[empty] = chest[empty]
    alpha[empty] = np.clip(255 * (0.5 - surface[empty]), 0, 255).astype(np.uint8)

"""Segmentations from NRRD, NIfTI and DICOM SEG, put onto slices by their geometry alone.

File order, array order and naming never decide where a voxel lies: only the affine does. A mask whose header is wrong
is found by looking at the image below it, and refused. Coordinates are LPS millimetres.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from reacquire.dicom import Header, SliceImage
from reacquire.dicom.checks import Geometry
from reacquire.dicom.quiet import neutral_warnings
from training.ingest.problem import Excluded

BREAST, FIBROGLANDULAR = 1, 2
LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
INSIDE = 0.99  # of the mask's voxels lie within the series
ON_BODY = 0.9  # of the mask's pixels lie on the body
BEHIND_SKIN = 0.02  # of the image's rows: the farthest that a mask's front may lie from the skin
BLUR_PIXELS = 2.5  # but that much is what ``body_mask`` blurs
CHECKED_SLICES = 9


@dataclass(frozen=True)
class MaskVolume:
    """``labels`` (I, J, K) uint8 (0 background, 1 breast, 2 fibroglandular); ``affine`` (4, 4) index -> LPS mm."""

    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]
    path: Path


def load_mask(path: Path) -> MaskVolume:
    """Read one mask file.

    Raises
    ------
    Excluded
        When it cannot be read or its segments are not known by name.
    """
    name = path.name.lower()
    reader: Callable[[Path], MaskVolume] = (
        _nifti if name.endswith((".nii", ".nii.gz")) else _nrrd if name.endswith(".nrrd") else _seg
    )
    try:
        return reader(path)
    except Excluded:
        raise
    except Exception as error:  # three libraries, and each has its own idea of how a damaged file fails
        raise Excluded(
            "unreadable-mask", f"{path} cannot be read ({type(error).__name__}); download it again"
        ) from error


def place(volumes: Sequence[MaskVolume], header: Header) -> NDArray[np.uint8]:
    """The labels at the pixel centres of one slice, nearest voxel, (R, C) in stored orientation.

    Of several volumes the highest label counts: fibroglandular tissue lies in the breast.
    """
    labels = np.zeros((header.rows, header.columns), np.uint8)
    for volume in volumes:
        to_index = np.linalg.inv(volume.affine) @ slice_affine(header.geometry)
        rows, columns = np.arange(header.rows), np.arange(header.columns)
        index = [
            np.rint(to_index[a, 0] * columns[None, :] + to_index[a, 1] * rows[:, None] + to_index[a, 3]).astype(np.intp)
            for a in range(3)
        ]
        inside = np.logical_and.reduce([(i >= 0) & (i < n) for i, n in zip(index, volume.labels.shape, strict=True)])
        found = np.zeros_like(labels)
        found[inside] = volume.labels[tuple(i[inside] for i in index)]
        labels = np.maximum(labels, found)
    return labels


def slice_affine(geometry: Geometry) -> NDArray[np.float64]:
    """(column, row, 0, 1) -> LPS mm (PS3.3 C.7.6.2.1.1)."""
    affine = np.eye(4)
    along_row, along_column = np.array(geometry.iop[:3]), np.array(geometry.iop[3:])
    affine[:3, 0], affine[:3, 1] = along_row * geometry.spacing[1], along_column * geometry.spacing[0]
    affine[:3, 2], affine[:3, 3] = np.cross(along_row, along_column), geometry.ipp
    return affine


def check_extent(volumes: Sequence[MaskVolume], headers: Sequence[Header]) -> None:
    """Refuse a mask that lies outside the series.

    Raises
    ------
    Excluded
        Naming the mask.
    """
    first, last = headers[0], headers[-1]
    normal = slice_affine(first.geometry)[:3, 2]
    gap = float(np.median(np.abs(np.diff([np.dot(normal, h.geometry.ipp) for h in headers])))) if headers[1:] else 10.0
    ends = sorted(float(np.dot(normal, h.geometry.ipp)) for h in (first, last))
    for volume in volumes:
        where = np.argwhere(volume.labels)
        if not len(where):
            raise Excluded("empty-mask", f"{volume.path} marks nothing; download it again")
        world = np.c_[where, np.ones(len(where))] @ volume.affine.T
        column, row = (np.linalg.inv(slice_affine(first.geometry)) @ world.T)[:2]
        along = world[:, :3] @ normal
        inside = (np.abs(column - (first.columns - 1) / 2) <= first.columns / 2) & (
            np.abs(row - (first.rows - 1) / 2) <= first.rows / 2
        )
        inside &= (along >= ends[0] - gap) & (along <= ends[1] + gap)
        if inside.mean() < INSIDE:
            raise Excluded(
                "mask-does-not-fit",
                f"{100 * (1 - inside.mean()):.0f} % of {volume.path} lie outside the pre-contrast series; is it of "
                "this patient and this series?",
            )


def check_overlap(pairs: Iterable[tuple[SliceImage, NDArray[np.uint8]]], path: Path) -> None:
    """Refuse a mask that lies in the air, or whose front is not the skin: a turned one may well lie on the body.

    On simulated women of every protocol the front of a mask lies at most 0.007 of the image behind the skin, and at
    least 0.027 when it is turned (median over columns).

    Raises
    ------
    Excluded
        Naming the mask.
    """
    shares, gaps = [], []
    for image, labels in pairs:
        marked, body = image.orientation.to_canonical(labels) > 0, body_mask(image.canonical())
        columns = marked.any(0) & body.any(0)
        if marked.any():
            shares.append(float(body[marked].mean()))
        if columns.any():
            gap = np.abs(marked.argmax(0) - body.argmax(0))[columns]
            gaps.append(float(np.median(gap)) / max(BEHIND_SKIN * len(body), BLUR_PIXELS))
    share, gap = (float(np.median(values or [1.0])) for values in (shares, gaps))
    if share < ON_BODY or gap > 1:
        what = f"only {100 * share:.0f} % of it lie on the body" if share < ON_BODY else "its front is not the skin"
        text = f"{path} does not fit its images: {what}; its geometry is wrong, leave it out"
        raise Excluded("mask-off-the-body", text)


def body_mask(pixels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The body in one canonical slice: what is brighter than air, closed and filled, (R, C)."""
    smooth = ndimage.uniform_filter(pixels.astype(np.float32), 5)
    air = np.percentile(smooth, 10)
    bright = smooth > air + 0.06 * (np.percentile(smooth, 99) - air)
    closed = ndimage.binary_closing(bright, iterations=4)
    pieces, count = ndimage.label(closed)
    if not count:
        return closed
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return ndimage.binary_fill_holes(sizes[pieces] > 0.05 * sizes.max())


def checked_positions(kept: Sequence[int]) -> set[int]:
    """The slices that the overlap is looked at: some, spread evenly."""
    return {kept[round(i)] for i in np.linspace(0, len(kept) - 1, min(CHECKED_SLICES, len(kept)))}


def _class(name: str, path: Path) -> int:
    """The label of a segment, by its name: values and order differ between the files of the collection."""
    if re.search(r"dense|fgt|fibrogland", name, re.IGNORECASE):
        return FIBROGLANDULAR
    if re.search(r"breast|vessel|fat", name, re.IGNORECASE):
        return BREAST  # vessels are breast that is not fibroglandular
    raise Excluded("unknown-segment", f"{path} has a segment that is called neither breast, dense tissue nor vessels")


def _classes(values: NDArray[Any], path: Path) -> NDArray[np.uint8]:
    """Plain label values, as the authors of the paper published them: 1 breast, 2 fibroglandular tissue."""
    found = np.unique(values)
    if not np.isin(found, (0, BREAST, FIBROGLANDULAR)).all():
        raise Excluded("unknown-segment", f"{path} holds values other than 0 (background), 1 (breast), 2 (FGT)")
    return values.astype(np.uint8)


def _nifti(path: Path) -> MaskVolume:
    image = nibabel.load(path)
    data = np.asarray(image.dataobj)  # type: ignore[attr-defined]
    return MaskVolume(_classes(data, path), LPS_OF_RAS @ image.affine, path)  # type: ignore[attr-defined]


def _nrrd(path: Path) -> MaskVolume:
    """3D Slicer's ``.seg.nrrd``: named segments, one label value each, in one or several layers; or plain values."""
    data, header = nrrd.read(str(path))
    directions = np.asarray(header["space directions"], dtype=np.float64)
    affine = np.eye(4)
    affine[:3, :3] = directions[np.isfinite(directions).all(axis=1)].T
    affine[:3, 3] = header["space origin"]
    if "right" in str(header.get("space", "")).lower() or str(header.get("space", "")).upper() == "RAS":
        affine = LPS_OF_RAS @ affine
    layers = data if data.ndim == 4 else data[None]
    numbers = sorted({int(m[1]) for key in header if (m := re.fullmatch(r"Segment(\d+)_Name", key))})
    if not numbers:
        return MaskVolume(_classes(layers[0], path), affine, path)
    labels = np.zeros(layers.shape[1:], np.uint8)
    for number in numbers:
        layer = layers[int(header.get(f"Segment{number}_Layer", 0))]
        here = layer == int(header[f"Segment{number}_LabelValue"])
        labels = np.maximum(labels, here * np.uint8(_class(header[f"Segment{number}_Name"], path)))
    return MaskVolume(labels, affine, path)


def _seg(path: Path) -> MaskVolume:
    """DICOM SEG: the geometry is that of its frames, which need not be the image's (some are turned by 180 degrees)."""
    import highdicom as hd

    with neutral_warnings():
        segmentation = hd.seg.segread(path)
        volume = segmentation.get_volume(combine_segments=False, allow_missing_positions=True)
        names: Mapping[int, str] = {
            n: segmentation.get_segment_description(n).segment_label for n in segmentation.segment_numbers
        }
    labels = np.zeros(volume.array.shape[:3], np.uint8)
    for index, number in enumerate(segmentation.segment_numbers):
        labels = np.maximum(labels, (volume.array[..., index] > 0) * np.uint8(_class(names[number], path)))
    return MaskVolume(labels, np.asarray(volume.affine, dtype=np.float64), path)

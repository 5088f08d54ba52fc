"""Simulated slices and pairs: the public way to ask for one.

A pair is one woman, one slice position and one field of view under two protocols; noise is never shared. Its truth has
three levels: L0 contrast only, L1 with the target's reconstruction (``Simulated.clean``), L2 with its noise.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reacquire.phantom.acquire import acquire
from reacquire.phantom.fields import F32
from reacquire.phantom.maps import Grid
from reacquire.phantom.protocols import Protocol
from reacquire.phantom.render import place_grid, render
from reacquire.phantom.scanner import Scanner
from reacquire.phantom.subject import Subject
from reacquire.physics import tissue

OTHER, BREAST_FAT, FIBROGLANDULAR = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Simulated:
    """One simulated slice; rows run from anterior to posterior, columns from the patient's right to left.

    Attributes
    ----------
    image : (R, C) int16
        As a scanner would store it.
    clean : (R, C) float32
        Without noise, same scaling, not rounded (truth level L1).
    labels : (R, C) uint8
        0 other, 1 breast tissue that is not fibroglandular (fat, skin, vessels, lesions), 2 fibroglandular tissue.
    breast : (R, C) bool
    pixel_spacing_mm : float
    origin_mm : (z, y, x)
        Centre of the first pixel in the frame of the subject.
    """

    image: NDArray[np.int16]
    clean: F32
    labels: NDArray[np.uint8]
    breast: NDArray[np.bool_]
    pixel_spacing_mm: float
    origin_mm: tuple[float, float, float]
    protocol: Protocol
    scanner: Scanner


@dataclass(frozen=True, eq=False)
class Pair:
    """``contrast`` (R, C) float32 is L0: the target's physics in the source's grid and reconstruction, noiseless."""

    source: Simulated
    target: Simulated
    contrast: F32 | None


def simulate_slice(
    subject: Subject, z_mm: float, protocol: Protocol, scanner: Scanner, *, noise_seed: int | None
) -> Simulated:
    """Simulate one axial slice.

    Parameters
    ----------
    z_mm : float
        Position in the subject's frame; ``subject.z_range`` shows the breasts.
    noise_seed : int or None
        Seed of the noise alone; None for a noiseless image.

    Raises
    ------
    ValueError
        When the position lies outside the subject.
    """
    grid = place_grid(subject, protocol)
    rendered = render(subject, z_mm, protocol, scanner, grid)
    acquired = acquire(rendered, protocol, scanner, grid, noise_seed=noise_seed)
    labels, inside = truth_labels(subject, z_mm, grid)
    origin = (z_mm, grid.y_mm, grid.x_mm)
    return Simulated(acquired.image, acquired.clean, labels, inside, grid.pixel_mm, origin, protocol, scanner)


def truth_labels(subject: Subject, z_mm: float, grid: Grid) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Labels (R, R) and breast mask (R, R) at the pixel centres (nearest voxel)."""
    inside = _sampled(subject.breast[subject.plane(z_mm)], subject, grid)
    gland = tissue_map(subject, z_mm, grid) == tissue.FGT
    return (inside.astype(np.uint8) + (inside & gland)).astype(np.uint8), inside


def tissue_map(subject: Subject, z_mm: float, grid: Grid) -> NDArray[np.uint8]:
    """Tissue (R, R) at the pixel centres (nearest voxel), numbered as in ``tissue``; air outside the subject."""
    return _sampled(subject.labels[subject.plane(z_mm)], subject, grid)


def _sampled(plane: NDArray, subject: Subject, grid: Grid) -> NDArray:
    """A (Y, X) plane of the subject at the pixel centres, 0 beyond it."""
    _, y0, x0 = subject.origin_mm
    rows, row_ok = _nearest(grid.y_mm - y0, grid, plane.shape[0])
    columns, column_ok = _nearest(grid.x_mm - x0, grid, plane.shape[1])
    known = row_ok[:, None] & column_ok[None, :]
    return np.where(known, plane[np.ix_(rows, columns)], plane.dtype.type(0))


def _nearest(start: float, grid: Grid, size: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    index = np.rint(start + grid.pixel_mm * np.arange(grid.rows)).astype(np.intp)
    return np.clip(index, 0, size - 1), (index >= 0) & (index < size)


def make_pair(
    subject: Subject,
    z_mm: float,
    source: tuple[Protocol, Scanner],
    target: tuple[Protocol, Scanner],
    *,
    seed: int,
    grid: Literal["native", "source"] = "native",
    contrast: bool = False,
) -> Pair:
    """One woman and slice under two protocols, with the source's field of view for both.

    Parameters
    ----------
    seed : int
        Of the noise; the two members draw from different streams.
    grid : {"native", "source"}
        Whether the target keeps its own number of rows or takes the source's.
    contrast : bool
        Whether to compute the L0 truth as well.
    """
    protocol, scanner = target
    rows = source[0].rows if grid == "source" else protocol.rows
    protocol = replace(protocol, fov_mm=source[0].fov_mm, chest_fraction=source[0].chest_fraction, rows=rows)
    seeds = np.random.SeedSequence([seed, 0xFA12]).generate_state(2)
    first = simulate_slice(subject, z_mm, *source, noise_seed=int(seeds[0]))
    second = simulate_slice(subject, z_mm, protocol, scanner, noise_seed=int(seeds[1]))
    level0 = contrast_only(subject, z_mm, source, (protocol, scanner)) if contrast else None
    return Pair(first, second, level0)


def contrast_only(
    subject: Subject, z_mm: float, source: tuple[Protocol, Scanner], target: tuple[Protocol, Scanner]
) -> F32:
    """L0 truth (R, C) float32: the target's contrast through the source's grid, coil and reconstruction, noiseless."""
    return simulate_slice(subject, z_mm, *contrast_scan(source, target), noise_seed=None).clean


def contrast_scan(source: tuple[Protocol, Scanner], target: tuple[Protocol, Scanner]) -> tuple[Protocol, Scanner]:
    """The acquisition behind L0: the target's physics on the source's scanner, grid and reconstruction."""
    base, scanner = source
    physics = replace(base, iap={**target[0].iap, **_reconstruction_of(base)})
    return physics, scanner.with_contrast_of(target[1])


def _reconstruction_of(protocol: Protocol) -> dict:
    # The vendor selects the filter; it belongs to the reconstruction, not to the contrast.
    return {k: protocol.iap[k] for k in ("Manufacturer", "ManufacturerModelName")}

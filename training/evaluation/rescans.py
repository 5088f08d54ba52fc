"""Scans made for the evaluation alone: fresh simulated women and label volumes of real ones, under several protocols
with
every level of truth and a map of all tissues, which a cohort on disk does not keep."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reacquire.iap import Record, load_vocabulary
from reacquire.imaging import Preprocessing
from reacquire.phantom import Protocol, Scanner, Subject, label_map_subject, make_subject, simulate_slice
from reacquire.phantom.cohort import draw_scans
from reacquire.phantom.pair import contrast_scan, tissue_map
from reacquire.phantom.render import place_grid

POSITIONS, TARGETS = 2, 2
FIRST_SEED = 77_000_000  # far from the seeds of cohorts
SINGLE: dict[str, tuple[float, float] | None] = {
    "FlipAngle": (7.0, 12.0),
    "RepetitionTime": None,
    "EchoTime": None,
}  # None: the limits seen with the vendor
LIMITS = {  # of one vendor's protocols (phantom notes, section 3): echo and repetition times in ms
    "SIEMENS": {"EchoTime": (1.25, 1.75), "RepetitionTime": (3.54, 4.9)},
    "GE MEDICAL SYSTEMS": {"EchoTime": (2.2, 2.756), "RepetitionTime": (4.6, 7.395)},
}
Image = NDArray[np.float32]
Scan = tuple[Protocol, Scanner]


@dataclass(frozen=True, eq=False)
class Shown:
    """One scan at model size: noisy image, noiseless one on its scale, the native values of 0 and 1, labels."""

    image: Image
    clean: Image
    scale: tuple[float, float]
    labels: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Rescan:
    """One slice under a source and a target protocol, all (S, S) and normalised as the networks see them.

    Attributes
    ----------
    woman, anatomy : who, and whether she is a label volume of a real woman
    single : the one number that differs, None for a whole protocol
    source_iap, target_iap : recognised parameters
    source : noisy source
    level0, level1, level2 : truth: contrast alone; with the target's reconstruction; with its noise
    level0_noisy, again : a noisy scan at level 0; a second noisy scan of the target (the first one where ``single``)
    tissues : as numbered in ``reacquire.physics.tissue``
    breast : bool
    clean_source : the source without noise
    scale : native values that are 0 and 1 in ``source``, and in ``level0``
    t1_scale : of the woman, per tissue
    """

    woman: str
    anatomy: bool
    single: str | None
    source_iap: Record
    target_iap: Record
    source: Image
    clean_source: Image
    level0: Image
    level0_noisy: Image
    level1: Image
    level2: Image
    again: Image
    tissues: NDArray[np.uint8]
    breast: NDArray[np.bool_]
    scale: tuple[tuple[float, float], tuple[float, float]]
    t1_scale: NDArray[np.float32]


def volumes(folder: Path) -> list[Path]:
    """The NIfTI files of a folder, sorted.

    Raises
    ------
    ValueError
        When there is none.
    """
    found = sorted(p for p in folder.glob("*.nii*") if p.name.endswith((".nii", ".nii.gz"))) if folder.is_dir() else []
    if not found:
        raise ValueError(f"{folder} holds no label volumes (*.nii, *.nii.gz); see --anatomies in docs/training.md")
    return found


def make_rescans(
    preprocessing: Preprocessing,
    *,
    women: int,
    anatomies: Sequence[Path] = (),
    workers: int = 1,
    tracked: Callable[[Iterable, str], Iterable] = lambda items, _: items,
) -> list[Rescan]:
    """Scan ``women`` fresh simulated women and the women of the label volumes."""
    jobs: list[int | Path] = [*range(women), *anatomies]
    work = partial(_scan_woman, preprocessing=preprocessing)
    if workers == 1 or len(jobs) < 2:
        return [rescan for job in tracked(jobs, "fresh women") for rescan in work(job)]
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        return [rescan for future in tracked(futures, "fresh women") for rescan in future.result()]


def _scan_woman(job: int | Path, preprocessing: Preprocessing) -> list[Rescan]:
    name = f"simulated-{job}" if isinstance(job, int) else job.name.split(".")[0]
    seed = FIRST_SEED + (job if isinstance(job, int) else sum(name.encode()))
    subject = make_subject(seed) if isinstance(job, int) else _anatomy(job, seed)
    rng = np.random.default_rng([seed, 0xE7A])
    edges = np.linspace(*subject.z_range, POSITIONS + 1)
    found = []
    for z_mm in edges[:-1] + rng.uniform(0.3, 0.7, POSITIONS) * np.diff(edges):
        first, *others = draw_scans(rng, 1 + TARGETS, "interventions")
        place = Place(name, not isinstance(job, int), subject, float(z_mm), first, preprocessing)
        seeds = [int(seed) for seed in rng.integers(2**31, size=5)]
        source = place.scan(first, seeds[0])
        found += [_rescan(place, source, target, seeds, None) for target in others]
        found += [_rescan(place, source, _single(first, keyword), seeds, keyword) for keyword in SINGLE]
    return found


@dataclass(frozen=True)
class Place:
    """A slice of a woman, first scanned with ``first``."""

    woman: str
    anatomy: bool
    subject: Subject
    z_mm: float
    first: Scan
    preprocessing: Preprocessing

    def scan(self, scan: Scan, seed: int) -> Shown:
        simulated = simulate_slice(self.subject, self.z_mm, *scan, noise_seed=seed)
        image = self.preprocessing.forward(simulated.image)
        clean = self.preprocessing.on_scale_of(simulated.clean, image)
        return Shown(image.values, clean, (image.low, image.high), self.preprocessing.forward_labels(simulated.labels))


def _anatomy(path: Path, seed: int) -> Subject:
    import nibabel

    try:
        image: Any = nibabel.load(path)
        return label_map_subject(np.asarray(image.dataobj).astype(np.int16), image.affine, seed=seed)
    except (ValueError, OSError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise ValueError(f"{path.name} is no label volume that can be scanned: {error}") from None


def _single(scan: Scan, keyword: str) -> Scan:
    """The same scan with one number at the far end of its range."""
    protocol, scanner = scan
    low, high = SINGLE[keyword] or LIMITS[str(protocol.iap["Manufacturer"])][keyword]
    value = low if float(protocol.iap[keyword]) > (low + high) / 2 else high
    return replace(protocol, iap={**protocol.iap, keyword: value}), scanner


def _rescan(place: Place, source: Shown, target: Scan, seeds: Sequence[int], single: str | None) -> Rescan:
    vocabulary = load_vocabulary()
    shown = place.scan(target, seeds[1])
    # One number moved on one scanner: contrast alone and the whole re-scan are the same acquisition.
    level0 = place.scan(contrast_scan(place.first, target), seeds[3]) if single is None else shown
    again = place.scan(target, seeds[2]) if single is None else shown
    tissues = tissue_map(place.subject, place.z_mm, place_grid(place.subject, place.first[0]))
    return Rescan(
        woman=place.woman,
        anatomy=place.anatomy,
        single=single,
        source_iap=vocabulary.recognise(place.first[0].iap),
        target_iap=vocabulary.recognise(target[0].iap),
        source=source.image,
        clean_source=source.clean,
        level0=level0.clean,
        level0_noisy=level0.image,
        level1=shown.clean,
        level2=shown.image,
        again=again.image,
        tissues=place.preprocessing.forward_labels(tissues),
        breast=source.labels > 0,
        scale=(source.scale, level0.scale),
        t1_scale=place.subject.t1_scale,
    )

"""A simulated cohort on disk: classic MR DICOM files in the folder layout of the Duke collection, masks and a manifest.

Owns folders, splits and the manifest; the files themselves come from ``mr_object``.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reacquire.phantom.mr_object import encode_png, make_code, make_uid, study_date, to_dicom
from reacquire.phantom.pair import simulate_slice
from reacquire.phantom.protocols import Protocol, sample_protocol
from reacquire.phantom.scanner import Scanner, same_site, sample_scanner
from reacquire.phantom.subject import Subject, make_subject

MANIFEST = "manifest.jsonl"
# Twenty women: 15 train, 2 val, 3 test; each split is there among the first five.
SPLITS = ("train", "train", "test", "train", "val", *["train"] * 6, "test", "train", "train", "train", "val")
SPLITS = (*SPLITS, "train", "test", "train", "train")
FREE_SHARE = 0.3  # of the scans of a mixed cohort
NUMBERS = ("FlipAngle", "SliceThickness", "EchoTime", "RepetitionTime")
SINGLE_SHARE = 0.3  # of the later scans of a cohort of interventions: one parameter of the first scan moves alone


@dataclass(frozen=True)
class CohortSpec:
    """What to write: slices per scan and scans (protocols) per woman; ``truth`` adds the noiseless arrays."""

    seed: int
    slices_per_woman: int
    protocols_per_woman: int
    mode: str = "joint"
    truth: bool = False


def write_cohort(
    folder: Path | str,
    *,
    women: int,
    seed: int,
    slices_per_woman: int,
    protocols_per_woman: int,
    mode: str = "joint",
    truth: bool = False,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Simulate a cohort and write it as DICOM.

    Parameters
    ----------
    folder : path
        Root of the collection; made when absent.
    women, slices_per_woman, protocols_per_woman : int
        Each woman is scanned with each of her protocols at the same slice positions and field of view.
    seed : int
        Equal arguments write equal bytes.
    mode : {"joint", "free", "mixed", "interventions"}
        As in ``sample_protocol`` and ``draw_scans``.
    truth : bool
        Whether to write each slice's noiseless ``.clean.npy`` (float32, units of the stored pixels).
    workers : int
        Processes to simulate women in; the files do not depend on it.
    progress : callable, optional
        Called with (women done, women).

    Returns
    -------
    Path
        Of ``manifest.jsonl``, one JSON object per slice; file names in it are relative to its folder.

    Raises
    ------
    FileExistsError
        When the folder holds a manifest: a cohort is never overwritten.
    ValueError
        When a count is below one.
    """
    if min(women, slices_per_woman, protocols_per_woman) < 1:
        raise ValueError("women, slices_per_woman and protocols_per_woman are at least 1")
    root = Path(folder)
    manifest = root / MANIFEST
    if manifest.exists():
        raise FileExistsError(f"{manifest} exists; choose an empty folder")
    root.mkdir(parents=True, exist_ok=True)
    spec = CohortSpec(seed, slices_per_woman, protocols_per_woman, mode, truth)
    lines = []
    for done, rows in enumerate(_written(root, spec, women, workers), start=1):
        lines += [json.dumps(row, sort_keys=True) for row in rows]
        if progress is not None:
            progress(done, women)
    part = manifest.with_suffix(".part")
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    part.replace(manifest)
    return manifest


def _written(root: Path, spec: CohortSpec, women: int, workers: int) -> Iterator[list[dict]]:
    """The manifest rows of each woman in order, her files written, by ``workers`` processes."""
    write = partial(write_woman, root, spec=spec)
    if workers == 1:
        yield from map(write, range(women))
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        yield from pool.map(write, range(women))


def write_woman(root: Path, woman: int, spec: CohortSpec) -> list[dict]:
    """Simulate one woman of a cohort and write her files; returns her manifest rows. Women are independent."""
    rng = np.random.default_rng([spec.seed, woman, 0xC0])
    subject = make_subject(int(rng.integers(2**31)))
    edges = np.linspace(*subject.z_range, spec.slices_per_woman + 1)
    positions = edges[:-1] + rng.uniform(0.1, 0.9, spec.slices_per_woman) * np.diff(edges)
    rows: list[dict] = []
    scans = draw_scans(rng, spec.protocols_per_woman, spec.mode)
    for number, (protocol, scanner) in enumerate(scans):
        rows += _write_scan(root, subject, woman, number, protocol, scanner, positions, spec)
    return rows


def draw_scans(rng: np.random.Generator, count: int, mode: str) -> list[tuple[Protocol, Scanner]]:
    """``count`` acquisitions of one woman that share her field of view; protocols differ while there are enough.

    ``mixed`` draws three scans in ten freely, so that parameters also move apart. ``interventions`` is ``mixed`` at one
    site (``same_site``): the scans differ by what the protocol decides and by noise alone, and three in ten of the
    later ones change just one number of the first.
    """
    scans: list[tuple[Protocol, Scanner]] = []
    seen: set[str] = set()
    while len(scans) < count:
        if mode == "interventions" and scans and rng.random() < SINGLE_SHARE:
            scans.append(_single_change(rng, *scans[0]))
            continue
        drawn = mode if mode not in ("mixed", "interventions") else ("free" if rng.random() < FREE_SHARE else "joint")
        protocol = sample_protocol(rng, mode=drawn)  # type: ignore[arg-type]
        if protocol.protocol_id in seen and len(seen) < 11:
            continue
        seen.add(protocol.protocol_id)
        if scans:
            first = scans[0][0]
            protocol = replace(protocol, fov_mm=first.fov_mm, chest_fraction=first.chest_fraction)
        if scans and mode == "interventions":
            scans.append((protocol, same_site(scans[0][1], scans[0][0], protocol, rng)))
        else:
            scans.append((protocol, sample_scanner(rng, protocol)))
    return scans


def _single_change(rng: np.random.Generator, protocol: Protocol, scanner: Scanner) -> tuple[Protocol, Scanner]:
    """The same scan with one number of its protocol drawn freely."""
    free = sample_protocol(rng, mode="free", protocol_id=protocol.protocol_id)
    keyword = NUMBERS[int(rng.integers(len(NUMBERS)))]
    return replace(protocol, iap={**protocol.iap, keyword: free.iap[keyword]}), scanner


def _write_scan(
    root: Path, subject: Subject, woman: int, number: int, protocol: Protocol, scanner: Scanner,
    positions: NDArray[np.float64], spec: CohortSpec,
) -> list[dict]:  # fmt: skip
    key = f"{spec.seed}/{spec.mode}/{spec.slices_per_woman}x{spec.protocols_per_woman}/{woman}/{number}"
    series = str(make_uid(f"{key}/series"))
    folder = root / f"Phantom_MRI_{woman + 1:03d}" / _study_name(woman, number, key) / _series_name(number, key)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, z_mm in enumerate(np.round(positions, 2)):
        noise_seed = int(np.random.SeedSequence([spec.seed, woman, number, index]).generate_state(1)[0])
        simulated = simulate_slice(subject, float(z_mm), protocol, scanner, noise_seed=noise_seed)
        path = folder / f"1-{index + 1:03d}.dcm"
        dataset = to_dicom(simulated, woman=woman, number=number, index=index, key=key)
        dataset.save_as(path, enforce_file_format=True)
        mask = path.with_suffix(".mask.png")
        mask.write_bytes(encode_png(simulated.labels))
        clean = path.with_suffix(".clean.npy")
        if spec.truth:
            np.save(clean, simulated.clean)
        rows.append(
            {
                "file": path.relative_to(root).as_posix(),
                "mask": mask.relative_to(root).as_posix(),
                "clean": clean.relative_to(root).as_posix() if spec.truth else None,
                "woman": woman,
                "patient_id": str(dataset.PatientID),
                "series_uid": series,
                "slice": index,
                "z_mm": float(z_mm),
                "pair_group": f"{woman}/{index}",
                "protocol": protocol.protocol_id,
                "iap": dict(protocol.iap),
                "split": SPLITS[woman % len(SPLITS)],
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
        )
    return rows


def _study_name(woman: int, number: int, key: str) -> str:
    return f"{study_date(woman, number):%m-%d-%Y}-NA-MRI BREAST BILATERAL WWO-{make_code(key)}"


def _series_name(number: int, key: str) -> str:
    return f"{3 + number}.000000-ax dyn pre-{make_code(key + '/series')}"

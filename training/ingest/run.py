"""A whole ingest: patients one by one, each finished before the next, and the manifest at the end."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from reacquire.dicom import read_slice
from reacquire.errors import ReacquireError
from reacquire.phantom.mr_object import encode_png
from training.ingest import masks, simulated, tables
from training.ingest.layout import Series, find_series
from training.ingest.manifest import LINE, Line, Progress, open_folder, relative, replace_file, write_lines
from training.ingest.problem import Excluded, IngestError
from training.ingest.select import pre_contrast
from training.ingest.slices import Parameters, Scan, height_mm, kept_slices, parameters, read_scan
from training.ingest.typos import patient_of

MASK_ENDINGS = (".nrrd", ".nii", ".nii.gz", ".dcm")
Track = Callable[[Iterable, str, int | None], Iterable]


@dataclass(frozen=True)
class Request:
    """What to ingest.

    Attributes
    ----------
    source : folder of the download or of a simulated cohort
    folder : new folder for the manifest and the masks
    mapping, clinical : tables of the collection; looked for in ``source`` when None
    masks : folder of segmentations; DICOM SEG series in ``source`` are found by themselves
    margin : slices to drop at either end (paper: 20)
    keep_incomplete : keep patients of whom a parameter is missing or foreign
    chosen : by patient, the pre-contrast series where tables and descriptions do not decide
    """

    source: Path
    folder: Path
    mapping: Path | None = None
    clinical: Path | None = None
    masks: Path | None = None
    margin: int = 20
    keep_incomplete: bool = False
    chosen: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Patient:
    """Everything that one patient's lines are made from; small enough to send to another process."""

    name: str
    woman: int
    series: tuple[Series, ...]
    clinical: Mapping[str, Any]
    masks: tuple[Path, ...]


@dataclass(frozen=True)
class Report:
    """What came of it: the manifest's digest, counts, and the reasons of every exclusion by code."""

    sha256: str
    patients: int
    slices: int
    with_mask: int
    excluded: Mapping[str, int]
    reasons: tuple[str, ...]
    conflicts: Mapping[str, int]


def ingest(
    request: Request,
    *,
    resume: bool = False,
    workers: int = 1,
    track: Track = lambda items, *_: items,
) -> Report:
    """Read a download (or a simulated cohort) and write its manifest.

    Raises
    ------
    IngestError
        With one message that names the file and the remedy; finished patients are kept for ``resume``.
    """
    if not request.source.is_dir():
        raise IngestError(f"{request.source} is no folder; give the folder that the download made")
    if simulated.is_cohort(request.source):
        open_folder(request.folder, _pins(request), resume=resume)
        lines = simulated.lines_of(request.source, request.folder, lambda items: track(items, "slices", None))
        return _finish(request.folder, lines)
    mapping = request.mapping or tables.find_table(request.source, tables.MAPPING_NAMES)
    clinical = request.clinical or tables.find_table(request.source, tables.CLINICAL_NAMES)
    roles = tables.read_roles(mapping) if mapping else None
    clinic = tables.read_clinical(clinical) if clinical else tables.Clinical()
    pins = _pins(request) | {"tables": [tables.file_digest(mapping), tables.file_digest(clinical)]}
    open_folder(request.folder, pins, resume=resume)
    found = find_series(request.source, lambda items: track(items, "series", None))
    segmentations = _find_masks(request, found)
    patients = [
        Patient(name, number, tuple(series), clinic.of(name), tuple(segmentations.get(name, ())))
        for number, (name, series) in enumerate(found.items())
    ]
    progress = Progress(request.folder)
    done = dict(progress.done())
    todo = [p for p in patients if p.name not in done]
    worked = _worked(todo, partial(patient_lines, request=request, roles=roles), workers)
    for name, lines in track(worked, "patients", len(todo)):
        progress.add(name, lines)
        done[name] = lines
    report = _finish(request.folder, [line for lines in done.values() for line in lines])
    progress.close()
    return report


def _pins(request: Request) -> dict[str, Any]:
    pins = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(request).items() if k != "folder"}
    return pins | {"source": str(request.source.resolve())}


def _worked(
    patients: Sequence[Patient], work: Callable[[Patient], list[Line]], workers: int
) -> Iterator[tuple[str, list[Line]]]:
    names = [p.name for p in patients]
    if workers == 1:
        yield from zip(names, map(work, patients), strict=True)
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        yield from zip(names, pool.map(work, patients), strict=True)


def patient_lines(patient: Patient, request: Request, roles: tables.Roles | None) -> list[Line]:
    """The lines of one patient, masks written; an exclusion is one line with its reason."""
    base = LINE | {"patient_id": patient.name, "woman": patient.woman}
    try:
        series = pre_contrast(patient.name, patient.series, roles, request.chosen)
        base |= {"series_uid": series.uid, "layout": series.layout}
        scan = read_scan(series)
        kept = kept_slices(scan, request.margin)
        facts = parameters(scan, patient.clinical)
        if not request.keep_incomplete:
            _check_complete(series, facts)
    except Excluded as reason:
        return [base | {"excluded": str(reason)}]
    base |= {"iap": facts.values, "iap_origin": facts.origin, "iap_conflicts": list(facts.conflicts)}
    drawn, why_not = _masks(patient, scan, kept, request.folder)
    base |= {"mask_source": [relative(p, request.folder) for p in patient.masks] if drawn else None}
    return [
        base
        | {
            "file": relative(scan.files[i], request.folder),
            "sha256": header.sha256,
            "slice": i,
            "z_mm": height_mm(header),
            "pair_group": f"{patient.name}/{i}",
            "mask": drawn.get(i),
            "mask_excluded": why_not,
            "synthetic": header.synthetic,
            "excluded": None if i in kept else f"edge-slice: one of the {request.margin} slices at either end",
        }
        for i, header in enumerate(scan.headers)
    ]


def _check_complete(series: Series, facts: Parameters) -> None:
    if facts.missing:
        raise Excluded(
            "missing-parameters",
            f"{series.folder}: neither header nor spreadsheet states {', '.join(facts.missing)} for the whole series",
        )
    if facts.foreign:
        text = f"{series.folder}: the vocabulary does not hold its {', '.join(facts.foreign)}"
        raise Excluded("foreign-parameters", text)


def _masks(patient: Patient, scan: Scan, kept: range, folder: Path) -> tuple[dict[int, str], str | None]:
    """(mask files by slice, why there are none although the patient has one)."""
    if not patient.masks:
        return {}, None
    try:
        volumes = [masks.load_mask(path) for path in patient.masks]
        masks.check_extent(volumes, scan.headers)
        labels = {i: masks.place(volumes, scan.headers[i]) for i in kept}
        looked_at = (
            (read_slice(scan.files[i].read_bytes(), allow_synthetic=True), labels[i])
            for i in masks.checked_positions(kept)
        )
        masks.check_overlap(looked_at, patient.masks[0])
    except Excluded as reason:
        return {}, str(reason)
    except ReacquireError as error:
        return {}, f"unreadable-dicom: {scan.series.folder}: {error.detail}; download it again"
    names: dict[int, str] = {}
    for i, plane in labels.items():
        path = folder / "masks" / patient.name / f"{i:04d}.png"
        replace_file(path, encode_png(plane))
        names[i] = relative(path, folder)
    return names, None


def _find_masks(request: Request, found: Mapping[str, Sequence[Series]]) -> dict[str, list[Path]]:
    """Mask files by patient: those of the folder that was named, else DICOM SEG of the download itself."""
    if request.masks is None:
        in_download = {p: [f for s in series if s.modality == "SEG" for f in s.files] for p, series in found.items()}
        return {p: files for p, files in in_download.items() if files}
    if not request.masks.is_dir():
        raise IngestError(f"{request.masks} is no folder; give the folder of the segmentations")
    by_patient: dict[str, list[Path]] = {}
    for path in sorted(request.masks.rglob("*")):
        patient = patient_of(path.relative_to(request.masks).as_posix())
        if patient is not None and path.name.lower().endswith(MASK_ENDINGS):
            by_patient.setdefault(patient, []).append(path)
    if not by_patient:
        raise IngestError(f"{request.masks} holds no .nrrd, .nii, .nii.gz or .dcm file with a patient in its name")
    return by_patient


def _finish(folder: Path, lines: Sequence[Line]) -> Report:
    digest = write_lines(folder, lines)
    used = [line for line in lines if not line["excluded"]]
    left_out = [line for line in lines if line["excluded"]]
    whole = [line["excluded"] for line in left_out if line["slice"] is None]
    without = {line["patient_id"]: line["mask_excluded"] for line in used if line["mask_excluded"]}
    conflicts = {(line["patient_id"], keyword) for line in used for keyword in line["iap_conflicts"]}
    return Report(
        digest,
        len({line["patient_id"] for line in used}),
        len(used),
        len({line["patient_id"] for line in used if line["mask"]}),
        Counter(line["excluded"].split(":")[0] for line in left_out),
        tuple(sorted([*whole, *(f"mask left out, {why}" for why in without.values())])),
        Counter(keyword for _, keyword in sorted(conflicts)),
    )

"""A whole augmentation: plan, make what the ledger lacks, write, finish."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reacquire.bundles.store import BundleInfo, open_bundle
from reacquire.dicom import read_slice
from reacquire.errors import BundleError
from training.augment.ledger import Ledger
from training.augment.makers import Made, Maker
from training.augment.outputs import Output, output_of
from training.augment.plan import AugmentError, Item, Request, make_plan, series_of
from training.ingest.manifest import disk_error
from training.pins import PinError, open_pinned

Report = Callable[[int, int], None]
PINS = "augment.json"


@dataclass(frozen=True)
class Summary:
    """Slices in the plan, made by this run, found finished, and refused (by code)."""

    slices: int
    made: int
    found: int
    refused: dict[str, int]


def augment(
    request: Request, maker: Callable[[BundleInfo], Maker], *, resume: bool = False, report: Report | None = None
) -> Summary:
    """Make the counterfactual copies that ``request`` asks for.

    Parameters
    ----------
    maker : who makes them, given the verified bundle
    report : told (slices done, slices in all)

    Raises
    ------
    AugmentError, IngestError
        With one message that names the file and the remedy; what was finished is kept for ``resume``.
    """
    try:
        bundle = open_bundle(request.bundle)
    except (BundleError, OSError) as error:
        raise AugmentError(f"{request.bundle} is no sound bundle ({error})") from error
    plan = make_plan(request, bundle)
    try:
        open_pinned(request.folder / PINS, plan.pins, what="an augmentation", resume=resume)
    except PinError as error:
        raise AugmentError(str(error)) from error
    ledger, output = Ledger(request.folder), output_of(request.kind, request.folder, request.dataset, bundle)
    done = ledger.read()
    found = len(done)
    series = series_of(plan.items)
    left = {name: sum(item.key not in done for item in items) for name, items in series.items()}
    todo = [item for item in plan.items if item.key not in done]
    if report is not None:
        report(found, len(plan.items))
    try:
        for name, count in left.items():
            if not count:  # a kill may have come between the last slice and the volume
                _finish_series(output, series[name], done)
        make = maker(bundle) if todo else None
        for made in make(todo) if make else ():
            file = output.put(made.item, made.data) if made.refused is None else None
            entry = _entry(made, file, bundle, make.name if make else "")
            ledger.add(entry)
            done[made.item.key] = entry
            left[made.item.series] -= 1
            if not left[made.item.series]:
                _finish_series(output, series[made.item.series], done)
            if report is not None:
                report(len(done), len(plan.items))
        output.finish(plan)
    except OSError as error:
        raise disk_error(error, request.folder) from error
    refused = Counter(entry["refused"].split(":")[0] for entry in done.values() if entry["refused"])
    return Summary(len(plan.items), len(done) - found, found, dict(refused))


def _finish_series(output: Output, items: Sequence[Item], done: Mapping[str, Mapping[str, Any]]) -> None:
    made = [item for item in items if not done[item.key]["refused"]]
    if made:
        output.finish_series(made, done[made[0].key]["options"])


def _entry(made: Made, name: str | None, bundle: BundleInfo, maker: str) -> dict[str, Any]:
    """The line of one slice: what it is, what it was made from, and the service's evidence that the edit worked."""
    item = made.item
    document = made.document or {}
    return {
        "key": item.key,
        "file": name,
        "pixels_sha256": _pixels_digest(made.data) if made.data else None,
        "source": item.line["file"],
        "source_sha256": item.line["sha256"],
        "patient_id": item.line["patient_id"],
        "series_uid": item.line["series_uid"],
        "slice": item.line["slice"],
        "copy": item.copy,
        "split": item.line["split"],
        "target": dict(item.target),
        "seed": item.options.seed,
        "options": document.get("options", item.options.model_dump(exclude_none=True)),
        "bundle": {"name": bundle.name, "version": bundle.version, "sha256": bundle.sha256},
        "evidence": document.get("evidence"),
        "made_by": maker,
        "refused": made.refused,
    }


def _pixels_digest(data: bytes) -> str:
    """Of the pixels as 32-bit integers, row by row in stored orientation: the same in every format."""
    pixels = read_slice(data, allow_synthetic=True).pixels
    return hashlib.sha256(np.rint(pixels).astype("<i4").tobytes()).hexdigest()

"""The whole experiment: both directions, every arm, every seed; finished cells are kept, the rest is made."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from reacquire.bundles.store import BundleInfo, open_bundle
from reacquire.errors import ReacquireError
from training.augment.plan import AugmentError, training_targets
from training.cache import SliceCache
from training.config import TrainConfig, to_json
from training.downstream.arms import ARMS, BASELINE, Arm
from training.downstream.cell import Cell, read_cell, run_cell
from training.downstream.copies import Track, bundle_editor, counterfactual_copies, histogram_copies
from training.downstream.data import Direction, DownstreamError, directions, training_cache, validation_split
from training.downstream.table import legacy_rows_of, rows_of
from training.hardware import placed
from training.ingest.manifest import MANIFEST, disk_error, replace_file
from training.loop import Report
from training.pins import PinError, open_pinned

Bar = Callable[[int, str], AbstractContextManager[Report]]
VALIDATIONS = 5  # in a training, about
RESULT, PINS = "downstream.json", "experiment.json"


@dataclass(frozen=True)
class Request:
    """What to compare.

    Attributes
    ----------
    bundle : folder of the weights that make the counterfactuals
    cohort : folder of a manifest that is split and cached, with masks
    folder : new folder for the cells and the table
    config : of every segmenter; seeds are filled in
    arms : names of ``ARMS``; ``none`` is always among them
    seeds : trainings per direction and arm
    copies : copies per training slice, in the arms that have any
    """

    bundle: Path
    cohort: Path
    folder: Path
    config: TrainConfig
    arms: tuple[str, ...]
    seeds: int = 3
    copies: int = 1


def run_downstream(
    request: Request,
    cache: SliceCache,
    *,
    resume: bool = False,
    track: Track = lambda items, _: items,
    bar: Bar,
) -> list[dict[str, Any]]:
    """Train and test what is not there yet; returns the rows, which ``downstream.json`` has beside what they were
    measured with.

    Parameters
    ----------
    track : wraps what is iterated over while copies are made
    bar : given steps and a title, a context that gives the report of each step

    Raises
    ------
    DownstreamError, IngestError
        With one message that names the file and the remedy; finished cells are kept for ``resume``.
    """
    arms = arms_of(request.arms)
    try:
        bundle = open_bundle(request.bundle)
    except (ReacquireError, OSError) as error:
        raise DownstreamError(f"{request.bundle} is no sound bundle ({error})") from error
    cells = [
        Cell(direction, arm, _config(request.config, direction, seed))
        for direction in directions(cache)
        for arm in arms
        for seed in range(request.seeds)
    ]
    try:
        pins = _pins(request, arms, cells, cache, bundle)
        open_pinned(request.folder / PINS, pins, what="an experiment", resume=resume)
        results = list(_results(request, cells, cache, bundle, track, bar))
        rows = rows_of(results)
        document = {"measured_with": pins, "rows": rows, "legacy_rows": legacy_rows_of(results)}
        replace_file(request.folder / RESULT, (json.dumps(document, indent=1) + "\n").encode())
    except (PinError, AugmentError) as error:
        raise DownstreamError(str(error)) from error
    except OSError as error:
        raise disk_error(error, request.folder) from error
    return rows


def arms_of(names: Sequence[str]) -> tuple[Arm, ...]:
    """The arms by name, the baseline first.

    Raises
    ------
    DownstreamError
        For a name that is none.
    """
    for name in names:
        if name not in ARMS:
            raise DownstreamError(f"there is no arm {name!r}; take {', '.join(ARMS)}")
    return tuple(arm for arm in ARMS.values() if arm.name == BASELINE or arm.name in names)


def _config(config: TrainConfig, direction: Direction, seed: int) -> TrainConfig:
    """The same number of steps for all arms of a direction: epochs are counted in originals, nothing stops early."""
    config = placed(replace(config, seed=seed)).sized(len(direction.train))
    config = replace(config, validate_every=max(1, config.steps // VALIDATIONS), patience=config.steps + 1)
    largest = max(phase.batch_size for phase in config.phases)
    if len(direction.train) < largest:
        raise DownstreamError(
            f"{direction.vendor} has {len(direction.train)} training slices with masks, fewer than a batch of "
            f"{largest}; take more women, or another preset"
        )
    return config


def _results(
    request: Request, cells: Sequence[Cell], cache: SliceCache, bundle: BundleInfo, track: Track, bar: Bar
) -> Iterator[dict[str, Any]]:
    """Every cell's result; an arm's training slices are made when the first of its cells is missing."""
    made: tuple[Direction, Arm] | None = None
    training = cache
    for number, cell in enumerate(cells, start=1):
        result = read_cell(request.folder, cell.name)
        if result is None:
            if made != (cell.direction, cell.arm):
                made, training = (cell.direction, cell.arm), _training(request, cell, cache, bundle, track)
            with bar(cell.config.steps, f"{number}/{len(cells)} {cell.name}") as report:
                result = run_cell(cell, cache, training, request.folder, report)
        yield result


def _training(request: Request, cell: Cell, cache: SliceCache, bundle: BundleInfo, track: Track) -> SliceCache:
    """The arm's slices of this direction."""
    direction, copies = cell.direction, None
    if cell.arm.copies == "histogram":
        copies = histogram_copies(cache, direction, copies=request.copies, track=track)
    elif cell.arm.copies == "counterfactuals":
        pool = training_targets(request.cohort / MANIFEST, direction.maker, bundle)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        editor = bundle_editor(request.bundle, cache, device=device, store=request.folder / "counterfactuals")
        copies = counterfactual_copies(cache, direction, pool, editor, copies=request.copies, track=track)
    return training_cache(cache, direction.train, copies)


def _pins(
    request: Request, arms: Sequence[Arm], cells: Sequence[Cell], cache: SliceCache, bundle: BundleInfo
) -> dict[str, Any]:
    """What a resumed experiment must share with the one that was broken off."""
    return {
        "cohort_sha256": cache.cohort,
        "bundle_sha256": bundle.sha256,
        "arms": [arm.name for arm in arms],
        "seeds": request.seeds,
        "copies": request.copies,
        "configs": {cell.direction.vendor: to_json(replace(cell.config, seed=0)) for cell in cells},
        "targets": "training women of the other vendor",
        "validated_on": validation_split(cache),
    }

"""One cell: a segmenter trained on one vendor under one arm and seed, its best weights tested on both vendors.

The training is that of ``reacquire-train train segmenter``. The best weights are those with the lowest loss on
validation women of the vendor that is trained on: nobody of the other vendor, nobody who is tested on, has a say. (A
cohort that was split as the authors did has no such women: there, those who are tested on choose.)
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reacquire.engine import CLASSES
from training.batches import Batch, Batches
from training.cache import Row, SliceCache
from training.config import TrainConfig
from training.downstream.arms import Arm, intensified
from training.downstream.data import Direction
from training.hardware import launch
from training.ingest.manifest import replace_file
from training.loop import Report, Task, train
from training.overlap import legacy_scores, woman_scores
from training.runs import batches_of, build_network, encoding_of, objective_of, open_run
from training.statistics import nulled
from training.validation import Validation

BATCH = 16
Scores = dict[int, dict[str, float]]  # by woman, those of ``overlap.woman_scores``


@dataclass(frozen=True)
class Cell:
    """The unit of work; ``config.seed`` is its seed."""

    direction: Direction
    arm: Arm
    config: TrainConfig

    @property
    def name(self) -> str:
        return f"{self.direction.vendor}-{self.arm.name}-{self.config.seed}"


def run_cell(cell: Cell, cache: SliceCache, training: SliceCache, folder: Path, report: Report) -> dict[str, Any]:
    """Train and test one cell, or go on with one that was broken off; returns what its file keeps.

    Parameters
    ----------
    cache : the cohort's, which validation and test slices come from
    training : the arm's training slices (``data.training_cache``)
    folder : of the experiment; the state of the training waits in ``running/`` until the cell is finished
    """
    config, run = cell.config, folder / "running" / cell.name
    fabric = launch(config.precision)
    open_run(run, config, resume=True)
    network, _ = build_network(config)
    sources, objective = batches_of(config, training), objective_of(config, training)

    def batch(phase: int, step: int, part: int, parts: int) -> Batch:
        drawn = sources[phase](step, part, parts)
        if not cell.arm.intensity:
            return drawn
        items = range(part, part + parts * len(drawn.target), parts)
        return drawn._replace(target=intensified(drawn.target, seed=config.seed, step=step, items=items))

    views = Views(cache, config, str(fabric.device))
    task = Task(batch, objective, Validation(views.batches(cell.direction.val), objective))
    state = train(network, task, config, run, fabric, report=report)
    scores = {vendor: views.scores_by_woman(state.kept, rows) for vendor, rows in cell.direction.test.items()}
    result: dict[str, Any] = {
        "vendor": cell.direction.vendor,
        "arm": cell.arm.name,
        "seed": config.seed,
        "steps": config.steps,
        "best_step": state.standing.step,
        "validation_loss": state.standing.loss,
        "dice": {vendor: {w: by_tissue(s) for w, s in women.items()} for vendor, women in scores.items()},
        "legacy": {vendor: {w: legacy_scores(s) for w, s in women.items()} for vendor, women in scores.items()},
    }
    result = nulled(result)  # as it will be read again: women by text, null for NaN
    replace_file(_file(folder, cell.name), (json.dumps(result, indent=1) + "\n").encode())
    shutil.rmtree(run, ignore_errors=True)
    return result


def by_tissue(scores: Mapping[str, float]) -> list[float]:
    """A woman's Dice of fat and of fibroglandular tissue, NaN where neither side has any."""
    return [scores[f"dice_{label}"] for label in CLASSES[1:]]


def read_cell(folder: Path, name: str) -> dict[str, Any] | None:
    """A finished cell; None when there is none yet."""
    try:
        return json.loads(_file(folder, name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _file(folder: Path, name: str) -> Path:
    return folder / "cells" / f"{name}.json"


@dataclass(frozen=True)
class Views:
    """Slices as the training showed them (size of its last phase), for measuring."""

    cache: SliceCache
    config: TrainConfig
    device: str

    def batches(self, rows: Sequence[Row]) -> Batches:
        """These slices, never mirrored."""
        size = self.config.phases[-1].size
        number = min(BATCH, len(rows))
        return Batches(self.cache, tuple(rows), encoding_of(self.config), number, 0, size=size, mirror=False)

    @torch.inference_mode()
    def scores_by_woman(self, network: nn.Module, rows: Sequence[Row]) -> Scores:
        """Scores over all slices of each woman: her slices are not independent."""
        batches = self.batches(rows)
        pairs: dict[int, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            images, labels = batches.slices([row.index for row in part])
            predicted = network(images.to(self.device)).argmax(1).cpu()
            for row, guess, truth in zip(part, predicted, labels, strict=True):
                pairs[row.woman].append((guess, truth))
        return {woman: woman_scores(*map(torch.stack, zip(*hers, strict=True))) for woman, hers in pairs.items()}

"""``reacquire-train reproduce``: the commands of docs/training.md in order, from nothing (or a download) to a report.

It runs what a user would type and prints it. A stage that is finished is skipped, so that a run that was killed goes on
when the same command is given again; ``stages.json`` says what was run and how long it took.
"""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from training.config import PRESETS
from training.data_commands import fail
from training.downstream import RESULT
from training.ingest.manifest import MANIFEST, replace_file
from training.ingest.problem import IngestError
from training.ingest.simulated import is_cohort
from training.record import NAME as RECORD
from training.split import REPORT as SPLIT

LOG = "stages.json"
MODELS = ("editor", "predictor", "segmenter")
COHORT_SEED = 60  # no women of the shipped weights, and none that they were measured on
Run = Callable[[Sequence[str]], int]


class ReproduceError(Exception):
    """One message that names the stage or folder and the remedy; finished stages are kept."""


@dataclass(frozen=True)
class Scale:
    """What a preset is tried at.

    Attributes
    ----------
    women : simulated where no data are given
    segmenters, seeds : preset and number of the downstream experiment's trainings
    fresh : women that the evaluation simulates anew for levels and physics
    judges : preset of predictor and segmenter, where it isn't the editor's
    """

    women: int
    segmenters: str
    seeds: int
    fresh: int
    judges: str | None = None


SCALES = {
    "smoke": Scale(40, "smoke", 1, 0),
    "two-core": Scale(60, "smoke", 2, 2),
    "default": Scale(400, "default", 5, 4),
    "paper": Scale(400, "paper", 5, 4),
    "structure": Scale(400, "paper", 5, 4, judges="paper"),
}


@dataclass(frozen=True)
class Plan:
    """What to reproduce.

    Attributes
    ----------
    folder : of everything that is made
    preset : of the editor, and where its scale names no other of the three trainings; a key of ``SCALES``
    data, masks : download and segmentations as ``ingest`` takes them; without, women are simulated
    women, slices, protocols, seed : of the simulated cohort; ``women`` None is the preset's scale
    steps : at most so many per phase of any training, for trying the commands out
    workers : processes of simulation and ingest
    """

    folder: Path
    preset: str = "two-core"
    data: Path | None = None
    masks: Path | None = None
    women: int | None = None
    slices: int = 4
    protocols: int = 3
    seed: int = COHORT_SEED
    steps: int | None = None
    workers: int = 2


@dataclass(frozen=True)
class Stage:
    """One command; ``output`` appears when it has finished."""

    name: str
    words: tuple[str, ...]
    output: Path


def stages_of(plan: Plan) -> tuple[Stage, ...]:
    """The commands of a plan, in order.

    Raises
    ------
    ReproduceError
        When the editor of the preset learns from pairs, which the data given have not.
    """
    _check_pairs(plan)
    scale, root = SCALES[plan.preset], plan.folder
    phantom, data, bundle = root / "phantom", root / "data", root / "bundle"
    downstream = root / "downstream"
    cut = () if plan.steps is None else ("--steps", plan.steps)
    simulated = plan.data is None
    stages = []

    def add(name: str, output: Path, *words: Any) -> None:
        stages.append(Stage(name, tuple(str(word) for word in words), output))

    if simulated:
        size = ("--women", plan.women or scale.women, "--slices", plan.slices, "--protocols", plan.protocols)
        how = ("--seed", plan.seed, "--workers", plan.workers)
        add("cohort", phantom / "cache" / "index.json", "cohort", phantom, *size, *how)
    masks = () if plan.masks is None else ("--masks", plan.masks)
    source = (plan.data or phantom, data, *masks)
    add("ingest", data / MANIFEST, "ingest", *source, "--workers", plan.workers, "--resume")
    as_authors = ("--mode", "paper") if plan.preset == "paper" and not simulated else ()
    add("split", data / SPLIT, "split", data, *as_authors)
    runs = {model: root / "runs" / model for model in MODELS}
    for model, run in runs.items():
        preset = plan.preset if model == "editor" else scale.judges or plan.preset
        how = ("--cohort", data, "--run", run, "--preset", preset, "--resume", *cut)
        add(f"train {model}", run / RECORD, "train", model, *how)
    card = () if simulated else ("--training-data", f"The patients ingested from {Path(str(plan.data)).name}")
    parts = [word for model, run in runs.items() for word in (f"--{model}", run)]
    add("pack", bundle / "manifest.json", "pack", bundle, *parts, *card)
    compared = ("--preset", scale.segmenters, "--seeds", scale.seeds, *cut, "--resume")
    add("downstream", downstream / RESULT, "downstream", bundle, "--cohort", data, "--output", downstream, *compared)
    measured = ("--cohort", data, "--output", root, "--downstream", downstream / RESULT)
    fresh = ("--fresh-women", scale.fresh, "--workers", plan.workers)
    add("evaluate", root / "report.json", "evaluate", bundle, *measured, *fresh)
    return tuple(stages)


def _check_pairs(plan: Plan) -> None:
    if plan.data is None or is_cohort(plan.data):
        return
    if PRESETS["editor", plan.preset].learns_from_pairs:  # type: ignore[index]
        raise ReproduceError(
            f"preset {plan.preset} learns from pairs, one slice under two protocols, and {plan.data} is no simulated "
            "cohort, so it has none; take preset structure or paper (PRESET=structure), or leave out the data to "
            "simulate women"
        )


def reproduce(plan: Plan, run: Run, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Run what is not finished; returns the log's entries of all stages.

    Parameters
    ----------
    run : runs ``reacquire-train`` with these words and gives its exit status
    tell : shows a line to the user

    Raises
    ------
    ReproduceError
        When a stage fails, the folder was begun with other options, or the data do not suit the preset.
    """
    log = _read_log(plan.folder)
    for stage in stages_of(plan):
        if stage.name in log:
            if log[stage.name]["words"] != list(stage.words):
                raise ReproduceError(
                    f"{plan.folder} was begun with other options ({stage.name}: reacquire-train "
                    f"{shlex.join(log[stage.name]['words'])}); repeat those or name another folder"
                )
            tell(f"# {stage.name}: finished before")
            continue
        seconds = 0.0
        if not stage.output.exists():
            tell(f"$ reacquire-train {shlex.join(stage.words)}")
            started = time.monotonic()
            status = run(stage.words)
            seconds = time.monotonic() - started
            if status:
                raise ReproduceError(
                    f"{stage.name} ended with status {status}, its own message is above; what was finished is kept: "
                    "put it right and give the same command again"
                )
        log[stage.name] = {"stage": stage.name, "words": list(stage.words), "seconds": round(seconds, 1)}
        _write_log(plan.folder, log)
    return list(log.values())


def _read_log(folder: Path) -> dict[str, dict[str, Any]]:
    """Finished stages by name."""
    path = folder / LOG
    entries = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return {entry["stage"]: entry for entry in entries}


def _write_log(folder: Path, log: Mapping[str, Mapping[str, Any]]) -> None:
    try:
        replace_file(folder / LOG, (json.dumps(list(log.values()), indent=1) + "\n").encode())
    except IngestError as error:
        raise ReproduceError(
            f"{folder / LOG} could not be written ({error.__cause__}); put that right and give the same command again"
        ) from error


def as_process(words: Sequence[str]) -> int:
    """``reacquire-train`` as a process of its own, its output on this terminal."""
    return subprocess.run([sys.executable, "-m", "training.cli", *words], check=False).returncode


def reproduce_command(
    folder: Annotated[Path, typer.Argument(help="of everything that is made")] = Path("out/reproduce"),
    preset: Annotated[str, typer.Option(help=", ".join(SCALES))] = "two-core",
    data: Annotated[Path | None, typer.Option(help="a download as ingest takes it; else women are simulated")] = None,
    masks: Annotated[Path | None, typer.Option(help="segmentations of the download")] = None,
    women: Annotated[int | None, typer.Option(min=1, help="simulated; the preset's number by default")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="at most so many per phase, to try it out")] = None,
    workers: Annotated[int, typer.Option(min=1, help="processes of simulation and ingest")] = 2,
) -> None:
    """From nothing, or from a download, to a report: every command in turn, finished ones skipped."""
    if preset not in SCALES:
        raise typer.BadParameter(f"there is no preset {preset!r}; take {', '.join(SCALES)}")
    plan = Plan(folder, preset, data, masks, women, steps=steps, workers=workers)
    try:
        log = reproduce(plan, as_process, typer.echo)
    except ReproduceError as error:
        fail(error)
    for entry in log:
        typer.echo(f"{entry['seconds']:8.1f} s  {entry['stage']}")
    typer.echo(f"{sum(entry['seconds'] for entry in log):8.1f} s  in all; the report: {folder / 'report.html'}")

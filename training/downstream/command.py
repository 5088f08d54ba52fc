"""``reacquire-train downstream``: arguments in, the table out."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from reacquire.errors import ReacquireError
from training.config import PRESETS
from training.data_commands import cached, fail
from training.downstream import ARMS, RESULT, DownstreamError, Request, run_downstream
from training.downstream.table import as_text
from training.ingest import IngestError
from training.progress import steps as steps_bar
from training.progress import tracked
from training.runs import with_overrides

DEFAULT_ARMS = "none,intensity,histogram,counterfactuals"


def downstream(
    bundle: Annotated[Path, typer.Argument(help="folder of the weights that make the counterfactuals")],
    cohort: Annotated[Path, typer.Option(help="folder of a manifest that is split, with masks")],
    output: Annotated[Path, typer.Option(help="new folder for the cells and downstream.json")],
    seeds: Annotated[int, typer.Option(min=1, help="trainings per direction and arm")] = 3,
    arms: Annotated[str, typer.Option(help=f"of {', '.join(ARMS)}; none is always run")] = DEFAULT_ARMS,
    preset: Annotated[str, typer.Option(help="of the segmenters")] = "default",
    steps: Annotated[int | None, typer.Option(min=1, help="at most so many optimiser steps per phase")] = None,
    size: Annotated[int | None, typer.Option(min=32, help="pixels that slices are shrunk to, for a trial")] = None,
    copies: Annotated[int, typer.Option(min=1, help="copies per training slice, in the arms that have any")] = 1,
    resume: Annotated[bool, typer.Option(help="go on with an experiment that was broken off")] = False,
) -> None:
    """Train segmenters on one vendor with and without counterfactuals of the other; test on both (paper, Table 3)."""
    if ("segmenter", preset) not in PRESETS:
        raise typer.BadParameter(f"there is no preset {preset!r} of a segmenter")
    config = with_overrides(PRESETS["segmenter", preset], seed=0, steps=steps)  # type: ignore[index]
    if size is not None:
        if size % 32:
            raise typer.BadParameter("--size takes a multiple of 32: the networks halve the slices up to five times")
        config = replace(config, phases=tuple(replace(phase, size=size) for phase in config.phases))
    wanted = tuple(name.strip() for name in arms.split(","))

    try:
        request = Request(bundle, cohort, output, config, wanted, seeds, copies)
        rows = run_downstream(request, cached(cohort), resume=resume, track=tracked, bar=steps_bar)
    except (DownstreamError, IngestError) as error:
        fail(error)
    except ReacquireError as error:
        fail(DownstreamError(f"{bundle}: {error.detail}"))
    typer.echo(as_text(rows))
    typer.echo(f"table: {output / RESULT}")

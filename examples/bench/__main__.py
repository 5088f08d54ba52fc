"""``python -m examples.bench``: everything that is measured, as JSON under out/bench. Nothing fails by being slow."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import psutil
import torch
import typer

from examples.bench.machine import ceilings, processor
from examples.bench.paper import PAPER_STEPS, paper_seconds
from examples.bench.serving import serving_figures
from examples.bench.stages import batch_figures, work_figures
from examples.phantom_case import phantom_case
from reacquire import __version__
from reacquire.engine import load_pipeline

BUNDLE = Path(os.environ.get("REACQUIRE_BUNDLE", Path(__file__).resolve().parents[2] / "bundles" / "phantom-v1"))
BATCHES = {"cpu": "1,8,64", "cuda": "1,8,64,256"}
PAPER_BATCHES = {"cpu": (1,), "cuda": (1, 8)}  # its attention matrices take 10 GB at 8 slices
TIMING = "medians of interleaved rounds after one to warm up; the paper's edit: {} of its 50 steps, scaled"


def main(
    device: Annotated[str, typer.Option(help="cpu or cuda[:n]")] = "cpu",
    batches: Annotated[str | None, typer.Option(help="sizes, e.g. 1,8,64; by default what suits the device")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="rounds of each batch size")] = 3,
    paper_steps: Annotated[int, typer.Option(min=1, max=PAPER_STEPS, help="of the paper's steps, time so many")] = 2,
    serving: Annotated[bool, typer.Option(help="also measure API and worker")] = True,
    output: Path = Path("out/bench"),
) -> None:
    """Measure and print."""
    if device != "cpu" and not torch.cuda.is_available():
        typer.echo("there is no CUDA device: nothing was measured")
        return
    data = phantom_case({}).source_dicom
    kind = device.split(":")[0]
    pipeline = load_pipeline(BUNDLE, device=device, slices_per_batch=16 if kind == "cpu" else 256)
    figures: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "bundle": {"name": pipeline.bundle.name, "sha256": pipeline.bundle.sha256},
        "device": processor(device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": psutil.getloadavg(),
        "torch": torch.__version__,
        "timing": TIMING.format(paper_steps),
        "ceilings": ceilings(device),
        "batches": {},
    }
    for size in map(int, (batches or BATCHES[kind]).split(",")):
        typer.echo(f"batch of {size} ...", err=True)
        figures["batches"][size] = batch_figures(pipeline, data, size, repeats)
    first = next(iter(figures["batches"].values()))
    figures["work_of_one_slice"] = work_figures(pipeline, data, figures["batches"], figures["ceilings"])
    typer.echo("the paper's edit ...", err=True)
    paper = {size: paper_seconds(paper_steps, 1, device=device, batch=size) for size in PAPER_BATCHES[kind]}
    best = min(batch["editor_s"] for batch in figures["batches"].values())
    figures["paper"] = {
        "slice_s": paper[1],
        "slice_s_in_batches": paper,
        "over_editor": paper[1] / first["editor_s"],
        "over_editor_in_batches": min(paper.values()) / best,
        "over_whole": paper[1] / first["whole_s"],
    }
    if serving and device == "cpu":
        typer.echo("API and worker ...", err=True)
        figures["serving"] = serving_figures(pipeline, data)
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{kind}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    typer.echo(json.dumps(figures, indent=1))


if __name__ == "__main__":
    typer.run(main)

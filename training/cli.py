"""``reacquire-train``: from nothing to a measured bundle in a handful of commands."""

import json
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, get_args

import torch
import typer

from reacquire.engine import Settings, load_pipeline
from reacquire.errors import ReacquireError
from reacquire.imaging import Preprocessing
from reacquire.jobs.spec import Options, SamplerName
from reacquire.phantom.cohort import MANIFEST, write_cohort
from training.cache import build_cache
from training.config import PRESETS, ModelName, PrecisionName, PresetName, TrainConfig, TrainError
from training.data_commands import augment, cached, fail, ingest, split
from training.downstream.command import downstream
from training.evaluation import SECTIONS, Inputs, import_answers, metrics_of, volumes
from training.evaluation import evaluate as evaluate_bundle
from training.hardware import Accelerator, launch, placed
from training.ingest import IngestError
from training.pack import DEFAULTS, Card, pack_bundle
from training.progress import counted, tracked
from training.progress import steps as steps_bar
from training.record import read_record
from training.reproduce import reproduce_command
from training.runs import run_training, training_rows, with_overrides
from training.tone import tone_command
from training.tracking import TrackerName

app = typer.Typer(help="Train, evaluate and pack the models of a bundle.", no_args_is_help=True)
LICENCE = Path(__file__).resolve().parents[1] / "LICENSE"


@app.command()
def cohort(
    folder: Annotated[Path, typer.Argument(help="new folder for the DICOM cohort and its cache")],
    women: Annotated[int, typer.Option(min=1)] = 40,
    slices: Annotated[int, typer.Option(min=1, help="slices per woman")] = 4,
    protocols: Annotated[int, typer.Option(min=1, help="protocols per slice")] = 3,
    seed: int = 0,
    truth: Annotated[bool, typer.Option(help="write noiseless images beside (needed by evaluate)")] = True,
    size: Annotated[int, typer.Option(min=32, help="edge of the cached slices, pixels")] = 224,
    mode: Annotated[str, typer.Option(help="joint, free, mixed or interventions (docs/phantom.md)")] = "interventions",
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 2,
) -> None:
    """Simulate women, write them as DICOM in the Duke/TCIA layout, and cache the slices at model size.

    A cohort that is complete but not cached is cached.
    """
    try:
        if not (folder / MANIFEST).exists():
            with counted(women, "women") as report:
                write_cohort(
                    folder,
                    women=women,
                    seed=seed,
                    slices_per_woman=slices,
                    protocols_per_woman=protocols,
                    truth=truth,
                    mode=mode,
                    workers=workers,
                    progress=report,
                )
        build_cache(folder, folder / "cache", Preprocessing(size=size), progress=lambda items: tracked(items, "cache"))
    except (FileExistsError, IngestError, ValueError) as error:
        fail(error)
    except OSError as error:  # the cache has its own message
        why = error.strerror or error
        fail(OSError(f"{folder} can't be written ({why}); make room and repeat the command: it begins with woman 1"))


app.command()(ingest)
app.command()(split)
app.command()(augment)
app.command()(downstream)
app.command("reproduce")(reproduce_command)
app.command("tone")(tone_command)


@app.command()
def train(
    model: Annotated[str, typer.Argument(help=", ".join(get_args(ModelName)))],
    cohort: Annotated[Path, typer.Option(help="folder written by the cohort command, or ingested and split")],
    run: Annotated[Path, typer.Option(help="new run folder")],
    preset: Annotated[str, typer.Option(help=", ".join(get_args(PresetName)))] = "smoke",
    resume: Annotated[bool, typer.Option(help="go on with a run that was broken off")] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="at most so many steps per phase")] = None,
    seed: int = 0,
    init: Annotated[Path | None, typer.Option(help="weights.safetensors to start from")] = None,
    accelerator: Annotated[str, typer.Option(help=", ".join(get_args(Accelerator)))] = "auto",
    precision: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(get_args(PrecisionName))}; by default what preset and device agree on"),
    ] = None,
    accumulate: Annotated[int, typer.Option(min=1, help="compute each batch in so many parts: less memory")] = 1,
    compile_: Annotated[bool, typer.Option("--compile", help="with torch.compile; needs a C++ compiler")] = False,
    track: Annotated[str, typer.Option(help="tensorboard, mlflow, or both with a comma; offline")] = "",
) -> None:
    """Train one network; under torchrun on several GPUs or machines (docs/training.md)."""
    if (model, preset) not in PRESETS:
        own = ", ".join(p for m, p in PRESETS if m == model) or f"a model of {', '.join(get_args(ModelName))}"
        raise typer.BadParameter(f"there is no preset {preset!r} for a model {model!r}; take {own}")
    trackers = tuple(name for name in track.split(",") if name)
    for value, allowed in (
        (accelerator, Accelerator),
        (precision, PrecisionName),
        *((t, TrackerName) for t in trackers),
    ):
        if value is not None and value not in get_args(allowed):
            raise typer.BadParameter(f"{value!r} is none of {', '.join(get_args(allowed))}")
    config = with_overrides(
        PRESETS[model, preset],  # type: ignore[index]
        seed=seed,
        steps=steps,
        precision=precision,  # type: ignore[arg-type]
        accumulate=accumulate,
        compiler="inductor" if compile_ else None,
    )
    if precision is None:
        config = placed(config, accelerator)  # type: ignore[arg-type]
    try:
        _train(cohort, run, config, resume, init, accelerator, trackers)  # type: ignore[arg-type]
    except (IngestError, TrainError, OSError, ImportError) as error:
        fail(error)


def _train(
    cohort: Path,
    run: Path,
    config: TrainConfig,
    resume: bool,
    init: Path | None,
    accelerator: Accelerator,
    trackers: tuple[TrackerName, ...],
) -> None:
    fabric = launch(config.precision, accelerator)
    folder, main = cohort / "cache", fabric.is_global_zero
    with fabric.rank_zero_first():
        cache = cached(cohort)
    config = config.sized(len(training_rows(config, cache)))
    with steps_bar(config.steps, f"{config.model} ({config.preset})") if main else nullcontext(_silent) as report:
        weights = run_training(
            folder, run, config, resume=resume, report=report, init=init, fabric=fabric, trackers=trackers
        )
    if main:
        typer.echo(f"weights: {weights}")


def _silent(step: int, loss: float) -> None:
    """Of several processes one shows a bar."""


@app.command()
def evaluate(
    bundle: Path,
    cohort: Annotated[Path, typer.Option(help="folder written by the cohort command or by ingest")],
    output: Annotated[Path, typer.Option(help="folder for report.html and report.json")],
    split: Annotated[str, typer.Option(help="train, val, test, or all of a cohort of other women")] = "test",
    sections: Annotated[
        str | None, typer.Option(help=f"comma-separated, of {', '.join(SECTIONS)}; all by default")
    ] = None,
    versus: Annotated[list[Path] | None, typer.Option(help="another bundle to compare with; repeatable")] = None,
    anatomies: Annotated[Path | None, typer.Option(help="folder of NIfTI label volumes of real women")] = None,
    fresh_women: Annotated[int, typer.Option(min=0, help="simulated anew for levels and physics")] = 4,
    downstream: Annotated[Path | None, typer.Option(help="JSON rows of the downstream experiment")] = None,
    radimagenet: Annotated[
        Path | None, typer.Option(help="RadImageNet's ResNet-50 weights, for the paper's FID")
    ] = None,
    reader_cases: Annotated[int, typer.Option(min=1, help="of the blinded reader study")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="of the reader study: keep it from the readers")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="processes that simulate")] = 2,
    steps: Annotated[int | None, typer.Option(help="steps through noise; the bundle's own by default")] = None,
    sampler: Annotated[str | None, typer.Option(help=", ".join(get_args(SamplerName)))] = None,
    guidance_scale: float | None = None,
    noise: Annotated[bool | None, typer.Option(help="of a direct editor: with the target's noise")] = None,
    pairs_per_woman: Annotated[int, typer.Option(min=1, help="edits of each kind that a woman gets at most")] = 4,
) -> None:
    """Measure a bundle on held-out women: one HTML page, one JSON file, and a study for readers."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        pipeline, *others = [load_pipeline(path, device=device) for path in (bundle, *(versus or ()))]
        options = Options(sampler=sampler, steps=steps, guidance_scale=guidance_scale, noise=noise)  # type: ignore[arg-type]
        pipeline.editor.check(options)
        inputs = Inputs(
            sections=_sections(sections),
            split=split,  # type: ignore[arg-type]
            pairs_per_woman=pairs_per_woman,
            anatomies=tuple(volumes(anatomies)) if anatomies else (),
            fresh_women=fresh_women,
            radimagenet=radimagenet,
            downstream=downstream,
            others={p.bundle.name: (p, Settings.of(Options(), p.editor.setup)) for p in others},
            reader_cases=reader_cases,
            seed=seed,
            workers=workers,
        )
        cache = cached(cohort)
        settings = Settings.of(options, pipeline.editor.setup)
        report = evaluate_bundle(pipeline, cache, output, inputs, settings=settings, tracked=tracked)
    except (ValueError, OSError, ReacquireError, IngestError) as error:
        fail(error)
    for answer in report.answers:
        typer.echo(f"{answer.question} {answer.figure.estimate.value:.3f}. {answer.verdict}")
    typer.echo(f"report: {output / 'report.html'}")


def _sections(names: str | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    wanted = tuple(name.strip() for name in names.split(",") if name.strip())
    unknown = sorted(set(wanted) - set(SECTIONS))
    if unknown or not wanted:
        raise ValueError(f"there is no section {', '.join(unknown) or 'named'}; there are {', '.join(SECTIONS)}")
    return wanted


@app.command()
def reader_import(
    answers: Annotated[list[Path], typer.Argument(help="JSON files that readers saved from reader.html")],
    key: Annotated[Path, typer.Option(help="reader-key.json that evaluate wrote beside reader.html")],
    output: Annotated[Path, typer.Option(help="JSON file for the results")],
) -> None:
    """Join the answers of a reader study with its key: accuracy with its interval, quality, anatomy, agreement."""
    try:
        if output.exists():
            raise ValueError(f"{output} exists and nothing is overwritten; name a new file with --output")
        results = import_answers(key, answers)
    except ValueError as error:
        fail(error)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    typer.echo(json.dumps(results["all"]["accuracy"]))


@app.command()
def pack(
    folder: Annotated[Path, typer.Argument(help="new bundle folder")],
    editor: Annotated[Path, typer.Option(help="run folder")],
    predictor: Annotated[Path, typer.Option(help="run folder")],
    segmenter: Annotated[Path, typer.Option(help="run folder")],
    tone: Annotated[Path | None, typer.Option(help="run folder of the tone command")] = None,
    version: str = "0.1.0",
    description: str = "Counterfactual editor, parameter predictor and tissue segmenter",
    training_data: Annotated[
        str | None, typer.Option(help="what was seen; needed unless all of it is synthetic")
    ] = None,
    metrics: Annotated[Path | None, typer.Option(help="report.json of the evaluate command")] = None,
    steps: Annotated[int | None, typer.Option(help="of a denoiser: steps through noise")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="of a denoiser: w")] = None,
    noise: Annotated[bool | None, typer.Option(help="of a direct editor: results show the target's noise")] = None,
) -> None:
    """Pack three finished runs as a bundle, and a tone network with them."""
    asked = {"steps": steps, "guidance_scale": guidance_scale, "noise": noise}
    try:
        own = DEFAULTS[(read_record(editor).method or {}).get("method", "direct")]
        pack_bundle(
            folder,
            Card(folder.name, version, description, datetime.now(UTC).date().isoformat(), training_data),
            {"editor": editor, "predictor": predictor, "segmenter": segmenter} | ({"tone": tone} if tone else {}),
            {**own, **{name: value for name, value in asked.items() if value is not None}},
            metrics=_metrics(metrics) if metrics else {},
            licence_file=LICENCE,
        )
    except (ValueError, OSError) as error:
        fail(error)
    typer.echo(f"bundle: {folder}")


def _metrics(path: Path) -> dict[str, dict[str, Any]]:
    try:
        return metrics_of(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is no report.json of the evaluate command ({type(error).__name__})") from error


if __name__ == "__main__":
    app()

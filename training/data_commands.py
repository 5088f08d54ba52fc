"""The commands of ``reacquire-train`` that deal with data: arguments in, one line per fact out."""

from pathlib import Path
from typing import Annotated, NoReturn

import torch
import typer
from pydantic import ValidationError

from reacquire.bundles.store import BundleInfo
from reacquire.engine import load_pipeline
from reacquire.imaging import Preprocessing
from reacquire.jobs.spec import Options
from training.augment import AugmentError
from training.augment import Request as AugmentRequest
from training.augment import augment as augment_data
from training.augment.makers import Local, Maker
from training.augment.plan import FORMATS
from training.cache import SliceCache, build_cache, open_cache
from training.ingest import IngestError, Request
from training.ingest import ingest as ingest_data
from training.progress import counted, tracked
from training.split import MODES, split_manifest

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "phantom-v1"


def ingest(
    source: Annotated[Path, typer.Argument(help="folder of a Duke download (TCIA or IDC) or of a simulated cohort")],
    folder: Annotated[Path, typer.Argument(help="new folder for the manifest and the masks")],
    masks: Annotated[Path | None, typer.Option(help="segmentations: .nrrd, .nii[.gz] or DICOM SEG")] = None,
    mapping: Annotated[Path | None, typer.Option(help="TCIA's file path table, xlsx or csv")] = None,
    clinical: Annotated[Path | None, typer.Option(help="TCIA's clinical table, xlsx or csv")] = None,
    margin: Annotated[int, typer.Option(min=0, help="slices to drop at either end")] = 20,
    keep_incomplete: Annotated[bool, typer.Option(help="keep patients with missing or foreign parameters")] = False,
    choose: Annotated[list[str] | None, typer.Option(help="PATIENT=SERIES: the pre-contrast series by hand")] = None,
    resume: Annotated[bool, typer.Option(help="go on with an ingest that was broken off")] = False,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 1,
) -> None:
    """Make one manifest of a download: pre-contrast slices with parameters and masks, and why the rest is left out."""
    pairs = [entry.partition("=") for entry in choose or ()]
    if any(not series for _, _, series in pairs):
        raise typer.BadParameter("--choose takes PATIENT=SERIES")
    chosen = {patient: series for patient, _, series in pairs}
    request = Request(source, folder, mapping, clinical, masks, margin, keep_incomplete, chosen)
    try:
        report = ingest_data(request, resume=resume, workers=workers, track=tracked)
    except IngestError as error:
        fail(error)
    for reason in report.reasons:
        typer.echo(f"left out: {reason}", err=True)
    for keyword, patients in sorted(report.conflicts.items()):
        typer.echo(f"header and spreadsheet disagree on {keyword}: {patients} patients (the header's value is used)")
    left_out = ", ".join(f"{count} {code}" for code, count in sorted(report.excluded.items())) or "nothing"
    typer.echo(f"{report.patients} patients, {report.slices} slices, {report.with_mask} patients with masks")
    typer.echo(f"left out: {left_out}")
    typer.echo(f"manifest: {folder / 'manifest.jsonl'} (sha256 {report.sha256})")


def split(
    folder: Annotated[Path, typer.Argument(help="folder of an ingested manifest")],
    mode: Annotated[str, typer.Option(help=", ".join(MODES))] = "default",
    seed: Annotated[int | None, typer.Option(help="the authors' 123 by default")] = None,
    redraw: Annotated[bool, typer.Option(help="also when the manifest is split already")] = False,
) -> None:
    """Draw training, validation and test patients, stratified by scanner, field strength and scan options."""
    if mode not in MODES:
        raise typer.BadParameter(f"there is no mode {mode!r}; take {' or '.join(MODES)}")
    try:
        report = split_manifest(folder, mode=mode, seed=seed, redraw=redraw)
    except IngestError as error:
        fail(error)
    for name in ("train", "val", "test"):
        count, masked = (report[key].get(name, 0) for key in ("patients", "with_mask"))
        typer.echo(f"{name:5} {count} patients, {masked} of them with masks")
    if report["rare"]:
        typer.echo(f"{len(report['rare'])} patients have a rare category, to be reported apart (split.json)")


def augment(
    dataset: Annotated[Path, typer.Argument(help="folder of a manifest that is split")],
    folder: Annotated[Path, typer.Argument(help="new folder for the copies")],
    bundle: Annotated[Path, typer.Option(help="folder of the weights")] = BUNDLE,
    kind: Annotated[str, typer.Option("--format", help=", ".join(FORMATS))] = "dicom",
    copies: Annotated[int, typer.Option(min=1, help="counterfactuals per series")] = 1,
    subset: Annotated[str, typer.Option("--split", help="whose slices are copied")] = "train",
    vendor: Annotated[str, typer.Option(help="of the targets: any, other, or a Manufacturer")] = "any",
    seed: int = 0,
    sampler: Annotated[str | None, typer.Option(help="the bundle's own by default")] = None,
    steps: Annotated[int | None, typer.Option(help="steps through noise; the bundle's own by default")] = None,
    guidance_scale: float | None = None,
    noise: Annotated[bool | None, typer.Option(help="of a direct editor: with the target's noise")] = None,
    broker: Annotated[bool, typer.Option(help="let running workers do it (REACQUIRE_REDIS_URL, ...)")] = False,
    resume: Annotated[bool, typer.Option(help="go on with an augmentation that was broken off")] = False,
) -> None:
    """Write counterfactual copies of a dataset, their targets drawn from training patients only."""
    wanted = {"sampler": sampler, "steps": steps, "guidance_scale": guidance_scale, "noise": noise}
    try:
        options = Options.model_validate({k: v for k, v in wanted.items() if v is not None})
    except ValidationError as error:
        raise typer.BadParameter(error.errors()[0]["msg"]) from error
    request = AugmentRequest(dataset, folder, bundle, kind, copies, subset, vendor, seed, options)  # type: ignore[arg-type]

    def maker(info: BundleInfo) -> Maker:
        if broker:
            from training.augment.broker import Broker, BrokerSettings

            return Broker.open(BrokerSettings(), dataset, info)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return Local(load_pipeline(info.folder, device=device), dataset)

    try:
        with counted(0, "slices") as report:
            summary = augment_data(request, maker, resume=resume, report=report)
    except (AugmentError, IngestError) as error:
        fail(error)
    typer.echo(f"{summary.made} slices made, {summary.found} were there, {summary.slices} in all")
    for code, count in sorted(summary.refused.items()):
        typer.echo(f"{count} could not be made: {code} (ledger.jsonl says which)", err=True)


def cached(cohort: Path) -> SliceCache:
    """The cohort's cache, built first where an ingested manifest comes without one.

    Raises
    ------
    IngestError
        When there is no manifest, or it is not split, a file of it can't be used, or the disk is full.
    """
    try:
        if not (cohort / "cache" / "index.json").exists():
            build_cache(cohort, cohort / "cache", Preprocessing(), progress=lambda items: tracked(items, "cache"))
        return open_cache(cohort / "cache")
    except (ValueError, OSError) as error:
        raise IngestError(f"{cohort} cannot be used: {error}") from error


def fail(error: Exception) -> NoReturn:
    """One line on stderr, status 1."""
    typer.echo(f"error: {error}", err=True)
    raise typer.Exit(1) from None

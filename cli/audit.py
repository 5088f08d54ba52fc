"""``reacquire audit``: do the headers of an archive say what its pixels show? Writes a table, JSON and a picture.

Prints counts, codes, keywords, values of the vocabulary and hashed names of series; nothing else of a header.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from reacquire.errors import InputError, ReacquireError

if TYPE_CHECKING:
    from reacquire.audit import Scan, SeriesAudit, Summary
    from reacquire.audit.judge import Judge
    from reacquire.pacs.config import Site

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "phantom-v1"
EXIT_REFUSED, EXIT_USAGE, EXIT_DISAGREEMENTS = 1, 2, 3
SHOWN = 10
PASSING = ("pacs-unreachable", "unreadable-file")  # may be there next time: not remembered


@dataclass(frozen=True)
class Wanted:
    """What the command line asked for."""

    source: Path | None
    site: str | None
    studies: tuple[str, ...]
    pacs_config: Path | None
    output: Path
    bundle: Path
    device: str
    most_slices: int
    confidence: float
    identify: bool
    allow_synthetic: bool
    as_json: bool


def audit(
    source: Annotated[
        Path | None, typer.Argument(exists=True, help="a folder (with all below it), a zip, or a DICOM file")
    ] = None,
    site: Annotated[str | None, typer.Option(help="read from this DICOMweb site of the PACS configuration")] = None,
    study: Annotated[
        list[str] | None, typer.Option(help="StudyInstanceUID at the site; repeatable; without it, every MR series")
    ] = None,
    pacs_config: Annotated[
        Path | None, typer.Option(envvar="REACQUIRE_PACS_CONFIG", help="the YAML file that names the sites")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="a folder; an audit that was stopped goes on in its own")
    ] = Path("audit"),
    slices: Annotated[int, typer.Option(min=1, max=600, help="look at so many slices of a series")] = 9,
    confidence: Annotated[
        float, typer.Option(min=0, max=1, help="exit with 3 when a disagreement is at least so sure")
    ] = 0.95,
    identify: Annotated[
        bool, typer.Option("--identify", help="name series by UID and path in the files, for those who may see them")
    ] = False,
    allow_synthetic: Annotated[bool, typer.Option("--allow-synthetic", help="take images marked as synthetic")] = False,
    bundle: Annotated[Path, typer.Option("--bundle", envvar="REACQUIRE_BUNDLE", help="folder of the weights")] = BUNDLE,
    device: Annotated[str, typer.Option("--device", envvar="REACQUIRE_DEVICE", help="auto, cpu, cuda or cuda:N")] = (
        "auto"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="print the counts as JSON on stdout")] = False,
) -> None:
    """Compare the headers of an archive with what its pixels show.

    Exit status: 0 done, 3 done and sure disagreements were found, 1 nothing could be audited, 2 wrong usage.
    """
    if (source is None) == (site is None):
        typer.echo("name one: a folder, zip or file to audit, or --site", err=True)
        raise typer.Exit(EXIT_USAGE)
    if study and site is None:
        typer.echo("--study belongs to --site", err=True)
        raise typer.Exit(EXIT_USAGE)
    wanted = Wanted(source, site, tuple(study or ()), pacs_config, output, bundle, device, slices, confidence,
                    identify, allow_synthetic, as_json)  # fmt: skip
    raise typer.Exit(run_audit(wanted))


def run_audit(wanted: Wanted) -> int:
    """Scan, judge, write; the exit status. Progress goes to stderr."""
    errors = Console(stderr=True)
    try:
        judge, audits, left_out = _judge_all(wanted, errors)
        from reacquire.audit import summarise

        summary = summarise(audits, judge.pipeline.vocabulary, judge.accuracy)
        _write(wanted, judge, summary, audits, left_out)
    except ReacquireError as error:
        where = f" ({error.where})" if error.where else ""
        errors.print(f"refused: {error.detail}{where} [{error.code}]", markup=False)
        return EXIT_REFUSED
    except OSError as error:
        errors.print(f"cannot read or write: {error.strerror or type(error).__name__}", markup=False)
        return EXIT_REFUSED
    _answer(wanted, summary, left_out)
    if summary.series == sum(summary.refused.values()):
        return EXIT_REFUSED
    return EXIT_DISAGREEMENTS if summary.beyond(wanted.confidence) else 0


def _judge_all(wanted: Wanted, errors: Console) -> "tuple[Judge, list[SeriesAudit], Mapping[str, int]]":
    """Every series of the archive, those of an earlier part of the same audit included."""
    from reacquire.audit import Journal

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=errors, transient=True) as progress:
        task = progress.add_task("looking for series", total=None)
        scan = _scan(wanted, lambda count: progress.update(task, completed=count))
        if not scan.series:
            raise InputError(f"none of {scan.files} files is a slice that can be audited{_reasons(scan.left_out)}")
        progress.update(task, description="loading the networks", completed=0)
        judge = _judge(wanted)
        progress.update(task, description="series", total=len(scan.series))
        with Journal(wanted.output, _setup(wanted, judge)) as journal:
            audits = dict(journal.done)
            ids = [journal.id_of(series.uid) for series in scan.series]
            for done, (series, series_id) in enumerate(zip(scan.series, ids, strict=True), start=1):
                if series_id not in audits:
                    found = judge.judge(series, series_id)
                    identity = {"SeriesInstanceUID": series.uid, "where": series.where} if wanted.identify else {}
                    audits[series_id] = replace(found, identity=identity)
                    if found.refused not in PASSING:
                        journal.add(audits[series_id])
                progress.update(task, completed=done)
        return judge, sorted((audits[i] for i in ids), key=lambda audit: audit.id), scan.left_out


def _setup(wanted: Wanted, judge: "Judge") -> dict[str, Any]:
    """What makes two audits different ones."""
    return {
        "bundle": judge.pipeline.bundle.sha256,
        "slices": wanted.most_slices,
        "identify": wanted.identify,
        "allow_synthetic": wanted.allow_synthetic,
    }


def _scan(wanted: Wanted, on_file: Callable[[int], None]) -> "Scan":
    if wanted.source is not None:
        from reacquire.audit import scan_path

        return scan_path(wanted.source, allow_synthetic=wanted.allow_synthetic, on_file=on_file)
    from reacquire.audit.remote import scan_site
    from reacquire.pacs.dicomweb import DicomwebClient
    from reacquire.pacs.secrets import read_secret

    name, site = _site(wanted)
    try:
        secret = read_secret(site.auth.secret_env, site.auth.secret_file, os.environ)
    except LookupError as error:
        raise InputError(str(error)) from None
    return scan_site(lambda: DicomwebClient(site, secret), name, wanted.studies, on_file=on_file)


def _site(wanted: Wanted) -> "tuple[str, Site]":
    """The site that ``--site`` names, from the PACS configuration."""
    import yaml

    from reacquire.pacs.config import load_pacs_config

    try:
        sites = load_pacs_config(wanted.pacs_config).sites
    except (OSError, ValueError, yaml.YAMLError):
        raise InputError("the PACS configuration cannot be read; the gateway says why when it starts") from None
    name = wanted.site or ""
    if name not in sites:
        raise InputError(f"the PACS configuration has these sites: {', '.join(sites) or 'none'}")
    return name, sites[name]


def _judge(wanted: Wanted) -> "Judge":
    from reacquire.audit.judge import Judge  # torch: seconds
    from reacquire.engine import load_pipeline

    device = wanted.device
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Judge(load_pipeline(wanted.bundle, device=device), wanted.most_slices, wanted.allow_synthetic)


def _write(wanted: Wanted, judge: "Judge", summary: "Summary", audits: list[Any], left_out: Mapping[str, int]) -> None:
    from reacquire.audit import to_csv, to_document
    from reacquire.audit.figure import audit_png

    info = judge.pipeline.bundle
    bundle = {"name": info.name, "version": info.version, "sha256": info.sha256}
    document = to_document(summary, audits, bundle=bundle, left_out=left_out)
    title = f"Header audit of {summary.series} series by {info.name} {info.version}"
    picture = audit_png(summary, audits, judge.pipeline.vocabulary, judge.accuracy, title=title)
    (wanted.output / "audit.csv").write_text(to_csv(audits), encoding="utf-8")
    (wanted.output / "audit.json").write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")
    (wanted.output / "audit.png").write_bytes(picture)


def _answer(wanted: Wanted, summary: "Summary", left_out: Mapping[str, int]) -> None:
    if wanted.as_json:
        rows = [{**asdict(row), "compared": row.compared} for row in summary.rows]
        counts = {"series": summary.series, "series_refused": dict(summary.refused), "files_left_out": dict(left_out)}
        sure = {"confidence": wanted.confidence, "sure_disagreements": summary.beyond(wanted.confidence)}
        sys.stdout.write(json.dumps({**counts, **sure, "parameters": rows}, indent=2) + "\n")
        return
    console = Console()
    console.print(_counts(summary))
    console.print(_own(summary), markup=False, highlight=False)
    if summary.disagreements:
        console.print(_surest(summary))
    for what, reasons in (("series not judged", summary.refused), ("files left out", left_out)):
        if reasons:
            console.print(f"{what}: {sum(reasons.values())}{_reasons(reasons)}", markup=False)
    console.print(
        f"{summary.beyond(wanted.confidence)} disagreements at a confidence of {wanted.confidence:.2f} or more. "
        f"The predictor errs: a disagreement is a reason to look, not a finding.\n"
        f"Tables and picture: {wanted.output}/audit.csv, audit.json, audit.png",
        markup=False,
    )


def _counts(summary: "Summary") -> Table:
    table = Table("parameter", title=f"{summary.series} series", box=SIMPLE, pad_edge=False)
    for head in ("agree", "disagree", "expected", "absent", "varies", "outside"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in summary.rows:
        expected = "?" if row.expected is None else f"{row.expected:.1f}"
        cells = [str(row.counts[v]) for v in ("agrees", "disagrees")]
        rest = [str(row.counts[v]) for v in ("absent", "varies", "outside")]
        table.add_row(row.keyword, *cells, expected, *rest)
    table.caption = "expected: disagreements that the predictor's own errors make where every header is right"
    return table


def _own(summary: "Summary") -> str:
    return "The predictor on the images that it was tested on: " + "; ".join(
        f"{r.keyword} {r.own}" for r in summary.rows
    )


def _surest(summary: "Summary") -> Table:
    table = Table(
        "series", "parameter", "header", "pixels", title="The surest disagreements", box=SIMPLE, pad_edge=False
    )
    table.add_column("confidence", justify="right")
    for series, found in summary.disagreements[:SHOWN]:
        values = (f"{v:.4g}" if isinstance(v, float) else str(v) for v in (found.header, found.predicted))
        table.add_row(series[:8], found.keyword, *values, f"{found.confidence:.3f}")
    return table


def _reasons(counts: Mapping[str, int]) -> str:
    found = ", ".join(f"{code} {count}" for code, count in sorted(counts.items()))
    return f" ({found})" if found else ""

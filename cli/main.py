"""The commands. ``--help``, ``--version`` and ``models`` load no networks; only the offline operations import torch."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

import reacquire
from cli import doctor as examination
from cli.access import audit_log, keys
from cli.audit import audit
from cli.models import BUNDLES, models
from cli.offline import Request, run_offline
from cli.serve import EXIT_USAGE, ServeOptions, serve_stack

app = typer.Typer(
    name="reacquire",
    help="What an MR image would have looked like under other acquisition parameters. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they print local variables, which hold header values
)

app.command()(audit)
app.add_typer(models, name="models")
app.add_typer(keys, name="keys")
app.add_typer(audit_log, name="audit-log")

Input = Annotated[
    Path, typer.Option("--input", "-i", exists=True, help="a DICOM file, a folder of one series, or a zip of one")
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="a folder (default: out; files are replaced), or a file that ends in .dcm, .png or .json"
    ),
]
Bundle = Annotated[Path, typer.Option("--bundle", envvar="REACQUIRE_BUNDLE", help="folder of the weights")]
Device = Annotated[str, typer.Option("--device", envvar="REACQUIRE_DEVICE", help="auto, cpu, cuda or cuda:N")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON on stdout instead of text")]
AllowSynthetic = Annotated[bool, typer.Option("--allow-synthetic", help="accept input that is marked as synthetic")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"reacquire {reacquire.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="and nothing else")] = (
        False
    ),
) -> None: ...


@app.command()
def serve(
    host: Annotated[str, typer.Option(envvar="REACQUIRE_HOST")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="REACQUIRE_PORT", min=0, max=65535)] = 8000,
    data: Annotated[
        Path | None, typer.Option(help="keep jobs and results in this folder; without it they end with the command")
    ] = None,
    bundle: Bundle = BUNDLES / "phantom-v1",
    device: Device = "auto",
    pacs: Annotated[
        Path | None,
        typer.Option(
            envvar="REACQUIRE_PACS_CONFIG",
            help="YAML file of sites and rules: adds a courier, and an SCP if it has `scp`",
        ),
    ] = None,
) -> None:
    """Start everything on this machine: API, one worker, and a private Redis unless REACQUIRE_REDIS_URL names one."""
    options = ServeOptions(host=host, port=port, data=data, bundle=bundle, device=device, pacs=pacs)
    raise typer.Exit(serve_stack(options))


@app.command()
def worker() -> None:
    """Become a worker of the Redis that REACQUIRE_REDIS_URL names; start one per GPU."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", "worker"])


@app.command()
def gateway() -> None:
    """Become a courier: fetches series from the PACS of REACQUIRE_PACS_CONFIG and stores results there."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", "gateway"])


@app.command()
def scp() -> None:
    """Become a C-STORE SCP: takes series that a PACS sends, and starts what the rules of REACQUIRE_PACS_CONFIG say."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", "gateway.scp"])


@app.command()
def counterfactual(
    input_: Input,
    output: Output = None,
    target: Annotated[list[str] | None, typer.Option("--target", "-t", help="KEYWORD=VALUE; repeatable")] = None,
    target_json: Annotated[str | None, typer.Option(help="the target as JSON, or @file")] = None,
    noise: Annotated[bool | None, typer.Option(help="whether the noise of the target acquisition is shown")] = None,
    sampler: Annotated[str | None, typer.Option(help="ddim, ancestral or dpmpp-2m")] = None,
    steps: Annotated[int | None, typer.Option(min=1, max=1000, help="steps through noise")] = None,
    guidance_scale: Annotated[float | None, typer.Option(min=0, max=20, help="w of a bundle with a denoiser")] = None,
    samples: Annotated[int, typer.Option(min=1, max=8, help="above 1: mean.dcm and spread.dcm are written too")] = 1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    header_values: Annotated[
        str, typer.Option(help="acquisition values in the synthetic header: target, source or blank")
    ] = "target",
    watermark: Annotated[bool, typer.Option("--watermark", help="burn a notice into the pixels")] = False,
    allow_synthetic: AllowSynthetic = False,
    bundle: Bundle = BUNDLES / "phantom-v1",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """The slice or series as it would look under the target's acquisition parameters."""
    options = {
        "noise": noise,
        "sampler": sampler,
        "steps": steps,
        "guidance_scale": guidance_scale,
        "samples": samples,
        "seed": seed,
        "header_values": header_values,
        "watermark": watermark,
        "allow_synthetic": allow_synthetic,
    }
    wanted = parse_target(target or [], target_json)
    if not wanted:
        typer.echo("name what to change: --target KEYWORD=VALUE", err=True)
        raise typer.Exit(EXIT_USAGE)
    request = Request("counterfactual", input_, output or Path("out"), bundle, device, as_json, wanted, options)
    raise typer.Exit(run_offline(request))


@app.command()
def segment(
    input_: Input,
    output: Output = None,
    allow_synthetic: AllowSynthetic = False,
    bundle: Bundle = BUNDLES / "phantom-v1",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Fat and fibroglandular tissue as a DICOM SEG."""
    options = {"allow_synthetic": allow_synthetic}
    request = Request("segment", input_, output or Path("out"), bundle, device, as_json, {}, options)
    raise typer.Exit(run_offline(request))


@app.command("predict-iap")
def predict_iap(
    input_: Input,
    output: Output = None,
    allow_synthetic: AllowSynthetic = False,
    bundle: Bundle = BUNDLES / "phantom-v1",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """The acquisition parameters that the pixels speak of, beside those of the header."""
    options = {"allow_synthetic": allow_synthetic}
    raise typer.Exit(run_offline(Request("predict-iap", input_, output, bundle, device, as_json, {}, options)))


@app.command()
def doctor(bundle: Bundle = BUNDLES / "phantom-v1", as_json: AsJson = False) -> None:
    """Check this installation and say what is missing."""
    raise typer.Exit(examination.examine(bundle, as_json=as_json))


def parse_target(pairs: list[str], text: str | None) -> dict[str, str | float]:
    """``KEYWORD=VALUE`` pairs and a JSON object (or ``@file``) as one record; numbers become numbers."""
    record: dict[str, str | float] = {}
    try:
        if text is not None:
            source = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
            record |= json.loads(source)
        for pair in pairs:
            keyword, separator, value = pair.partition("=")
            if not separator or not keyword:
                raise ValueError("write --target KEYWORD=VALUE")
            record[keyword.strip()] = _number_or_text(value.strip())
    except (ValueError, TypeError, OSError) as error:
        typer.echo(f"the target cannot be read: {error}", err=True)
        raise typer.Exit(EXIT_USAGE) from error
    return record


def _number_or_text(value: str) -> str | float:
    try:
        return float(value)
    except ValueError:
        return value

"""The main job, end to end: one breast MR slice in, its counterfactual, segmentation and parameters out.

Without ``--input`` the slice comes from the phantom, so that the true re-acquisition is known and the result is scored.
Everything goes through the HTTP API of the embedded stack, the code path of production. What needs torch is imported
late: a wrong INPUT or TARGET is to be named at once.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import typer

from examples.embedded import embedded
from reacquire.dicom import read_slice
from reacquire.errors import InputError, TargetError
from reacquire.iap import Record, load_vocabulary

if TYPE_CHECKING:
    from examples.phantom_case import PhantomCase

# Siemens at 1.5 T with spectral fat saturation becomes GE at 3 T: nearly everything changes
TARGET: dict[str, str | float] = {
    "Manufacturer": "GE MEDICAL SYSTEMS",
    "ManufacturerModelName": "SIGNA HDx",
    "MagneticFieldStrength": 3.0,
    "ScanOptions": "FAST_GEMS\\SAT_GEMS\\MP_GEMS\\PFP\\FS",
    "FlipAngle": 10.0,
    "SliceThickness": 2.0,
    "EchoTime": 2.4,
    "RepetitionTime": 5.55,
}
PATIENCE_S = 600.0
ANSWERS = {  # operation -> what to fetch of its result
    "predict-iap": ("application/json",),
    "counterfactual": ("application/json", "application/dicom"),
    "segment": ("application/json", "application/dicom"),
}
FILES = ("source.dcm", "comparison.png", "counterfactual.dcm", "segmentation.dcm", "iap.json", "summary.json")


def wanted_target(text: str | None) -> Record:
    """What TARGET asks for, or the demo's own target; what no service would take ends the program with a message."""
    if text is None:
        return TARGET
    example = '{"EchoTime": 1.7}'
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found or not all(isinstance(v, str | int | float) for v in found.values()):
        raise SystemExit(f"TARGET is not a JSON object of texts and numbers; write it like TARGET='{example}'")
    try:
        load_vocabulary().validate(found)
    except TargetError as error:
        raise SystemExit(f"TARGET: {error.detail}") from None
    return found


def slice_bytes(path: Path) -> bytes:
    """The user's file once it is known to be a slice that can be read; else the program ends with a message."""
    try:
        data = path.read_bytes()
        read_slice(data, allow_synthetic=True)
    except OSError as error:
        raise SystemExit(f"INPUT {path}: {error.strerror}; give the path of one DICOM file") from None
    except InputError as error:
        raise SystemExit(f"INPUT {path}: {error.detail}; give one breast MR slice as a DICOM file") from None
    return data


def simulated(wanted: Record) -> "tuple[PhantomCase, bytes]":
    """The phantom's case for this target, and its file."""
    from examples.phantom_case import phantom_case

    case = phantom_case(wanted)
    return case, case.source_dicom


def quiet() -> dict[str, str]:
    """The environment of the demo's server: its log says what went wrong and nothing else, unless asked for more."""
    return {"REACQUIRE_LOG_LEVEL": "warning", **os.environ}


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note how long the block took."""
    started = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - started, 3)


def ask(client: httpx.Client, operation: str, data: bytes, fields: dict[str, str]) -> list[httpx.Response]:
    """Run one operation on one file; its results in the order of ``ANSWERS``.

    The phantom's files say that they are synthetic, so the demo allows that.
    """
    answer = client.post(
        f"/v1/{operation}",
        files={"dicom": ("slice.dcm", data, "application/dicom")},
        data={**fields, "options": json.dumps({"allow_synthetic": True})},
        headers={"Prefer": "wait=60", "Accept": "application/json"},
    )
    if answer.status_code not in (200, 202):
        raise SystemExit(f"{operation}: {answer.status_code} {answer.text}")
    result = wait_for(client, answer.headers["Location"])
    return [_fetch(client, result, kind) for kind in ANSWERS[operation]]


def wait_for(client: httpx.Client, job: str, *, at_most_s: float = PATIENCE_S, every_s: float = 0.5) -> str:
    """The address of a job's result once it has ended: a slow machine may take longer than one request can wait."""
    deadline = time.monotonic() + at_most_s
    while (status := client.get(job).raise_for_status().json())["status"] in ("queued", "running"):
        if time.monotonic() > deadline:
            raise SystemExit(f"{job} did not end within {at_most_s:.0f} s")
        time.sleep(every_s)
    return str(status["links"]["result"])


def _fetch(client: httpx.Client, result: str, kind: str) -> httpx.Response:
    answer = client.get(result, headers={"Accept": kind})
    if answer.status_code != 200:
        raise SystemExit(f"{result}: {answer.status_code} {answer.text}")
    return answer


def summarise(
    documents: dict[str, Any], case: "PhantomCase | None", data: bytes, derived: bytes, seconds: dict[str, float]
) -> dict[str, Any]:
    """What the demo has to say, for a person or a script."""
    counterfactual = documents["counterfactual"]
    figures: Mapping[str, Any] = {"gap_closed": None, "gap_note": case.gap_note if case else "no truth is known"}
    if case is not None and case.truth is not None:
        from examples.phantom_case import score

        figures = score(case.truth, read_slice(data, allow_synthetic=True), read_slice(derived, allow_synthetic=True))
    return {
        "status": "succeeded",
        "input": "user file" if case is None else "phantom",
        "target": counterfactual["target"],
        "target_provenance": counterfactual["provenance"],
        "support": counterfactual["support"],
        "warnings": counterfactual["warnings"],
        "predicted_before": counterfactual["predicted"]["before"]["values"],
        "predicted_after": counterfactual["predicted"]["after"]["values"],
        "ssim": counterfactual["evidence"]["ssim"][0],
        "segmentation_dice_before_after": counterfactual["evidence"]["segmentation_dice_before_after"],
        **figures,
        "area_mm2": documents["segment"]["area_mm2"],
        "bundle": counterfactual["bundle"],
        "notice": counterfactual["notice"],
        "seconds": seconds,
    }


def in_words(summary: Mapping[str, Any], output: Path) -> str:
    """The summary as the last lines of the demo."""
    gap = (
        f"closed {summary['gap_closed']:.2f} of the gap to the true image"
        if summary["gap_closed"] is not None
        else f"how much of the gap was closed is not known: {summary['gap_note']}"
    )
    lines = [*(f"warning: {warning}" for warning in summary["warnings"]), f"{gap}; look at {output}/comparison.png"]
    return "\n".join(lines)


def main(
    input: Annotated[Path | None, typer.Option(help="a breast MR slice of your own")] = None,
    target: Annotated[str | None, typer.Option(help="target parameters as JSON, by DICOM keyword")] = None,
    output: Path = Path("out/demo"),
) -> None:
    """Do the main job once and leave its results in OUTPUT."""
    wanted = wanted_target(target)
    seconds: dict[str, float] = {}
    with timed(seconds, "slice"):
        case, data = (None, slice_bytes(input)) if input else simulated(wanted)
    for name in FILES:  # what a run that fails leaves behind must not pass for its result
        (output / name).unlink(missing_ok=True)
    typer.echo("starting API, worker and Redis; then three operations ...")
    answers: dict[str, list[httpx.Response]] = {}
    with embedded(env=quiet()) as served:
        seconds["serve"] = round(served.ready_s, 3)
        for operation in ANSWERS:
            fields = {"target": json.dumps(wanted)} if operation == "counterfactual" else {}
            with timed(seconds, operation):
                answers[operation] = ask(served.client, operation, data, fields)
    from examples.figures import comparison_png

    documents = {operation: responses[0].json() for operation, responses in answers.items()}
    derived, segmentation = (answers[operation][1].content for operation in ("counterfactual", "segment"))
    summary = summarise(documents, case, data, derived, seconds)
    source, result = (read_slice(d, allow_synthetic=True) for d in (data, derived))
    output.mkdir(parents=True, exist_ok=True)
    (output / "source.dcm").write_bytes(data)
    (output / "counterfactual.dcm").write_bytes(derived)
    (output / "segmentation.dcm").write_bytes(segmentation)
    (output / "comparison.png").write_bytes(comparison_png(source, result, segmentation, case.truth if case else None))
    for name, content in (("iap", documents["predict-iap"]), ("summary", summary)):
        (output / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    typer.echo(json.dumps(summary, indent=1))
    typer.echo(in_words(summary, output))


if __name__ == "__main__":
    typer.run(main)

"""One operation in this process, without a server: read, run, write. Exit status 0, or 1 for a named refusal."""

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from reacquire.errors import InputError, ReacquireError
from reacquire.jobs.spec import OperationSpec

if TYPE_CHECKING:
    from reacquire.engine import Outcome

EXIT_REFUSED, EXIT_USAGE = 1, 2


@dataclass(frozen=True)
class Request:
    """What the command line asked for."""

    operation: str
    source: Path
    output: Path | None
    bundle: Path
    device: str
    as_json: bool
    target: Mapping[str, str | float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


def run_offline(request: Request) -> int:
    """Carry out a request; the exit status. Progress goes to stderr, the answer to stdout."""
    errors = Console(stderr=True)
    try:
        spec = OperationSpec.model_validate(
            {"operation": request.operation, "target": dict(request.target), "options": dict(request.options)}
        )
    except ValidationError as error:
        for found in error.errors(include_input=False, include_url=False):
            errors.print(f"{'.'.join(map(str, found['loc']))}: {found['msg']}", markup=False)
        return EXIT_USAGE
    try:
        files = read_inputs(request.source)
        outcome = _compute(request, spec, files, errors)
        written = write_outputs(outcome, request.output, request.source)
    except ReacquireError as error:
        _refuse(error, request.as_json, errors)
        return EXIT_REFUSED
    except OSError as error:
        errors.print(f"cannot read or write: {error.strerror or type(error).__name__}", markup=False)
        return EXIT_REFUSED
    _answer(outcome, written, request.as_json)
    return 0


def read_inputs(source: Path) -> list[bytes]:
    """The DICOM files behind a path: a file, the members of a zip, or every file of a folder that is DICOM."""
    from reacquire.dicom import unpack

    if not source.is_dir():
        return unpack(source.read_bytes())
    files = [path.read_bytes() for path in sorted(source.iterdir()) if path.is_file()]
    found = [data for data in files if data[128:132] == b"DICM"]
    if not found:
        raise InputError("the folder holds no DICOM file")
    return found


def _compute(request: Request, spec: OperationSpec, files: list[bytes], errors: Console) -> "Outcome":
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=errors, transient=True) as progress:
        task = progress.add_task("loading the networks", total=None)
        from reacquire.engine import load_pipeline  # torch: seconds

        pipeline = load_pipeline(request.bundle, device=_device(request.device))
        progress.update(task, description="reading")
        work = pipeline.prepare(spec, files)

        def on_step(done: int, total: int) -> tuple[()]:
            progress.update(task, description=spec.operation, completed=done, total=total)
            return ()

        progress.update(task, description=spec.operation)
        raw = pipeline.run([work], on_step)[0]
        if isinstance(raw, ReacquireError):
            raise raw
        assert raw is not None  # nothing was asked to be dropped
        return pipeline.finish(work, raw)


def _device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def write_outputs(outcome: "Outcome", output: Path | None, source: Path) -> list[Path]:
    """Write artifacts and document into a folder, or the one artifact of the output's suffix into a file.

    Raises
    ------
    InputError
        When the suffix picks none or several, or the output is the input.
    """
    if output is None:
        return []
    if output.exists() and output.resolve() == source.resolve():
        raise InputError("the output would overwrite the input")
    document = json.dumps(outcome.document, indent=2, allow_nan=False).encode()
    files = {**outcome.artifacts, "result.json": document}
    if output.suffix not in (".dcm", ".png", ".json"):
        output.mkdir(parents=True, exist_ok=True)
        return [_write(output / name, data) for name, data in files.items()]
    picked = [data for name, data in files.items() if name.endswith(output.suffix)]
    if len(picked) != 1:
        raise InputError(f"the result has {len(picked)} files of this kind; name a folder as the output")
    output.parent.mkdir(parents=True, exist_ok=True)
    return [_write(output, picked[0])]


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _refuse(error: ReacquireError, as_json: bool, errors: Console) -> None:
    if as_json:
        problem = {"type": f"/problems/{error.code}", "code": error.code, "detail": error.detail, "where": error.where}
        sys.stderr.write(json.dumps(problem) + "\n")
        return
    where = f" ({error.where})" if error.where else ""
    errors.print(f"refused: {error.detail}{where} [{error.code}]", markup=False)


def _answer(outcome: "Outcome", written: list[Path], as_json: bool) -> None:
    if as_json or not written:
        sys.stdout.write(json.dumps(outcome.document, indent=2, allow_nan=False) + "\n")
        return
    table = Table(show_header=False, box=None)
    for path in written:
        table.add_row("wrote", str(path))
    with suppress(BrokenPipeError):
        Console().print(table)

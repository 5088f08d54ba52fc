"""``reacquire keys`` and ``reacquire audit-log``: what an administrator does beside the running service."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from reacquire.access import Scope
from reacquire.access.keys import add_key, new_key, read_keys, remove_key
from reacquire.trail import verify_folder

keys = typer.Typer(help="API keys of the service.", no_args_is_help=True)
audit_log = typer.Typer(help="The audit trail.", no_args_is_help=True)

File = Annotated[Path, typer.Option("--file", envvar="REACQUIRE_KEYS_FILE", help="the key file")]


@keys.command("new")
def new(
    file: File,
    scope: Annotated[
        list[str], typer.Option("--scope", "-s", help="predict, segment, counterfactual, admin; repeatable")
    ],
    per_minute: Annotated[int | None, typer.Option(min=1, help="requests a minute that start work")] = None,
    concurrent: Annotated[int | None, typer.Option(min=1, help="jobs waiting or at work at one time")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="valid for so long; for ever when left out")] = None,
    note: Annotated[str, typer.Option(help="whose it is; stays in the file")] = "",
) -> None:
    """Make a key: its digest goes into the file, the key itself is printed once and kept nowhere."""
    wanted: list[Scope] = scope  # type: ignore[assignment]  # pydantic checks them
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    try:
        key, record = new_key(wanted, per_minute=per_minute, concurrent=concurrent, expires=expires, note=note)
        add_key(file, record)
    except (OSError, ValueError) as error:
        raise _refused(error) from None
    typer.echo(key)


@keys.command("list")
def list_(file: File) -> None:
    """The keys by id, with their scopes and limits, as JSON."""
    try:
        records = read_keys(file)
    except (OSError, ValueError) as error:
        raise _refused(error) from None
    typer.echo(
        json.dumps([r.model_dump(mode="json", exclude={"sha256"}, exclude_defaults=True) for r in records], indent=1)
    )


@keys.command("revoke")
def revoke(file: File, key_id: Annotated[str, typer.Argument(help="as `reacquire keys list` shows it")]) -> None:
    """Take a key out of the file; a running service notices within seconds."""
    try:
        found = remove_key(file, key_id)
    except (OSError, ValueError) as error:
        raise _refused(error) from None
    if not found:
        typer.echo("there is no key of that id", err=True)
        raise typer.Exit(1)


@audit_log.callback()
def _group() -> None:
    """A group of one command so far."""


@audit_log.command("verify")
def verify(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="folder of the audit trail")],
) -> None:
    """Check the chain of every file. Exit status 1 when one was altered; a file that was not ended is only reported."""
    altered = False
    for path, ended, broken in verify_folder(folder):
        state = "altered" if broken else "sound" if ended else "sound, not ended (a running or killed process, or cut)"
        typer.echo(f"{path.name}: {state}")
        for fault in broken:
            altered = True
            typer.echo(f"  line {fault.line}: {fault.reason}")
    raise typer.Exit(1 if altered else 0)


def _refused(error: Exception) -> typer.Exit:
    text = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
    typer.echo(f"refused: {text}", err=True)
    return typer.Exit(1)

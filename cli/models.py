"""``reacquire models``: lists the bundles of a folder; activating, rolling back and pulling is ``service.models``."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import doctor as examination

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
FORWARDED = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

models = typer.Typer(help="Bundles of weights.", invoke_without_command=True)


@models.callback()
def list_(
    context: typer.Context,
    root: Annotated[Path | None, typer.Option(envvar="REACQUIRE_BUNDLES_ROOT", help="folder of bundles")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON on stdout instead of text")] = False,
) -> None:
    """The bundles of weights that are installed, each verified; or one of the commands."""
    if context.invoked_subcommand is None:
        raise typer.Exit(examination.list_models(root or BUNDLES, as_json=as_json))
    if root is not None:
        os.environ["REACQUIRE_BUNDLES_ROOT"] = str(root)


def _become(command: str, context: typer.Context) -> None:
    os.execv(sys.executable, [sys.executable, "-P", "-m", "service.models", command, *context.args])


@models.command(context_settings=FORWARDED)
def activate(context: typer.Context) -> None:
    """NAME@VERSION: jobs without a pin get this bundle, once every worker has it warm (REACQUIRE_REDIS_URL)."""
    _become("activate", context)


@models.command(context_settings=FORWARDED)
def rollback(context: typer.Context) -> None:
    """Activate the bundle that was active before."""
    _become("rollback", context)


@models.command(context_settings=FORWARDED)
def active(context: typer.Context) -> None:
    """Which bundle is active, and which was before."""
    _become("active", context)


@models.command(context_settings=FORWARDED)
def pull(context: typer.Context) -> None:
    """URL...: fetch bundles from an object store into the folder, and verify them."""
    _become("pull", context)

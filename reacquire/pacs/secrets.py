"""Passwords and tokens from where a configuration says they are; the configuration itself never holds one."""

from collections.abc import Mapping
from pathlib import Path


def read_secret(env: str | None, file: Path | None, environ: Mapping[str, str]) -> str | None:
    """The secret that a site or a webhook names by ``secret_env`` or ``secret_file``; None when it names none.

    Parameters
    ----------
    environ : the environment; reading it is the caller's business

    Raises
    ------
    LookupError
        When there is nothing where it points; the text names the place, which is no secret.
    """
    if env is not None:
        if not environ.get(env):
            raise LookupError(f"the environment variable {env} holds no secret")
        return environ[env]
    if file is None:
        return None
    try:
        found = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError):
        found = ""
    if not found:
        raise LookupError(f"the secret file {file} is empty or cannot be read")
    return found

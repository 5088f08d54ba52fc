"""Telling a secret from what stands in an example: a service that starts with "changeme" is open to its readers."""

import re

LEAST = 12  # characters; ours are 43
PLACEHOLDER = re.compile(
    r"(?i)(^|[-_.])(change-?me|replace-?me|placeholder|todo|fixme|example|password|secret|token|x{3,}|your-.*)($|[-_.])|[<>]"
)


def check_secret(name: str, value: str, *, least: int = LEAST) -> None:
    """Refuse a placeholder, or a secret of fewer than ``least`` characters.

    Raises
    ------
    ValueError
        Naming the setting, never the value.
    """
    if PLACEHOLDER.search(value):
        raise ValueError(f"{name} is a placeholder; put a random value there, e.g. of openssl rand -hex 32")
    if len(value) < least:
        raise ValueError(f"{name} has fewer than {least} characters; take a random value, e.g. of openssl rand -hex 32")

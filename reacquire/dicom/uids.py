"""UIDs that are a function of their content, so that a job that is run twice writes the same instances (PS3.5 B.2).

Under 2.25 unless a site has a root of its own.
"""

import json
import re
import uuid
from typing import Any

from pydicom.uid import UID

NAMESPACE = uuid.UUID("8f1d2a34-6b0c-5e7f-9a41-52c3d4e5f607")  # arbitrary, fixed for ever
UUID_ROOT = "2.25"
MAX_LENGTH = 64  # PS3.5 section 9.1
MAX_ROOT = 40  # leaves 23 digits: two of a thousand million instances agree with a chance below 1 in 100,000
_ROOT = re.compile(r"([01]\.([0-9]|[1-3][0-9])|2\.(0|[1-9][0-9]*))(\.(0|[1-9][0-9]*))*")


def derive_uid(*key: Any, root: str | None = None) -> UID:
    """A UID from a JSON-able key.

    pydicom's ``generate_uid(prefix=None, entropy_srcs=...)`` ignores its entropy, hence this.

    Parameters
    ----------
    root : str or None
        A site's own root (``check_uid_root``).

    Returns
    -------
    UID
        ``2.25.<uuid5 as an integer>``, at most 44 characters; with a root, as many digits of that integer as fit.
    """
    canonical = json.dumps(key, sort_keys=True, separators=(",", ":"))
    number = uuid.uuid5(NAMESPACE, canonical).int
    prefix = f"{root or UUID_ROOT}."
    return UID(f"{prefix}{number % 10 ** (MAX_LENGTH - len(prefix))}")


def check_uid_root(root: str) -> str:
    """``root`` when UIDs can be made under it.

    Raises
    ------
    ValueError
        Unless it is a dotted object identifier (PS3.5 section 9.1) of at most 40 characters.
    """
    if len(root) > MAX_ROOT or not _ROOT.fullmatch(root):
        raise ValueError(
            f"a UID root is a dotted object identifier of at most {MAX_ROOT} characters, e.g. 1.2.840.99999"
        )
    return root

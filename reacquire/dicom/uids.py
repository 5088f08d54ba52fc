"""UIDs that are a function of their content, so that a job that is run twice writes the same instances (PS3.5 B.2)."""

import json
import uuid
from typing import Any

from pydicom.uid import UID

NAMESPACE = uuid.UUID("8f1d2a34-6b0c-5e7f-9a41-52c3d4e5f607")  # arbitrary, fixed for ever


def derive_uid(*key: Any) -> UID:
    """A UID under the root 2.25 from a JSON-able key.

    pydicom's ``generate_uid(prefix=None, entropy_srcs=...)`` ignores its entropy, hence this.

    Returns
    -------
    UID
        ``2.25.<uuid5 as an integer>``, at most 44 characters.
    """
    canonical = json.dumps(key, sort_keys=True, separators=(",", ":"))
    return UID(f"2.25.{uuid.uuid5(NAMESPACE, canonical).int}")

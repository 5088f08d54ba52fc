"""What one audit event holds. No header value, no UID, no address: ids of ours and digests under the site's secret."""

import hashlib
import hmac
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Action = Literal["start", "submit", "end", "read", "cancel", "delete", "refuse", "store", "activate", "prune"]


class Event(BaseModel):
    """One thing that happened.

    Attributes
    ----------
    action : str
        ``submit`` entered a job, ``end`` its outcome, ``read`` a result left us, ``store`` results went to a PACS,
        ``activate`` an operator switched the weights, ``refuse`` somebody was not let in, ``prune`` retention removed a
        file.
    who : str
        ``Principal.id`` of the caller, or the name of the process.
    model : str or None
        sha256 of the bundle's manifest, for what the models made and for the weights that are switched to.
    outcome : str or None
        Final state, or why somebody was refused.
    code : str or None
        Of the error that ended a job.
    instances : tuple of str
        ``instance_mark`` of each SOPInstanceUID, so that who holds the secret can answer "was this image used?".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Action
    who: str = Field(max_length=64, pattern=r"^[A-Za-z0-9._-]+$")
    job: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")
    operation: str | None = Field(None, pattern=r"^[a-z-]{1,32}$")
    model: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    outcome: str | None = Field(None, pattern=r"^[a-z-]{1,64}$")
    code: str | None = Field(None, pattern=r"^[a-z0-9-]{1,64}$")
    instances: tuple[str, ...] = ()
    file: str | None = Field(None, pattern=r"^[0-9a-z-]+\.jsonl$", description="what retention removed")
    last: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="digest of its last line")
    open: bool = Field(False, description="whether the chain of that file may go on")


def instance_mark(secret: bytes, sop_instance_uid: str) -> str:
    """A keyed digest of an instance, 16 hexadecimal digits: linkable by who holds the secret and by nobody else.

    A plain digest would not do: SOPInstanceUIDs can be enumerated from any PACS.
    """
    return hmac.new(secret, sop_instance_uid.encode(), hashlib.sha256).hexdigest()[:16]

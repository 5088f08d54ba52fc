"""Which series of which site: what a job starts from when its images are still in a PACS.

A reference holds UIDs, so it lives in the blob store only: never in Redis, a message, a log or an error.
"""

import json
from dataclasses import asdict, dataclass

from reacquire.dicom.values import checked_uid
from reacquire.errors import DatasetError


@dataclass(frozen=True)
class SeriesReference:
    """A series, or some of its instances, below a configured site.

    Parameters
    ----------
    site : str
        A name of ``PacsConfig.sites``.
    study, series : str
        StudyInstanceUID and SeriesInstanceUID.
    instances : tuple of str
        SOPInstanceUIDs; empty for the whole series.

    Raises
    ------
    DatasetError
        ``invalid-uid`` for what is no UID by PS3.5 section 9.1: it would become part of an address.
    """

    site: str
    study: str
    series: str
    instances: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for where, uids in (("study", [self.study]), ("series", [self.series]), ("instances", self.instances)):
            for uid in uids:
                if not isinstance(uid, str):
                    raise DatasetError("a UID is a text", code="invalid-uid", where=f"/{where}")
                checked_uid(uid, f"/{where}")

    def __repr__(self) -> str:
        """Without UIDs: a repr ends up in logs."""
        return f"SeriesReference(site={self.site!r}, instances={len(self.instances)})"

    def to_bytes(self) -> bytes:
        """The reference document of the blob store."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def of_bytes(cls, data: bytes) -> "SeriesReference":
        """The reference behind ``to_bytes``."""
        fields = json.loads(data)
        return cls(**{**fields, "instances": tuple(fields["instances"])})

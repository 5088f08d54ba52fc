"""The bytes of jobs, behind object storage: a local folder by default, S3 by URL.

Keys are made of job ids, counters and tokens only, never of anything a header or an upload's file name said.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
import obstore.exceptions
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from reacquire.errors import JobError
from reacquire.jobs.record import Artifact, Claim


def open_store(url: str) -> ObjectStore:
    """The object store behind ``file:///folder``, ``memory:///`` or ``s3://bucket/prefix``.

    S3 credentials and endpoint come from the standard AWS_* variables, read by obstore itself; ``AWS_ALLOW_HTTP=true``
    allows an endpoint without TLS.
    """
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return MemoryStore()
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return LocalStore(prefix=str(folder), automatic_cleanup=True)
    return from_url(url)  # no client_options: any would hide AWS_ALLOW_HTTP; obstore waits 5 s to connect, 30 s in all


class BlobStore:
    """Inputs and artifacts of jobs in an object store; safe to share between threads."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @classmethod
    def open(cls, url: str) -> "BlobStore":
        return cls(open_store(url))

    def put_inputs(self, job_id: str, files: list[bytes]) -> list[str]:
        """Store what a job works on; the keys in the order of ``files``."""
        keys = [f"jobs/{job_id}/in/{index:05d}" for index in range(len(files))]
        for key, data in zip(keys, files, strict=True):
            obstore.put(self._store, key, data)
        return keys

    def put_fetched(self, claim: Claim, index: int, data: bytes) -> str:
        """Store one file that a PACS sent, under the token of the claim; its key."""
        key = f"jobs/{claim.id}/in/{claim.token}/{index:05d}"
        obstore.put(self._store, key, data)
        return key

    def drop_fetched(self, claim: Claim) -> None:
        """Delete what one run of the stage ``fetch`` has brought."""
        self._drop(f"jobs/{claim.id}/in/{claim.token}")

    def put_artifacts(self, claim: Claim, files: Mapping[str, bytes]) -> list[Artifact]:
        """Store a result under a key of its own token, so that two runs of one job can't mix their files."""
        artifacts = []
        for index, (name, data) in enumerate(files.items()):
            key = f"{self._run(claim)}/{index:05d}"
            obstore.put(self._store, key, data)
            artifacts.append(Artifact(name, len(data), hashlib.sha256(data).hexdigest(), key))
        return artifacts

    def get(self, key: str) -> bytes:
        """The bytes under ``key``.

        Raises
        ------
        JobError
            ``job-expired`` when they are gone.
        """
        try:
            return bytes(obstore.get(self._store, key).bytes())
        except (FileNotFoundError, obstore.exceptions.NotFoundError) as error:
            raise JobError("the files of this job were deleted", code="job-expired") from error

    def drop_inputs(self, job_id: str) -> None:
        """Delete what a job worked on."""
        self._drop(f"jobs/{job_id}/in")

    def drop_run(self, claim: Claim) -> None:
        """Delete the files of one run of a job."""
        self._drop(self._run(claim))

    def drop_earlier_runs(self, claim: Claim) -> None:
        """Delete the files of runs that came to nothing before this one, and could not clean up when they died."""
        for token in range(1, claim.token):
            self.drop_run(Claim(claim.id, token))

    def drop_job(self, job_id: str) -> None:
        """Delete every byte of a job."""
        self._drop(f"jobs/{job_id}")

    def check(self) -> None:
        """Write and read one byte; raises whatever the storage raises."""
        obstore.put(self._store, "health/probe", b"1")
        obstore.get(self._store, "health/probe").bytes()

    @staticmethod
    def _run(claim: Claim) -> str:
        return f"jobs/{claim.id}/out/{claim.token}"

    def _drop(self, prefix: str) -> None:
        for chunk in obstore.list(self._store, prefix):
            obstore.delete(self._store, [entry["path"] for entry in chunk])

"""Fans an augmentation out over the workers of a running installation, through its job store.

Imported for ``--broker`` alone: a training machine needs none of the clients otherwise.
"""

import json
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from obstore.exceptions import BaseError
from pydantic_settings import BaseSettings, SettingsConfigDict

from reacquire.bundles.store import BundleInfo
from reacquire.errors import OverloadedError
from reacquire.jobs.config import JobsConfig
from reacquire.jobs.intake import Intake
from reacquire.jobs.states import TERMINAL, WITH_RESULT
from training.augment.makers import DICOM, DOCUMENT, Made, source_bytes
from training.augment.plan import AugmentError, Item

POLL_S = 0.2
NOT_THE_SLICES_FAULT = ("job-failed", "internal-error")


class BrokerSettings(BaseSettings, JobsConfig):
    """Where the running installation is, from the same REACQUIRE_* variables that its parts read."""

    model_config = SettingsConfigDict(env_prefix="REACQUIRE_", frozen=True, extra="ignore", env_ignore_empty=True)


@dataclass(frozen=True)
class Broker:
    """The workers behind a job store, ``in_flight`` jobs at a time.

    A job is entered under its item's key, so that a resumed run meets the jobs of the one before instead of entering
    them again.
    """

    intake: Intake
    dataset: Path
    bundle: BundleInfo
    in_flight: int = 64
    patience_s: float = 600.0
    name: str = "broker"

    @classmethod
    def open(cls, config: JobsConfig, dataset: Path, bundle: BundleInfo) -> "Broker":
        return cls(Intake.open(config), dataset, bundle)

    def __call__(self, items: Iterable[Item]) -> Iterator[Made]:
        waiting: deque[tuple[Item, str]] = deque()
        todo = iter(items)
        last = time.monotonic()
        exhausted = False
        while waiting or not exhausted:
            while len(waiting) < self.in_flight and not exhausted:
                item = next(todo, None)
                if item is None:
                    exhausted = True
                else:
                    waiting.append((item, self._enter(item)))
            ended = [(item, job) for item, job in waiting if self._state(job) in TERMINAL]
            for item, job in ended:
                waiting.remove((item, job))
                last = time.monotonic()
                yield self._result(item, job)
            if not ended and waiting:
                if time.monotonic() - last > self.patience_s:
                    raise AugmentError(
                        f"no worker finished anything within {self.patience_s:.0f} s; start one (reacquire worker) and "
                        "repeat the command with --resume"
                    )
                time.sleep(POLL_S)

    def _enter(self, item: Item) -> str:
        data = source_bytes(self.dataset, item)
        deadline = time.monotonic() + self.patience_s
        while True:
            try:
                with _reaching():
                    return self.intake.files(item.spec, [data], key=f"augment {item.key}", renew=True).job_id
            except OverloadedError:
                if time.monotonic() > deadline:
                    raise AugmentError("the queue stays full; repeat the command with --resume later") from None
                time.sleep(POLL_S)

    def _state(self, job: str) -> str:
        with _reaching():
            return self.intake.store.get(job).state

    def _result(self, item: Item, job: str) -> Made:
        with _reaching():
            record = self.intake.store.get(job)
        if record.state not in WITH_RESULT:
            failure = record.failure
            if failure is None or failure.code in NOT_THE_SLICES_FAULT:
                raise AugmentError(f"a job ended as {record.state}; see to the workers and go on with --resume")
            return Made(item, refused=f"{failure.code}: {failure.detail}")
        files = {artifact.name: artifact.key for artifact in record.artifacts}
        with _reaching():
            document, image = (self.intake.blobs.get(files[name]) for name in (DOCUMENT, DICOM))
        told = json.loads(document)
        if told["bundle"]["sha256"] != self.bundle.sha256:
            raise AugmentError(
                f"the workers serve {told['bundle']['name']}, not {self.bundle.name}; start them with --bundle "
                f"{self.bundle.folder}, or give theirs"
            )
        return Made(item, image, told)


@contextmanager
def _reaching() -> Iterator[None]:
    """A broker or store that drops out, as one message; what is finished is in the ledger, the rest still a job."""
    try:
        yield
    except (redis.RedisError, BaseError) as error:
        raise AugmentError(
            f"the broker cannot be reached ({type(error).__name__}); see that it runs, set REACQUIRE_REDIS_URL and "
            "REACQUIRE_BLOB_URL as the workers have them and repeat the command with --resume"
        ) from error

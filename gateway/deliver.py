"""The stage ``deliver``: send a result to a PACS, then ask it what it has.

The UIDs of a result are a function of its source and its making, so sending it twice is harmless: a run that was cut
off is simply run again. What counts is what the PACS lists afterwards (QIDO-RS); what STOW-RS answered gives reasons.
"""

import io
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import pydicom

from gateway.stages import Grip
from reacquire.jobs.blobs import BlobStore
from reacquire.jobs.record import Artifact, Delivery, Refusal
from reacquire.pacs.dicomweb import StoreResult

DOCUMENT = "delivery.json"
REQUEST_BYTES, REQUEST_FILES = 2**25, 50  # of one STOW request: what is lost when it breaks off, and must be sent again
LOOKS_S = (0.5, 1.0, 2.0, 4.0)  # a PACS may list an instance some time after it took it


class Pacs(Protocol):
    """What this stage needs of ``DicomwebClient``."""

    def store(self, study: str, files: dict[str, bytes]) -> dict[str, StoreResult]: ...

    def instances(self, study: str, series: str) -> set[str]: ...


@dataclass(frozen=True)
class Sent:
    """An artifact that was sent, by its UIDs, and what STOW-RS said of it."""

    artifact: str
    study: str
    series: str
    instance: str
    answer: StoreResult


def deliver(
    pacs: Pacs,
    site: str,
    artifacts: Sequence[Artifact],
    blobs: BlobStore,
    grip: Grip,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Delivery:
    """Send the DICOM artifacts to ``site``.

    Raises
    ------
    PacsError
        When the PACS refuses altogether, or (``PacsOutage``) is out of reach.
    LetGo
        When the claim must be let go of.
    """
    wanted = [artifact for artifact in artifacts if artifact.name.endswith(".dcm")]
    sent: list[Sent] = []
    for group in groups(wanted):
        grip.go_on(len(sent), len(wanted))
        sent += _send(pacs, group, blobs)
    listed = _listed(pacs, sent, grip, sleep)
    failed = tuple(Refusal(s.artifact, s.answer.reason) for s in sent if s.instance not in listed)
    return Delivery(site, len(sent), len(sent) - len(failed), failed)


def document(delivery: Delivery) -> dict[str, bytes]:
    """The delivery as one more artifact."""
    return {DOCUMENT: json.dumps(asdict(delivery), indent=1).encode()}


def groups(artifacts: Sequence[Artifact]) -> Iterator[list[Artifact]]:
    """The artifacts of one request each, in order."""
    group: list[Artifact] = []
    for artifact in artifacts:
        size = sum(a.size for a in group) + artifact.size
        if group and (len(group) >= REQUEST_FILES or size > REQUEST_BYTES):
            yield group
            group = []
        group.append(artifact)
    if group:
        yield group


def _send(pacs: Pacs, group: Sequence[Artifact], blobs: BlobStore) -> list[Sent]:
    """One request per study (a result has one)."""
    by_study: dict[str, dict[str, bytes]] = defaultdict(dict)
    told: list[tuple[str, str, str, str]] = []
    for artifact in group:
        data = blobs.get(artifact.key)
        study, series, instance = identity(data)
        by_study[study][instance] = data
        told.append((artifact.name, study, series, instance))
    answers = {uid: answer for study, files in by_study.items() for uid, answer in pacs.store(study, files).items()}
    return [Sent(*names, answers.get(names[3], StoreResult(stored=False))) for names in told]


def _listed(pacs: Pacs, sent: Sequence[Sent], grip: Grip, sleep: Callable[[float], None]) -> set[str]:
    """Which of the instances the PACS lists; looks again while one that it took is missing."""
    found: set[str] = set()
    for pause_s in (*LOOKS_S, None):
        open_series = {(s.study, s.series) for s in sent if s.instance not in found}
        for study, series in open_series:
            grip.go_on(len(found), len(sent))
            found |= pacs.instances(study, series)
        if pause_s is None or all(s.instance in found for s in sent if s.answer.stored):
            break
        sleep(pause_s)
    return found & {s.instance for s in sent}


def identity(data: bytes) -> tuple[str, str, str]:
    """StudyInstanceUID, SeriesInstanceUID and SOPInstanceUID of a file that we wrote."""
    keywords = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
    header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=keywords)
    study, series, instance = (str(header[keyword].value) for keyword in keywords)
    return study, series, instance

"""The stage ``fetch``: pull a series, check each file as an upload is checked, store it; one file in memory."""

from collections.abc import Iterable

from gateway.stages import Grip
from reacquire.dicom import Header, Limits, inspect, order_series, unpack
from reacquire.errors import PacsError
from reacquire.jobs.blobs import BlobStore
from reacquire.jobs.intake import check_count, check_size
from reacquire.pacs.reference import SeriesReference


def fetch(
    files: Iterable[bytes],
    reference: SeriesReference,
    blobs: BlobStore,
    grip: Grip,
    *,
    allow_synthetic: bool,
    limits: Limits,
) -> list[str]:
    """Store what a PACS sends for ``reference``.

    Returns
    -------
    list of str
        The keys of the blobs in the order of the series, repetitions left out.

    Raises
    ------
    ReacquireError
        With the code that an upload of the same files gets; ``pacs-answer-invalid`` when the PACS sends something other
        than what it was asked for.
    LetGo
        When the claim must be let go of.
    """
    keys: list[str] = []
    headers: list[Header] = []
    size = 0
    for data in files:
        for member in unpack(data, limits=limits):
            grip.go_on(len(keys))
            size += len(member)
            check_size(size, limits)
            check_count(len(keys) + 1, limits)
            header = inspect(member, allow_synthetic=allow_synthetic, limits=limits)
            check_asked_for(header, reference)
            headers.append(header)
            keys.append(blobs.put_fetched(grip.claim, len(keys), member))
    missing = set(reference.instances) - {header.origin.instance_uid for header in headers}
    if missing:
        raise PacsError("the PACS did not send every instance that was asked for", code="source-not-found")
    return [keys[index] for index in order_series(headers)]


def check_asked_for(header: Header, reference: SeriesReference) -> None:
    """Refuse the images of another patient's series, whatever made the PACS send them."""
    study = str(header.dataset.get("StudyInstanceUID", ""))
    wanted = not reference.instances or header.origin.instance_uid in reference.instances
    if (study, header.series_key) != (reference.study, reference.series) or not wanted:
        raise PacsError("the PACS sent something other than the series asked for", code="pacs-answer-invalid")

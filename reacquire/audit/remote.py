"""The MR series of a PACS, found by QIDO-RS and pulled by WADO-RS one at a time when their turn comes."""

from collections.abc import Callable, Sequence

from reacquire.audit.archive import FoundSeries, Scan
from reacquire.dicom import Limits, unpack
from reacquire.dicom.values import checked_uid
from reacquire.pacs.dicomweb import DicomwebClient
from reacquire.pacs.reference import SeriesReference


def scan_site(
    connect: Callable[[], DicomwebClient],
    site: str,
    studies: Sequence[str] = (),
    *,
    limits: Limits | None = None,
    on_file: Callable[[int], None] = lambda _: None,
) -> Scan:
    """Every MR series of a site, or of some studies there.

    Parameters
    ----------
    connect : opens a conversation with the site; its total time-out counts per series
    site : the site's name
    on_file : told the number of series found so far

    Raises
    ------
    PacsError
        When the site refuses, or (``PacsOutage``) is out of reach.
    DatasetError
        ``invalid-uid`` for a study that is none.
    """
    found: list[FoundSeries] = []
    for study in studies:
        checked_uid(study, "study")  # it becomes part of an address
    with connect() as pacs:
        for wanted in studies or (None,):
            for study, series in pacs.series(wanted):
                reference = SeriesReference(site, study, series)
                found.append(FoundSeries(series, _loader(connect, reference, limits or Limits()), f"{site}/{study}"))
                on_file(len(found))
    return Scan(tuple(found), len(found), {})


def _loader(
    connect: Callable[[], DicomwebClient], reference: SeriesReference, limits: Limits
) -> Callable[[], list[bytes]]:
    def load() -> list[bytes]:
        with connect() as pacs:
            return [member for data in pacs.fetch(reference) for member in unpack(data, limits=limits)]

    return load

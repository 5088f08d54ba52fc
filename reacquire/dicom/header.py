"""A DICOM file up to its pixels: ``inspect`` applies every rule that needs no decoding. The API process runs it.

Decodes nothing and keeps only the header. Pixels are ``read``'s.
"""

import hashlib
from dataclasses import dataclass, field

from pydicom.dataset import Dataset

from reacquire.dicom import checks, values
from reacquire.dicom.checks import Geometry, StoredFormat
from reacquire.dicom.container import Part10, open_part10, parse
from reacquire.dicom.limits import DEFAULT, Limits
from reacquire.dicom.origin import Origin, origin_of
from reacquire.dicom.scan import Layout, scan
from reacquire.dicom.tags import parameter_sources, read_iap


@dataclass(frozen=True)
class Header:
    """What one acceptable MR file says about itself.

    Attributes
    ----------
    dataset : pydicom.Dataset
        The standard elements before the pixel data without overlays, unread (raw) until someone asks.
    iap : dict
        Acquisition parameters by DICOM keyword as the header has them, absent ones left out. Not yet recognised by a
        vocabulary.
    rows, columns : int
        Size of the stored image.
    stored : StoredFormat
        How pixels are stored.
    geometry : Geometry
        Orientation, position (mm) and spacing (mm).
    synthetic, lossy : bool
        Marked as synthetic; compressed with loss at some time.
    series_key : str
        SeriesInstanceUID: files of one series share it.
    origin : Origin
        What a reference to this slice must name: the file itself, or the frame of the Enhanced MR object it stands for.
    parameter_sources : dict
        For every acquisition parameter where its value was found: ``attribute``, the name of a functional group, or
        why there is none, ``absent`` or ``empty``.
    sha256 : str
        Digest of the whole file, to tell a repeated file from a contradictory one.
    warnings : tuple of str
        What was tolerated, free of header values.
    """

    dataset: Dataset = field(repr=False)
    iap: dict[str, str | float] = field(repr=False)
    rows: int
    columns: int
    stored: StoredFormat
    geometry: Geometry = field(repr=False)
    synthetic: bool
    lossy: bool
    series_key: str = field(repr=False)
    sop_instance_uid: str = field(repr=False)
    sha256: str = field(repr=False)
    origin: Origin
    parameter_sources: dict[str, str] = field(repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def scan_options(self) -> tuple[str, ...]:
        """The ScanOptions in the order of the header, empty when unknown; ``set()`` of it is what they mean."""
        return tuple(option for option in values.codes(self.dataset, "ScanOptions") if option)


@dataclass(frozen=True)
class Opened:
    """A checked file with its pixel data still encoded."""

    header: Header
    part10: Part10
    layout: Layout


def inspect(data: bytes, *, allow_synthetic: bool = False, limits: Limits = DEFAULT) -> Header:
    """Check one DICOM file without decoding its pixels.

    Parameters
    ----------
    data : bytes
        A whole Part 10 file.
    allow_synthetic : bool
        Accept an image that is marked as synthetic (phantom slices, results of this software).

    Raises
    ------
    InputError
        Of the kind and with the code of the first rule that the file breaks.
    """
    return open_slice(data, allow_synthetic=allow_synthetic, limits=limits).header


def open_slice(data: bytes, *, allow_synthetic: bool = False, limits: Limits = DEFAULT) -> Opened:
    """``inspect``, keeping what ``read_slice`` needs to go on."""
    part10 = open_part10(data, limits=limits)
    syntax = part10.syntax
    layout = scan(part10.body, implicit=syntax.implicit, little_endian=syntax.little_endian, limits=limits)
    ds = parse(part10, layout)
    warnings = _check_suitable(ds, layout, allow_synthetic=allow_synthetic)
    geometry = checks.check_geometry(ds)
    stored = checks.check_format(ds)
    checks.check_single_frame(ds)
    stored, rescale_warnings = checks.check_rescale(ds, stored)
    checks.check_framing(layout, native=syntax.codec == "native")
    rows, columns = checks.check_size(ds, layout, limits)
    lossy = checks.check_lossy(ds, syntax_lossy=syntax.lossy)
    iap, origin = read_iap(ds), origin_of(ds)
    _drop_private(ds)
    header = Header(
        dataset=ds,
        iap=iap,
        rows=rows,
        columns=columns,
        stored=stored,
        geometry=geometry,
        synthetic=checks.check_synthetic(ds, allowed=True),
        lossy=bool(lossy),
        series_key=values.uid(ds, "SeriesInstanceUID") or "",
        sop_instance_uid=values.uid(ds, "SOPInstanceUID") or "",
        sha256=hashlib.sha256(data).hexdigest(),
        origin=origin,
        parameter_sources=parameter_sources(ds, origin.sources),
        warnings=(*warnings, *rescale_warnings, *lossy),
    )
    return Opened(header, part10, layout)


def _check_suitable(ds: Dataset, layout: Layout, *, allow_synthetic: bool) -> tuple[str, ...]:
    """The rules about what the object is, before those about how it is stored."""
    checks.check_pixels_present(ds, layout)
    checks.check_kind(ds)
    checks.check_uids(ds)
    checks.check_synthetic(ds, allowed=allow_synthetic)
    return (*checks.check_body_part(ds), *checks.check_charset(ds))


def _drop_private(ds: Dataset) -> None:
    """Vendors keep 100 KB and more there, and nothing of it is ever used: a series of headers must stay small."""
    for tag in list(ds.keys()):  # iterating over the data set itself would convert every value
        if tag.is_private or 0x6000 <= tag.group <= 0x60FF:
            del ds[tag]

"""The caps on what is accepted from outside, in one place (sizes in bytes). Nothing else in the package holds one."""

from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Caps on one file, one series and one archive.

    Attributes
    ----------
    instance_bytes, series_bytes : int
        One DICOM file, after inflation where it is deflated; all files of an upload together.
    instances : int
        Files of one series.
    elements, depth : int
        Data elements and sequence items up to the pixel data, nested ones included; sequence nesting.
    frame_elements : int
        Data elements more for each frame of an Enhanced MR object.
    side, pixel_bytes, multiframe_bytes : int
        Rows or Columns; bytes of a decoded image, and of all frames of a multi-frame object together.
    entries, archive_ratio : int
        Members of a zip, directories included; inflated size over archive size.
    """

    instance_bytes: int = 64 * MIB
    series_bytes: int = 1024 * MIB
    instances: int = 600
    elements: int = 2_000
    depth: int = 16
    frame_elements: int = 400
    side: int = 8_192
    pixel_bytes: int = 64 * MIB
    multiframe_bytes: int = 256 * MIB
    entries: int = 2_000
    archive_ratio: int = 100


DEFAULT = Limits()

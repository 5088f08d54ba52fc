"""The rules between the files of one upload: one series, one grid, one position each (bad input, rows 31 and 32)."""

from collections.abc import Sequence

import numpy as np

from reacquire.dicom.header import Header
from reacquire.errors import DatasetError

SAME_POSITION_MM = 1e-3


def order_series(headers: Sequence[Header]) -> list[int]:
    """Which files make up the series, from feet to head.

    Parameters
    ----------
    headers : sequence of Header
        One per file, as uploaded.

    Returns
    -------
    list of int
        Indices into ``headers`` sorted by position; byte-identical repetitions of a file are left out.

    Raises
    ------
    DatasetError
        ``duplicate-instance`` for two contents under one SOPInstanceUID; ``inconsistent-series`` for more than one
        series, matrix, spacing or orientation, or for two slices at one position.
    """
    kept: dict[str, int] = {}
    for index, header in enumerate(headers):
        first = kept.setdefault(header.sop_instance_uid, index)
        if headers[first].sha256 != header.sha256:
            raise DatasetError(
                "two different files carry the same SOPInstanceUID", code="duplicate-instance", where="SOPInstanceUID"
            )
    indices = list(kept.values())
    if not indices:
        return []
    reference = headers[indices[0]]
    for index in indices[1:]:
        _check_same(reference, headers[index])
    along = {i: height_mm(headers[i], reference) for i in indices}
    indices.sort(key=along.__getitem__)
    gaps = np.diff([along[i] for i in indices])
    if (gaps < SAME_POSITION_MM).any():
        raise inconsistent("two slices lie at one position; send one phase of one series", "ImagePositionPatient")
    return indices


def inconsistent(detail: str, where: str) -> DatasetError:
    """The error for files that do not make up one series."""
    return DatasetError(detail, code="inconsistent-series", where=where)


def _check_same(one: Header, other: Header) -> None:
    if one.series_key != other.series_key:
        raise inconsistent("the files belong to more than one series", "SeriesInstanceUID")
    if (one.rows, one.columns) != (other.rows, other.columns):
        raise inconsistent("the slices differ in Rows or Columns", "Rows")
    if not np.allclose(one.geometry.iop, other.geometry.iop, atol=1e-4):
        raise inconsistent("the slices differ in orientation", "ImageOrientationPatient")
    if not np.allclose(one.geometry.spacing, other.geometry.spacing, rtol=1e-4):
        raise inconsistent("the slices differ in spacing", "PixelSpacing")


def height_mm(header: Header, reference: Header) -> float:
    """Millimetres towards the head along the common normal."""
    normal = np.cross(reference.geometry.iop[:3], reference.geometry.iop[3:])
    return float(np.dot(normal if normal[2] >= 0 else -normal, header.geometry.ipp))

"""The slices of one series in order, and the acquisition parameters with where each value came from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from reacquire.dicom import Header, inspect, order_series
from reacquire.errors import ReacquireError
from reacquire.iap import Categorical, Value, load_vocabulary
from training.ingest.layout import Series
from training.ingest.problem import Excluded

SAME = 0.01  # header and spreadsheet agree on a number within a hundredth of its range's upper end
Origin = Literal["header", "spreadsheet"]


@dataclass(frozen=True)
class Scan:
    """One series, feet to head."""

    series: Series
    files: tuple[Path, ...]
    headers: tuple[Header, ...]


@dataclass(frozen=True)
class Parameters:
    """``values`` by keyword, ``origin`` of each; keywords that nobody states, that the vocabulary lacks, or on which
    header and spreadsheet disagree (the header's value is kept)."""

    values: Mapping[str, Value]
    origin: Mapping[str, Origin]
    missing: tuple[str, ...]
    foreign: tuple[str, ...]
    conflicts: tuple[str, ...]


def read_scan(series: Series) -> Scan:
    """Every file of a series, checked as an upload is, in order.

    Raises
    ------
    Excluded
        Naming the file that is unreadable, truncated, of another series or at another slice's place.
    """
    headers = []
    for file in series.files:
        try:
            headers.append(inspect(file.read_bytes(), allow_synthetic=True))
        except ReacquireError as error:
            raise Excluded("unreadable-dicom", f"{file}: {error.detail}; download it again") from error
        except OSError as error:
            raise Excluded("unreadable-dicom", f"{file}: {error.strerror}; download it again") from error
    try:
        order = order_series(headers)
    except ReacquireError as error:
        text = f"{series.folder}: {error.detail}; remove what does not belong there or download it again"
        raise Excluded("inconsistent-series", text) from error
    return Scan(series, tuple(series.files[i] for i in order), tuple(headers[i] for i in order))


def height_mm(header: Header) -> float:
    """Where the slice lies along the body, LPS millimetres."""
    return float(header.geometry.ipp[2])


def kept_slices(scan: Scan, margin: int) -> range:
    """The slices that stay when ``margin`` are dropped at either end (the paper drops 20: they show no breast).

    Raises
    ------
    Excluded
        When nothing is left.
    """
    kept = range(margin, len(scan.files) - margin)
    if not kept:
        text = (
            f"{scan.series.folder} has {len(scan.files)} slices, and {margin} are dropped at either end; see --margin"
        )
        raise Excluded("too-few-slices", text)
    return kept


def parameters(scan: Scan, tabulated: Mapping[str, Value]) -> Parameters:
    """The eight parameters: the header's where it states one for the whole series, else the spreadsheet's."""
    vocabulary = load_vocabulary()
    values: dict[str, Value] = {}
    origin: dict[str, Origin] = {}
    missing, foreign, conflicts = [], [], []
    for keyword in vocabulary.keywords:
        stated = _shared(scan.headers, keyword)
        table = tabulated.get(keyword)
        value = table if stated is None else stated
        if value is None:
            missing.append(keyword)
            continue
        matched = vocabulary[keyword].match(value)
        if matched is None:
            foreign.append(keyword)
            continue
        values[keyword], origin[keyword] = matched, "spreadsheet" if stated is None else "header"
        if stated is not None and table is not None and not _agree(keyword, matched, table):
            conflicts.append(keyword)
    return Parameters(values, origin, tuple(missing), tuple(foreign), tuple(conflicts))


def _shared(headers: tuple[Header, ...], keyword: str) -> Value | None:
    """The value that all slices state, or None."""
    values = {header.iap.get(keyword) for header in headers}
    return values.pop() if len(values) == 1 else None


def _agree(keyword: str, value: Value, table: Value) -> bool:
    parameter = load_vocabulary()[keyword]
    if isinstance(parameter, Categorical):
        return parameter.match(table) == value
    return bool(np.isclose(float(value), float(table), rtol=0, atol=SAME * parameter.maximum))

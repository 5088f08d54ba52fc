"""Acquisition protocols: the joint parameter table of the Duke cohort, and draws from it.

Owns the eight image acquisition parameters of a simulated scan and the sampling grid behind them. What a scanner does
with the raw data afterwards belongs to ``scanner``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import numpy as np

from reacquire.iap import Value, load_vocabulary


@dataclass(frozen=True)
class Protocol:
    """One acquisition: ``iap`` by DICOM keyword (all eight), then what the header does not show to the models.

    ``matrix`` is (readout, phase), the acquired samples; ``rows`` the reconstructed square matrix; ``fov_mm`` its side.
    ``chest_fraction`` places the sternal skin at that share of the field of view below its anterior edge.
    ``bandwidth_hz_px`` per pixel, ``partial_fourier`` 0.5..1 of the phase encodings, ``acceleration`` R >= 1.
    """

    protocol_id: str
    iap: Mapping[str, Value]
    rows: int
    matrix: tuple[int, int]
    fov_mm: float
    chest_fraction: float
    bandwidth_hz_px: float
    partial_fourier: float
    acceleration: float

    @property
    def field_t(self) -> float:
        return float(self.iap["MagneticFieldStrength"])

    @property
    def te_ms(self) -> float:
        return float(self.iap["EchoTime"])

    @property
    def tr_ms(self) -> float:
        return float(self.iap["RepetitionTime"])

    @property
    def flip_deg(self) -> float:
        return float(self.iap["FlipAngle"])

    @property
    def thickness_mm(self) -> float:
        return float(self.iap["SliceThickness"])

    @property
    def is_siemens(self) -> bool:
        return self.iap["Manufacturer"] == "SIEMENS"

    @property
    def inversion(self) -> bool:
        """Whether fat is inverted adiabatically (SFS, Siemens) rather than saturated (FS)."""
        return "SFS" in str(self.iap["ScanOptions"]).split("\\")


@dataclass(frozen=True)
class ProtocolRow:
    """One row of the table: ``te_ms`` and ``tr_ms`` are (mean, SD), the pairs are (value, weight)."""

    protocol_id: str
    patients: int
    model: str
    field_t: float
    options: tuple[tuple[str, float], ...]
    matrices: tuple[tuple[int, int, int, float], ...]
    te_ms: tuple[float, float]
    tr_ms: tuple[float, float]
    tr_tail: tuple[float, float, float] | None
    flip_deg: tuple[tuple[float, float], ...]
    thickness_mm: tuple[tuple[float, float], ...]


def _load() -> tuple[tuple[ProtocolRow, ...], dict]:
    data = json.loads((resources.files(__package__) / "duke_protocols.json").read_text(encoding="utf-8"))
    rows = tuple(
        ProtocolRow(
            p["id"], p["n"], p["model"], p["field"], _pairs(p["options"]), _pairs(p["matrix"]), tuple(p["te"]),
            tuple(p["tr"]), tuple(p["tr_tail"]) if "tr_tail" in p else None, _pairs(p["fa"]), _pairs(p["st"]),
        )
        for p in data["protocols"]
    )  # fmt: skip
    return rows, data


def _pairs(entries: Sequence[Sequence]) -> tuple:
    return tuple(tuple(entry) for entry in entries)


_ROWS, _DATA = _load()
DUKE_PROTOCOLS: dict[str, ProtocolRow] = {row.protocol_id: row for row in _ROWS}
# Limits of the decorrelated draw, per vendor: wide enough to cut the table's correlations, yet plausible.
_FREE = {
    "SIEMENS": {"EchoTime": (1.25, 1.75), "RepetitionTime": (3.54, 4.9)},
    "GE MEDICAL SYSTEMS": {"EchoTime": (2.2, 2.756), "RepetitionTime": (4.6, 7.395)},
}


def sample_protocol(
    rng: np.random.Generator, *, mode: Literal["joint", "free"] = "joint", protocol_id: str | None = None
) -> Protocol:
    """Draw one acquisition.

    Parameters
    ----------
    rng : numpy.random.Generator
    mode : {"joint", "free"}
        ``joint`` follows the table; ``free`` keeps scanner and options of a row, but draws TE, TR, flip angle and slice
        thickness uniformly within the vendor's limits: a cohort that shows what pixels alone carry.
    protocol_id : str, optional
        A key of ``DUKE_PROTOCOLS``; drawn in proportion to the patients of each row when absent.

    Raises
    ------
    ValueError
        For a mode or protocol that does not exist.
    """
    if mode not in ("joint", "free"):
        raise ValueError(f"mode is 'joint' or 'free', not {mode!r}")
    if protocol_id is not None and protocol_id not in DUKE_PROTOCOLS:
        raise ValueError(f"protocol_id is one of {', '.join(DUKE_PROTOCOLS)}, not {protocol_id!r}")
    row = DUKE_PROTOCOLS[protocol_id] if protocol_id else _choice(rng, [(r, r.patients) for r in _ROWS])
    maker = load_vocabulary().manufacturer_of(row.model)
    readout, phase, rows = _choice(rng, [(m[:3], m[3]) for m in row.matrices])
    options = _choice(rng, row.options)
    timing = _joint_timing(rng, row) if mode == "joint" else _free_timing(rng, str(maker))
    iap: dict[str, Value] = {
        "Manufacturer": str(maker),
        "ManufacturerModelName": row.model,
        "MagneticFieldStrength": row.field_t,
        "ScanOptions": options,
        **timing,
    }
    siemens = maker == "SIEMENS"
    return Protocol(
        protocol_id=row.protocol_id,
        iap=iap,
        rows=rows,
        matrix=(readout, phase),
        fov_mm=_draw_fov(rng),
        chest_fraction=float(rng.uniform(0.55, 0.64)),
        bandwidth_hz_px=float(rng.uniform(470, 545) if siemens else 125e3 / readout),
        partial_fourier=float(rng.uniform(0.75, 0.9)) if "PFP" in options else 1.0,
        # GE states its parallel imaging (ACC_GEMS); on Siemens it is the measured reference, factor 2.
        acceleration=2.0 if siemens or "ACC_GEMS" in options else 1.0,
    )


def _draw_fov(rng: np.random.Generator) -> float:
    # One marginal for both vendors: otherwise the share of body in the picture would betray the site.
    return float(_choice(rng, [tuple(pair) for pair in _DATA["fov_mm"]])) + float(rng.integers(-5, 6))


def _joint_timing(rng: np.random.Generator, row: ProtocolRow) -> dict[str, Value]:
    tr = rng.normal(*row.tr_ms)
    if row.tr_tail is not None and rng.random() < row.tr_tail[0]:
        tr = rng.uniform(*row.tr_tail[1:])
    te = rng.normal(*row.te_ms)
    # Thin-slice scans have more slices; a slice-weighted cohort holds 1.3 times as many of them.
    weighted = [(st, w * (1.3 if st <= 1.3 else 1.0)) for st, w in row.thickness_mm]
    return _clip(te, tr, _choice(rng, row.flip_deg), _choice(rng, weighted))


def _free_timing(rng: np.random.Generator, maker: str) -> dict[str, Value]:
    limits = _FREE[maker]
    te, tr = rng.uniform(*limits["EchoTime"]), rng.uniform(*limits["RepetitionTime"])
    return _clip(te, tr, rng.uniform(7.0, 12.0), rng.uniform(1.1, 2.5))


def _clip(te: float, tr: float, flip: float, thickness: float) -> dict[str, Value]:
    values = {"FlipAngle": flip, "SliceThickness": thickness, "EchoTime": te, "RepetitionTime": tr}
    ranges = _DATA["ranges"]
    return {keyword: round(float(np.clip(v, *ranges[keyword])), 3) for keyword, v in values.items()}


def _choice(rng: np.random.Generator, weighted: Sequence[tuple]) -> Any:
    weights = np.array([w for _, w in weighted], float)
    return weighted[int(rng.choice(len(weighted), p=weights / weights.sum()))][0]

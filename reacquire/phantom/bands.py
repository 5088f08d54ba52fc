"""The bands that real data set: what a simulated median is compared with, as cited data."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Band:
    """What was measured on real data: ``low``..``high`` with its meaning, and the unit."""

    low: float
    high: float
    unit: str
    source: str


_MAPS = "p10-p90 of 55 real label maps"
ANATOMY_BANDS: Mapping[str, Band] = {
    "mound depth": Band(67, 122, "mm", _MAPS),
    "superior-inferior extent": Band(104, 139, "mm", _MAPS),
    "width at half depth": Band(66, 102, "mm", _MAPS),
    "mound volume, both": Band(860, 2606, "mL", _MAPS),
    "gland share": Band(0.107, 0.262, "", _MAPS),
    "transition share": Band(0.053, 0.151, "", _MAPS),
    "gland share, p90 slice": Band(0.18, 0.38, "", "mean +- SD of 55 real label maps"),
    "mask spectrum exponent": Band(1.81, 2.27, "", "mean +- SD of 55 real label maps"),
    "autocorrelation half-width": Band(1.5, 3.1, "mm", "mean +- SD of 55 real label maps"),
}
_SLICES = "two real axial volumes, widened by half their difference"
IMAGE_BANDS: Mapping[str, Band] = {
    "p10 / p99": Band(0.0, 0.011, "", _SLICES),
    "p50 / p99": Band(0.014, 0.034, "", _SLICES),
    "p75 / p99": Band(0.0, 0.28, "", _SLICES),
    "p90 / p99": Band(0.21, 0.61, "", _SLICES),
    "p99.9 / p99": Band(1.30, 1.90, "", _SLICES),
    "mean / p99": Band(0.08, 0.174, "", _SLICES),
    "SD / p99": Band(0.195, 0.255, "", _SLICES),
    "body share of pixels": Band(0.215, 0.435, "", _SLICES),
    "anterior air SD / p99": Band(0.006, 0.012, "", "two real axial volumes"),
}
_AERA = "two real axial Siemens Aera volumes"
SCANNER_BANDS: Mapping[str, Band] = {  # by vendor: the name's prefix
    "S air mean / p99": Band(0.006, 0.147, "", "three Siemens pictures, 8 bit"),
    "G air mean / p99": Band(0.0008, 0.0014, "", "three GE pictures, 8 bit"),
    "S air mean / SD": Band(1.5, 1.91, "", _AERA + "; pure Rayleigh 1.91"),
    "S noise, posterior / anterior": Band(5.0, 7.0, "", _AERA),
    "S gland SNR": Band(25, 43, "", _AERA + ", high-pass estimate"),
    "S fat SNR": Band(10, 22, "", _AERA + ", high-pass estimate"),
    "S noise spectrum at Nyquist": Band(0.15, 0.27, "", _AERA + ", power"),
    "S p99, counts": Band(144, 182, "", _AERA),
    "S maximum, counts": Band(300, 680, "", _AERA),
    "S distinct greys": Band(280, 400, "", _AERA),
    "S heart / p99": Band(0.35, 0.80, "", _AERA),
    "S muscle / p99": Band(0.23, 0.50, "", "0.28 on one Aera volume, upper end assumed"),
    "S lung / p99": Band(0.06, 0.09, "", _AERA),
    "S skin / p99": Band(0.8, 1.1, "", _AERA + ", edge maximum"),
    "3 T / 1.5 T gland SNR": Band(1.6, 1.9, "", "assumed"),
}
TEXTURE_BANDS: Mapping[str, Band] = {
    "in-breast spectrum exponent": Band(1.1, 2.1, "", "three real volumes: 1.1, 1.65, 2.1"),
    "patch coefficient of variation": Band(0.32, 0.44, "", _AERA),
    "left / right breast, larger over smaller": Band(1.0, 1.36, "", "1.19 and 1.27 on Aera, 1.36 on Avanto FS"),
    "in-breast log-bias SD": Band(0.05, 0.15, "", "0.10 on Aera, half of it either way"),
    "torso log-bias SD": Band(0.21, 0.63, "", "0.42 on Aera, half of it either way"),
}
# Fat over gland contrast by protocol, with its source; wide where only one picture was measured.
CONTRAST_BANDS: Mapping[str, Band] = {
    "S1": Band(0.5, 0.6, "", "target, low contrast seen on one Avanto FS picture"),
    "S2": Band(0.48, 0.54, "", "Avanto SFS previews"),
    "S3": Band(0.38, 0.46, "", "Skyra SFS picture, 0.42"),
    "S4": Band(0.65, 0.69, "", "TrioTim SFS previews"),
    "G1": Band(0.15, 0.25, "", "target 0.2, assumed"),
    "G2": Band(0.15, 0.25, "", "target 0.2, assumed"),
    "G3": Band(0.19, 0.29, "", "GE 3 T picture, 0.23; theory 0.29"),
    "G4": Band(0.19, 0.29, "", "GE 3 T picture, 0.23; theory 0.29"),
    "G5": Band(0.19, 0.29, "", "GE 3 T picture, 0.23; theory 0.29"),
    "G6": Band(0.15, 0.25, "", "target 0.2, assumed"),
    "G7": Band(0.15, 0.25, "", "target 0.2, assumed"),
}


def within(bands: Mapping[str, Band], name: str, value: float) -> bool:
    """Whether a statistic lies in its published band."""
    return bands[name].low <= value <= bands[name].high

"""Relaxation times, proton densities and fat fractions of the tissues that the phantom knows, as cited data.

Owns the tissue numbering of ``Subject.labels``. Values whose source is "assumed" have no literature value that we
found; they are plain table entries so that anyone can change them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tissue:
    """One tissue: T1 and T2* in ms at 1.5 T and 3 T, proton density and fat fraction 0..1, CV of T1 among women."""

    name: str
    t1_ms: tuple[float, float]
    t2s_ms: tuple[float, float]
    pd: float
    fat_fraction: float
    t1_cv: float
    source: str


AIR, FAT, FGT, SKIN, MUSCLE, SUBCUTANEOUS, MYOCARDIUM, BLOOD, LIVER, LUNG = range(10)
MARROW, BONE, MALIGNANT, BENIGN, CYST, VESSEL, NODE, SKIN_EDGE = range(10, 18)

TISSUES: tuple[Tissue, ...] = (
    Tissue("air", (1000.0, 1000.0), (1.0, 1.0), 0.0, 0.0, 0.0, "no signal"),
    Tissue("breast fat", (296.0, 367.0), (45.0, 36.4), 0.90, 0.95, 0.03, "T1 JMRI 23:87; T2* Ryu 2014 at 3 T"),
    Tissue("fibroglandular", (1266.0, 1445.0), (30.0, 22.4), 0.80, 0.03, 0.06, "T1 JMRI 23:87; T2* Ryu 2014 at 3 T"),
    Tissue("skin", (900.0, 1100.0), (12.0, 9.0), 0.95, 0.05, 0.06, "assumed"),
    Tissue("muscle", (1008.0, 1412.0), (28.0, 22.0), 0.90, 0.03, 0.06, "T1 MRM 54:507; T2* assumed"),
    Tissue("subcutaneous fat", (296.0, 382.0), (45.0, 36.4), 0.90, 0.95, 0.03, "T1 Radiology 230:652"),
    Tissue("myocardium", (1030.0, 1170.0), (30.0, 22.0), 0.85, 0.0, 0.06, "T1 JCMR 15:53; T2* assumed"),
    Tissue("blood", (1441.0, 1852.0), (120.0, 60.0), 0.85, 0.0, 0.05, "T1 MRM 54:507; T2* assumed"),
    Tissue("liver", (576.0, 809.0), (25.0, 16.0), 0.90, 0.03, 0.08, "T1 MRM 54:507; T2* assumed"),
    Tissue("lung", (1150.0, 1300.0), (2.11, 0.74), 0.20, 0.0, 0.05, "T2* doi 10.1002/mrm.22829; T1 assumed"),
    Tissue(
        "red marrow", (701.0, 780.0), (13.7, 10.0), 0.85, 0.33, 0.10, "water T1 LeS16 through the tissue dictionary"
    ),
    Tissue("cortical bone", (250.0, 306.0), (1.5, 1.0), 0.05, 0.0, 0.05, "pore water AR20 at 3 T"),
    Tissue(
        "malignant lesion", (1350.0, 1612.0), (40.0, 30.0), 0.88, 0.0, 0.13, "3 T T1 doi 10.1186/s40644-020-00365-4"
    ),
    Tissue("benign lesion", (1150.0, 1370.0), (45.0, 35.0), 0.88, 0.0, 0.13, "0.85 of malignant, assumed"),
    Tissue("cyst", (2500.0, 3000.0), (100.0, 100.0), 1.0, 0.0, 0.05, "assumed"),
    Tissue(
        "vessel", (1441.0, 1852.0), (60.0, 35.0), 0.85, 0.0, 0.05, "blood; T2* between arterial and venous, assumed"
    ),
    Tissue("lymph node", (1100.0, 1300.0), (35.0, 27.0), 0.85, 0.10, 0.08, "assumed"),
    Tissue("fat partly filled with skin", (296.0, 367.0), (45.0, 36.4), 0.90, 0.95, 0.03, "as breast fat"),
)


def t1_ms(field_t: float) -> NDArray[np.float32]:
    """T1 of every tissue (T,) in ms at 1.5 or 3 T."""
    return np.array([t.t1_ms[field_index(field_t)] for t in TISSUES], np.float32)


def t2s_ms(field_t: float) -> NDArray[np.float32]:
    """T2* of every tissue (T,) in ms at 1.5 or 3 T."""
    return np.array([t.t2s_ms[field_index(field_t)] for t in TISSUES], np.float32)


def proton_density() -> NDArray[np.float32]:
    """Proton density of every tissue (T,), fraction of water."""
    return np.array([t.pd for t in TISSUES], np.float32)


def fat_fraction() -> NDArray[np.float32]:
    """Fat fraction of every tissue (T,), 0..1."""
    return np.array([t.fat_fraction for t in TISSUES], np.float32)


def draw_t1_scale(rng: np.random.Generator) -> NDArray[np.float32]:
    """One woman's T1 relative to the table (T,): log-normal, the same at both field strengths."""
    cv = np.array([t.t1_cv for t in TISSUES])
    scale = np.exp(cv * rng.standard_normal(len(TISSUES)))
    scale[SUBCUTANEOUS] = scale[SKIN_EDGE] = scale[FAT]
    scale[VESSEL] = scale[BLOOD]
    return scale.astype(np.float32)


def field_index(field_t: float) -> int:
    """Column of the table: 0 for 1.5 T, 1 for 3 T.

    Raises
    ------
    ValueError
        For any other field strength.
    """
    if field_t not in (1.5, 3.0):
        raise ValueError(f"the tissue table has 1.5 T and 3 T, not {field_t} T")
    return int(field_t == 3.0)

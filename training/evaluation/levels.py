"""Paired truth at three levels on fresh women and anatomies: gap closed, contrast transfer with muscle, slope error."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from torch import Tensor

from reacquire.metrics import gap_closed
from reacquire.physics import tissue
from reacquire.physics.signal import spgr
from training.evaluation.bench import Bench, per_woman
from training.evaluation.document import Cell, Figure, Figures, Section, Table
from training.evaluation.rescans import SINGLE, Rescan
from training.evaluation.truth import transfer
from training.statistics import mean_over_women, pooled_ratio

TISSUES = {"fat": tissue.FAT, "fibroglandular": tissue.FGT, "muscle": tissue.MUSCLE}
FEWEST = 20  # pixels of a tissue that a mean needs


@dataclass(frozen=True)
class Edits:
    """Rescans with their counterfactuals (N, 1, S, S)."""

    rescans: Sequence[Rescan]
    edited: Tensor

    def where(self, keep: Callable[[Rescan], bool]) -> "Edits":
        index = [i for i, rescan in enumerate(self.rescans) if keep(rescan)]
        return Edits([self.rescans[i] for i in index], self.edited[index])

    def stack(self, name: str) -> Tensor:
        """(N, 1, S, S) of an attribute of the rescans."""
        return torch.from_numpy(np.stack([getattr(rescan, name) for rescan in self.rescans]))[:, None]


def edit_rescans(bench: Bench, rescans: Sequence[Rescan]) -> Edits:
    images = torch.from_numpy(np.stack([r.source for r in rescans]))[:, None]
    sources, targets = [r.source_iap for r in rescans], [r.target_iap for r in rescans]
    return Edits(rescans, bench.edit_records(images, sources, targets, range(len(rescans)), what="fresh women"))


def levels(edits: Edits) -> Section:
    """Gap closed at levels 0 to 2 with ceilings, and contrast transfer per tissue."""
    groups: dict[str, Figures] = {}
    for title, anatomy in (("simulated", False), ("anatomies", True)):
        part = edits.where(partial(_whole, anatomy))
        if part.rescans:
            groups[title] = _level_figures(part)
    names = {
        "gap_closed_l0": "gap closed, L0: contrast alone",
        "gap_ceiling_l0": "- ceiling: a noisy scan at L0",
        "gap_closed_l1": "gap closed, L1: with the target's reconstruction",
        "gap_ceiling_l1": "- ceiling: a noisy re-scan",
        "gap_closed_l2": "gap closed, L2: with the target's noise",
        "gap_ceiling_l2": "- ceiling: a second noisy re-scan",
        **{f"contrast_transfer_{name}": f"contrast transfer, {name} (1 is right)" for name in TISSUES},
    }
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (label, *(figures[name] for figures in groups.values())) for name, label in names.items()
    )
    return Section(
        name="levels",
        title="Fresh women and real anatomies: three levels of truth, and muscle",
        question="How far does the edit come when only contrast counts, when reconstruction counts too, and with "
        "noise?",
        method="Women simulated for this report, and label volumes of real women where given, two positions each, "
        "rescanned at "
        "one site under two other protocols. L0: the target's contrast through the source's coil and "
        "reconstruction, noiseless; "
        "L1: with the target's reconstruction; L2: noisy. Every level is normalised as the networks see it. Tissues "
        "come from "
        "the simulator's own map, muscle included.",
        caveats=(
            "Anatomies: the breasts are real, their tissue values, the chest behind them and the scanner are "
            "simulated; muscle "
            "is the interface strip of the volume and the simulated chest wall.",
            "L2 punishes noise twice, the edit's and the target's; even a perfect re-scan stays below 1.",
        ),
        figures=groups,
        tables=(Table("Gap closed and contrast transfer", ("figure", *groups), rows),),
    )


def _whole(anatomy: bool, rescan: Rescan) -> bool:
    return rescan.anatomy == anatomy and rescan.single is None


def _alone(keyword: str, rescan: Rescan) -> bool:
    return rescan.single == keyword


def _level_figures(edits: Edits) -> Figures:
    source, breast = edits.stack("source"), edits.stack("breast")
    ceilings = {"l0": ("level0", "level0_noisy"), "l1": ("level1", "level2"), "l2": ("level2", "again")}
    figures: Figures = {}
    for level, (true, best) in ceilings.items():
        for name, image in (("gap_closed", edits.edited), ("gap_ceiling", edits.stack(best))):
            values = gap_closed(image, edits.stack(true), source, breast)
            figures[f"{name}_{level}"] = Figure(mean_over_women(per_woman(edits.rescans, values.tolist())), "rescans")
    for name, kind in TISSUES.items():
        mask = edits.stack("tissues") == kind
        mask = mask & (mask.sum((1, 2, 3), keepdim=True) >= FEWEST)
        images = edits.edited, source, edits.stack("level1")
        figures[f"contrast_transfer_{name}"] = Figure(transfer(edits.rescans, *images, mask), "rescans")
    return figures


def physics(edits: Edits) -> Section:
    """Slope against the signal equation when one of flip angle, repetition time and echo time changes alone."""
    figures: Figures = {}
    rows: list[tuple[Cell, ...]] = []
    for keyword in SINGLE:
        part = edits.where(partial(_alone, keyword))
        for name in ("muscle", "fat"):
            changes = [
                _log_changes(r, image, name) for r, image in zip(part.rescans, part.edited[:, 0].numpy(), strict=True)
            ]
            kept = [(r, c) for r, c in zip(part.rescans, changes, strict=True) if np.isfinite(c["truth"])]
            if not kept:
                continue
            line = _slope_line(kept, "equation" if name == "muscle" else "truth")
            figures |= {f"{key}_{keyword}_{name}": figure for key, figure in line.items()}
            order = ("asked", "slope_truth", "slope_edit", "error_edit", "error_identity")
            rows.append((f"{keyword} alone, {name} / gland", *(line.get(key) for key in order)))
    columns = (
        "change", "size of the expected change (|log ratio|)", "slope, noiseless truth", "slope, edit", "error, edit",
        "error, doing nothing",
    )  # fmt: skip
    return Section(
        name="physics",
        title="Does one number move the signal as physics says?",
        question="When only the flip angle, the repetition time or the echo time is changed, does contrast follow?",
        method="Contrast is the logarithm of the ratio of two tissue means in native units. Muscle / gland is held "
        "against the "
        "spoiled gradient-echo (SPGR) equation with the woman's own relaxation times, fat / gland, whose signal is "
        "mostly set "
        "by fat suppression, against the simulator's noiseless image. Slope: least squares of the measured on the "
        "expected "
        "change, 1 is right, 0 is doing nothing. Error: mean absolute difference from the expected change.",
        caveats=(
            "Expected changes of muscle / gland are a few per cent; where the noiseless truth's own slope is far "
            "from 1, partial "
            "volume, shading and magnetisation transfer outweigh the equation and the line says little of the edit.",
            "The edit does not know the target's grey scale; its native units are those of the source.",
        ),
        figures={"physics": figures},
        tables=(Table("Slope error when one number changes alone", columns, tuple(rows)),),
    )


def _slope_line(kept: Sequence[tuple[Rescan, Mapping[str, float]]], expected: str) -> Figures:
    women = [r for r, _ in kept]
    want = np.array([c[expected] for _, c in kept])
    squares = per_woman(women, want**2)
    line = {"asked": Figure(mean_over_women(per_woman(women, np.abs(want))), "rescans")}
    for name in ("truth", "edit"):
        got = np.array([c[name] for _, c in kept])
        if name != expected:
            line[f"slope_{name}"] = Figure(pooled_ratio(per_woman(women, got * want), squares), "rescans")
        line[f"error_{name}"] = Figure(mean_over_women(per_woman(women, np.abs(got - want))), "rescans")
    line["error_identity"] = line["asked"]
    return line


def _log_changes(rescan: Rescan, edited: NDArray, name: str) -> dict[str, float]:
    """Change of log(tissue / gland) from source to edit, to the noiseless truth (L0), and by the equation."""
    source, level0 = rescan.scale
    before = _log_ratio(rescan.clean_source, rescan, source, name)
    noisy = _log_ratio(rescan.source, rescan, source, name)
    return {
        "edit": _log_ratio(edited, rescan, source, name) - noisy,
        "truth": _log_ratio(rescan.level0, rescan, level0, name) - before,
        "equation": equation_change(rescan, TISSUES[name]),
    }


def _log_ratio(image: NDArray, rescan: Rescan, scale: tuple[float, float], name: str) -> float:
    low, high = scale
    native = image * (high - low) + low
    masks = [binary_erosion(rescan.tissues == TISSUES[kind]) for kind in (name, "fibroglandular")]  # no partial volume
    if min(mask.sum() for mask in masks) < FEWEST:
        return float("nan")
    tissue_mean, gland = (float(native[mask].mean()) for mask in masks)
    return float(np.log(tissue_mean / gland)) if min(tissue_mean, gland) > 0 else float("nan")


def equation_change(rescan: Rescan, kind: int) -> float:
    """Change of log(tissue / gland) by the SPGR equation from the source's to the target's parameters."""

    def log_ratio(iap: Mapping) -> float:
        field_t = float(iap["MagneticFieldStrength"])
        signal = spgr(
            tissue.t1_ms(field_t) * rescan.t1_scale,
            tr_ms=float(iap["RepetitionTime"]),
            flip_deg=float(iap["FlipAngle"]),
            te_ms=float(iap["EchoTime"]),
            t2s_ms=tissue.t2s_ms(field_t),
        )
        return float(np.log(signal[kind] / signal[tissue.FGT]))

    return log_ratio(rescan.target_iap) - log_ratio(rescan.source_iap)

"""Table 4: how much an edit changes a slice, and how far edited slices lie from real ones of the same protocol."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reacquire.metrics import ssim, structure
from training.evaluation import paper
from training.evaluation.bench import Bench, Pair, changed, images_of, per_woman
from training.evaluation.distances import frechet, kid, mmd_linear
from training.evaluation.document import Cell, Figure, Figures, Section, Table
from training.evaluation.effectiveness import effectiveness
from training.evaluation.features import Extractor, extractors
from training.statistics import Estimate, jackknifed, mean_over_women

# Normalised slices reach 1.5 to 1.75 at their 99.9th percentile (phantom notes, section 4): a range that holds them
FIXED_RANGE = 2.0


def counterfactuals(bench: Bench, radimagenet: Path | None = None) -> Section:
    """Tables 2, 4 and 5."""
    groups, tables = effectiveness(bench)
    similar, table_4 = similarity(bench, radimagenet)
    return Section(
        name="counterfactuals",
        title="Counterfactuals as the paper measures them (Tables 2, 4 and 5), and corrected",
        question="Does the predictor see the new parameters in the edited slices, beyond what it would see by chance?",
        method="legacy_*: every slice gets the parameters of another slice, permuted in batches of 32; all slices "
        "count. The "
        "other figures count only slices whose parameter really changes"
        + (", on pairs whose true target is known." if bench.pairs else ".")
        + f" Fixed-range SSIM clips to 0..{FIXED_RANGE:g} and takes that as its range; the structure term is the local "
        "correlation inside SSIM, blind to brightness and contrast.",
        caveats=(
            "The predictor can name the target while the image is still far from it: see the section on truth.",
            "legacy_ssim_shuffled compares different women and legacy distances compare edits with the very slices "
            "they were "
            "made from: doing nothing scores best.",
            "The paper's columns were measured on Duke's patients with its own predictor, and without intervals.",
        ),
        figures={"legacy": {**groups["legacy"], **similar}, "editor": groups["editor"]},
        tables=(*tables, table_4),
    )


def similarity(bench: Bench, radimagenet: Path | None) -> tuple[Figures, Table]:
    """Table 4 on the shuffled requests."""
    pairs, edited = bench.shuffled, bench.edited_shuffled
    source, target = bench.sources(pairs), bench.targets(pairs)

    def mean(values: Tensor) -> Figure:
        return Figure(mean_over_women(per_woman(pairs, values.tolist())), "shuffled")

    def whole(distance: Callable, x: NDArray, y: NDArray) -> Figure:
        return Figure(_over_women(distance, (pairs, x), (pairs, y)), "shuffled")

    found = {
        "legacy_ssim_original": (None, mean(ssim(edited, source))),
        "legacy_ssim_shuffled": (mean(ssim(source, target)), mean(ssim(edited, target))),
        "legacy_mmd_linear": (None, whole(mmd_linear, edited.numpy(), source.numpy())),
        "ssim_fixed_range_original": (None, mean(_fixed(ssim, edited, source))),
        "structure_original": (None, mean(_fixed(structure, edited, source))),
    }
    available = extractors(bench.pipeline, radimagenet)
    name = "RadImageNet" if "RadImageNet" in available else next(iter(available))
    fid = whole(frechet, available[name](edited), available[name](source))
    found["legacy_fid_same_originals"] = (None, fid)
    rows = []
    held_against = paper.setting_of(bench.settings.record(bench.pipeline.editor.setup))
    for key, (without, after) in found.items():
        printed = (paper.table_4(key, row) for row in (paper.WITHOUT, held_against))
        shown = tuple("not given" if value is None else f"{value:.3g}" for value in printed)
        rows.append((key, without or "as it must be: 0 or 1", after, *shown))
    note = f"legacy_fid_same_originals here: Fréchet distance on features of {name}" + (
        "."
        if name == "RadImageNet"
        else " (give --radimagenet for the paper's); its size can't be compared with the paper's."
    )
    columns = ("figure", "ours, not edited", "ours, edited", "paper, without", paper.heading(held_against))
    figures = {key: after for key, (_, after) in found.items()}
    figures |= {f"{key}_without": without for key, (without, _) in found.items() if without is not None}
    return figures, Table("How much an edit changes a slice", columns, tuple(rows), note)


def _fixed(measure: Callable, x: Tensor, y: Tensor) -> Tensor:
    return measure(x.clamp(0, FIXED_RANGE), y.clamp(0, FIXED_RANGE), data_range=FIXED_RANGE)


def distributions(bench: Bench, radimagenet: Path | None = None) -> Section:
    """Distances between edits to another vendor and held-out slices that this vendor's scanners really made."""
    pairs = [(i, p) for i, p in enumerate(bench.asked) if changed(p, "Manufacturer")]
    if not pairs:
        raise ValueError("no request changes the manufacturer: distributions need slices of two vendors")
    chosen, edited = [p for _, p in pairs], bench.edited[[i for i, _ in pairs]]
    sets = {"counterfactual": edited, "not edited": bench.sources(chosen)}
    if bench.pairs:
        sets["true re-scan"] = bench.targets(chosen)
    figures: Figures = {}
    rows: list[tuple[Cell, ...]] = []
    for name, extract in extractors(bench.pipeline, radimagenet).items():
        scaled = _standardised(extract, bench, name == "hand-made")
        reference = scaled(images_of(bench.cache.images, bench.rows))
        seen = {label: scaled(images) for label, images in sets.items()}
        for title, distance in (("KID", kid), ("Fréchet", frechet)):
            row: list[Cell] = [f"{title}, {name}"]
            for label, vectors in seen.items():
                estimate = _to_other_women(distance, bench, chosen, vectors, reference)
                key = f"{title.lower().replace('é', 'e')}_{name}_{label}".replace(" ", "_").replace("-", "_")
                figures[key] = Figure(estimate, "editor")
                row.append(figures[key])
            rows.append(tuple(row))
    return Section(
        name="distributions",
        title="Do edited slices look like the target vendor's slices of other women?",
        question="Seen as a crowd, are the counterfactuals closer to real slices of that vendor than the originals "
        "were?",
        method="Edits to another vendor against slices that this vendor's scanners made of other women (women are "
        "halved; each "
        "half is compared with the slices of the other half, per vendor, then averaged). KID: unbiased, polynomial "
        "kernel. "
        "Fréchet: paper, eq. 5. Features: the bundle's predictor before its last layer; 20 hand-made image "
        "features, each in "
        "units of its spread on real slices (in the spirit of the Fréchet radiomics distance); a seeded random "
        "network as a "
        "sanity line. Interval: delete-one-woman jackknife.",
        caveats=(
            "Read a line from left to right; distances of different features or sizes can't be compared.",
            "The Fréchet distance is biased upwards in small samples; a true re-scan's distance shows by how much.",
        ),
        figures={"distributions": figures},
        tables=(
            Table(
                "Distance to held-out slices of the target vendor, lower is closer",
                ("distance, features", *sets),
                tuple(rows),
            ),
        ),
    )


def _standardised(extract: Extractor, bench: Bench, needed: bool) -> Extractor:
    if not needed:
        return extract
    reference = extract(images_of(bench.cache.images, bench.rows))
    mean, spread = reference.mean(0), reference.std(0)
    spread[spread < 1e-9] = 1.0
    return lambda images: (extract(images) - mean) / spread


def _to_other_women(
    distance: Callable, bench: Bench, pairs: Sequence[Pair], vectors: NDArray, reference: NDArray
) -> Estimate:
    """Mean over vendors and halves of the women of the distance from edits of one half to slices of the other."""
    women = sorted({row.woman for row in bench.rows})
    half = {woman: i % 2 for i, woman in enumerate(women)}
    asked = [(p.woman, str(p.target.iap["Manufacturer"])) for p in pairs]
    shown = [(row.woman, str(row.iap.get("Manufacturer"))) for row in bench.rows]

    def statistic(kept: Sequence) -> float:
        among = set(kept)
        values = []
        for vendor in sorted({v for _, v in asked}):
            for side in (0, 1):
                a = [i for i, (w, v) in enumerate(asked) if w in among and v == vendor and half[w] == side]
                b = [i for i, (w, v) in enumerate(shown) if w in among and v == vendor and half[w] != side]
                if len(a) > 1 and len(b) > 1:
                    values.append(distance(vectors[a], reference[b]))
        return float(np.mean(values)) if values else float("nan")

    return jackknifed(statistic, women)


def _over_women(
    distance: Callable, one: tuple[Sequence[Pair], NDArray], other: tuple[Sequence[Pair], NDArray]
) -> Estimate:
    """A distance between two sets of slices of the same women, with its interval over women."""

    def statistic(kept: Sequence) -> float:
        among = set(kept)
        parts = [vectors[[i for i, p in enumerate(pairs) if p.woman in among]] for pairs, vectors in (one, other)]
        return distance(*parts)

    return jackknifed(statistic, sorted({p.woman for p in one[0]}))

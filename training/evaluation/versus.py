"""Several bundles on the same pairs, judged by the first one's networks: who comes nearer to the truth?"""

from collections.abc import Mapping
from dataclasses import replace

from reacquire.engine import Pipeline, Settings
from reacquire.metrics import region_mean
from training.evaluation.axioms import breast_of
from training.evaluation.bench import Bench, per_woman
from training.evaluation.document import Cell, Figure, Figures, Section, Table
from training.evaluation.effectiveness import judged
from training.evaluation.truth import pair_values
from training.overlap import tissue_dice
from training.statistics import PerWoman, holm, mean_over_women, paired_difference

COMPARED = {
    "gap_closed": "gap closed (L1)",
    "ssim_to_target": "SSIM to the true target",
    "dice": "Dice of the first bundle's segmenter on the edit",
    "vendor_seen": "new vendor seen by the first bundle's predictor",
    "composition_error": "change under the source's own parameters",
}


def versus(bench: Bench, others: Mapping[str, Bench]) -> Section:
    """A table with one column per bundle, differences to the first with Holm-adjusted p."""
    first = _values(bench, bench)
    seen = {name: _values(other, bench) for name, other in others.items()}
    figures: Figures = {}
    rows: list[tuple[Cell, ...]] = []
    tests: list[float] = []
    for key, label in COMPARED.items():
        figures[f"{key}_this"] = Figure(mean_over_women(first[key]), "editor")
        row: list[Cell] = [label, figures[f"{key}_this"]]
        for name, values in seen.items():
            difference, p = paired_difference(first[key], values[key])
            figures[f"{key}_{name}"] = Figure(mean_over_women(values[key]), f"versus_{name}")
            figures[f"{key}_this_less_{name}"] = Figure(difference, f"versus_{name}")
            row += [figures[f"{key}_{name}"], figures[f"{key}_this_less_{name}"], ""]
            tests.append(p)
        rows.append(tuple(row))
    adjusted = iter(holm(tests))
    rows = [tuple(f"{next(adjusted):.3g}" if cell == "" else cell for cell in row) for row in rows]
    columns = ["figure", "this bundle"]
    for name in seen:
        columns += [name, f"this less {name}", "p (Holm)"]
    return Section(
        name="versus",
        title="Beside other bundles",
        question="Does this bundle do better than the others on the same slices?",
        method="The same pairs, every bundle with its own settings, all judged by this bundle's predictor and "
        "segmenter. "
        "Differences are paired by woman; p: sign-flip permutation test over women, adjusted for all comparisons "
        "(Holm).",
        caveats=("A judge that was trained with one of the bundles may favour it.",),
        figures={"versus": figures},
        tables=(Table("Paired comparison", tuple(columns), tuple(rows)),),
    )


def _values(bench: Bench, judge: Bench) -> dict[str, PerWoman]:
    pairs = bench.pairs
    values = pair_values(bench)
    true = bench.labels([p.source for p in pairs])[:, 0]
    breast = breast_of(judge, [p.source for p in pairs])
    seen = judged(judge, bench.edited_pairs).values
    moved = [i for i, p in enumerate(pairs) if p.source.iap["Manufacturer"] != p.target.iap["Manufacturer"]]
    hits = {p.woman: [float("nan")] for p in pairs}
    hits |= per_woman(
        [pairs[i] for i in moved],
        [float(seen[i]["Manufacturer"] == pairs[i].target.iap["Manufacturer"]) for i in moved],
    )
    change = region_mean((bench.unchanged - bench.sources(pairs)).abs(), breast)
    found = {key: values[key] for key in ("gap_closed", "ssim_to_target")}
    found["dice"] = tissue_dice([p.woman for p in pairs], judge.segmented(bench.edited_pairs), true)
    return {**found, "vendor_seen": hits, "composition_error": per_woman(pairs, change.tolist())}


def beside(bench: Bench, pipeline: Pipeline, settings: Settings) -> Bench:
    """Another bundle on the same slices.

    Raises
    ------
    ValueError
        When it was trained with another vocabulary or preprocessing.
    """
    for fact in ("vocabulary", "preprocessing"):
        if getattr(pipeline, fact) != getattr(bench.pipeline, fact):
            raise ValueError(
                f"{pipeline.bundle.name} has another {fact} than {bench.pipeline.bundle.name}: they can't be compared"
            )
    return replace(bench, pipeline=pipeline, settings=settings)

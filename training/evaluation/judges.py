"""The two networks that judge, on real (or truly simulated) slices: Table 1 and the first row of Table 3.

Whatever a later section says about counterfactuals is worth no more than what this one says about its judges.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from reacquire.engine import CLASSES
from reacquire.iap import Categorical
from training.cache import Row
from training.evaluation import paper
from training.evaluation.bench import BATCH, Bench, images_of
from training.evaluation.document import Figure, Figures, Section, Table
from training.evaluation.readings import read, readable
from training.overlap import woman_scores
from training.split import RARE
from training.statistics import mean_over_women, pooled_ratio

UNITS = {"FlipAngle": "deg²", "SliceThickness": "mm²", "EchoTime": "ms²", "RepetitionTime": "ms²"}
Groups = Mapping[int, list[float]]


def judges(bench: Bench) -> Section:
    """Table 1, and Table 3 for a segmenter that saw both vendors."""
    readings = predictor_readings(bench)
    predictor, categories = predictor_figures(bench, readings), category_figures(bench, readings)
    masked = [row for row in bench.rows if row.masked]
    segmenter = segmenter_figures(bench, masked) if masked else {}
    return Section(
        name="judges",
        title="The judges: parameter predictor and segmenter (Tables 1 and 3)",
        question="How well do the two networks that judge the counterfactuals work on ordinary slices?",
        method="Predictor: one answer per slice; mean over women of the mean over a woman's slices. Segmenter: Dice "
        "over all "
        "slices of a woman together (3D), then the mean over women. legacy_recall and legacy_mean_dice_per_slice "
        "are what the "
        "paper's code prints as accuracy and mean Dice: the recall of a class, and the mean of the classes that a "
        "slice happens "
        "to have.",
        caveats=(
            "The paper's column was measured on Duke's patients.",
            "On slices without gland legacy_mean_dice_per_slice counts fat alone, so it exceeds the mean of both "
            "tissues.",
        ),
        figures={"predictor": predictor, "predictor_by_category": categories, "segmenter": segmenter},
        tables=(_table_1(predictor), _by_category(bench, categories), *((_table_3(segmenter),) if segmenter else ())),
    )


def predictor_readings(bench: Bench) -> list[Mapping[str, str | float]]:
    """What the predictor reads from every row of the bench, by keyword."""
    return [
        value
        for i in range(0, len(bench.rows), BATCH)
        for value in read(
            bench.pipeline.predictor, images_of(bench.cache.images, bench.rows[i : i + BATCH]), bench.pipeline.device
        ).values
    ]


def predictor_figures(bench: Bench, readings: Sequence[Mapping[str, str | float]]) -> Figures:
    """Accuracy per category and mean squared error per number (paper, eq. 3 and 4)."""
    figures = {}
    for parameter in readable(bench.pipeline.predictor):
        key = parameter.keyword
        known = [(row, seen[key]) for row, seen in zip(bench.rows, readings, strict=True) if key in row.iap]
        groups: dict[int, list[float]] = defaultdict(list)
        categorical = isinstance(parameter, Categorical)
        for row, seen in known:
            right = seen == row.iap[key] if categorical else (float(seen) - float(row.iap[key])) ** 2
            groups[row.woman].append(float(right))
        name = f"{'accuracy' if categorical else 'mse'}_{key}"
        figures[name] = Figure(mean_over_women(groups), "judges", UNITS.get(key, ""))
    return figures


def category_figures(bench: Bench, readings: Sequence[Mapping[str, str | float]]) -> Figures:
    """The share of slices of each category that are read as it; rare ones would vanish in the mean over all women."""
    groups: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row, seen in zip(bench.rows, readings, strict=True):
        for parameter in readable(bench.pipeline.predictor):
            key = parameter.keyword
            if isinstance(parameter, Categorical) and key in row.iap:
                groups[f"{key}/{row.iap[key]}"][row.woman].append(float(seen[key] == row.iap[key]))
    return {name: Figure(mean_over_women(groups[name]), "judges") for name in sorted(groups)}


def segmenter_figures(bench: Bench, rows: Sequence[Row]) -> Figures:
    """Dice per tissue and woman, true accuracy, and the paper's legacy definitions."""
    groups: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    by_woman: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_woman[row.woman].append(row)
    for woman, mates in by_woman.items():
        found, true = bench.segmented(images_of(bench.cache.images, mates)), bench.labels(mates)[:, 0]
        for name, value in woman_scores(found, true).items():
            groups[name][woman].append(value)
    figures = {
        name: Figure(mean_over_women(groups[name]), "judges")
        for name in groups
        if not name.startswith(("hits", "size"))
    }
    for label in CLASSES:
        ratio = pooled_ratio(groups[f"hits_{label}"], groups[f"size_{label}"])
        figures[f"legacy_recall_{label}"] = Figure(ratio, "judges")
    return figures


def _table_1(figures: Figures) -> Table:
    rows = []
    for name, figure in figures.items():
        kind, _, key = name.partition("_")
        printed = paper.TABLE_1.get(key)
        shown = "not given" if printed is None else f"{printed / 100:.3f}" if kind == "accuracy" else f"{printed:.3f}"
        rows.append((key, "accuracy" if kind == "accuracy" else "mean squared error", figure, shown))
    return Table(
        "Reading the parameters from the pixels", ("parameter", "figure", "ours", "paper, Table 1"), tuple(rows)
    )


def _by_category(bench: Bench, figures: Figures) -> Table:
    """Each category with the number of women in the whole cohort who have it, the rarest first."""
    women: dict[str, set[int]] = defaultdict(set)
    for row in bench.cache.rows:
        for key, value in row.iap.items():
            women[f"{key}/{value}"].add(row.woman)
    rows = []
    for name in sorted(figures, key=lambda name: (len(women[name]), name)):
        having = len(women[name])
        key, category = name.split("/", 1)
        rows.append((key, category, figures[name], f"{having} (rare)" if having <= RARE else str(having)))
    note = f"Rare: at most {RARE} women of the cohort have it, so that it can't be in training, validation and test."
    return Table(
        "Category by category", ("parameter", "category", "accuracy", "women in the cohort"), tuple(rows), note
    )


def _table_3(figures: Figures) -> Table:
    printed = dict(zip(paper.TABLE_3_COLUMNS, paper.TABLE_3[0], strict=True))
    background, fat, gland = CLASSES
    legacy = {
        f"legacy_recall_{background}": "acc. background %",
        f"legacy_recall_{fat}": "acc. fat %",
        f"legacy_recall_{gland}": "acc. gland %",
        f"dice_{fat}": "Dice fat",
        f"dice_{gland}": "Dice gland",
        "legacy_mean_dice_per_slice": "mean Dice",
    }
    rows = tuple(
        (name, figure, f"{printed[legacy[name]]} ({legacy[name]})" if name in legacy else "not given")
        for name, figure in sorted(figures.items())
    )
    note = "The paper's Dice is over slices, ours over women. Fat here is all breast tissue that is not gland."
    return Table("Segmentation, both vendors", ("figure", "ours", "paper, Table 3, row Both"), rows, note)

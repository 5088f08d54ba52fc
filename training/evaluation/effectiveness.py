"""Did the edit arrive, as the predictor sees it? Tables 2 and 5 as the paper counts, and corrected for chance."""

from collections.abc import Sequence

from torch import Tensor

from reacquire.iap import Categorical
from reacquire.iap.vocabulary import Parameter
from training.evaluation import paper
from training.evaluation.bench import Bench, Pair, changed, per_woman
from training.evaluation.document import Figure, Figures, Table
from training.evaluation.judges import UNITS
from training.evaluation.readings import Readings, read, readable
from training.statistics import mean_over_women, pooled_ratio


def judged(bench: Bench, images: Tensor) -> Readings:
    return read(bench.pipeline.predictor, images, bench.pipeline.device)


def effectiveness(bench: Bench) -> tuple[dict[str, Figures], tuple[Table, ...]]:
    """Figures by group, and Tables 2 and 5."""
    shuffled = {"without": judged(bench, bench.sources(bench.shuffled)), "edited": judged(bench, bench.edited_shuffled)}
    legacy = {
        **_legacy_scores(bench, shuffled),
        **_gains("legacy_gain", bench.shuffled, shuffled["without"], shuffled["edited"], only_changed=False),
    }
    pairs = bench.asked
    seen = {"before": judged(bench, bench.sources(pairs)), "after": judged(bench, bench.edited)}
    if bench.pairs:
        seen["true"] = judged(bench, bench.targets(pairs))
    own = _changed_scores(bench, pairs, seen)
    own |= _gains("gain_changed", pairs, seen["before"], seen["after"], only_changed=True)
    if "true" in seen:
        own |= _gains("gain_true_target", pairs, seen["before"], seen["true"], only_changed=True)
    held_against = paper.setting_of(bench.settings.record(bench.pipeline.editor.setup))
    tables = _table_2(legacy, own), _table_5(legacy, held_against), _table_corrected(own, held_against)
    return {"legacy": legacy, "editor": own}, tables


def _legacy_scores(bench: Bench, seen: dict[str, Readings]) -> Figures:
    """Table 5: agreement with the shuffled target, whether or not it differs from the source."""
    figures: Figures = {}
    for state, readings in seen.items():
        for parameter in readable(bench.pipeline.predictor):
            key = parameter.keyword
            known = [i for i, p in enumerate(bench.shuffled) if key in p.target.iap]
            pairs = [bench.shuffled[i] for i in known]
            scores = _scores(readings, bench.shuffled, known, parameter)
            name = key if isinstance(parameter, Categorical) else f"mse_{key}"
            figure = Figure(mean_over_women(per_woman(pairs, scores)), "shuffled", UNITS.get(key, ""))
            figures[f"legacy_effectiveness_{state}_{name}"] = figure
    return figures


def _scores(readings: Readings, pairs: Sequence[Pair], where: Sequence[int], parameter: Parameter) -> list[float]:
    """Of the pairs ``where``: 1 or 0 for the target's category read or not, the squared error of a number."""
    key = parameter.keyword
    couples = [(readings.values[i][key], pairs[i].target.iap[key]) for i in where]
    if isinstance(parameter, Categorical):
        return [float(seen == wanted) for seen, wanted in couples]
    return [(float(seen) - float(wanted)) ** 2 for seen, wanted in couples]


def _changed_scores(bench: Bench, pairs: Sequence[Pair], seen: dict[str, Readings]) -> Figures:
    """On changed parameters only: agreement before and after, on the true target, and corrected for chance.

    Corrected: what the edit added, as a share of what it could have added, (after - before) / (1 - before). For a
    number: the share of the squared error that was closed, of what lies above the error on the true target.
    """
    figures: Figures = {}
    for parameter in readable(bench.pipeline.predictor):
        key = parameter.keyword
        where = [i for i, pair in enumerate(pairs) if changed(pair, key)]
        if not where:
            continue
        chosen = [pairs[i] for i in where]
        categorical = isinstance(parameter, Categorical)
        scores = {state: _scores(readings, pairs, where, parameter) for state, readings in seen.items()}
        ones = per_woman(chosen, [1.0] * len(where))
        prefix = "effectiveness" if categorical else "mse"
        names = {"before": f"{prefix}_before", "after": f"{prefix}_changed", "true": f"{prefix}_true_target"}
        for state, values in scores.items():
            estimate = pooled_ratio(per_woman(chosen, values), ones)
            figures[f"{names[state]}_{key}"] = Figure(estimate, "editor", "" if categorical else UNITS[key])
        best = [1.0] * len(where) if categorical else scores.get("true", [0.0] * len(where))
        gained = [a - b for a, b in zip(scores["after"], scores["before"], strict=True)]
        possible = [c - b for c, b in zip(best, scores["before"], strict=True)]
        ratio = pooled_ratio(per_woman(chosen, gained), per_woman(chosen, possible))
        figures[f"effectiveness_corrected_{key}"] = Figure(ratio, "editor")
        if categorical and "true" in scores:  # what the predictor would give a real re-scan on the same scale
            reached = [c - b for c, b in zip(scores["true"], scores["before"], strict=True)]
            bar = pooled_ratio(per_woman(chosen, reached), per_woman(chosen, possible))
            figures[f"effectiveness_ceiling_{key}"] = Figure(bar, "editor")
    return figures


def _gains(name: str, pairs: Sequence[Pair], before: Readings, after: Readings, *, only_changed: bool) -> Figures:
    """Counterfactual prediction gain (paper, eq. 9): E[C(cf) - C(x)], C the probability of the target's category."""
    figures = {}
    for parameter in readable(before.predictor):
        key = parameter.keyword
        if not isinstance(parameter, Categorical):
            continue
        where = [i for i, p in enumerate(pairs) if (changed(p, key) if only_changed else key in p.target.iap)]
        if not where:
            continue
        targets = [pairs[i].target.iap for i in where]
        part = [Readings(r.predictor, tuple(r.values[i] for i in where), r.outputs[where]) for r in (before, after)]
        gain = part[1].probability(key, targets) - part[0].probability(key, targets)
        grouped = per_woman([pairs[i] for i in where], gain.tolist())
        figures[f"{name}_{key}"] = Figure(mean_over_women(grouped), "editor" if only_changed else "shuffled")
    return figures


def _table_2(legacy: Figures, own: Figures) -> Table:
    keys = [name.removeprefix("legacy_gain_") for name in legacy if name.startswith("legacy_gain_")]
    rows = tuple(
        (
            key,
            legacy[f"legacy_gain_{key}"],
            _printed(paper.TABLE_2.get(key)),
            own.get(f"gain_changed_{key}"),
            own.get(f"gain_true_target_{key}"),
        )
        for key in keys
    )
    note = "Eq. 9; the authors' code does not compute it. C is the predictor's probability of the target's category."
    columns = (
        "parameter",
        "legacy_gain: shuffled targets",
        "paper, Table 2",
        "gain where it changes",
        "a true re-scan's gain",
    )
    return Table("Counterfactual prediction gain", columns, rows, note)


def _table_5(legacy: Figures, held_against: tuple[int, float]) -> Table:
    rows = []
    for name, figure in legacy.items():
        if not name.startswith("legacy_effectiveness_without_"):
            continue
        key = name.removeprefix("legacy_effectiveness_without_")
        bare = key.removeprefix("mse_")
        scale = 1.0 if key != bare else 100.0
        values = (paper.table_5(bare, row) for row in (paper.WITHOUT, held_against))
        printed = [_printed(None if value is None else value / scale) for value in values]
        kind = "accuracy" if key == bare else "mean squared error"
        rows.append((bare, kind, figure, printed[0], legacy[f"legacy_effectiveness_edited_{key}"], printed[1]))
    columns = (
        "parameter",
        "figure",
        "legacy, not edited",
        "paper, without",
        "legacy, edited",
        paper.heading(held_against),
    )
    note = "Paper: Table 5. Targets are shuffled among slices, so some equal the source: agreement by chance is inside."
    return Table("Agreement with the target, as the paper counts", columns, tuple(rows), note)


def _table_corrected(own: Figures, held_against: tuple[int, float]) -> Table:
    rows = []
    for name, figure in own.items():
        if not name.startswith("effectiveness_corrected_"):
            continue
        key = name.removeprefix("effectiveness_corrected_")
        prefix = "effectiveness" if f"effectiveness_changed_{key}" in own else "mse"
        printed = _printed(paper.corrected(key, held_against))
        states = (own.get(f"{prefix}_{state}_{key}") for state in ("before", "changed", "true_target"))
        rows.append((key, "hit" if prefix == "effectiveness" else "squared error", *states, figure, printed))
    columns = (
        "changed parameter", "figure", "source", "counterfactual", "true target", "corrected",
        f"{paper.heading(held_against)}, Table 5 corrected",
    )  # fmt: skip
    note = (
        "Corrected = (counterfactual - source) / (best - source): 0 is no better than not editing, 1 as good as "
        "possible. "
        "For the paper best is 100 %, or for numbers the error of its Table 1."
    )
    return Table("Agreement where the parameter changes, corrected for chance", columns, tuple(rows), note)


def _printed(value: float | None) -> str:
    return "not given" if value is None else f"{value:.3f}"

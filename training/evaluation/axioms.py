"""What any counterfactual must obey (Monteiro et al. 2023): doing nothing does nothing, undoing undoes, the anatomy and
what was not asked for stay."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from reacquire.engine import CLASSES
from reacquire.iap import Categorical, Record
from reacquire.iap.vocabulary import Parameter
from reacquire.metrics import region_mean
from training.cache import Row
from training.evaluation.bench import Bench, Pair, images_of, per_woman
from training.evaluation.document import Cell, Figure, Figures, Section, Table
from training.evaluation.effectiveness import judged
from training.evaluation.readings import Readings, readable
from training.overlap import tissue_dice
from training.statistics import mean_over_women, paired_difference, pooled_ratio

REPEATS = 5


def axioms(bench: Bench) -> Section:
    """Composition, reversibility, anatomy and amplification."""
    figures, steps = _composition(bench)
    back = _reversibility(bench)
    anatomy = _anatomy(bench)
    drift, matrix = amplification(bench)
    return Section(
        name="axioms",
        title="Does everything else stay? Composition, reversibility, anatomy, unchanged parameters",
        question="Are the woman's anatomy and the parameters that were not asked for left alone?",
        method="Composition: the slice edited to its own parameters, again and again; mean absolute change inside "
        "the breast in "
        "units of the normalised image. Reversibility: edited to the target and back. Anatomy: Dice of the bundle's "
        "segmenter, "
        "unchanged, on the edited slice against the true labels, each tissue over all slices of a woman together, then "
        "the mean of both; what is lost is the difference to the true re-scan (without one: to the source), paired by "
        "woman. The gland's area is summed over a woman's slices and compared from source to edit. "
        "Amplification: one parameter of a slice is changed alone; each row of the matrix says what "
        "the predictor then sees move, against an edit to the slice's own parameters.",
        caveats=(
            "The segmenter has a mistake of its own: its Dice on true re-scans is the bar, not 1.",
            "In the matrix a number is a change in standard deviations of the cohort, a category the share of "
            "slices whose "
            "reading changes. The diagonal should be near what was asked, all else near 0.",
            "In real protocols parameters move together, so a single change lies outside what most scanners do.",
        ),
        figures={"editor": {**figures, **back, **anatomy}, "amplification": drift},
        tables=(steps, _kept_table(back, anatomy), matrix),
    )


def breast_of(bench: Bench, rows: Sequence[Row]) -> Tensor:
    """(N, 1, S, S) bool: the true breast, or what the segmenter takes for it on the real slice where it is unknown."""
    known = torch.tensor([row.masked for row in rows]).view(-1, 1, 1, 1)
    labels = bench.labels(rows) > 0
    if known.all():
        return labels
    seen = bench.segmented(images_of(bench.cache.images, rows))[:, None] > 0
    return torch.where(known, labels, seen)


def _composition(bench: Bench) -> tuple[Figures, Table]:
    pairs = bench.asked
    source, breast = bench.sources(pairs), breast_of(bench, [p.source for p in pairs])
    once = region_mean((bench.unchanged - source).abs(), breast)
    figures = {"composition_error": Figure(mean_over_women(per_woman(pairs, once.tolist())), "editor")}
    first = [next(i for i, p in enumerate(pairs) if p.woman == woman) for woman in sorted({p.woman for p in pairs})]
    few, image = [pairs[i] for i in first], bench.unchanged[first]
    rows: list[tuple[Cell, ...]] = []
    for repeat in range(1, REPEATS + 1):
        if repeat > 1:
            image = bench.edit(image, few, own=True, salt=repeat, what=f"own parameters, time {repeat}")
        error = region_mean((image - source[first]).abs(), breast[first])
        name = f"composition_error_{repeat}x"
        figures[name] = Figure(mean_over_women(per_woman(few, error.tolist())), "editor")
        rows.append((f"edited {repeat}x to its own parameters (one slice a woman)", figures[name]))
    rows.insert(0, ("edited once to its own parameters (all slices)", figures["composition_error"]))
    return figures, Table(
        "Composition: change where none was asked, 0 is right", ("edit", "mean absolute change"), tuple(rows)
    )


def _reversibility(bench: Bench) -> Figures:
    pairs, source = bench.asked, bench.sources(bench.asked)
    breast = breast_of(bench, [p.source for p in pairs])
    returning = [Pair(p.target, p.source) for p in pairs]
    back = bench.edit(bench.edited, returning, salt=1, what="back")
    there, left = (region_mean((image - source).abs(), breast) for image in (bench.edited, back))
    grouped = [per_woman(pairs, v.tolist()) for v in (there, left)]
    return {
        "edit_size": Figure(mean_over_women(grouped[0]), "editor"),
        "reversibility_error": Figure(mean_over_women(grouped[1]), "editor"),
        "reversibility_share_left": Figure(pooled_ratio(grouped[1], grouped[0]), "editor"),
    }


def _anatomy(bench: Bench) -> Figures:
    where = [i for i, p in enumerate(bench.asked) if p.source.masked and (p.target.masked or not bench.pairs)]
    pairs = [bench.asked[i] for i in where]
    if not pairs:
        return {}
    own = bench.labels([p.source for p in pairs])[:, 0]
    true = {"counterfactual": own, "source": own}
    found = {"counterfactual": bench.segmented(bench.edited[where]), "source": bench.segmented(bench.sources(pairs))}
    if bench.pairs:
        found["true_target"] = bench.segmented(bench.targets(pairs))
        true["true_target"] = bench.labels([p.target for p in pairs])[:, 0]
    scores = {name: tissue_dice([p.woman for p in pairs], found[name], true[name]) for name in found}
    figures = {f"dice_{name}": Figure(mean_over_women(values), "editor") for name, values in scores.items()}
    lost, _ = paired_difference(scores["true_target" if bench.pairs else "source"], scores["counterfactual"])
    figures["dice_lost"] = Figure(lost, "editor")
    gland = {name: (labels == len(CLASSES) - 1).sum((1, 2)).double() for name, labels in found.items()}
    wholes = per_woman(pairs, gland["source"].tolist())
    for name in found.keys() - {"source"}:
        change = per_woman(pairs, (gland[name] - gland["source"]).tolist())
        per = {w: [sum(change[w]) / sum(wholes[w])] if sum(wholes[w]) else [float("nan")] for w in wholes}
        figures[f"gland_change_{name}"] = Figure(mean_over_women(per), "editor")
    return figures


def _kept_table(back: Figures, anatomy: Figures) -> Table:
    labels = {
        "edit_size": "size of the edit, mean absolute change inside the breast",
        "reversibility_error": "change left after editing back",
        "reversibility_share_left": "the same as a share of the edit, 0 is right",
        "dice_counterfactual": "Dice on the edited slice",
        "dice_true_target": "Dice on the true re-scan",
        "dice_source": "Dice on the source",
        "dice_lost": "Dice lost by the edit: true re-scan (without one: source) less edited slice, 0 is right",
        "gland_change_counterfactual": "relative change of the gland's area, source to edit, 0 is right",
        "gland_change_true_target": "the same, source to true re-scan",
    }
    found = {**back, **anatomy}
    rows = tuple((label, found[name]) for name, label in labels.items() if name in found)
    return Table("Reversibility and anatomy", ("figure", "value"), rows)


def interventions(bench: Bench, record: Record) -> dict[str, Record]:
    """Records that differ from ``record`` in one parameter each: a number at the far end of its range among the
    cohort's slices of that vendor, a category at the vendor's most frequent other one."""
    mates = [r.iap for r in bench.rows if r.iap.get("Manufacturer") == record.get("Manufacturer")]
    found: dict[str, Record] = {}
    for parameter in bench.pipeline.editor.encoding.parameters:
        key = parameter.keyword
        values = sorted(m[key] for m in mates if key in m)
        if key == "Manufacturer" or key not in record or not values:
            continue
        if isinstance(parameter, Categorical):
            others = [v for v in values if v != record[key] and v not in bench.pipeline.bundle.unseen.get(key, ())]
            wanted = max(sorted(set(others), key=str), key=others.count) if others else record[key]
        else:
            wanted = max((values[0], values[-1]), key=lambda v: abs(float(v) - float(record[key])))
        if wanted != record[key]:
            found[key] = {**record, key: wanted}
    return found


def amplification(bench: Bench) -> tuple[Figures, Table]:
    """What the predictor sees move when one parameter is edited alone, one slice a woman."""
    rows = list({row.woman: row for row in reversed(bench.rows)}.values())[::-1]
    asked = [(row, key, record) for row in rows for key, record in interventions(bench, row.iap).items()]
    if not asked:
        return {}, Table("Amplification", (), (), "No parameter has another value on the same vendor's slices.")
    images = images_of(bench.cache.images, rows)
    seeds = [row.index for row in rows]
    base = judged(bench, bench.edit_records(images, [r.iap for r in rows], [r.iap for r in rows], seeds))
    at = {row.woman: i for i, row in enumerate(rows)}
    edited = bench.edit_records(
        images[[at[row.woman] for row, _, _ in asked]],
        [row.iap for row, _, _ in asked],
        [record for _, _, record in asked],
        [row.index for row, _, _ in asked],
        what="one parameter alone",
    )
    after = judged(bench, edited)
    figures: Figures = {}
    keys = list(dict.fromkeys(key for _, key, _ in asked))
    parameters = readable(bench.pipeline.predictor)
    table = []
    for key in keys:
        where = [i for i, (_, k, _) in enumerate(asked) if k == key]
        line: list[Cell] = [key, _asked_size(bench, key, [(asked[i][0].iap, asked[i][2]) for i in where])]
        for parameter in parameters:
            moved = {asked[i][0].woman: [_moved(parameter, base, at[asked[i][0].woman], after, i)] for i in where}
            figures[f"{key}_to_{parameter.keyword}"] = Figure(mean_over_women(moved), "single")
            line.append(figures[f"{key}_to_{parameter.keyword}"])
        table.append(tuple(line))
    columns = ("changed alone", "asked", *(p.symbol for p in parameters))
    note = "; ".join(f"{p.symbol}: {p.keyword}" for p in parameters)
    return figures, Table("Amplification: what moves when one parameter is changed alone", columns, tuple(table), note)


def _moved(parameter: Parameter, base: Readings, i: int, after: Readings, k: int) -> float:
    before, now = base.values[i][parameter.keyword], after.values[k][parameter.keyword]
    if isinstance(parameter, Categorical):
        return float(before != now)
    return abs(float(now) - float(before)) / parameter.sd


def _asked_size(bench: Bench, key: str, records: Sequence[tuple[Mapping, Mapping]]) -> str:
    parameter = bench.pipeline.vocabulary[key]
    if isinstance(parameter, Categorical):
        return "another category"
    sizes = [abs(float(new[key]) - float(old[key])) / parameter.sd for old, new in records]
    return f"{sum(sizes) / len(sizes):.2f} SD"

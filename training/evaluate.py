"""Measures a bundle on held-out women of a cohort whose truth is known: judges first, then counterfactuals.

Figures with ``_ci_low`` and ``_ci_high`` beside them are means over women (a woman's slices are not independent) with a
95 % bootstrap interval; the predictor's figures, effectiveness and contrast transfer are pooled over slices or pairs.
Squared errors are in the squared unit of the parameter.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from reacquire.engine import CLASSES, Pipeline, Settings
from reacquire.iap import Categorical
from reacquire.jobs.spec import Options
from reacquire.metrics import contrast_transfer, dice, gap_closed, ssim
from training.cache import Row, SliceCache, Split

BATCH = 16
BOOTSTRAPS = 1000
Figures = dict[str, float | int | str | None]


@dataclass(frozen=True)
class Pair:
    """A slice and the row that shows it under other parameters."""

    source: Row
    target: Row


def evaluate(
    pipeline: Pipeline,
    cache: SliceCache,
    *,
    split: Split | Literal["all"] = "test",
    settings: Settings | None = None,
    pairs_per_woman: int = 4,
    tracked: Callable[[Iterable, str], Iterable] = lambda items, _: items,
) -> dict[str, Figures]:
    """Figures of predictor, segmenter and editor on one split, or on all of a cohort that nothing was trained on.

    Raises
    ------
    ValueError
        When the cohort was written without noiseless truth.
    """
    if cache.cleans is None:
        raise ValueError("the cohort has no noiseless truth; write it with reacquire-train cohort --truth")
    rows = cache.rows if split == "all" else cache.split(split)
    settings = settings or Settings.of(Options(), pipeline.editor.setup)
    pairs = draw_pairs(rows, pairs_per_woman)
    return {
        "cohort": {"split": split, "women": len({r.woman for r in rows}), "slices": len(rows), "pairs": len(pairs)},
        "predictor": evaluate_predictor(pipeline, cache, rows),
        "segmenter": evaluate_segmenter(pipeline, cache, [row for row in rows if row.masked]),
        "editor": evaluate_editor(pipeline, cache, pairs, settings, tracked),
    }


def draw_pairs(rows: Sequence[Row], per_woman: int) -> list[Pair]:
    """Up to ``per_woman`` pairs of each woman, under different protocols; the same ones each time."""
    groups: dict[tuple[int, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.woman, row.pair_group].append(row)
    by_woman: dict[int, list[Pair]] = defaultdict(list)
    for (woman, _), mates in sorted(groups.items(), key=lambda item: item[0]):
        by_woman[woman] += [Pair(a, b) for a in mates for b in mates if a is not b]
    rng = np.random.default_rng(0)
    chosen = []
    for woman in sorted(by_woman):
        pairs = by_woman[woman]
        chosen += [pairs[i] for i in sorted(rng.permutation(len(pairs))[:per_woman])]
    return chosen


def evaluate_predictor(pipeline: Pipeline, cache: SliceCache, rows: Sequence[Row]) -> Figures:
    """Top-1 accuracy per categorical and mean squared error per continuous parameter (paper, Table 1), per slice."""
    records = [
        pipeline.predictor.read(output[None]).values
        for batch in _batched(rows)
        for output in pipeline.predictor.outputs(_images(cache.images, batch).to(pipeline.device))
    ]
    figures: Figures = {}
    for parameter in pipeline.predictor.encoding.parameters:
        values = [
            (record[parameter.keyword], row.iap[parameter.keyword]) for record, row in zip(records, rows, strict=True)
        ]
        if isinstance(parameter, Categorical):
            figures[f"accuracy_{parameter.keyword}"] = float(np.mean([p == t for p, t in values]))
        else:
            figures[f"mse_{parameter.keyword}"] = float(np.mean([(float(p) - float(t)) ** 2 for p, t in values]))
    return figures


def evaluate_segmenter(pipeline: Pipeline, cache: SliceCache, rows: Sequence[Row]) -> Figures:
    """Dice per tissue, pooled over each woman's slices, then the mean over women with its interval."""
    per_woman = defaultdict(list)
    for batch in _batched(rows):
        predicted = _labels(pipeline, _images(cache.images, batch))
        for row, labels in zip(batch, predicted, strict=True):
            per_woman[row.woman].append((labels, torch.from_numpy(cache.labels[row.index].astype(np.int64))))
    scores = torch.stack(
        [dice(*map(torch.stack, zip(*pairs, strict=True)), classes=len(CLASSES)) for pairs in per_woman.values()]
    )
    return {
        key: value
        for i, name in enumerate(CLASSES[1:], start=1)
        for key, value in _with_interval(f"dice_{name}", scores[:, i].numpy()).items()
    }


def evaluate_editor(
    pipeline: Pipeline,
    cache: SliceCache,
    pairs: Sequence[Pair],
    settings: Settings,
    tracked: Callable[[Iterable, str], Iterable] = lambda items, _: items,
) -> Figures:
    """Gap closed and its ceiling, contrast transfer, effectiveness, anatomy and composition of counterfactuals.

    The gap is also split by what the pair changed (``changes``), and given as a ratio of sums over all pairs
    (``_pooled``), in which pairs that hardly differ have little say.
    """
    per_woman: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    pooled = defaultdict(list)
    seconds = 0.0
    for batch in tracked(_batched(pairs), "batches of pairs"):
        source, target, clean, labels = _pair_tensors(cache, batch)
        started = time.monotonic()
        edited = _edit(pipeline, batch, source, [p.target.iap for p in batch], settings)
        seconds += time.monotonic() - started
        same = _edit(pipeline, batch, source, [p.source.iap for p in batch], settings)
        breast = labels > 0
        figures = _batch_figures(pipeline, (source, target, clean, edited, same), labels)
        for name, values in figures.items():
            for pair, value in zip(batch, values.tolist(), strict=True):
                per_woman[name][pair.source.woman].append(value)
                if name in ("gap_closed", "gap_ceiling"):
                    for change in changes(pair):
                        per_woman[f"{name}_{change}"][pair.source.woman].append(value)
        for name, part in (("source", source), ("clean", clean), ("edited", edited), ("labels", labels)):
            pooled[name].append(part)
        pooled["left"] += _inside((edited - clean).abs(), breast).tolist()
        pooled["gap"] += _inside((source - clean).abs(), breast).tolist()
        _count_hits(pipeline, edited, batch, pooled)
    result: Figures = {**settings.record(pipeline.editor.setup), "seconds_per_slice": seconds / max(len(pairs), 1)}
    for name, women in per_woman.items():
        result |= _with_interval(name, np.array([np.nanmean(values) for values in women.values()]))
    result["gap_closed_pooled"] = 1 - float(np.sum(pooled["left"]) / np.sum(pooled["gap"]))
    source, clean, edited, labels = (torch.cat(pooled[n]) for n in ("source", "clean", "edited", "labels"))
    for i, name in enumerate(CLASSES[1:], start=1):
        result[f"contrast_transfer_{name}"] = float(contrast_transfer(edited, source, clean, labels == i))
    for keyword in sorted(key for key in pooled if key.startswith("hit_")):
        result[f"effectiveness_changed_{keyword.removeprefix('hit_')}"] = float(np.mean(pooled[keyword]))
    return result


def changes(pair: Pair) -> list[str]:
    """What sets the two members of a pair apart: the vendor, the field within a vendor, or just one number."""
    before, after = pair.source.iap, pair.target.iap
    changed = {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}
    if "Manufacturer" in changed:
        return ["other_vendor"]
    names = ["same_vendor"]
    if "MagneticFieldStrength" in changed:
        names.append("other_field")
    if len(changed) == 1:
        names.append("single_parameter")
    return names


def _batch_figures(pipeline: Pipeline, images: tuple[Tensor, ...], labels: Tensor) -> dict[str, Tensor]:
    """Per pair (B,); ``images`` are source, target, noiseless target, counterfactual, and the edit to the source's own
    parameters."""
    source, target, clean, edited, same = images
    breast, truth = labels > 0, labels[:, 0]
    return {
        "gap_closed": gap_closed(edited, clean, source, breast),
        "gap_ceiling": gap_closed(target, clean, source, breast),
        "ssim_to_source": ssim(edited, source),
        "ssim_to_target": ssim(edited, target),
        "ssim_source_to_target": ssim(source, target),
        "composition_error": _inside((same - source).abs(), breast),
        "noise_level": _inside((target - clean).abs(), breast),
        "dice_counterfactual": _breast_dice(pipeline, edited, truth),
        "dice_true_target": _breast_dice(pipeline, target, truth),
    }


def _count_hits(pipeline: Pipeline, edited: Tensor, batch: Sequence[Pair], pooled: dict[str, list]) -> None:
    """Whether the predictor sees the new category, for the categories that the pair changed."""
    for pair, output in zip(batch, pipeline.predictor.outputs(edited.to(pipeline.device)), strict=True):
        seen = pipeline.predictor.read(output[None]).values
        for parameter in pipeline.vocabulary.parameters:
            keyword = parameter.keyword
            if isinstance(parameter, Categorical) and pair.source.iap[keyword] != pair.target.iap[keyword]:
                pooled[f"hit_{keyword}"].append(seen[keyword] == pair.target.iap[keyword])


def _edit(pipeline: Pipeline, batch: Sequence[Pair], source: Tensor, targets: list, settings: Settings) -> Tensor:
    seeds = [pair.source.index * 100_003 + pair.target.index for pair in batch]
    sources = [pair.source.iap for pair in batch]
    return pipeline.editor.edit(source.to(pipeline.device), targets, seeds, settings, sources=sources).cpu()


def _labels(pipeline: Pipeline, images: Tensor) -> Tensor:
    return pipeline.segmenter.logits(images.to(pipeline.device)).argmax(1).cpu()


def _breast_dice(pipeline: Pipeline, images: Tensor, truth: Tensor) -> Tensor:
    """Mean Dice of the two tissues per image, a tissue that neither holds left out."""
    labels = _labels(pipeline, images)
    scores = torch.stack([dice(a, b, classes=len(CLASSES)) for a, b in zip(labels, truth, strict=True)])
    return scores[:, 1:].nanmean(1)


def _inside(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))


def _pair_tensors(cache: SliceCache, batch: Sequence[Pair]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(source, target, noiseless target, labels), each (B, 1, S, S)."""
    if cache.cleans is None:
        raise ValueError("the cohort has no noiseless truth")
    sources, targets = [p.source for p in batch], [p.target for p in batch]
    labels = torch.from_numpy(np.stack([cache.labels[r.index] for r in targets]).astype(np.int64))[:, None]
    return _images(cache.images, sources), _images(cache.images, targets), _images(cache.cleans, targets), labels


def _images(array: np.ndarray, rows: Sequence[Row]) -> Tensor:
    return torch.from_numpy(np.stack([array[row.index] for row in rows]).astype(np.float32))[:, None]


def _batched(items: Sequence) -> Iterable[Sequence]:
    return (items[i : i + BATCH] for i in range(0, len(items), BATCH))


def _with_interval(name: str, per_woman: np.ndarray) -> Figures:
    """Mean over women and the 95 % percentile bootstrap interval of that mean."""
    values = per_woman[np.isfinite(per_woman)]
    if not len(values):  # no woman has the tissue
        return {name: None, f"{name}_ci_low": None, f"{name}_ci_high": None}
    rng = np.random.default_rng(0)
    means = rng.choice(values, (BOOTSTRAPS, len(values))).mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return {name: float(values.mean()), f"{name}_ci_low": float(low), f"{name}_ci_high": float(high)}

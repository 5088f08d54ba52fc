"""Paired truth: the same woman and slice under the target's parameters, as the simulator knows it."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from reacquire.engine import CLASSES
from reacquire.metrics import gap_closed, region_mean, ssim
from training.evaluation.bench import Bench, OfWoman, changes, per_woman
from training.evaluation.document import Figure, Figures, Section, Table
from training.statistics import Estimate, PerWoman, mean_over_women, pooled_ratio

CHANGES = {
    "other_vendor": "another vendor",
    "same_vendor": "same vendor",
    "other_field": "another field strength, same vendor",
    "single_parameter": "one number alone",
}


def truth(bench: Bench) -> Section:
    """Gap closed with its ceiling, contrast transfer per tissue, similarity to the true target."""
    values = pair_values(bench)
    figures: Figures = {
        "seconds_per_slice": Figure(Estimate(bench.seconds_per_slice, np.nan, np.nan, 1, "batches"), "editor", "s")
    }
    figures |= {name: Figure(mean_over_women(v), "editor") for name, v in values.items()}
    figures["gap_closed_pooled"] = Figure(pooled_gap(bench), "editor")
    figures |= transfers(bench)
    return Section(
        name="truth",
        title="Against the truth: how much of the way was really gone",
        question="How near does the edited slice come to the image that the other scanner would have made of this "
        "woman?",
        method="Gap closed: 1 - mean|edit - truth| / mean|source - truth| inside the breast; 1 is perfect, 0 as "
        "good as doing "
        "nothing, below 0 worse. Level L1: the noiseless target with its own reconstruction. L2: the noisy target "
        "as it was "
        "stored. Mean over women of the mean over their pairs. Pooled: the ratio of sums, in which pairs that "
        "hardly differ have "
        "little say. Ceiling of L1: what a real, noisy re-scan scores; of L2: what the noiseless truth scores. "
        "Contrast "
        "transfer: slope of the achieved on the true change of a tissue's mean; 1 means that contrast moved, 0 that "
        "only "
        "texture did.",
        caveats=(
            "Simulated women only; the sections on fresh women and anatomies add level L0 and muscle.",
            "When one number alone changes, images hardly differ and their noise decides: even a re-scan scores low.",
        ),
        figures={"editor": figures},
        tables=(_gap_table(figures), _transfer_table(figures), _similarity_table(figures)),
    )


def pair_values(bench: Bench) -> dict[str, PerWoman]:
    """Per figure and woman the values of her pairs."""
    pairs = bench.pairs
    source, target, clean = bench.sources(pairs), bench.targets(pairs), bench.cleans(pairs)
    edited, breast = bench.edited_pairs, bench.labels([p.target for p in pairs]) > 0
    tensors = {
        "gap_closed": gap_closed(edited, clean, source, breast),
        "gap_ceiling": gap_closed(target, clean, source, breast),
        "gap_closed_l2": gap_closed(edited, target, source, breast),
        "gap_ceiling_l2": gap_closed(clean, target, source, breast),
        "ssim_to_source": ssim(edited, source),
        "ssim_to_target": ssim(edited, target),
        "ssim_source_to_target": ssim(source, target),
        "noise_level": region_mean((target - clean).abs(), breast),
    }
    values: dict[str, PerWoman] = {name: per_woman(pairs, v.tolist()) for name, v in tensors.items()}
    for change in CHANGES:
        where = [i for i, pair in enumerate(pairs) if change in changes(pair)]
        for name in ("gap_closed", "gap_ceiling"):
            if where:
                values[f"{name}_{change}"] = per_woman([pairs[i] for i in where], tensors[name][where].tolist())
    return values


def pooled_gap(bench: Bench) -> Estimate:
    """1 - sum of what is left / sum of what there was to close, women resampled."""
    pairs = bench.pairs
    source, clean = bench.sources(pairs), bench.cleans(pairs)
    breast = bench.labels([p.target for p in pairs]) > 0
    gap, left = (region_mean((v - clean).abs(), breast) for v in (source, bench.edited_pairs))
    return pooled_ratio(per_woman(pairs, (gap - left).tolist()), per_woman(pairs, gap.tolist()))


def transfer(women: Sequence[OfWoman], edited: Tensor, source: Tensor, target: Tensor, mask: Tensor) -> Estimate:
    """``reacquire.metrics.contrast_transfer`` with its interval; ``women`` are pairs or anything with a ``woman``."""
    achieved, true = (region_mean(v, mask) - region_mean(source, mask) for v in (edited, target))
    products, squares = (per_woman(women, v.nan_to_num(0).tolist()) for v in (achieved * true, true**2))
    return pooled_ratio(products, squares)


def transfers(bench: Bench) -> Figures:
    pairs = bench.pairs
    labels = bench.labels([p.target for p in pairs])
    images = bench.edited_pairs, bench.sources(pairs), bench.cleans(pairs)
    return {
        f"contrast_transfer_{name}": Figure(transfer(pairs, *images, labels == i), "editor")
        for i, name in enumerate(CLASSES)
        if i
    }


def _gap_table(figures: Mapping[str, Figure]) -> Table:
    rows = [
        ("L1, all pairs", figures["gap_closed"], figures["gap_ceiling"]),
        ("L1, pooled", figures["gap_closed_pooled"], None),
        *(
            (f"L1, {label}", figures[f"gap_closed_{change}"], figures[f"gap_ceiling_{change}"])
            for change, label in CHANGES.items()
            if f"gap_closed_{change}" in figures
        ),
        ("L2, all pairs", figures["gap_closed_l2"], figures["gap_ceiling_l2"]),
    ]
    return Table("Gap closed inside the breast", ("level, pairs", "counterfactual", "ceiling"), tuple(rows))


def _transfer_table(figures: Mapping[str, Figure]) -> Table:
    rows = tuple(
        (k.removeprefix("contrast_transfer_"), v) for k, v in figures.items() if k.startswith("contrast_transfer_")
    )
    return Table("Contrast transfer per tissue, 1 is right", ("tissue", "counterfactual"), rows)


def _similarity_table(figures: Mapping[str, Figure]) -> Table:
    names = {
        "ssim_to_target": "SSIM, edit to true target",
        "ssim_source_to_target": "SSIM, source to true target: doing nothing",
        "ssim_to_source": "SSIM, edit to source",
        "noise_level": "mean absolute noise of a target slice inside the breast",
        "seconds_per_slice": "seconds per slice, 16 slices a batch, this machine",
    }
    return Table("Likeness", ("figure", "value"), tuple((label, figures[name]) for name, label in names.items()))

"""Runs candidates on held-out pairs with several seeds and sums their figures up over women."""

import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import cycle

import numpy as np
import torch
from torch import Tensor

from reacquire.diffusion import derive_seed
from reacquire.engine import Settings
from reacquire.iap import Record
from reacquire.jobs.spec import Options
from training.pareto.candidates import Candidate
from training.pareto.measure import Figures, Reference, band_swap, composition, measure
from training.pareto.pairs import HeldOut
from training.statistics import mean_over_women, pooled_ratio

BATCH = 16


def run_candidate(candidate: Candidate, reference: Reference, seeds: Sequence[int]) -> dict[str, object]:
    """The row of one candidate: figures with intervals over women, over all seeds together, and what they cost.

    A woman's values of all seeds are her sample. ``spread_of_seeds`` is the standard deviation over seeds of the pooled
    gap closed: what the noise alone changes. Composition and bands are measured with the first seed; so is everything
    where nothing is random.
    """
    settings = Settings.of(Options(), candidate.editor.setup)
    pairs = reference.pairs
    used = list(seeds) if candidate.random else list(seeds)[:1]
    figures: Figures = defaultdict(list)
    pooled, seconds = [], 0.0
    for number, seed in enumerate(used):
        started = time.process_time()
        edited = _edit(candidate, pairs, pairs.target_iap, settings, seed)
        seconds += time.process_time() - started
        measured = measure(reference, edited)
        pooled.append(sum(measured["gap_part"]) / sum(measured["gap_whole"]))
        if number == 0:
            same = _edit(candidate, pairs, pairs.source_iap, settings, seed)
            measured |= composition(reference, same) | band_swap(reference, edited)
        for name, values in measured.items():
            figures[name] += values
    return {
        "name": candidate.name,
        "family": candidate.family,
        "settings": settings.record(candidate.editor.setup),
        "evaluations": candidate.editor.method.evaluations(settings),
        "cpu_seconds_per_slice": seconds / (len(pairs) * len(used)),
        "seeds": len(used),
        "spread_of_seeds": float(np.std(pooled)),
        "figures": summed_up(figures, pairs.women),
    }


def summed_up(figures: Figures, women: Sequence[int]) -> dict[str, dict[str, float | int | str | None]]:
    """Estimates by name: ``x_part`` over ``x_whole`` as a ratio of sums, everything else as a mean over women."""
    grouped = {name: _by_woman(values, women) for name, values in figures.items()}
    result = {}
    for name, values in grouped.items():
        if name.endswith("_part"):
            base = name.removesuffix("_part")
            result[f"{base}_pooled"] = pooled_ratio(values, grouped[f"{base}_whole"]).to_dict()
        elif not name.endswith("_whole"):
            result[name] = mean_over_women(values).to_dict()
    return result


def _by_woman(values: Sequence[float], women: Sequence[int]) -> dict[int, list[float]]:
    grouped = defaultdict(list)
    for value, woman in zip(values, cycle(women), strict=False):  # seed after seed, each with all pairs
        grouped[woman].append(value)
    return dict(grouped)


def _edit(candidate: Candidate, pairs: HeldOut, targets: Sequence[Record], settings: Settings, seed: int) -> Tensor:
    parts = []
    for first in range(0, len(pairs), BATCH):
        rows = range(first, min(first + BATCH, len(pairs)))
        edited = candidate.editor.edit(
            pairs.source[first : rows.stop],
            [targets[i] for i in rows],
            [derive_seed(seed, i) for i in rows],
            settings,
            sources=[pairs.source_iap[i] for i in rows],
        )
        parts.append(edited)
    return torch.cat(parts)


def doing_nothing(reference: Reference) -> dict[str, object]:
    """The row of the source itself."""
    return _fixed("nothing (the source)", reference, reference.pairs.source)


def acquiring(reference: Reference) -> dict[str, object]:
    """The row of the true target with its noise: what a perfect method would reach."""
    return _fixed("the real target", reference, reference.pairs.target)


def _fixed(name: str, reference: Reference, images: Tensor) -> dict[str, object]:
    return {
        "name": name,
        "family": "bound",
        "settings": {},
        "evaluations": 0,
        "cpu_seconds_per_slice": 0.0,
        "seeds": 0,
        "spread_of_seeds": 0.0,
        "figures": summed_up(measure(reference, images), reference.pairs.women),
    }

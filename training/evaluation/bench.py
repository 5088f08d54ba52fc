"""What is measured on what: the bundle, the slices and the edits that the sections share, each made once.

An edit is asked for by a source row and a target row. *Pairs* show one woman and slice twice, so the truth is known;
*shuffled* requests take the parameters of another woman, as the paper's evaluation does, and need no pairs.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from reacquire.engine import Pipeline, Settings
from reacquire.iap import Record
from training.cache import Row, SliceCache

BATCH = 16
SHUFFLE_BATCH = 32  # the authors' evaluation permutes targets inside batches of 32
Tracked = Callable[[Iterable, str], Iterable]


@dataclass(frozen=True)
class Pair:
    """A slice and the row that shows what is asked for."""

    source: Row
    target: Row

    @property
    def woman(self) -> int:
        return self.source.woman


@dataclass(frozen=True)
class Bench:
    """One bundle on the rows of one cohort.

    ``rows`` are measured; ``per_woman`` bounds how many edits a woman gets in each kind of request.
    """

    pipeline: Pipeline
    cache: SliceCache
    rows: Sequence[Row]
    settings: Settings
    per_woman: int = 4
    tracked: Tracked = field(default=lambda items, _: items)

    @cached_property
    def pairs(self) -> list[Pair]:
        return draw_pairs(self.rows, self.per_woman)

    @cached_property
    def shuffled(self) -> list[Pair]:
        return draw_shuffled(self.rows, self.per_woman)

    @property
    def asked(self) -> list[Pair]:
        """Pairs where the cohort has any, else shuffled requests."""
        return self.pairs or self.shuffled

    @cached_property
    def edited_pairs(self) -> Tensor:
        """(P, 1, S, S), the pairs' counterfactuals."""
        return self.edit_rows(self.pairs, "pairs")

    @cached_property
    def edited_shuffled(self) -> Tensor:
        return self.edit_rows(self.shuffled, "shuffled targets")

    @property
    def edited(self) -> Tensor:
        """Counterfactuals of ``asked``."""
        return self.edited_pairs if self.pairs else self.edited_shuffled

    @cached_property
    def unchanged(self) -> Tensor:
        """Edits of the sources of ``asked`` to their own parameters."""
        pairs = self.asked
        return self.edit(
            images_of(self.cache.images, [p.source for p in pairs]), pairs, own=True, what="own parameters"
        )

    @cached_property
    def seconds_per_slice(self) -> float:
        """Of one batch of edits, on this machine."""
        pairs = self.asked[:BATCH]
        source = images_of(self.cache.images, [p.source for p in pairs])
        started = time.monotonic()
        self.edit(source, pairs)
        return (time.monotonic() - started) / max(len(pairs), 1)

    def sources(self, pairs: Sequence[Pair]) -> Tensor:
        return images_of(self.cache.images, [p.source for p in pairs])

    def targets(self, pairs: Sequence[Pair]) -> Tensor:
        return images_of(self.cache.images, [p.target for p in pairs])

    def cleans(self, pairs: Sequence[Pair]) -> Tensor:
        """Noiseless targets.

        Raises
        ------
        ValueError
            When the cohort has none.
        """
        if self.cache.cleans is None:
            raise ValueError("the cohort has no noiseless truth; write it with reacquire-train cohort --truth")
        return images_of(self.cache.cleans, [p.target for p in pairs])

    def labels(self, rows: Sequence[Row]) -> Tensor:
        """(N, 1, S, S) int64 true labels."""
        return torch.from_numpy(np.stack([self.cache.labels[r.index] for r in rows]).astype(np.int64))[:, None]

    def edit_rows(self, pairs: Sequence[Pair], what: str = "") -> Tensor:
        return self.edit(self.sources(pairs), pairs, what=what)

    def edit(
        self, images: Tensor, pairs: Sequence[Pair], *, own: bool = False, salt: int = 0, what: str = ""
    ) -> Tensor:
        """Edit ``images`` from the source rows' parameters to the targets', or with ``own`` to the sources' own.

        ``salt`` gives repeated edits of one slice other noise.
        """
        targets = [p.source.iap if own else p.target.iap for p in pairs]
        seeds = [p.source.index * 100_003 + p.target.index + 7919 * salt for p in pairs]
        return self.edit_records(images, [p.source.iap for p in pairs], targets, seeds, what=what)

    def edit_records(
        self,
        images: Tensor,
        sources: Sequence[Record],
        targets: Sequence[Record],
        seeds: Sequence[int],
        *,
        what: str = "",
    ) -> Tensor:
        """(N, 1, S, S) counterfactuals of images with any parameters, batch by batch."""
        starts = range(0, len(images), BATCH)
        parts = []
        for i in self.tracked(starts, f"editing: {what}") if what else starts:
            span = slice(i, i + BATCH)
            parts.append(
                self.pipeline.editor.edit(
                    images[span].to(self.pipeline.device),
                    targets[span],
                    seeds[span],
                    self.settings,
                    sources=sources[span],
                ).cpu()
            )
        return torch.cat(parts) if parts else images

    def segmented(self, images: Tensor) -> Tensor:
        """(N, S, S) labels by the bundle's segmenter."""
        logits = self.pipeline.segmenter.logits
        return torch.cat([logits(part.to(self.pipeline.device)).argmax(1).cpu() for part in images.split(BATCH)])


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


def draw_shuffled(rows: Sequence[Row], per_woman: int) -> list[Pair]:
    """Up to ``per_woman`` slices of each woman with targets permuted in batches, as the authors do (row 12 of
    docs/paper.md): a target may equal its source."""
    rng = np.random.default_rng(1)
    by_woman: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_woman[row.woman].append(row)
    sources = [mates[i] for _, mates in sorted(by_woman.items()) for i in rng.permutation(len(mates))[:per_woman]]
    sources = [sources[i] for i in rng.permutation(len(sources))]
    pairs = []
    for start in range(0, len(sources), SHUFFLE_BATCH):
        batch = sources[start : start + SHUFFLE_BATCH]
        pairs += [Pair(source, batch[i]) for source, i in zip(batch, rng.permutation(len(batch)), strict=True)]
    return pairs


def changed(pair: Pair, keyword: str) -> bool:
    """Whether the pair asks for another value, both being known."""
    before, after = pair.source.iap.get(keyword), pair.target.iap.get(keyword)
    return before is not None and after is not None and before != after


def changes(pair: Pair) -> list[str]:
    """What sets the two members of a pair apart: the vendor, the field within a vendor, or just one number."""
    before, after = pair.source.iap, pair.target.iap
    different = {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}
    if "Manufacturer" in different:
        return ["other_vendor"]
    names = ["same_vendor"]
    if "MagneticFieldStrength" in different:
        names.append("other_field")
    if len(different) == 1:
        names.append("single_parameter")
    return names


def images_of(array: np.ndarray, rows: Sequence[Row]) -> Tensor:
    """(N, 1, S, S) float32 slices of a cache's array."""
    return torch.from_numpy(np.stack([array[row.index] for row in rows]).astype(np.float32))[:, None]


class OfWoman(Protocol):
    """Anything that belongs to a woman: a pair, a re-scan."""

    @property
    def woman(self) -> Any: ...


def per_woman(items: Sequence[OfWoman], values: Iterable[float]) -> dict[Any, list[float]]:
    """One value per item, by woman."""
    grouped: dict[Any, list[float]] = defaultdict(list)
    for item, value in zip(items, values, strict=True):
        grouped[item.woman].append(float(value))
    return dict(grouped)

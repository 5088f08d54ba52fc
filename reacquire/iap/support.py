"""How far a parameter set lies from anything that the weights were trained on: a score and its reasons.

A bundle lists every scanner of its training cohort, that is each combination of categories, with the range of each
number seen on it (``reacquire.bundles.manifest.TrainedScanner``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

from reacquire.iap.vocabulary import Continuous, Record, Value, Vocabulary

NEVER = "this combination of scanner, field strength and scan options was never trained on"


class Trained(Protocol):
    """One scanner of the training cohort."""

    @property
    def categories(self) -> Mapping[str, Value]: ...

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]: ...


@dataclass(frozen=True)
class Support:
    """``score`` 1: inside what was trained on; 0: a combination of categories that training never saw, or a number a
    whole range away. ``notes`` say why it is below 1."""

    score: float
    notes: tuple[str, ...] = ()


def support_of(record: Record, trained: Sequence[Trained], vocabulary: Vocabulary) -> Support | None:
    """Support of ``record``; what it leaves unknown fits anything. None where the bundle does not list its scanners."""
    if not trained:
        return None
    matching = [t for t in trained if all(record.get(k, v) == v for k, v in t.categories.items())]
    if not matching:
        return Support(0.0, (NEVER, *_contradictions(record, trained)))
    return max((_within(record, t, vocabulary) for t in matching), key=lambda support: support.score)


def _contradictions(record: Record, trained: Sequence[Trained]) -> list[str]:
    """What keeps every scanner of training from fitting: values that none has, else pairs that no one has together.

    A set whose pairs all occur and whose whole does not (three values, two scanners) has none. Values are not quoted:
    they may be those of a patient's header.
    """
    keywords = [k for k in dict.fromkeys(k for t in trained for k in t.categories) if k in record]

    def never(*together: str) -> bool:
        return not any(all(t.categories.get(k, record[k]) == record[k] for k in together) for t in trained)

    alone = [k for k in keywords if never(k)]
    notes = [f"{k}: no scanner of training has this value" for k in alone]
    pairs = (pair for pair in combinations(keywords, 2) if not set(pair) & set(alone) and never(*pair))
    return notes + [f"{one} and {other} contradict each other: no scanner of training has both" for one, other in pairs]


def _within(record: Record, trained: Trained, vocabulary: Vocabulary) -> Support:
    score, notes = 1.0, []
    for keyword, (low, high) in trained.ranges.items():
        parameter = vocabulary[keyword]
        if keyword not in record or not isinstance(parameter, Continuous):
            continue
        value = float(record[keyword])
        outside = max(low - value, value - high, 0.0) / (parameter.maximum - parameter.minimum)
        if outside > 0:
            notes.append(f"{keyword}: training saw {low:g} to {high:g} {parameter.unit} on this scanner")
            score = min(score, max(1 - outside, 0.0))
    return Support(round(score, 4), tuple(notes))

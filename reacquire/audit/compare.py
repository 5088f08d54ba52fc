"""One series: is each parameter of its header what the pixels show, and how sure is the predictor that it is not?

A predictor errs, so a disagreement is a reason to look and no more. What it got right and wrong on known images (the
bundle's own figures) is therefore part of every comparison here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from reacquire.iap import Categorical, Continuous, Value, Vocabulary

Verdict = Literal["agrees", "disagrees", "absent", "varies", "outside"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

TOLERANCE_RMSE = 2.0  # a number this many of the predictor's own errors away disagrees: 1 in 22 does so by chance alone
CHANCE = 1 - math.erf(TOLERANCE_RMSE / math.sqrt(2))

# header_note of a predict-iap document -> why there is nothing to compare
NOTES: Mapping[str, Verdict] = {
    "absent or empty in the header": "absent",
    "not the same on every slice": "varies",
    "outside the vocabulary of the models": "outside",
}


@dataclass(frozen=True)
class Accuracy:
    """What a bundle says of its predictor: share of right categories, RMSE of numbers in the parameter's unit.

    Both are measured on the images that the bundle names, which are none of the archive's.
    """

    right: Mapping[str, float] = field(default_factory=dict)
    rmse: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, metrics: Mapping[str, Mapping[str, Any]]) -> "Accuracy":
        """From the ``metrics`` of a bundle's manifest; empty where it was never evaluated."""
        figures = {k: float(v) for k, v in metrics.get("predictor", {}).items() if isinstance(v, int | float)}
        return cls(
            right={k.removeprefix("accuracy_"): v for k, v in figures.items() if k.startswith("accuracy_")},
            rmse={k.removeprefix("mse_"): math.sqrt(v) for k, v in figures.items() if k.startswith("mse_")},
        )

    def scale(self, parameter: Continuous) -> float:
        """The predictor's RMSE; without one, that of a predictor that always says the cohort's mean."""
        return self.rmse.get(parameter.keyword, parameter.sd)

    def expected(self, parameter: Categorical | Continuous) -> float | None:
        """Share of sound headers that would disagree because the predictor errs; None where nobody measured it."""
        if isinstance(parameter, Continuous):
            return CHANCE if parameter.keyword in self.rmse else None
        right = self.right.get(parameter.keyword)
        return None if right is None else 1 - right


@dataclass(frozen=True)
class Comparison:
    """One parameter of one series.

    Attributes
    ----------
    header, predicted : the two values, the header's as it is written there, None when absent or varying
    probability : the predictor's for its category; None for numbers
    confidence : 0 to 1, how sure a disagreement is by the predictor's own account: its probability of another category,
        or how unlikely so large a difference is under its RMSE
    """

    keyword: str
    unit: str | None
    header: Value | None
    predicted: Value
    probability: float | None
    verdict: Verdict
    confidence: float


def compare(
    parameters: Mapping[str, Mapping[str, Any]], vocabulary: Vocabulary, accuracy: Accuracy
) -> tuple[Comparison, ...]:
    """Compare the ``parameters`` of a predict-iap document, in the order of the vocabulary.

    Raises
    ------
    KeyError
        For a note that this version does not know.
    """
    return tuple(
        _comparison(parameter, parameters[parameter.keyword], accuracy)
        for parameter in vocabulary.parameters
        if parameter.keyword in parameters
    )


def _comparison(parameter: Categorical | Continuous, entry: Mapping[str, Any], accuracy: Accuracy) -> Comparison:
    verdict, confidence = _verdict(parameter, entry, accuracy)
    return Comparison(
        keyword=parameter.keyword,
        unit=parameter.unit,
        header=entry["header"],
        predicted=entry["value"],
        probability=entry["probability"],
        verdict=verdict,
        confidence=round(confidence, 4),
    )


def _verdict(
    parameter: Categorical | Continuous, entry: Mapping[str, Any], accuracy: Accuracy
) -> tuple[Verdict, float]:
    if entry["header_note"] is not None:
        return NOTES[entry["header_note"]], 0.0
    header = parameter.match(entry["header"])
    if header is None:
        return "outside", 0.0
    if isinstance(parameter, Categorical):
        if header == entry["value"]:
            return "agrees", 0.0
        return "disagrees", float(entry["probability"] or 0.0)
    z = abs(float(header) - float(entry["value"])) / accuracy.scale(parameter)
    return ("disagrees" if z > TOLERANCE_RMSE else "agrees"), math.erf(z / math.sqrt(2))

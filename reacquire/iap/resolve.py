"""Completes a request: which value each parameter of a counterfactual takes, and where it came from.

The order is the user's target, the slice's own header, the predictor, unknown. A target manufacturer outranks the
slice's own model (a GE counterfactual of a Siemens slice has no model unless the user names one).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from reacquire.iap.vocabulary import Record, Value, Vocabulary

Provenance = Literal["target", "implied", "header", "predicted", "unknown"]
RANK: tuple[Provenance, ...] = get_args(Provenance)  # strongest first


@dataclass(frozen=True)
class ResolvedTarget:
    """``values`` by keyword (unknown ones absent) and the provenance of every parameter of the vocabulary."""

    values: Mapping[str, Value]
    provenance: Mapping[str, Provenance]


def resolve_target(vocabulary: Vocabulary, *, target: Record, header: Record, predicted: Record) -> ResolvedTarget:
    """Complete ``target`` from the slice's recognised ``header`` values and the predictor's.

    Raises
    ------
    TargetError
        When the target itself is outside the vocabulary or contradicts itself.
    """
    target = vocabulary.validate(target)
    values: dict[str, Value] = {}
    provenance: dict[str, Provenance] = {}
    for keyword in vocabulary.keywords:
        values[keyword], provenance[keyword] = _first(
            (target, "target"),
            (_implied(vocabulary, target), "implied"),
            (header, "header"),
            (_implied(vocabulary, header), "implied"),
            (predicted, "predicted"),
            keyword=keyword,
        )
    _settle_scanner(vocabulary, values, provenance)
    return ResolvedTarget({k: v for k, v in values.items() if provenance[k] != "unknown"}, provenance)


def _settle_scanner(vocabulary: Vocabulary, values: dict[str, Value], provenance: dict[str, Provenance]) -> None:
    """Where model and manufacturer contradict each other, the weaker source gives way (the model, when equal)."""
    pair = ("Manufacturer", "ManufacturerModelName")
    if any(provenance[k] == "unknown" for k in pair):
        return
    if vocabulary.manufacturer_of(values["ManufacturerModelName"]) != values["Manufacturer"]:
        loser = max(reversed(pair), key=lambda k: RANK.index(provenance[k]))
        values[loser], provenance[loser] = "", "unknown"


def _implied(vocabulary: Vocabulary, target: Record) -> dict[str, Value]:
    maker = vocabulary.manufacturer_of(target.get("ManufacturerModelName", ""))
    return {"Manufacturer": maker} if maker else {}


def _first(*sources: tuple[Record, Provenance], keyword: str) -> tuple[Value, Provenance]:
    for record, provenance in sources:
        if keyword in record:
            return record[keyword], provenance
    return "", "unknown"

"""Which parameters a counterfactual is given: a pool of whole protocols, each with its share of the draws.

Whole records are drawn, never single values: a scanner, its scan options and its echo times belong together.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reacquire.iap import Record, Value


@dataclass(frozen=True)
class TargetPool:
    """Target records and their weights (positive, any scale).

    Raises
    ------
    ValueError
        For an empty pool or weights that do not fit.
    """

    records: tuple[Mapping[str, Value], ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.records:
            raise ValueError("a pool of targets needs at least one record")
        if len(self.weights) != len(self.records) or min(self.weights) <= 0:
            raise ValueError("a pool of targets needs one positive weight per record")

    @classmethod
    def of(cls, records: Iterable[Record]) -> "TargetPool":
        """The records, each equally likely."""
        records = tuple(dict(r) for r in records)
        return cls(records, (1.0,) * len(records))

    @classmethod
    def from_manifest(cls, manifest: Path | str, **where: Value) -> "TargetPool":
        """The protocols of the training patients of a manifest, every patient with the same weight.

        Patients for validation and tests are never looked at: their protocols would leak (docs/paper.md row 21).

        Parameters
        ----------
        manifest : path
            JSON lines with ``split``, ``patient_id`` and ``iap``, as ``reacquire-train ingest`` and ``cohort`` write.
        where : values that a record must have, e.g. ``Manufacturer="SIEMENS"``
        """
        lines = Path(manifest).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        found: dict[str, dict[str, Record]] = defaultdict(dict)
        for row in rows:
            if row["split"] == "train" and not row.get("excluded") and _holds(row["iap"], where):
                found[row["patient_id"]][json.dumps(row["iap"], sort_keys=True)] = row["iap"]
        if not found:
            wanted = "".join(f" with {k} {v}" for k, v in where.items())
            raise ValueError(f"{manifest} has no training patient{wanted}; split it, or ask for another scanner")
        weights: dict[str, float] = defaultdict(float)
        for records in found.values():
            for text in records:
                weights[text] += 1 / len(records)
        texts = sorted(weights)
        return cls(tuple(json.loads(t) for t in texts), tuple(weights[t] for t in texts))

    def without(self, unseen: Mapping[str, Sequence[Value]]) -> "TargetPool":
        """The pool less the records that name a category which the weights were never shown."""
        kept = [
            (r, w)
            for r, w in zip(self.records, self.weights, strict=True)
            if not any(value in unseen.get(keyword, ()) for keyword, value in r.items())
        ]
        return TargetPool(tuple(r for r, _ in kept), tuple(w for _, w in kept))

    def draw(self, u: float) -> Mapping[str, Value]:
        """The record at ``u`` in [0, 1) of the cumulated weights: the caller owns the random numbers."""
        rest = u * sum(self.weights)
        for record, weight in zip(self.records, self.weights, strict=True):
            rest -= weight
            if rest < 0:
                return record
        return self.records[-1]


def _holds(record: Record, where: Record) -> bool:
    return all(record.get(keyword) == value for keyword, value in where.items())

"""Record <-> vector, in one place: the only offsets into an encoded vector in the project.

Two layouts exist. ``default`` holds all eight parameters, continuous ones as z-scores, and a ``known`` mask beside the
vector, so that any subset can be unknown. ``paper`` holds the authors' seven (section A.1: one-hot, value / maximum)
and knows only one null, the all-zero vector ("0 as the unconditional value").
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from reacquire.iap.vocabulary import Categorical, Continuous, Parameter, Record, Value, Vocabulary

Layout = Literal["default", "paper"]
Entry = TypeVar("Entry", bound=Any)


class EncodedIap(NamedTuple):
    """``vector`` (D,) float32, zero where unknown; ``known`` (P,) bool, one entry per parameter."""

    vector: NDArray[np.float32]
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class Encoding:
    """Encodes records of one vocabulary in one layout."""

    vocabulary: Vocabulary
    layout: Layout = "default"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters in the order of the vector and of ``known``."""
        return tuple(p for p in self.vocabulary.parameters if p.in_paper_vector or self.layout == "default")

    @property
    def slices(self) -> dict[str, slice]:
        """Where each parameter lies in the vector."""
        slices, start = {}, 0
        for parameter in self.parameters:
            slices[parameter.keyword] = slice(start, start + parameter.width)
            start += parameter.width
        return slices

    @property
    def width(self) -> int:
        """D, the length of the vector."""
        return sum(p.width for p in self.parameters)

    def encode(self, record: Record) -> EncodedIap:
        """Encode a record of recognised values; absent keywords are unknown.

        Raises
        ------
        TargetError
            When a value lies outside the vocabulary.
        """
        record = self.vocabulary.validate({k: v for k, v in record.items() if k in self.slices})
        vector = np.zeros(self.width, dtype=np.float32)
        for keyword, value in record.items():
            vector[self.slices[keyword]] = self._entries(self.vocabulary[keyword], value)
        known = np.array([p.keyword in record for p in self.parameters], dtype=np.bool_)
        return EncodedIap(vector, known)

    def null(self) -> EncodedIap:
        """The condition that says nothing: every parameter unknown."""
        return EncodedIap(np.zeros(self.width, np.float32), np.zeros(len(self.parameters), np.bool_))

    def decode(self, encoded: EncodedIap) -> dict[str, Value]:
        """The record behind an encoded (or predicted) vector: arg-max of each category, range-clipped numbers."""
        record: dict[str, Value] = {}
        for parameter, known in zip(self.parameters, encoded.known, strict=True):
            if known:
                record[parameter.keyword] = self._value(parameter, encoded.vector[self.slices[parameter.keyword]])
        return record

    def _entries(self, parameter: Parameter, value: Value) -> NDArray[np.float32]:
        if isinstance(parameter, Categorical):
            return np.eye(parameter.width, dtype=np.float32)[parameter.categories.index(value)]
        return np.array([self.scale(parameter, float(value))], dtype=np.float32)

    def _value(self, parameter: Parameter, entries: NDArray[np.float32]) -> Value:
        if isinstance(parameter, Categorical):
            return parameter.categories[int(np.argmax(entries))]
        return float(np.clip(self.unscale(parameter, float(entries[0])), parameter.minimum, parameter.maximum))

    def scale(self, parameter: Continuous, value: float) -> float:
        """Physical value -> vector entry: z-score, or value / maximum as the paper has it (A.1)."""
        if self.layout == "paper":
            return value / parameter.maximum
        return (value - parameter.mean) / parameter.sd

    def unscale(self, parameter: Continuous, entry: Entry) -> Entry:
        """Vector entry -> physical value; a number, or an array or tensor of them."""
        if self.layout == "paper":
            return entry * parameter.maximum
        return entry * parameter.sd + parameter.mean

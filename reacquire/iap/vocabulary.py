"""What the models know: the acquisition parameters, their categories, units and ranges, as versioned data.

A record maps DICOM keywords to values; a keyword that is absent is *unknown*. Nothing here guesses: a value that the
vocabulary does not hold is refused (``validate``) or reported as unknown (``recognise``), never mapped to a neighbour.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from reacquire.errors import BundleError, TargetError

Value = str | float
Record = Mapping[str, Value]


@dataclass(frozen=True)
class Categorical:
    """A parameter with named values; numeric categories (field strength, T) match within ``tolerance``."""

    keyword: str
    symbol: str
    categories: tuple[Value, ...]
    unit: str | None = None
    tolerance: float = 0.0
    in_paper_vector: bool = True

    @property
    def width(self) -> int:
        """Entries of the parameter in an encoded vector."""
        return len(self.categories)

    def match(self, value: Value) -> Value | None:
        """The category that ``value`` stands for, or None."""
        if isinstance(value, str):
            text = value.strip()
            return text if text in self.categories else None
        near = [c for c in self.categories if not isinstance(c, str) and abs(c - value) <= self.tolerance]
        return near[0] if near else None

    def rule(self) -> str:
        return "one of " + ", ".join(str(c) for c in self.categories)


@dataclass(frozen=True)
class Continuous:
    """A parameter on a range ``minimum..maximum`` (inclusive) in ``unit``; mean and sd are those of the cohort."""

    keyword: str
    symbol: str
    unit: str
    minimum: float
    maximum: float
    mean: float
    sd: float
    in_paper_vector: bool = True
    width: int = 1

    def match(self, value: Value) -> float | None:
        """``value`` as a float when it lies on the range, or None."""
        if isinstance(value, str) or not math.isfinite(value):
            return None
        slack = 1e-6 * self.maximum  # header values are decimal strings of single-precision numbers
        return float(value) if self.minimum - slack <= value <= self.maximum + slack else None

    def rule(self) -> str:
        return f"{self.minimum} to {self.maximum} {self.unit}"


Parameter = Categorical | Continuous


@dataclass(frozen=True)
class Vocabulary:
    """The parameters in stored order, and which model implies which manufacturer.

    ``sha256`` is the digest of the canonical JSON: bundles pin it, so that weights never meet another codebook.
    """

    name: str
    source: str
    parameters: tuple[Parameter, ...]
    implied: tuple[tuple[str, str], ...]  # (ManufacturerModelName, Manufacturer)
    sha256: str

    @property
    def keywords(self) -> tuple[str, ...]:
        return tuple(p.keyword for p in self.parameters)

    def __getitem__(self, keyword: str) -> Parameter:
        for parameter in self.parameters:
            if parameter.keyword == keyword:
                return parameter
        raise TargetError(
            f"unknown parameter; the vocabulary {self.name} has {', '.join(self.keywords)}",
            where=keyword if keyword.isidentifier() and len(keyword) <= 64 else None,
        )

    def manufacturer_of(self, model: Value) -> str | None:
        """The manufacturer that builds ``model``, or None for a model outside the vocabulary."""
        return dict(self.implied).get(str(model))

    def recognise(self, header: Record) -> dict[str, Value]:
        """The part of a header record that the vocabulary holds; all else is unknown and left out."""
        matched = {p.keyword: _seen(p, header[p.keyword]) for p in self.parameters if p.keyword in header}
        return {keyword: value for keyword, value in matched.items() if value is not None}

    def validate(self, target: Record) -> dict[str, Value]:
        """A requested record in canonical form.

        Raises
        ------
        TargetError
            For an unknown keyword, a value outside the vocabulary, or a model that another manufacturer builds.
        """
        canonical: dict[str, Value] = {}
        for keyword, value in target.items():
            parameter = self[keyword]
            matched = parameter.match(value)
            if matched is None:
                raise TargetError(f"{keyword} must be {parameter.rule()}", where=keyword)
            canonical[keyword] = matched
        self.check_consistent(canonical)
        return canonical

    def check_consistent(self, record: Record) -> None:
        """Refuse a record whose model and manufacturer contradict each other."""
        if "Manufacturer" not in record or "ManufacturerModelName" not in record:
            return
        maker = self.manufacturer_of(record["ManufacturerModelName"])
        if maker != record["Manufacturer"]:
            raise TargetError(f"this ManufacturerModelName is built by {maker}", where="Manufacturer")


def _seen(parameter: Parameter, value: Value) -> Value | None:
    """``match`` for what scanners write: several values (ScanOptions) mean a set, listed in any order."""
    found = parameter.match(value)
    if found is None and isinstance(parameter, Categorical) and isinstance(value, str) and "\\" in value:
        parts = sorted(value.split("\\"))
        return next((c for c in parameter.categories if isinstance(c, str) and sorted(c.split("\\")) == parts), None)
    return found


def _parameter(entry: dict) -> Parameter:
    kind = entry["kind"]
    entry = {k: v for k, v in entry.items() if k not in ("kind", "implies")}
    if kind == "categorical":
        return Categorical(**{**entry, "categories": tuple(entry["categories"])})
    if kind == "continuous":
        return Continuous(**entry)
    raise BundleError(f"a vocabulary parameter is categorical or continuous, not {kind!r}")


@lru_cache
def load_vocabulary(name: str = "duke-v1") -> Vocabulary:
    """A vocabulary that ships with the library.

    Raises
    ------
    BundleError
        When no vocabulary has that name.
    """
    path = resources.files(__package__) / f"{name.replace('-', '_')}.json"
    if not path.is_file():
        raise BundleError(f"there is no vocabulary {name!r}; duke-v1 ships with this version")
    data = json.loads(path.read_text(encoding="utf-8"))
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    implied = next(p["implies"]["values"] for p in data["parameters"] if "implies" in p)
    return Vocabulary(
        name=data["name"],
        source=data["source"],
        parameters=tuple(_parameter(p) for p in data["parameters"]),
        implied=tuple(sorted(implied.items())),
        sha256=hashlib.sha256(canonical).hexdigest(),
    )

"""Which rule takes a series: patterns over header values, and what is never taken whatever the rules say.

Pure: attributes in, a verdict out. Where attributes come from (DICOM JSON of a PACS, a stored file) and what becomes of
a verdict is the gateway's. A verdict carries codes and rules, never a header value.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from reacquire.dicom.checks import OWN_TYPES
from reacquire.dicom.quiet import neutral_warnings
from reacquire.dicom.synthetic import MANUFACTURER
from reacquire.pacs.config import Action, Rule

Attributes = Mapping[str, tuple[str, ...]]  # DICOM keyword -> its values as text; absent and empty ones are left out
Match = tuple[Rule, int, Action]  # the rule, the position of the action in it, the action

GATE = frozenset({"SyntheticData", "ImageType", "Manufacturer", "Modality", "NumberOfFrames"})  # always looked at


@dataclass(frozen=True)
class Verdict:
    """What the rules say about a series.

    Attributes
    ----------
    outcome : str
        ``refused`` is never a candidate, whatever the rules say; ``unmatched`` is one that no rule wants.
    reason : str or None
        An error code (``already-synthetic``, ...) or ``no-rule``; None when matched.
    matches : tuple of Match
        One per action.
    """

    outcome: Literal["refused", "unmatched", "matched"]
    reason: str | None = None
    matches: tuple[Match, ...] = ()


def needed(rules: Iterable[Rule]) -> frozenset[str]:
    """The keywords that have to be read from a header to judge it."""
    return GATE.union(*(rule.when for rule in rules))


def attributes_of_json(instance: Mapping[str, Any], keywords: Iterable[str]) -> Attributes:
    """Some attributes of one instance in the DICOM JSON model (PS3.18 F.2)."""
    found = {}
    for keyword in keywords:
        element = instance.get(f"{tag_for_keyword(keyword):08X}")
        values = element.get("Value") if isinstance(element, Mapping) else None
        found[keyword] = _texts(values if isinstance(values, list) else ())
    return {keyword: values for keyword, values in found.items() if values}


def attributes_of_dataset(ds: Dataset, keywords: Iterable[str]) -> Attributes:
    """Some attributes of a data set; a value that cannot be read counts as absent."""
    found = {}
    for keyword in keywords:
        with neutral_warnings():  # pydicom quotes the values that it dislikes
            try:
                value = ds.get(keyword)
            except Exception:
                continue
        found[keyword] = _texts(value if isinstance(value, list | tuple | MultiValue) else (value,))
    return {keyword: values for keyword, values in found.items() if values}


def refusal(attributes: Attributes) -> str | None:
    """The code of the reason why an instance is never taken, or None.

    What is marked as synthetic and what we wrote ourselves (derived images, segmentations, reports) never re-enters:
    our own series become stable in the PACS as any other and would run for ever.
    """
    own = {value.upper() for value in attributes.get("ImageType", ())} & OWN_TYPES
    marked = any(value.upper() == "YES" for value in attributes.get("SyntheticData", ()))
    if marked or own or MANUFACTURER in attributes.get("Manufacturer", ()):
        return "already-synthetic"
    if [value.upper() for value in attributes.get("Modality", ())] != ["MR"]:
        return "unsupported-modality"
    return None


def judge(rules: Sequence[Rule], series: Sequence[Attributes], *, instances: int | None = None) -> Verdict:
    """What becomes of a series.

    Parameters
    ----------
    series : one record per instance, of the keywords that ``needed`` names; all of them are checked for ``refusal``,
        the first one is matched
    instances : how many there are, when ``series`` does not have them all
    """
    if not series:
        return Verdict("refused", "source-not-found")
    reasons = [reason for reason in map(refusal, series) if reason is not None]
    if reasons:
        return Verdict("refused", reasons[0])
    frames = [attributes.get("NumberOfFrames", ("1",))[0] for attributes in series]
    slices = sum(int(n) if n.isascii() and n.isdecimal() else 1 for n in frames)
    matches = tuple(matching(rules, series[0], slices=max(slices, instances or 0)))
    return Verdict("matched", None, matches) if matches else Verdict("unmatched", "no-rule")


def matching(rules: Sequence[Rule], attributes: Attributes, *, slices: int = 1) -> list[Match]:
    """The actions of every rule that wants the series, in the order of the file; each frame is a slice."""
    return [
        (rule, index, action)
        for rule in rules
        if slices >= rule.least_instances and wants(rule, attributes)
        for index, action in enumerate(rule.do)
    ]


def wants(rule: Rule, attributes: Attributes) -> bool:
    """Whether every keyword of a rule matches: one of its patterns, one of the attribute's values."""
    return all(
        any(_fits(pattern, value) for pattern in patterns_of(wanted) for value in attributes.get(keyword, ()))
        for keyword, wanted in rule.when.items()
    )


def patterns_of(wanted: str | Sequence[str]) -> Sequence[str]:
    """One pattern is a list of one."""
    return (wanted,) if isinstance(wanted, str) else wanted


def _fits(pattern: str, value: str) -> bool:
    """Whole value against ``*`` and ``?``, case ignored; plain numbers by value (3, 3.0 and 3.00 are one field)."""
    if _glob(pattern).fullmatch(value):
        return True
    wanted, found = _number(pattern), _number(value)
    return wanted is not None and found is not None and math.isclose(wanted, found, rel_tol=1e-6)


@lru_cache(maxsize=1024)
def _glob(pattern: str) -> re.Pattern[str]:
    """``fnmatch`` would give meaning to brackets, which descriptions of series are full of."""
    wild = {"*": ".*", "?": "."}
    collapsed = re.sub(r"\*+", "*", pattern.strip())
    return re.compile("".join(wild.get(c, re.escape(c)) for c in collapsed), re.IGNORECASE | re.DOTALL)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    """Values as stripped text, empty ones left out; a person's name (PS3.18 F.2.2) by its alphabetic form."""
    plain = (value.get("Alphabetic") if isinstance(value, Mapping) else value for value in values)
    return tuple(text for value in plain if value is not None and (text := str(value).strip("\0 ")))

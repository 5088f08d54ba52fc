"""Checks an object against its IOD offline, from the tables of PS3.3 that highdicom ships (pinned as a version)."""

import json
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

from pydicom.dataset import Dataset

Names = dict[tuple[str, ...], set[str]]
# Where the tables list alternatives, presence says nothing: a functional group stands in one of the two, and which
# attributes a content item needs depends on its ValueType. A module that may be left out requires nothing either.
ANY_OF = {("SharedFunctionalGroupsSequence",), ("PerFrameFunctionalGroupsSequence",)}


@lru_cache
def tables(sop_class: str) -> tuple[Names, Names, Names]:
    """By path of sequences: keywords of Type 1, of Type 1 or 2, and all that the IOD knows."""
    import highdicom

    folder = Path(highdicom.__file__).parent / "_standard"
    name = json.loads((folder / "sop_class_iod_map.json").read_text())[sop_class]
    modules = json.loads((folder / "iod_module_map.json").read_text())[name]
    attributes = json.loads((folder / "module_attribute_map.json").read_text())
    filled, required, known = defaultdict(set), defaultdict(set), defaultdict(set)
    for module in modules:
        for attribute in attributes[module["key"]]:
            path = tuple(attribute["path"])
            known[path].add(attribute["keyword"])
            if (module["usage"] != "M" and not path) or path in ANY_OF or module["key"] == "sr-document-content":
                continue
            if attribute["type"] in ("1", "2"):
                required[path].add(attribute["keyword"])
            if attribute["type"] == "1":
                filled[path].add(attribute["keyword"])
    return filled, required, known


def problems(ds: Dataset) -> list[str]:
    """What is missing or empty (Types 1 and 2) and what is foreign, by path; private elements do not count."""
    found: list[str] = []
    _check(ds, (), *tables(str(ds.SOPClassUID)), found)
    return sorted(set(found))


def _check(ds: Dataset, path: tuple[str, ...], filled: Names, required: Names, known: Names, found: list[str]) -> None:
    if path not in known:
        return  # deeper than the tables go
    present = {e.keyword: e for e in ds if not e.tag.is_private}
    found += [f"missing: {'/'.join((*path, k))}" for k in required[path] - present.keys()]
    found += [f"empty: {'/'.join((*path, k))}" for k in filled[path] & present.keys() if present[k].is_empty]
    found += [f"foreign: {'/'.join((*path, k))}" for k in present.keys() - known[path]]
    for keyword, element in present.items():
        if element.VR == "SQ" and keyword != "ContentSequence":
            for item in element.value:
                _check(item, (*path, keyword), filled, required, known, found)

"""What a finished run says about itself: the facts that a bundle must pin, taken from what was used in training."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reacquire.iap import Categorical, Encoding
from training.cache import SliceCache
from training.ingest.manifest import replace_file

NAME = "network.json"


@dataclass(frozen=True)
class RunRecord:
    """One trained network.

    Attributes
    ----------
    network, parameters : its configuration and number of trainable scalars
    vocabulary, layout : what its vectors are written in
    preprocessing : ``Preprocessing.to_dict`` of the slices that it saw
    cohort : sha256 of the cohort's manifest
    synthetic : whether every one of those slices is marked as synthetic
    seen : training slices by keyword and category
    method : of an editor, the fields of its setup in ``reacquire.bundles.manifest`` that training decides
    scanners : the training slices' combinations of categories with the range of each number, see ``count_scanners``
    precision : that the run was computed in, see ``TrainConfig``
    segmenter : of a tone network, sha256 of the weights (as packed) that told it the tissues
    validation : the best validation loss and the step after which it was taken, None without validation
    started_from : sha256 of the weights file that training started from, None for fresh weights
    """

    model: str
    preset: str
    seed: int
    steps: int
    network: dict[str, Any]
    parameters: int
    vocabulary: str
    layout: str
    preprocessing: dict[str, Any]
    cohort: str
    synthetic: bool
    seen: dict[str, dict[str, int]]
    method: dict[str, Any] | None
    started_from: str | None = None
    scanners: list[dict[str, Any]] = field(default_factory=list)
    precision: str = "32-true"
    validation: dict[str, float] | None = None
    segmenter: str | None = None


def count_seen(cache: SliceCache, encoding: Encoding) -> dict[str, dict[str, int]]:
    """Training slices of every category, the unseen ones (0) included."""
    rows = cache.split("train")
    counts = {}
    for parameter in encoding.parameters:
        if isinstance(parameter, Categorical):
            found = Counter(row.iap.get(parameter.keyword) for row in rows)
            counts[parameter.keyword] = {str(c): found[c] for c in parameter.categories}
    return counts


def count_scanners(cache: SliceCache, encoding: Encoding) -> list[dict[str, Any]]:
    """Fields of ``reacquire.bundles.manifest.TrainedScanner`` for every combination that training saw in full."""
    kinds = {p.keyword: isinstance(p, Categorical) for p in encoding.parameters}
    numbers: dict[tuple, list[dict]] = defaultdict(list)
    for row in cache.split("train"):
        if kinds.keys() <= row.iap.keys():
            numbers[tuple(row.iap[k] for k, named in kinds.items() if named)].append(row.iap)
    names = [k for k, named in kinds.items() if named]
    return [
        {
            "categories": dict(zip(names, values, strict=True)),
            "ranges": {
                k: [min(iap[k] for iap in iaps), max(iap[k] for iap in iaps)] for k, named in kinds.items() if not named
            },
        }
        for values, iaps in sorted(numbers.items(), key=lambda item: tuple(map(str, item[0])))
    ]


def unseen_categories(encoding: Encoding, *seen: Mapping[str, Mapping[str, int]]) -> dict[str, list[str | float]]:
    """Categories that at least one of the networks was never shown, by keyword."""
    missing: dict[str, list[str | float]] = {}
    for parameter in encoding.parameters:
        if isinstance(parameter, Categorical):
            absent = [c for c in parameter.categories if any(s[parameter.keyword][str(c)] == 0 for s in seen)]
            if absent:
                missing[parameter.keyword] = absent
    return missing


def write_record(run: Path, record: RunRecord) -> None:
    """Write the record, which says that the run has finished: whole or not at all, else IngestError."""
    replace_file(run / NAME, (json.dumps(asdict(record), indent=1) + "\n").encode())


def read_record(run: Path) -> RunRecord:
    """The record of a finished run.

    Raises
    ------
    FileNotFoundError
        When the run has not finished.
    """
    if not (run / NAME).exists():
        raise FileNotFoundError(
            f"{run / NAME} is not there: no run has finished in this folder; go on with it (reacquire-train train with "
            "the same options and --resume) or name another"
        )
    data = json.loads((run / NAME).read_text(encoding="utf-8"))
    return RunRecord(**data)

"""What a finished run says about itself: the facts that a bundle must pin, taken from what was used in training."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reacquire.iap import Categorical, Encoding
from training.cache import SliceCache

NAME = "network.json"


@dataclass(frozen=True)
class DiffusionRecord:
    """How a denoiser was trained: the fields of ``reacquire.bundles.manifest.DiffusionSetup`` that training decides."""

    method: str
    schedule: str
    timesteps: int
    spread: float | None
    start: int


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
    diffusion : of a denoiser
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
    diffusion: DiffusionRecord | None


def count_seen(cache: SliceCache, encoding: Encoding) -> dict[str, dict[str, int]]:
    """Training slices of every category, the unseen ones (0) included."""
    rows = cache.split("train")
    counts = {}
    for parameter in encoding.parameters:
        if isinstance(parameter, Categorical):
            found = Counter(row.iap.get(parameter.keyword) for row in rows)
            counts[parameter.keyword] = {str(c): found[c] for c in parameter.categories}
    return counts


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
    (run / NAME).write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")


def read_record(run: Path) -> RunRecord:
    """The record of a finished run.

    Raises
    ------
    FileNotFoundError
        When the run has not finished.
    """
    data = json.loads((run / NAME).read_text(encoding="utf-8"))
    diffusion = DiffusionRecord(**data.pop("diffusion")) if data["diffusion"] else data.pop("diffusion")
    return RunRecord(**data, diffusion=diffusion)

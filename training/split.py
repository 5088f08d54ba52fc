"""Which patients train, which choose, which test: iterative stratification over the categorical parameters.

Sechidis et al. 2011, by patient, so that every scanner, field strength and scan option has its share in every split.
``default`` and ``paper`` differ in what docs/paper.md rows 11 and 20 find: the authors move rare categories into the
training set and validate the segmenter on its test set.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from training.ingest.manifest import MANIFEST, Line, read_lines, replace_file, write_lines
from training.ingest.problem import IngestError

Mode = Literal["default", "paper"]
MODES: tuple[Mode, ...] = get_args(Mode)
SPLITS = ("train", "val", "test")
STRATA = ("ManufacturerModelName", "MagneticFieldStrength", "ScanOptions")  # the categorical ones of the paper's vector
RARE = 2  # a category of at most so many patients can't be in three splits
PAPER_SEED = 123  # of the authors' configuration
# Shares of train, val, test (paper, section 3): patients without masks, patients with
WITHOUT_MASK = (0.75, 0.10, 0.15)
WITH_MASK: Mapping[Mode, tuple[float, float, float]] = {
    "paper": (0.75, 0.0, 0.25),  # validated on the test set, which the paper admits
    "default": (0.65, 0.10, 0.25),  # the same 75/25 with the validation nested in the 75
}
UNSPLIT = "manifest.unsplit.jsonl"
REPORT = "split.json"


@dataclass(frozen=True)
class Patients:
    """``names`` (P,) sorted; ``labels`` (P, C) bool, a column per category of ``categories``; ``masked`` (P,) bool."""

    names: tuple[str, ...]
    labels: NDArray[np.bool_]
    categories: tuple[tuple[str, str], ...]
    masked: NDArray[np.bool_]


def split_manifest(
    folder: Path, *, mode: Mode = "default", seed: int | None = None, redraw: bool = False
) -> dict[str, Any]:
    """Fill in the splits of a manifest; returns the report, which is also written as ``split.json``.

    A manifest that is split already (a simulated cohort brings its own) is checked and kept, unless ``redraw``. The
    manifest as it was stays beside as ``manifest.unsplit.jsonl``.

    Raises
    ------
    IngestError
        When a patient is in two splits, or a cache of the old split exists.
    """
    lines = read_lines(folder)
    used = [line for line in lines if not line["excluded"]]
    if not used:
        raise IngestError(f"{folder / MANIFEST} holds no usable slice; its lines say why")
    check_disjoint(used, folder / MANIFEST)
    patients = patients_of(used)
    if all(line["split"] for line in used) and not redraw:
        return _write_report(
            folder, patients, {line["patient_id"]: line["split"] for line in used}, {"mode": "as given"}
        )
    if (folder / "cache" / "index.json").exists():
        raise IngestError(f"{folder / 'cache'} holds the old split; ingest into a new folder and split that")
    seed = PAPER_SEED if seed is None else seed
    assigned = draw(patients, mode, seed)
    if not (folder / UNSPLIT).exists():
        replace_file(folder / UNSPLIT, (folder / MANIFEST).read_bytes())
    lines = [line | {"split": None if line["excluded"] else assigned[line["patient_id"]]} for line in lines]
    check_disjoint((line for line in lines if not line["excluded"]), folder / MANIFEST)
    digest = write_lines(folder, lines)
    return _write_report(folder, patients, assigned, {"mode": mode, "seed": seed, "manifest_sha256": digest})


def check_disjoint(lines: Iterable[Line], manifest: Path) -> None:
    """Refuse a patient whose lines are in two splits, or only partly in one."""
    seen: dict[str, str | None] = {}
    for line in lines:
        patient, split = line["patient_id"], line["split"]
        if seen.setdefault(patient, split) != split:
            raise IngestError(
                f"{manifest}: {patient} is in two splits ({seen[patient]} and {split}); a patient belongs into one: "
                "ingest and split again"
            )


def patients_of(lines: Sequence[Line]) -> Patients:
    """The patients of the usable lines with all categories of all their scans."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for line in lines:
        found[line["patient_id"]] |= {(k, str(line["iap"][k])) for k in STRATA if k in line["iap"]}
    masked = {line["patient_id"] for line in lines if line["mask"]}
    names = tuple(sorted(found))
    categories = tuple(sorted(set().union(*found.values())))
    labels = np.array([[c in found[n] for c in categories] for n in names], dtype=np.bool_).reshape(len(names), -1)
    return Patients(names, labels, categories, np.array([n in masked for n in names]))


def draw(patients: Patients, mode: Mode, seed: int) -> dict[str, str]:
    """A split for every patient; those with and without masks are drawn apart."""
    assigned: dict[str, str] = {}
    for masked, shares in ((False, WITHOUT_MASK), (True, WITH_MASK[mode])):
        chosen = np.flatnonzero(patients.masked == masked)
        parts = _parts(patients.labels[chosen], shares, seed)
        assigned |= {patients.names[i]: part for i, part in zip(chosen, parts, strict=True)}
    if mode == "paper":
        assigned |= dict.fromkeys(rare_patients(patients), "train")
    return dict(sorted(assigned.items()))


def _parts(labels: NDArray[np.bool_], shares: tuple[float, float, float], seed: int) -> list[str]:
    """train, val or test for each row of (P, C) labels."""
    return [SPLITS[i] for i in stratify(labels, shares, np.random.default_rng(seed))]


def stratify(labels: NDArray[np.bool_], shares: Sequence[float], rng: np.random.Generator) -> NDArray[np.intp]:
    """Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, algorithm 1).

    The rarest category that is left is dealt out first, each of its patients to the subset that still wants most of it;
    ties go to the subset that wants most patients, then to chance.

    Parameters
    ----------
    labels : (P, C) bool
    shares : S numbers that add up to 1; a subset of share 0 gets nobody
    rng : of the ties alone

    Returns
    -------
    (P,) number of the subset
    """
    subsets = np.flatnonzero(shares)
    share = np.asarray(shares, dtype=np.float64)[subsets]
    wanted = share * len(labels)  # patients
    wanted_of = share[:, None] * labels.sum(0)  # patients of each category
    drawn = np.full(len(labels), -1)
    while (drawn < 0).any():
        left = labels[drawn < 0].sum(0)
        rarest = left == (left[left > 0].min() if left.any() else -1)
        if rarest.any():
            category = rng.choice(np.flatnonzero(rarest))
            rows = np.flatnonzero((drawn < 0) & labels[:, category])
        else:  # patients of no category at all
            category, rows = None, np.flatnonzero(drawn < 0)
        for row in rng.permutation(rows):
            first = wanted if category is None else wanted_of[:, category]
            best = np.flatnonzero(np.isclose(first, first.max()))
            best = best[np.isclose(wanted[best], wanted[best].max())]
            subset = rng.choice(best)
            drawn[row] = subset
            wanted[subset] -= 1
            wanted_of[subset, labels[row]] -= 1
    return subsets[drawn]


def rare_patients(patients: Patients) -> list[str]:
    """Patients with a category that at most ``RARE`` patients have."""
    rare = patients.labels.sum(0) <= RARE
    return [n for n, has in zip(patients.names, patients.labels[:, rare].sum(1), strict=True) if has]


def _write_report(
    folder: Path, patients: Patients, assigned: Mapping[str, str], how: Mapping[str, Any]
) -> dict[str, Any]:
    rare = set(rare_patients(patients))
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for name, row in zip(patients.names, patients.labels, strict=True):
        for (keyword, value), has in zip(patients.categories, row, strict=True):
            if has:
                counts[keyword][value][assigned[name]] += 1
    report = {
        **how,
        "patients": dict(Counter(assigned[n] for n in patients.names)),
        "with_mask": dict(Counter(assigned[n] for n, m in zip(patients.names, patients.masked, strict=True) if m)),
        "categories": {k: {v: dict(c) for v, c in sorted(by.items())} for k, by in sorted(counts.items())},
        "rare": {n: assigned[n] for n in sorted(rare)},  # to be reported apart: no figure can be trusted on so few
        "segmenter_validated_on": "test" if how.get("mode") == "paper" else "val",
    }
    replace_file(folder / REPORT, (json.dumps(report, indent=1, sort_keys=True) + "\n").encode())
    return report

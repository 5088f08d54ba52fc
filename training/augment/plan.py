"""What an augmentation will make, decided before anything is made: equal requests give equal plans."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from reacquire.bundles.store import BundleInfo
from reacquire.iap import Value, load_vocabulary
from reacquire.jobs.spec import OperationSpec, Options
from reacquire.transforms.targets import TargetPool
from training.ingest.manifest import MANIFEST, Line, read_lines

Format = Literal["dicom", "nifti", "nnunet"]
FORMATS: tuple[Format, ...] = get_args(Format)


class AugmentError(Exception):
    """One message that names the file or option and the remedy; what was finished is kept."""


@dataclass(frozen=True)
class Request:
    """What to make.

    Attributes
    ----------
    dataset : folder of a manifest (``reacquire-train ingest`` or ``cohort``)
    folder : new folder for the copies
    bundle : folder of the weights
    kind : DICOM series, NIfTI volumes, or an nnU-Net dataset (volumes with their masks, originals included)
    copies : counterfactuals per series
    split : which patients are copied; targets are drawn from training patients whatever this says
    vendor : "any", "other" (than the series' own), or a Manufacturer
    seed : of targets and noise
    options : sampler, steps, guidance scale
    """

    dataset: Path
    folder: Path
    bundle: Path
    kind: Format = "dicom"
    copies: int = 1
    split: str = "train"
    vendor: str = "any"
    seed: int = 0
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class Item:
    """One slice to make.

    Attributes
    ----------
    key : digest of everything that decides the pixels, and the name of the work
    line : of the manifest
    target : complete record
    series : number of the source series and copy, as they name files ("Breast_MRI_001-1f3a9c-c0")
    """

    key: str
    line: Line
    series: str
    copy: int
    target: Mapping[str, Value]
    options: Options

    @property
    def spec(self) -> OperationSpec:
        """The work as the service knows it."""
        return OperationSpec(operation="counterfactual", target=dict(self.target), options=self.options)


@dataclass(frozen=True)
class Plan:
    """All slices, series by series; ``lines`` are the manifest's lines that are copied."""

    items: tuple[Item, ...]
    lines: tuple[Line, ...]
    pins: Mapping[str, Any]


def make_plan(request: Request, bundle: BundleInfo) -> Plan:
    """Draw a target for every series and copy.

    Raises
    ------
    AugmentError
        When there is nothing to copy or no training patient to draw a target from.
    """
    if request.kind not in FORMATS:
        raise AugmentError(f"there is no format {request.kind!r}; take {', '.join(FORMATS)}")
    manifest = request.dataset / MANIFEST
    lines = tuple(line for line in read_lines(request.dataset) if _wanted(line, request))
    if not lines:
        masked = " with masks" if request.kind == "nnunet" else ""
        raise AugmentError(f"{manifest} has no slice{masked} of the split {request.split!r}; split it, or see --split")
    pools: dict[str, TargetPool] = {}
    items = []
    for uid in sorted({line["series_uid"] for line in lines}):
        own = [line for line in lines if line["series_uid"] == uid]
        vendor = _vendor(request.vendor, str(own[0]["iap"].get("Manufacturer", "")))
        pool = (
            pools.setdefault(vendor, training_targets(manifest, vendor, bundle))
            if vendor not in pools
            else pools[vendor]
        )
        for copy in range(request.copies):
            target = pool.draw(uniform(request.seed, uid, copy))
            # copies of a series differ in their noise as well
            options = request.options.model_copy(update={"seed": request.seed + copy, "allow_synthetic": True})
            name = f"{own[0]['patient_id']}-{hashlib.sha256(uid.encode()).hexdigest()[:6]}-c{copy}"
            items += [
                Item(_key(line, target, options, copy, bundle), line, name, copy, target, options)
                for line in sorted(own, key=lambda line: line["slice"])
            ]
    return Plan(tuple(items), lines, _pins(request, manifest, bundle))


def _wanted(line: Line, request: Request) -> bool:
    masked = line["mask"] is not None or request.kind != "nnunet"
    return not line.get("excluded") and line["split"] == request.split and masked


def _vendor(wanted: str, own: str) -> str:
    """A Manufacturer to draw from; "" for any. Of two known manufacturers, "other" is the one that is not ``own``."""
    if wanted == "any":
        return ""
    makers = sorted({maker for _, maker in load_vocabulary().implied})
    if wanted == "other":
        return next((maker for maker in makers if maker != own), "")
    if wanted not in makers:
        raise AugmentError(f"there is no vendor {wanted!r}; take any, other, or one of {', '.join(makers)}")
    return wanted


def training_targets(manifest: Path, vendor: str, bundle: BundleInfo) -> TargetPool:
    """Complete protocols of the training patients (of ``vendor``, "" for any) that the bundle has seen.

    Raises
    ------
    AugmentError
        When there is none.
    """
    where: dict[str, Value] = {"Manufacturer": vendor} if vendor else {}
    keywords = set(load_vocabulary().keywords)
    try:
        pool = TargetPool.from_manifest(manifest, **where)
        whole = [(r, w) for r, w in zip(pool.records, pool.weights, strict=True) if set(r) == keywords]
        complete = TargetPool(tuple(r for r, _ in whole), tuple(w for _, w in whole))
        return complete.without(bundle.unseen)
    except ValueError as error:
        raise AugmentError(
            f"{manifest}: no training patient has a complete protocol{f' of {vendor}' if vendor else ''} that "
            f"{bundle.name} knows ({error}); split the manifest, or ask for another --vendor"
        ) from error


def uniform(seed: int, uid: str, copy: int) -> float:
    """A number in [0, 1) that belongs to this series and copy, whatever else is planned."""
    digest = int.from_bytes(hashlib.sha256(uid.encode()).digest()[:8], "big")
    return float(np.random.default_rng([seed, digest, copy]).random())


def _key(line: Line, target: Mapping[str, Value], options: Options, copy: int, bundle: BundleInfo) -> str:
    facts = [line["sha256"], dict(target), options.model_dump(), copy, bundle.sha256]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _pins(request: Request, manifest: Path, bundle: BundleInfo) -> dict[str, Any]:
    """What a resumed run must share with the one that was broken off."""
    return {
        "manifest_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        "bundle_sha256": bundle.sha256,
        "kind": request.kind,
        "copies": request.copies,
        "split": request.split,
        "vendor": request.vendor,
        "seed": request.seed,
        "options": request.options.model_dump(),
    }


def series_of(items: Sequence[Item]) -> dict[str, list[Item]]:
    """The items of each copied series, in the order of the slices."""
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(item.series, []).append(item)
    return found

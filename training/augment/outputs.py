"""How the copies lie on disk: DICOM series, NIfTI volumes, or an nnU-Net dataset. No file is ever replaced or removed.

A series is written when its last slice is there; until then the slices wait in ``slices/``, which is the only folder
that empties again.
"""

import gzip
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reacquire import __version__
from reacquire.bundles.store import BundleInfo
from reacquire.dicom import Header, Provenance, SliceImage, inspect, read_slice, write_series
from reacquire.iap import load_vocabulary
from training.augment.plan import Item, Plan
from training.ingest.manifest import Line, replace_file
from training.ingest.masks import LPS_OF_RAS, slice_affine

NNUNET = "Dataset900_Counterfactual"
LABELS = {"background": 0, "breast": 1, "fibroglandular": 2}


class Output(Protocol):
    """Keeps slices as they come, and writes a series when it is complete."""

    def put(self, item: Item, data: bytes) -> str:
        """Keep one slice; the name of the file that it ends up in, relative to the folder."""

    def finish_series(self, items: Sequence[Item], made_with: Mapping[str, Any]) -> None:
        """All slices of a copied series are there: these, less those that were refused; the options they share."""

    def finish(self, plan: Plan) -> None:
        """Everything is there."""


@dataclass(frozen=True)
class Waiting:
    """The slices of unfinished series, as the DICOM files that came, in ``slices/``."""

    folder: Path

    def put(self, item: Item, data: bytes) -> None:
        write_once(self._path(item), data)

    def take(self, items: Sequence[Item]) -> list[SliceImage]:
        return [read_slice(self._path(item).read_bytes(), allow_synthetic=True) for item in items]

    def clear(self, items: Sequence[Item]) -> None:
        """Forget a series that is written."""
        shutil.rmtree(self._path(items[0]).parent, ignore_errors=True)
        with suppress(OSError):  # another series is still waiting
            (self.folder / "slices").rmdir()

    def _path(self, item: Item) -> Path:
        return self.folder / "slices" / item.series / f"{item.line['slice']:04d}.dcm"


@dataclass(frozen=True)
class DicomOutput:
    """``dicom/PATIENT-SERIES-cCOPY/0000.dcm``: one new series per copy."""

    folder: Path
    dataset: Path
    bundle: BundleInfo

    def put(self, item: Item, data: bytes) -> str:
        Waiting(self.folder).put(item, data)
        return self._name(item)

    def finish_series(self, items: Sequence[Item], made_with: Mapping[str, Any]) -> None:
        if not all((self.folder / self._name(item)).exists() for item in items):
            sources = [read_slice(_bytes(self.dataset, item.line["file"]), allow_synthetic=True) for item in items]
            images = [slice_.pixels.astype(np.int32) for slice_ in Waiting(self.folder).take(items)]
            provenance = Provenance(
                bundle_name=self.bundle.name,
                bundle_version=self.bundle.version,
                bundle_sha256=self.bundle.sha256,
                service_version=__version__,
                target=dict(items[0].target),
                source=load_vocabulary().recognise(sources[0].iap),
                provenance=dict.fromkeys(items[0].target, "target"),
                options=dict(made_with),
            )
            for item, data in zip(items, write_series(sources, images, provenance=provenance), strict=True):
                write_once(self.folder / self._name(item), data)
        Waiting(self.folder).clear(items)

    def finish(self, plan: Plan) -> None:
        pass

    def _name(self, item: Item) -> str:
        return f"dicom/{item.series}/{item.line['slice']:04d}.dcm"


@dataclass(frozen=True)
class VolumeOutput:
    """NIfTI volumes in ``images``, named by series with ``ending``."""

    folder: Path
    images: str = "nifti"
    ending: str = ".nii.gz"

    def put(self, item: Item, data: bytes) -> str:
        Waiting(self.folder).put(item, data)
        return f"{self.images}/{item.series}{self.ending}"

    def finish_series(self, items: Sequence[Item], made_with: Mapping[str, Any]) -> None:  # noqa: ARG002 (Output)
        path = self.folder / self.images / f"{items[0].series}{self.ending}"
        if not path.exists():
            slices = Waiting(self.folder).take(items)
            write_once(path, nifti(np.stack([s.pixels for s in slices]), [s.header for s in slices]))
        Waiting(self.folder).clear(items)

    def finish(self, plan: Plan) -> None:
        pass


@dataclass(frozen=True)
class NnunetOutput:
    """An nnU-Net dataset (format version 2): the originals and their copies, the same labels for both."""

    folder: Path
    dataset: Path

    @property
    def _volumes(self) -> VolumeOutput:
        return VolumeOutput(self.folder, f"{NNUNET}/imagesTr", "_0000.nii.gz")

    def put(self, item: Item, data: bytes) -> str:
        return self._volumes.put(item, data)

    def finish_series(self, items: Sequence[Item], made_with: Mapping[str, Any]) -> None:
        self._volumes.finish_series(items, made_with)
        self._labels(items[0].series, [item.line for item in items])

    def finish(self, plan: Plan) -> None:
        originals: dict[str, list[Line]] = {}
        for item in plan.items:
            if item.copy == 0:
                originals.setdefault(item.series.rsplit("-", 1)[0], []).append(item.line)
        for name, lines in originals.items():
            slices = [read_slice(_bytes(self.dataset, line["file"]), allow_synthetic=True) for line in lines]
            path = self.folder / NNUNET / "imagesTr" / f"{name}_0000.nii.gz"
            write_once(path, nifti(np.stack([s.pixels for s in slices]), [s.header for s in slices]))
            self._labels(name, lines)
        count = len(list((self.folder / NNUNET / "labelsTr").glob("*.nii.gz")))
        description = {
            "name": NNUNET,
            "channel_names": {"0": "MR"},
            "labels": LABELS,
            "numTraining": count,
            "file_ending": ".nii.gz",
            "description": "Breast MR with counterfactual copies; targets, seeds and weights are in ledger.jsonl",
        }
        write_once(self.folder / NNUNET / "dataset.json", (json.dumps(description, indent=1) + "\n").encode())
        ids = self._splits(plan)
        write_once(self.folder / NNUNET / "patients.json", (json.dumps(ids, indent=1) + "\n").encode())

    def _labels(self, name: str, lines: Sequence[Line]) -> None:
        headers = [inspect(_bytes(self.dataset, line["file"]), allow_synthetic=True) for line in lines]
        planes = [np.asarray(Image.open(BytesIO(_bytes(self.dataset, line["mask"])))) for line in lines]
        data = nifti(np.stack(planes).astype(np.uint8), headers)
        write_once(self.folder / NNUNET / "labelsTr" / f"{name}.nii.gz", data)

    def _splits(self, plan: Plan) -> Mapping[str, list[str]]:
        """Cases by patient: a patient's original and copies must stay in one fold of a cross-validation."""
        cases: dict[str, set[str]] = {}
        for item in plan.items:
            own = cases.setdefault(item.line["patient_id"], set())
            own |= {item.series, item.series.rsplit("-", 1)[0]}
        return {patient: sorted(names) for patient, names in sorted(cases.items())}


def nifti(stack: NDArray, headers: Sequence[Header]) -> bytes:
    """A volume (N, R, C) in stored orientation as NIfTI, placed by the slices' own positions.

    The slices of a simulated cohort may lie at uneven distances: the affine then holds the mean distance.
    """
    affine = slice_affine(headers[0].geometry)
    if len(headers) > 1:
        first, last = (np.array(h.geometry.ipp) for h in (headers[0], headers[-1]))
        affine[:3, 2] = (last - first) / (len(headers) - 1)
    whole = stack if stack.dtype == np.uint8 else np.rint(stack).astype(np.int32)
    if whole.dtype == np.int32 and whole.min() >= -(2**15) and whole.max() < 2**15:
        whole = whole.astype(np.int16)
    image = nibabel.Nifti1Image(whole.transpose(2, 1, 0), LPS_OF_RAS @ affine)
    image.header.set_xyzt_units("mm")
    return compressed(image.to_bytes())


def compressed(data: bytes) -> bytes:
    """gzip without a time stamp: equal volumes are equal files."""
    return gzip.compress(data, compresslevel=6, mtime=0)


def write_once(path: Path, data: bytes) -> None:
    """Write a file unless it is there: what is there was written by the run that this one goes on with."""
    if not path.exists():
        replace_file(path, data)


def _bytes(dataset: Path, name: str) -> bytes:
    return (dataset / name).read_bytes()


def output_of(kind: str, folder: Path, dataset: Path, bundle: BundleInfo) -> Output:
    """The writer of a format."""
    if kind == "dicom":
        return DicomOutput(folder, dataset, bundle)
    return VolumeOutput(folder) if kind == "nifti" else NnunetOutput(folder, dataset)

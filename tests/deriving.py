"""A pipeline that writes real DICOM without networks: each slice as a derived one, under UIDs that follow from it."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pydicom
from fakes import FakeOutcome

from reacquire.dicom.uids import derive_uid
from reacquire.jobs.spec import OperationSpec


@dataclass(frozen=True)
class Derived:
    spec: OperationSpec
    files: Sequence[bytes] = field(repr=False)
    batch_key: tuple = ()
    pixels_cost: int = 1


class DerivingPipeline:
    """Prepares nothing, runs nothing, and finishes with one derived image per slice."""

    def prepare(self, spec: OperationSpec, files: Sequence[bytes]) -> Derived:
        return Derived(spec, files)

    def run(self, works: Sequence[Derived], on_step: Any = None) -> list[Any]:
        if on_step is not None:
            on_step(1, 1)
        return [{} for _ in works]

    def finish(self, work: Derived, raw: Mapping[str, Any]) -> FakeOutcome:
        files = {f"counterfactual-{n:04d}.dcm": derived(data) for n, data in enumerate(work.files, start=1)}
        document = {"operation": work.spec.operation, "watermark": work.spec.options.watermark}
        return FakeOutcome(files, document)


def derived(data: bytes) -> bytes:
    """The same pixels as a synthetic image of a series of its own."""
    ds = pydicom.dcmread(io.BytesIO(data))
    ds.SyntheticData = "YES"
    ds.ImageType = ["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC", "COUNTERFACTUAL"]
    ds.SeriesInstanceUID = derive_uid("series", str(ds.SeriesInstanceUID))
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = derive_uid("instance", str(ds.SOPInstanceUID))
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()

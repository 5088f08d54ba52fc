"""Each writer by byte round trip with pydicom enforcing: valid values only, and equal bytes for equal input."""

import io
from datetime import UTC, datetime

import numpy as np
import pytest
from builders import IMPLICIT, make_series
from enhanced import make_enhanced
from iod_check import problems
from pydicom import config, dcmread, dcmwrite
from test_dicom_report import FINDINGS
from test_dicom_segmentation import ALGORITHM, make_labels
from test_dicom_write import PROVENANCE

from reacquire.dicom import Form, SliceImage, read_slice, unpack, write_report, write_segmentation, write_series

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SOURCES = {
    "classic": lambda: make_series(3),
    "implicit": lambda: make_series(3, syntax=IMPLICIT),
    "signed": lambda: make_series(3, PixelRepresentation=1, BitsStored=16, HighBit=15),
    "sparse": lambda: make_series(3, **dict.fromkeys(("PatientSex", "StudyID", "SliceThickness", "StudyDate"), b"")),
    "broken": lambda: make_series(3, StudyDate=b"***", StudyTime=b"25", PatientAge=b"old ", PatientWeight=b"nan "),
    "long": lambda: make_series(3, PixelSpacing=b"1.250000000000000001\\1.500000000000000001", PatientWeight=b"1e400 "),
    "enhanced": lambda: unpack(make_enhanced("philips", 3)),
}


def write(kind: str, slices: list[SliceImage], created: datetime = CREATED) -> list[bytes]:
    if kind == "report":
        return [write_report(slices, FINDINGS, algorithm=ALGORITHM, created=created)]
    if kind in ("mr", "secondary-capture"):
        images = [s.pixels.astype(np.int32) for s in slices]
        return write_series(slices, images, provenance=PROVENANCE, form=Form(output_class=kind), created=created)
    labels = make_labels(len(slices), slices[0].pixels.shape)
    mask = labels if kind != "fractional" else np.stack([labels == 1, labels == 2], axis=-1) * np.float32(0.6)
    return [write_segmentation(slices, mask, algorithm=ALGORITHM, segmentation_type=kind, created=created)]


KINDS = ("mr", "secondary-capture", "binary", "labelmap", "fractional", "report")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", KINDS)
def test_written_bytes_are_valid_and_survive_reading_and_writing(kind, source, monkeypatch):
    slices = [read_slice(data) for data in SOURCES[source]()]
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.RAISE)
    monkeypatch.setattr(config.settings, "writing_validation_mode", config.RAISE)
    for data in write(kind, slices):
        ds = dcmread(io.BytesIO(data))
        for element in ds.iterall():
            _ = element.value  # converts, and so validates
        assert problems(ds) == []
        again = io.BytesIO()
        dcmwrite(again, ds, enforce_file_format=True)
        assert again.getvalue() == data


@pytest.mark.parametrize("kind", KINDS)
def test_equal_input_gives_equal_bytes_and_time_changes_times_only(kind):
    slices = [read_slice(data) for data in make_series(2)]
    one, again = write(kind, slices), write(kind, slices)
    later = write(kind, slices, datetime(2027, 2, 3, 4, 5, 6, tzinfo=UTC))
    assert one == again
    for before, after in zip(one, later, strict=True):
        assert before != after
        assert without_times(before) == without_times(after)


def without_times(data: bytes) -> bytes:
    ds = dcmread(io.BytesIO(data))
    for element in list(ds):
        if element.VR in ("DA", "TM"):
            del ds[element.tag]
    for item in ds.get("ContributingEquipmentSequence", []):
        item.pop("ContributionDateTime", None)
    rest = io.BytesIO()
    dcmwrite(rest, ds, enforce_file_format=True)
    return rest.getvalue()

"""The counterfactual as Secondary Capture: every synthetic mark, no attribute that only an MR image has."""

from datetime import UTC, datetime

import numpy as np
import pytest
from builders import make_mr, read_back
from test_dicom_write import PROVENANCE

from reacquire.dicom import Form, read_slice, write_counterfactual
from reacquire.dicom.capture import patient_orientation
from reacquire.errors import SuitabilityError

MARKS = (
    "SyntheticData", "ImageType", "ContentQualification", "ImageComments", "BurnedInAnnotation", "SeriesDescription",
    "SeriesNumber", "DerivationDescription", "DerivationCodeSequence", "Manufacturer", "ManufacturerModelName",
    "SoftwareVersions", "ContributingEquipmentSequence", "SourceImageSequence", "ReferencedSeriesSequence",
    "PatientID", "StudyInstanceUID",
)  # fmt: skip

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)  # the marks hold it: two objects are compared


def write(output_class: str, **changes) -> bytes:
    source = read_slice(make_mr(**changes))
    pixels = source.pixels.astype(np.int32) + 3
    form = Form(output_class=output_class)
    return write_counterfactual(source, pixels, provenance=PROVENANCE, form=form, window=(500, 900), created=CREATED)


def test_it_is_a_synthetic_secondary_capture():
    ds = read_back(write("secondary-capture"))
    assert (ds.SOPClassUID, ds.Modality, ds.ConversionType) == ("1.2.840.10008.5.1.4.1.1.7", "OT", "SYN")
    assert ds.file_meta.MediaStorageSOPClassUID == ds.SOPClassUID
    assert ds.PatientOrientation == ["L", "P"]


def test_it_says_what_the_mr_image_says():
    capture, image = read_back(write("secondary-capture")), read_back(write("mr"))
    assert all(capture[keyword].value == image[keyword].value for keyword in MARKS)
    assert np.array_equal(capture.pixel_array, image.pixel_array)
    assert (capture.WindowCenter, capture.WindowWidth) == (image.WindowCenter, image.WindowWidth)
    assert capture[0x0099, 0x1001].value == image[0x0099, 0x1001].value


def test_it_has_nothing_that_only_an_mr_image_has():
    only_mr = {"EchoTime", "RepetitionTime", "MagneticFieldStrength", "ScanningSequence", "ImagePositionPatient"}
    assert only_mr <= set(read_back(write("mr")).dir())
    assert not only_mr & set(read_back(write("secondary-capture")).dir())


def test_the_two_forms_of_one_job_are_two_series():
    capture, image = read_back(write("secondary-capture")), read_back(write("mr"))
    assert capture.SOPInstanceUID != image.SOPInstanceUID
    assert capture.SeriesInstanceUID != image.SeriesInstanceUID


def test_it_is_no_input():
    with pytest.raises(SuitabilityError):
        read_slice(write("secondary-capture"), allow_synthetic=True)


@pytest.mark.parametrize(
    ("iop", "letters"),
    [
        ((1, 0, 0, 0, 1, 0), ("L", "P")),
        ((-1, 0, 0, 0, 1, 0), ("R", "P")),
        ((0, 1, 0, 1, 0, 0), ("P", "L")),
        ((0, -1, 0, 0, 0, -1), ("A", "F")),
        ((0.99, 0.14, 0, -0.14, 0.99, 0), ("LP", "PR")),
        ((0.9999, 0.0141, 0, -0.0141, 0.9999, 0), ("L", "P")),  # less than 2 degrees
    ],
)
def test_patient_orientation_follows_the_direction_cosines(iop, letters):
    assert patient_orientation(iop) == letters

"""Header values reach neither warnings nor logs, whatever pydicom and highdicom would say about them."""

import logging
import warnings

import numpy as np
import pytest
from builders import SECRET, make_mr
from test_dicom_report import FINDINGS
from test_dicom_segmentation import ALGORITHM, make_labels
from test_dicom_write import PROVENANCE

from reacquire.dicom import Form, read_slice, write_counterfactual, write_report, write_segmentation

ODD = {
    # one component: highdicom warns with the name; over long and lower case: pydicom warns with the value
    "PatientName": f"{SECRET}".encode() + b" " * (len(SECRET) % 2),
    "PatientID": f"{SECRET}".encode() * 12,
    "AccessionNumber": f"{SECRET}".encode() * 4,
    "PatientBirthDate": b"SECRET",
    "StudyDate": b"SECRET",
    "PatientSex": b"secret",
    "PatientAge": b"SECRET",
    "SeriesNumber": b"SECRET",
    "BodyPartExamined": b"breast",
    "Manufacturer": f"{SECRET}".encode() * 20,
    "StudyDescription": f"{SECRET}".encode() * 20,
    "InstanceNumber": b"SECRET",
}


@pytest.fixture
def said(caplog):
    """Everything that is warned about or logged during the test."""
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        yield lambda: "\n".join([*(str(w.message) for w in caught), *(r.getMessage() for r in caplog.records)])


def test_reading_and_writing_say_nothing_about_the_patient(said):
    """Neither values nor UIDs, at whatever level of logging: highdicom gets to see placeholders only."""
    source = read_slice(make_mr(**ODD))
    for output_class in ("mr", "secondary-capture"):
        form = Form(output_class=output_class)
        write_counterfactual(source, source.pixels.astype(np.int32), provenance=PROVENANCE, form=form)
    write_segmentation([source], make_labels(1), algorithm=ALGORITHM)
    write_segmentation([source], make_labels(1) * 0, algorithm=ALGORITHM, segmentation_type="labelmap")
    write_report([source], FINDINGS, algorithm=ALGORITHM)
    assert SECRET not in said().upper()
    assert "1.2.3." not in said()


def test_representations_of_a_slice_hide_its_header():
    source = read_slice(make_mr())
    assert SECRET not in repr(source)
    assert "1.2.3" not in repr(source)


def test_outputs_have_no_invalid_value_that_pydicom_would_print(said):
    from builders import read_back

    source = read_slice(make_mr(StudyDate=b"SECRET", PatientAge=b"SECRET", PatientBirthDate=b"SECRET"))
    read_back(write_counterfactual(source, source.pixels.astype(np.int32), provenance=PROVENANCE))
    assert SECRET not in said()

"""DICOM in and out: read one MR slice under named refusals; write the counterfactual and the segmentation. No torch."""

from reacquire.dicom.archive import unpack
from reacquire.dicom.header import Header, inspect
from reacquire.dicom.limits import Limits
from reacquire.dicom.parametric import write_parametric_map
from reacquire.dicom.provenance import Provenance
from reacquire.dicom.read import SliceImage, read_slice
from reacquire.dicom.report import Finding, write_report
from reacquire.dicom.segmentation import write_segmentation
from reacquire.dicom.series import height_mm, order_series
from reacquire.dicom.synthetic import Form
from reacquire.dicom.write import series_window, write_counterfactual, write_series

__all__ = [
    "Finding",
    "Form",
    "Header",
    "Limits",
    "Provenance",
    "SliceImage",
    "height_mm",
    "inspect",
    "order_series",
    "read_slice",
    "series_window",
    "unpack",
    "write_counterfactual",
    "write_parametric_map",
    "write_report",
    "write_segmentation",
    "write_series",
]

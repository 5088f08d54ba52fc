"""What makes files one series, and in which order (rows 31 and 32)."""

import numpy as np
import pytest
from builders import make_mr, make_pixels, make_series

from reacquire.dicom import inspect, order_series
from reacquire.errors import DatasetError


def order(files: list[bytes]) -> list[int]:
    return order_series([inspect(data) for data in files])


def test_slices_are_ordered_from_feet_to_head():
    series = make_series(4)
    assert order([series[i] for i in (2, 0, 3, 1)]) == [1, 3, 0, 2]
    assert order([]) == []


def test_a_repeated_file_is_left_out():
    series = make_series(3)
    assert order([*series, series[1]]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"SeriesInstanceUID": "1.2.3.99"}, "inconsistent-series"),
        ({"ImageOrientationPatient": ["-1", "0", "0", "0", "1", "0"]}, "inconsistent-series"),
        ({"PixelSpacing": ["1", "1"]}, "inconsistent-series"),
        ({"pixels": make_pixels(64, 64)}, "inconsistent-series"),
        ({"ImagePositionPatient": ["-100.5", "-90.25", "12.5"]}, "inconsistent-series"),
        ({"SOPInstanceUID": "1.2.3.4.1", "pixels": make_pixels() + np.uint16(1)}, "duplicate-instance"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(change, code):
    added = {"SOPInstanceUID": "1.2.3.4.77", "ImagePositionPatient": ["-100.5", "-90.25", "99"], **change}
    with pytest.raises(DatasetError) as caught:
        order([*make_series(2), make_mr(**added)])
    assert caught.value.code == code

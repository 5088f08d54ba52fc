"""``python -m examples.small_slice``: the slice that ``helm test`` sends, a simulated woman at a quarter of her size.

A release of Helm is one object of at most 1 MB in the cluster's database, so the chart's slice has 112 x 112 pixels.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import generate_uid

from examples.phantom_case import phantom_case

CHART_SLICE = Path(__file__).resolve().parents[1] / "helm" / "reacquire" / "files" / "slice.dcm"
SHRINK = 4


def small_slice() -> bytes:
    """The demo's slice with each 4 x 4 pixels averaged into one; geometry follows (PS3.3 C.7.6.2.1.1)."""
    dataset = pydicom.dcmread(BytesIO(phantom_case({"EchoTime": 2.4}).source_dicom))
    rows, columns = dataset.Rows // SHRINK, dataset.Columns // SHRINK
    pixels = dataset.pixel_array[: rows * SHRINK, : columns * SHRINK].astype(np.float64)
    mean = pixels.reshape(rows, SHRINK, columns, SHRINK).mean(axis=(1, 3))  # (112, 4, 112, 4) -> (112, 112)
    along_row, along_column = np.reshape(np.array(dataset.ImageOrientationPatient, float), (2, 3))
    down_mm, across_mm = map(float, dataset.PixelSpacing)
    shift = (SHRINK - 1) / 2 * (along_row * across_mm + along_column * down_mm)  # centre of the first new pixel
    dataset.ImagePositionPatient = [f"{x:.6g}" for x in np.array(dataset.ImagePositionPatient, float) + shift]
    dataset.PixelSpacing = [f"{SHRINK * side:.8g}" for side in (down_mm, across_mm)]
    dataset.Rows, dataset.Columns = rows, columns
    dataset.SOPInstanceUID = generate_uid(prefix=None, entropy_srcs=["helm test", dataset.SOPInstanceUID])
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PixelData = np.round(mean).astype(np.uint16).tobytes()
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


if __name__ == "__main__":
    CHART_SLICE.write_bytes(small_slice())

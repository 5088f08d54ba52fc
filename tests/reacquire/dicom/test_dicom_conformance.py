"""Our objects against the standard: no error in dciodvfy that the input lacks, no attribute missing from the IOD."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from builders import make_mr, make_pixels, read_back
from pydicom.dataset import Dataset
from test_dicom_segmentation import ALGORITHM, make_labels
from test_dicom_write import PROVENANCE

from reacquire.dicom import read_slice, write_counterfactual, write_segmentation

# dciodvfy of 2022 does not know the attribute and calls it an error.
KNOWN = {"Attribute with an even group number is not a recognized standard attribute - (0x0008,0x001c)  ?"}

SOURCES = {
    "complete": {},
    "laterality present and empty": {"Laterality": b""},
    "signed, 16 bits": {"PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15},
    "de-identified without a method": {"PatientIdentityRemoved": "YES", "StudyDate": b"", "StudyID": b""},
    "contrast": {"ContrastBolusAgent": "agent"},
    "rescaled": {"RescaleSlope": "1.5", "RescaleIntercept": "0"},
    "bad dates": {"StudyDate": b"***", "StudyTime": b"***"},
    "inversion recovery": {"ScanningSequence": ["GR", "IR"], "InversionTime": "900"},
}


def errors(data: bytes, folder: Path) -> set[str]:
    """dciodvfy's error lines without values and item numbers."""
    path = folder / "object.dcm"
    path.write_bytes(data)
    result = subprocess.run(["dciodvfy", str(path)], capture_output=True, env={**os.environ, "LC_ALL": "C"}, timeout=60)
    lines = result.stderr.decode("latin-1").splitlines()
    found = {line.removeprefix("Error - ") for line in lines if line.startswith("Error - ")}
    return {re.sub(r"\s+[A-Z]{2} \[\d+\] = <.*", "", line).strip() for line in found} - KNOWN


@pytest.fixture
def dciodvfy():
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian and Ubuntu: dicom3tools)")


def counterfactual(data: bytes, **options) -> bytes:
    source = read_slice(data)
    return write_counterfactual(source, source.pixels.astype(np.int32), provenance=PROVENANCE, **options)


@pytest.mark.parametrize("changes", SOURCES.values(), ids=SOURCES.keys())
def test_dciodvfy_finds_no_new_error(changes, tmp_path, dciodvfy):
    data = make_mr(**changes)
    source = read_slice(data)
    accepted = errors(data, tmp_path)
    assert errors(counterfactual(data), tmp_path) <= accepted
    assert errors(write_segmentation([source], make_labels(1), algorithm=ALGORITHM), tmp_path) <= accepted


@pytest.mark.parametrize("options", [{"header_values": "blank"}, {"header_values": "source"}, {"watermark": True}])
def test_dciodvfy_finds_no_error_whatever_the_options(options, tmp_path, dciodvfy):
    assert errors(counterfactual(make_mr(make_pixels(96, 96)), **options), tmp_path) == set()


def test_dciodvfy_would_notice_a_missing_attribute(tmp_path, dciodvfy):
    """The gate is alive: an object without its Type 1 sequence attribute fails."""
    ds = read_back(counterfactual(make_mr()))
    del ds.ScanningSequence
    ds.save_as(tmp_path / "broken.dcm")
    assert errors((tmp_path / "broken.dcm").read_bytes(), tmp_path)


def test_dciodvfy_finds_no_new_error_on_real_slices(shared_data, tmp_path, dciodvfy):
    for path in sorted((shared_data / "real-breast-mr" / "aera-axial").glob("*.dcm"))[::16]:
        data = path.read_bytes()
        source = read_slice(data)
        accepted = errors(data, tmp_path)
        assert errors(counterfactual(data), tmp_path) <= accepted
        labels = make_labels(1, source.pixels.shape)
        assert errors(write_segmentation([source], labels, algorithm=ALGORITHM), tmp_path) <= accepted


def iod(name: str) -> tuple[set[str], set[str]]:
    """Keywords that the mandatory modules of an IOD require at top level (Types 1 and 2), and all that it knows."""
    import highdicom

    folder = Path(highdicom.__file__).parent / "_standard"
    modules = json.loads((folder / "iod_module_map.json").read_text())[name]
    attributes = json.loads((folder / "module_attribute_map.json").read_text())
    required, known = set(), set()
    for module in modules:
        for attribute in attributes[module["key"]]:
            if not attribute["path"]:
                known.add(attribute["keyword"])
                if module["usage"] == "M" and attribute["type"] in ("1", "2"):
                    required.add(attribute["keyword"])
    return required, known


def present(ds: Dataset) -> set[str]:
    return {element.keyword for element in ds if not element.tag.is_private}


@pytest.mark.parametrize("header_values", ["target", "source", "blank"])
def test_the_counterfactual_has_all_that_the_mr_image_iod_requires_and_nothing_foreign(header_values):
    required, known = iod("mr-image")
    ds = read_back(counterfactual(make_mr(), header_values=header_values))
    assert required - present(ds) == set()
    assert present(ds) - known == set()


def test_the_segmentation_has_all_that_its_iod_requires_and_nothing_foreign():
    required, known = iod("segmentation")
    ds = read_back(write_segmentation([read_slice(make_mr())], make_labels(1), algorithm=ALGORITHM))
    assert required - present(ds) == set()
    assert present(ds) - known == set()

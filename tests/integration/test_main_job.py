"""The main job through real processes: private Redis, worker with real (tiny) networks, API, HTTP."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pydicom
import pytest
from bad_input import CASES
from builders import SECRET, make_mr, make_series
from tiny_bundle import pack_tiny

from examples.embedded import embedded
from service.errors import STATUS

TARGET = {"ManufacturerModelName": "SIGNA HDx", "EchoTime": 2.4}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    bundle = pack_tiny(tmp_path_factory.mktemp("bundle"))
    with embedded("--bundle", str(bundle), "--device", "cpu") as served:
        yield served.client


def post(client: httpx.Client, operation: str, *files: bytes, accept: str = "*/*", **fields: str) -> httpx.Response:
    parts = [("dicom", (f"{i}.dcm", data)) for i, data in enumerate(files)]
    headers = {"Prefer": "wait=60", "Accept": accept}
    return client.post(f"/{operation}", files=parts, data=fields, headers=headers)


def test_a_slice_and_a_target_give_a_derived_image(client: httpx.Client) -> None:
    answer = post(client, "counterfactual", make_mr(), target=json.dumps(TARGET))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom"
    derived = pydicom.dcmread(io.BytesIO(answer.content))
    assert derived.SyntheticData == "YES"
    assert derived.EchoTime == 2.4
    document = client.get(answer.headers["Content-Location"], headers={"Accept": "application/json"}).json()
    assert document["provenance"]["Manufacturer"] == "implied"
    assert document["provenance"]["FlipAngle"] == "header"


def test_a_series_comes_back_as_a_zip(client: httpx.Client) -> None:
    answer = post(client, "counterfactual", *make_series(3), target=json.dumps(TARGET), accept="application/zip")
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert {"counterfactual-0001.dcm", "counterfactual-0003.dcm", "preview.png", "result.json"} <= set(names)


def test_a_segmentation_is_a_seg(client: httpx.Client) -> None:
    answer = post(client, "segment", make_mr(), accept="application/dicom")
    assert pydicom.dcmread(io.BytesIO(answer.content)).Modality == "SEG"


def test_predictions_come_as_json(client: httpx.Client) -> None:
    document = post(client, "predict-iap", make_mr()).json()
    assert document["parameters"]["EchoTime"]["unit"] == "ms"
    assert SECRET not in json.dumps(document)


def test_what_only_decoding_can_find_comes_with_its_own_status(client: httpx.Client) -> None:
    constant = make_mr(pydicom.dcmread(io.BytesIO(make_mr())).pixel_array * 0 + 7)
    answer = post(client, "predict-iap", constant)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "degenerate-image"


# over HTTP a zip of one file is a series of one slice
REFUSED = {name: case for name, case in CASES.items() if name != "3 zip where a file is expected"}


@pytest.mark.parametrize(("data", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_input_gets_its_status_and_tells_no_header_value(client: httpx.Client, data: bytes, code: str) -> None:
    answer = post(client, "predict-iap", data)
    assert (answer.status_code, answer.json()["code"]) == (STATUS[code], code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert SECRET not in answer.text


def test_the_same_request_gives_the_same_pixels(client: httpx.Client) -> None:
    first, second = (post(client, "counterfactual", make_mr(), target=json.dumps(TARGET)).content for _ in range(2))
    one, other = (pydicom.dcmread(io.BytesIO(data)) for data in (first, second))
    assert (one.pixel_array == other.pixel_array).all()
    assert one.SOPInstanceUID == other.SOPInstanceUID


def test_our_own_output_is_refused_as_input(client: httpx.Client) -> None:
    derived = post(client, "counterfactual", make_mr(), target=json.dumps(TARGET)).content
    answer = post(client, "counterfactual", derived, target=json.dumps(TARGET))
    assert (answer.status_code, answer.json()["code"]) == (409, "already-synthetic")


def test_the_ultrasound_is_of_the_wrong_modality(client: httpx.Client, shared_data: Path) -> None:
    data = (shared_data / "real-breast-mr" / "not-mr" / "ultrasound_rgb.dcm").read_bytes()
    answer = post(client, "segment", data)
    assert (answer.status_code, answer.json()["code"]) == (422, "unsupported-modality")


def test_a_real_slice_keeps_its_unknown_model_unknown(client: httpx.Client, shared_data: Path) -> None:
    data = (shared_data / "real-breast-mr" / "aera-axial" / "slice_060.dcm").read_bytes()
    document = post(client, "predict-iap", data).json()
    assert document["parameters"]["ManufacturerModelName"]["header_note"] == "outside the vocabulary of the models"
    answer = post(client, "counterfactual", data, target='{"EchoTime": 2.4}', accept="application/json").json()
    assert answer["provenance"]["ManufacturerModelName"] in ("predicted", "unknown")
    assert answer["provenance"]["EchoTime"] == "target"

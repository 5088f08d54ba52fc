"""Submitting: waits, negotiation, idempotency, and a named refusal for every bad request."""

import io
import json
import zipfile

import pytest
from builders import SECRET, make_mr

POST_PATHS = [f"{prefix}/{name}" for prefix in ("", "/v1") for name in ("segment", "predict-iap")]


def files(data: bytes) -> dict:
    return {"dicom": ("upload.dcm", data)}


def post(client, path, data, *, form=None, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, files=files(data), data=form or {}, headers=names)


TARGET = {"target": '{"MagneticFieldStrength": 3.0}'}


@pytest.mark.parametrize("path", POST_PATHS)
def test_a_plain_request_gets_its_result(client, slice_, path):
    answer = post(client, path, slice_)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == ("application/json" if "iap" in path else "application/dicom")
    assert client.get(answer.headers["location"]).json()["status"] == "succeeded"
    assert answer.headers["preference-applied"] == "wait=10"


def test_a_counterfactual_is_accepted_and_followed(client, slice_, pause):
    pause()
    answer = post(client, "/counterfactual", slice_, form=TARGET)
    job = answer.json()
    assert (answer.status_code, job["status"]) == (202, "queued")
    assert answer.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert client.get(job["links"]["result"]).json()["code"] == "job-not-finished"


def test_prefer_wait_answers_the_result_itself(client, slice_):
    answer = post(client, "/counterfactual", slice_, form=TARGET, Prefer="respond-async, wait=20")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom")
    assert answer.content[128:132] == b"DICM"
    assert 'filename="counterfactual-0001.dcm"' in answer.headers["content-disposition"]
    assert answer.headers["content-location"].endswith("/result")


def test_a_wait_that_is_over_answers_the_job(client, slice_, pause):
    pause()
    answer = post(client, "/segment", slice_, Prefer="wait=1")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


def test_respond_async_does_not_wait(client, slice_):
    assert post(client, "/segment", slice_, Prefer="respond-async").status_code == 202


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/dicom", "application/dicom"),
        ("image/png", "image/png"),
        ("application/json", "application/json"),
        ("application/zip", "application/zip"),
        ("image/*", "image/png"),
        ("text/html, application/json;q=0.5, image/png;q=0.9", "image/png"),
        ("application/dicom;q=0, */*", "application/zip"),
        ("*/*", "application/dicom"),
    ],
)
def test_accept_chooses_the_form(client, slice_, accept, kind):
    answer = post(client, "/segment", slice_, Accept=accept)
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert "Accept" in answer.headers["vary"]


def test_a_form_that_does_not_exist_is_refused_by_name(client, slice_):
    answer = post(client, "/predict-iap", slice_, Accept="image/png")
    assert (answer.status_code, answer.json()["code"]) == (406, "not-acceptable")
    assert "application/json" in answer.json()["detail"]


def test_a_series_comes_back_as_a_zip(client):
    series = [
        ("dicom", make_mr(SOPInstanceUID=f"1.2.3.4.{n}", ImagePositionPatient=["-80", "-90", str(n)]))
        for n in (3, 1, 2)
    ]
    answer = client.post("/segment", files=series)
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert sorted(archive.namelist()) == ["preview.png", "result.json"] + [
            f"segmentation-000{n}.dcm" for n in (1, 2, 3)
        ]
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_options_come_as_json_or_as_fields(client, slice_):
    for form in ({"options": '{"seed": 7, "steps": 3}'}, {"seed": "7", "steps": "3"}):
        answer = post(
            client, "/counterfactual", slice_, form=TARGET | form, Prefer="wait=10", Accept="application/json"
        )
        assert answer.json()["seed"] == 7


@pytest.mark.parametrize(
    ("form", "code", "where"),
    [
        ({}, "invalid-request", "/target"),
        ({"target": "{"}, "invalid-request", "/target"),
        ({"target": "[1]"}, "invalid-request", "/target"),
        ({"target": '{"EchoTime": [1]}'}, "invalid-request", "/target/EchoTime"),
        ({"target": '{"EchoTime": 99}'}, "target-out-of-domain", "EchoTime"),
        ({"target": '{"EchoTime": NaN}'}, "target-out-of-domain", "EchoTime"),
        ({"target": '{"NoSuch": 1}'}, "target-out-of-domain", "NoSuch"),
        ({"target": '{"Manufacturer": "SIEMENS", "ManufacturerModelName": "Signa HDx"}'}, "target-out-of-domain", None),
        (TARGET | {"steps": "0"}, "invalid-request", "/steps"),
        (TARGET | {"sampler": "euler"}, "invalid-request", "/sampler"),
        (TARGET | {"seed": "-1"}, "invalid-request", "/seed"),
        (TARGET | {"options": '{"stepz": 1}'}, "invalid-request", "/options/stepz"),
        (TARGET | {"options": '{"steps": 5}', "steps": "6"}, "invalid-request", "/options"),
        (TARGET | {"stepz": "1"}, "invalid-request", None),
    ],
)
def test_a_bad_form_is_refused_before_a_job_exists(client, store, slice_, form, code, where):
    answer = post(client, "/counterfactual", slice_, form=form)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, code)
    if where:
        assert where in {next(iter(e.values())) for e in problem["errors"]}
    assert store.depth() == 0


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 400, "empty-body"),
        (b"hello", 415, "not-dicom"),
        (b"\x1f\x8b" + b"0" * 200, 415, "unsupported-container"),
        (b"PK\x03\x04 no zip", 422, "unsafe-archive"),
        (b"0" * (2**20 + 1), 413, "too-large"),
        (make_mr(Modality="US"), 422, "unsupported-modality"),
        (make_mr(SyntheticData="YES"), 409, "already-synthetic"),
        (make_mr(EchoTime=b"1,5 "), 422, "invalid-attribute-value"),
    ],
)
def test_a_bad_file_is_refused_with_its_own_status(client, blobs, tmp_path, data, status, code):
    answer = post(client, "/segment", data)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()] == []


def test_the_ultrasound_file_is_refused(client, shared_data):
    data = (shared_data / "real-breast-mr" / "not-mr" / "ultrasound_rgb.dcm").read_bytes()
    answer = post(client, "/counterfactual", data, form=TARGET)
    assert (answer.status_code, answer.json()["code"]) == (422, "unsupported-modality")


def test_two_files_of_one_uid_are_a_conflict_and_one_file_twice_is_not(client, slice_):
    twice = client.post("/segment", files=[("dicom", slice_), ("dicom", slice_)])
    assert (twice.status_code, twice.headers["content-type"]) == (200, "application/dicom")
    other = make_mr(EchoTime="1.5")
    answer = client.post("/segment", files=[("dicom", slice_), ("dicom", other)])
    assert (answer.status_code, answer.json()["code"]) == (409, "duplicate-instance")


@pytest.mark.parametrize(
    ("kwargs", "status", "code"),
    [
        ({}, 400, "empty-body"),
        ({"json": {}}, 422, "invalid-request"),
        ({"content": "x", "headers": {"Content-Type": "text/plain"}}, 415, "unsupported-media-type"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "malformed-request"),
        (
            {"content": b"garbage", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
            400,
            "malformed-request",
        ),
        ({"data": {"dicom": "text"}}, 422, "invalid-request"),
        ({"files": {"other": b"x"}}, 422, "invalid-request"),
    ],
)
def test_a_body_that_is_no_upload_is_refused(client, kwargs, status, code):
    answer = client.post("/segment", **kwargs)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_body_longer_than_it_said_is_cut_off(client):
    def endless():
        yield b"--b\r\nContent-Disposition: form-data; name=dicom; filename=x\r\n\r\n"
        for _ in range(300):
            yield b"0" * 8192

    answer = client.post("/segment", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


def test_a_failed_job_within_the_wait_answers_its_own_problem(client, pipeline, slice_, monkeypatch):
    monkeypatch.setattr(pipeline, "prepare", pipeline_refusing("degenerate-image"))
    answer = post(client, "/segment", slice_)
    assert (answer.status_code, answer.json()["code"]) == (422, "degenerate-image")
    assert answer.json()["instance"].startswith("/v1/jobs/")


def pipeline_refusing(code):
    from reacquire.errors import PixelError

    def prepare(*_):
        raise PixelError("no contrast", code=code)

    return prepare


def test_a_repeated_key_answers_the_first_job(client, slice_, pause, tmp_path):
    pause()
    first = post(client, "/counterfactual", slice_, form=TARGET, Idempotency_Key="k1").json()["id"]
    again = post(client, "/counterfactual", slice_, form=TARGET, Idempotency_Key="k1")
    assert (again.status_code, again.json()["id"]) == (202, first)
    assert len(list((tmp_path / "blobs" / "jobs").iterdir())) == 1


def test_a_key_of_another_request_is_refused(client, slice_, pause):
    pause()
    post(client, "/counterfactual", slice_, form=TARGET, Idempotency_Key="k1")
    other = post(client, "/counterfactual", slice_, form=TARGET | {"seed": "2"}, Idempotency_Key="k1")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-mismatch")


def test_a_full_queue_says_when_to_come_back(client, store, app, slice_, pause):
    pause()
    app.state.context.store.config = store.config.model_copy(update={"max_queue": 1})
    assert post(client, "/segment", slice_, Prefer="wait=0").status_code == 202
    answer = post(client, "/segment", slice_, Prefer="wait=0")
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert int(answer.headers["retry-after"]) > 0


def test_nothing_of_the_patient_is_told_logged_queued_or_counted(client, store, slice_, capfd, caplog, tmp_path):
    texts = []
    caplog.set_level("DEBUG")
    for data in (slice_, make_mr(Modality="US"), make_mr(EchoTime=b"1,5 "), make_mr(PixelSpacing=b"SECRET")):
        job = post(client, "/predict-iap", data, Accept="application/json")
        texts.append(job.text + json.dumps(dict(job.headers)))
    texts.append(client.get("/metrics").text)
    for key in store.client.keys("*"):
        texts.append(key)
        if store.client.type(key) == "hash":
            texts.append(json.dumps(store.client.hgetall(key)))
    texts += [str(path) for path in (tmp_path / "blobs").rglob("*")]
    assert "job accepted" in caplog.text
    texts += [*capfd.readouterr(), caplog.text]
    assert SECRET not in "".join(texts)
    assert "1.2.3.4.1" not in "".join(texts)

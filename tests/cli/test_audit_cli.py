"""``reacquire audit`` as a whole, on small random networks: files, statuses, going on, and what it does not tell."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
import typer
from builders import SECRET, make_mr, make_series
from fake_pacs import FakePacs, Running, running
from PIL import Image
from tiny_bundle import pack_tiny
from typer.testing import CliRunner

from cli.audit import audit
from reacquire.audit.judge import Judge
from reacquire.errors import PacsOutage
from reacquire.pacs.dicomweb import DicomwebClient
from reacquire.pacs.reference import SeriesReference


def changed(data: bytes, **values: str) -> bytes:
    ds = pydicom.dcmread(io.BytesIO(data))
    ds.update(values)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


app = typer.Typer()
app.command()(audit)
runner = CliRunner()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return pack_tiny(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(autouse=True)
def no_picture(request, monkeypatch):
    """Drawing takes a second; one test looks at the picture."""
    if request.function is not test_an_archive_is_audited:
        monkeypatch.setattr("reacquire.audit.figure.audit_png", lambda *a, **k: b"")


@pytest.fixture
def archive(tmp_path) -> Path:
    root = tmp_path / f"archive-{SECRET}"
    root.mkdir()
    variants = {
        "1.2.3.10": {},
        "1.2.3.11": {"ManufacturerModelName": "Aera"},
        "1.2.3.12": {"EchoTime": None, "Manufacturer": "GE MEDICAL SYSTEMS", "ManufacturerModelName": "SIGNA HDx"},
    }
    for uid, changes in variants.items():
        for number, data in enumerate(make_series(3, SeriesInstanceUID=uid, **changes)):
            (root / f"{SECRET}-{uid}-{number}.dcm").write_bytes(data)
    for number, time in enumerate(("1.42", "2.4")):  # EchoTime varies within one series
        data = make_mr(SeriesInstanceUID="1.2.3.13", SOPInstanceUID=f"1.2.3.13.{number}", EchoTime=time,
                       ImagePositionPatient=["0", "0", str(number)])  # fmt: skip
        (root / f"13-{number}.dcm").write_bytes(data)
    (root / "broken.dcm").write_bytes(make_mr()[:3000])
    twice = make_mr(SeriesInstanceUID="1.2.3.14")
    other = make_mr(SeriesInstanceUID="1.2.3.14", SOPInstanceUID="1.2.3.14.2")  # at the same position
    (root / "x.dcm").write_bytes(twice)
    (root / "y.dcm").write_bytes(other)
    return root


def invoke(*arguments: object):
    return runner.invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def run(archive, bundle, out, *more):
    return invoke(archive, "-o", out, "--bundle", bundle, "--device", "cpu", *more)


def test_an_archive_is_audited(archive, bundle, tmp_path):
    out = tmp_path / "out"
    done = run(archive, bundle, out, "--confidence", 1)
    assert done.exit_code == 0, done.output
    document = json.loads((out / "audit.json").read_text())
    assert (document["series"], document["series_refused"]) == (5, {"inconsistent-series": 1})
    assert document["files_left_out"] == {"truncated-pixels": 1}
    counts = {row["keyword"]: row["counts"] for row in document["parameters"]}
    assert counts["ManufacturerModelName"]["outside"] == 1
    assert (counts["EchoTime"]["absent"], counts["EchoTime"]["varies"]) == (1, 1)
    with Image.open(out / "audit.png") as picture:
        assert picture.size[0] > 1000
    assert "truncated-pixels 1" in done.output
    assert "never measured" in done.output.replace("\n", " ")


def test_nothing_identifies_a_patient_unless_asked_for(archive, bundle, tmp_path):
    out = tmp_path / "out"
    done = run(archive, bundle, out, "--confidence", 0)
    told = done.output + "".join(path.read_text() for path in out.iterdir() if path.suffix != ".png")
    assert SECRET not in told
    assert "1.2.3" not in told
    named = tmp_path / "named"
    assert "1.2.3" not in run(archive, bundle, named, "--identify").output
    assert "1.2.3.11" in (named / "audit.csv").read_text()
    assert f"{SECRET}-1.2.3.11-0.dcm" in (named / "audit.csv").read_text()


def test_a_stopped_audit_does_no_series_twice(archive, bundle, tmp_path, monkeypatch):
    judged = []
    judge = Judge.judge

    def stopping(self, series, series_id):
        if len(judged) == 2:
            raise KeyboardInterrupt
        judged.append(series_id)
        return judge(self, series, series_id)

    with monkeypatch.context() as patch:
        patch.setattr(Judge, "judge", stopping)
        run(archive, bundle, tmp_path / "out")
    monkeypatch.setattr(Judge, "judge", lambda *a: judged.append(a[2]) or judge(*a))
    assert run(archive, bundle, tmp_path / "out").exit_code in (0, 3)
    assert len(judged) == len(set(judged)) == 5


def test_sure_disagreements_have_a_status_of_their_own(archive, bundle, tmp_path):
    assert run(archive, bundle, tmp_path / "a", "--confidence", 0).exit_code == 3
    as_json = run(archive, bundle, tmp_path / "b", "--confidence", 0, "--json")
    assert json.loads(as_json.stdout)["sure_disagreements"] > 0


def test_what_cannot_be_audited_is_refused(bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", bundle, tmp_path / "out").exit_code == 1
    (tmp_path / "empty" / "x.txt").write_text("x")
    refused = run(tmp_path / "empty", bundle, tmp_path / "out")
    assert refused.exit_code == 1
    assert "not-dicom 1" in refused.output


def test_usage(tmp_path):
    assert invoke().exit_code == 2
    assert invoke(tmp_path, "--site", "main").exit_code == 2
    assert invoke(tmp_path, "--study", "1.2").exit_code == 2


def test_another_setup_needs_another_folder(archive, bundle, tmp_path):
    run(archive, bundle, tmp_path / "out")
    again = run(archive, bundle, tmp_path / "out", "--slices", 1)
    assert again.exit_code == 1
    assert "other settings" in again.output


class TestPacs:
    @pytest.fixture
    def pacs(self) -> Iterator[Running]:
        fake = FakePacs(password="secret")
        for uid in ("1.2.3.10", "1.2.3.11"):
            for number, data in enumerate(make_series(2, SeriesInstanceUID=uid)):
                fake.add(changed(data, SOPInstanceUID=f"{uid}.{number}"))
        with running(fake) as server:
            yield server

    @pytest.fixture
    def site(self, pacs, tmp_path, monkeypatch) -> Path:
        monkeypatch.setenv("PACS_SECRET", "secret")
        auth = {"kind": "basic", "username": "svc", "secret_env": "PACS_SECRET"}
        file = tmp_path / "pacs.yaml"
        file.write_text(json.dumps({"sites": {"main": {"base_url": pacs.url, "auth": auth, "attempts": 1}}}))
        return file

    def audit(self, site, bundle, out, *more):
        return invoke("--site", "main", "--pacs-config", site, "-o", out, "--bundle", bundle, "--device", "cpu", *more)

    def test_every_series_of_a_pacs_is_audited(self, site, bundle, tmp_path):
        done = self.audit(site, bundle, tmp_path / "out", "--confidence", 1)
        assert done.exit_code == 0, done.output
        audits = json.loads((tmp_path / "out" / "audit.json").read_text())["audits"]
        assert [(a["slices"], a["refused"]) for a in audits] == [(2, None), (2, None)]
        assert "1.2.3" not in done.output

    def test_one_study_is_enough(self, site, bundle, tmp_path):
        assert self.audit(site, bundle, tmp_path / "a", "--study", "1.2.3.2").exit_code in (0, 3)
        assert self.audit(site, bundle, tmp_path / "b", "--study", "1.2.3.99").exit_code == 1
        assert "invalid-uid" in self.audit(site, bundle, tmp_path / "c", "--study", "../x").output

    def test_a_series_that_could_not_be_had_is_tried_again(self, site, bundle, tmp_path, monkeypatch):
        fetch = DicomwebClient.fetch

        def down(client: DicomwebClient, reference: SeriesReference) -> Iterator[bytes]:
            if reference.series == "1.2.3.11":
                raise PacsOutage("the PACS answered HTTP 503")
            return fetch(client, reference)

        with monkeypatch.context() as patch:
            patch.setattr(DicomwebClient, "fetch", down)
            assert "pacs-unreachable 1" in self.audit(site, bundle, tmp_path / "out").output
        assert "pacs-unreachable" not in self.audit(site, bundle, tmp_path / "out").output

    def test_a_site_that_is_not_there_is_refused(self, site, bundle, tmp_path, monkeypatch):
        assert invoke("--site", "other", "--pacs-config", site, "-o", tmp_path).exit_code == 1
        assert invoke("--site", "main", "--pacs-config", tmp_path / "none.yaml", "-o", tmp_path).exit_code == 1
        monkeypatch.delenv("PACS_SECRET")
        assert "PACS_SECRET" in self.audit(site, bundle, tmp_path / "out").output

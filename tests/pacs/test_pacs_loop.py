"""A series arrives in a real PACS and comes back as synthetic images, a segmentation and a report; and what if not."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from loop import OPERATIONS, TARGET, Loop, instances, whole_loop
from pacs_stack import until
from pydicom.uid import UID
from slices import changed, identity, phantom_slices, real_slices

from reacquire.dicom.uids import derive_uid
from reacquire.dicom.watermark import text_mask

SLICES = 3
GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID", "Rows", "Columns",
            "SliceThickness", "InstanceNumber", "PatientPosition")  # fmt: skip
SAME_PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "StudyID", "AccessionNumber")


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    with whole_loop(tmp_path_factory.mktemp("loop")) as running:
        yield running


@pytest.fixture(scope="module", params=["phantom", "real"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A series that nobody has marked as synthetic."""
    if request.param == "real":
        return real_slices(request.getfixturevalue("shared_data"), SLICES)
    return phantom_slices(tmp_path_factory.mktemp("phantom"), SLICES)


@pytest.fixture(scope="module")
def delivered(loop: Loop, source: list[bytes]) -> dict[str, list[bytes]]:
    """What came back after the series was sent to the PACS; nobody did anything else."""
    loop.to_pacs(source)
    found = loop.complete(identity(source[0])[0], SLICES)
    loop.quiet()
    return found


def marked(image: np.ndarray) -> bool:
    """Whether the notice stands in the bottom left corner: all of its pixels bright, its rim dark."""
    text = text_mask()
    scale = max(1, image.shape[1] // (4 * text.shape[1]))
    text = np.pad(np.kron(text, np.ones((scale, scale), dtype=bool)), 2)
    corner = image[image.shape[0] - text.shape[0] :, : text.shape[1]]
    letters = corner[text]
    return bool(letters.min() == letters.max() and (np.roll(corner, 1, axis=1)[text] < letters.max()).any())


class TestWhatComesBack:
    def test_every_slice_has_a_counterfactual_in_its_place(self, source, delivered):
        sources = instances(source)
        derived = instances(delivered["MR"])
        assert len(derived) == len(sources) == SLICES
        assert not set(derived) & set(sources)
        for ds in derived.values():
            (reference,) = ds.SourceImageSequence  # (0008,2112)
            original = sources[reference.ReferencedSOPInstanceUID]
            for keyword in GEOMETRY + SAME_PATIENT:
                assert ds.get(keyword) == original.get(keyword), keyword
            assert ds.pixel_array.shape == original.pixel_array.shape

    def test_it_says_in_every_way_that_it_is_synthetic(self, delivered):
        for ds in instances(delivered["MR"]).values():
            assert ds.SyntheticData == "YES"
            assert list(ds.ImageType) == ["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC", "COUNTERFACTUAL"]
            assert ds.ContentQualification == "RESEARCH"  # (0018,9004)
            assert ds.SeriesDescription.startswith("SYNTHETIC")
            purposes = {i.PurposeOfReferenceCodeSequence[0].CodeValue for i in ds.ContributingEquipmentSequence}
            assert "109100" in purposes  # (0018,A001): Synthesizing Equipment
            assert marked(ds.pixel_array)
            assert {k: float(ds[k].value) for k in TARGET} == TARGET

    def test_the_series_is_one_series(self, delivered):
        derived = list(instances(delivered["MR"]).values())
        assert len({ds.SeriesInstanceUID for ds in derived}) == 1
        assert len({frozenset(e.tag for e in ds) for ds in derived}) == 1

    def test_the_segmentation_and_the_report_refer_to_the_source(self, source, delivered):
        (seg,), (report,) = (list(instances(delivered[m]).values()) for m in ("SEG", "SR"))
        assert (seg.SOPClassUID.name, report.SOPClassUID.name) == (
            "Segmentation Storage",
            "Comprehensive 3D SR Storage",
        )
        referenced = {i.ReferencedSOPInstanceUID for i in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
        assert referenced <= set(instances(source))
        assert (seg.Rows, seg.Columns) == pydicom.dcmread(io.BytesIO(source[0])).pixel_array.shape
        evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
        assert {i.ReferencedSOPInstanceUID for i in evidence.ReferencedSOPSequence} <= set(instances(source))

    def test_what_the_pacs_holds_is_what_we_sent_byte_for_byte(self, loop, source, delivered):
        sent = {}
        for record in loop.records():
            for artifact in record.artifacts:
                if artifact.name.endswith(".dcm"):
                    data = loop.stack.http.get(f"/v1/jobs/{record.id}/artifacts/{artifact.name}").content
                    sent[UID(pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID)] = data
        for files in delivered.values():
            for data in files:
                ours = sent[pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID]
                assert dataset_bytes(data) == dataset_bytes(ours)

    def test_the_pacs_finds_it_by_its_qualification_and_its_mark(self, loop, source, delivered):
        study = identity(source[0])[0]
        for query in ("ContentQualification=RESEARCH", "SyntheticData=YES", "SeriesDescription=SYNTHETIC*"):
            found = loop.orthanc.get(f"/dicom-web/studies/{study}/instances?{query}")
            assert {i["00080018"]["Value"][0] for i in found} >= set(instances(delivered["MR"])), query
            assert not {i["00080018"]["Value"][0] for i in found} & set(instances(source)), query

    def test_orthanc_shows_the_notice(self, loop, delivered):
        from PIL import Image

        uid = identity(delivered["MR"][0])[1]
        instance = loop.orthanc.series()[uid]["Instances"][0]
        with Image.open(io.BytesIO(loop.orthanc.rendered(instance))) as picture:
            assert marked(np.asarray(picture.convert("L")))


def dataset_bytes(data: bytes) -> bytes:
    """A file behind its meta information, where a PACS may put a name of its own."""
    length = int.from_bytes(data[140:144], "little")  # (0002,0000), always first (PS3.10 7.1)
    return data[144 + length :]


def test_our_own_results_do_not_come_in_again(loop, source, delivered):
    """Orthanc's script leaves them alone, and so do we when another PACS announces them all the same."""
    study = identity(source[0])[0]
    loop.stable(study)
    log = loop.folder / "orthanc" / "orthanc.log"
    until(lambda: log.read_text().count("is left alone") >= 3, 60, "the hook for our own series")
    before = loop.counts()
    announced = [
        loop.stack.post("/v1/hooks/series", {"site": "main", "study": study, "series": identity(files[0])[1]})
        for files in delivered.values()
    ]
    assert [answer.status_code for answer in announced] == [202] * 3
    loop.quiet()
    after = loop.counts()
    assert {k: after[k] for k in OPERATIONS} == {k: before[k] for k in OPERATIONS}
    assert after["route"] == before["route"] + 3
    assert all(record.state == "succeeded" for record in loop.records())


def test_the_same_series_by_c_store_gives_the_same_results(loop, source, delivered):
    study = identity(source[0])[0]
    for files in delivered.values():
        loop.orthanc.delete(identity(files[0])[1])
    loop.to_us(source)
    again = loop.complete(study, SLICES)
    loop.quiet()
    first, second = instances(delivered["MR"]), instances(again["MR"])
    assert set(first) == set(second)
    assert all((first[uid].pixel_array == second[uid].pixel_array).all() for uid in first)
    assert {m: set(instances(f)) for m, f in again.items()} == {m: set(instances(f)) for m, f in delivered.items()}


def another_series(files: list[bytes], name: str, **values) -> list[bytes]:
    """The same images as another study of another patient."""
    study, series = derive_uid(name, "study"), derive_uid(name, "series")
    return [
        changed(
            data,
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            SOPInstanceUID=derive_uid(name, number),
            PatientID=name,
            InstanceNumber=number + 1,
            **values,
        )
        for number, data in enumerate(files)
    ]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return phantom_slices(tmp_path_factory.mktemp("phantom"), SLICES)


def test_a_pacs_that_keeps_only_a_part_gives_a_partial_job_that_says_which(loop, images):
    files = another_series(images, "refused", StudyID="REFUSE")
    loop.to_us(files)
    (partial,) = until(lambda: [r for r in loop.records() if r.state == "partial"], 120, "a partial delivery")
    loop.quiet()
    job = loop.stack.job(partial.id)
    assert (job["operation"], job["status"]) == ("counterfactual", "partial")
    delivery = loop.stack.get(f"/v1/jobs/{partial.id}/artifacts/delivery.json")
    assert (delivery["sent"], delivery["stored"]) == (SLICES, SLICES - 1)
    assert [refused["artifact"] for refused in delivery["failed"]] == ["counterfactual-0002.dcm"]
    names = {artifact["name"] for artifact in job["artifacts"]}  # and it can still be had from us
    assert {"counterfactual-0001.dcm", "counterfactual-0002.dcm", "delivery.json"} <= names


def test_nothing_that_identifies_the_patient_is_in_a_log(loop, source, delivered):
    ds = pydicom.dcmread(io.BytesIO(source[0]))
    secrets = {str(ds.SOPInstanceUID), str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.PatientID)}
    for path in Path(loop.stack.folder).glob("*.log"):
        text = path.read_text(encoding="utf-8", errors="replace")
        assert not [s for s in secrets if len(s) > 3 and s in text], path.name


def test_a_delivery_that_breaks_off_is_done_again_and_nothing_is_lost(loop, images):
    """Orthanc must have crashed neither here nor before: a script of ours once did that (docs/pacs.md)."""
    assert loop.orthanc.crashes == 0
    files = another_series(images, "cut")
    study = identity(files[0])[0]
    loop.wire.cuts = 1
    loop.to_us(files)
    until(lambda: loop.wire.cut == 1, 90, "the cut")
    loop.orthanc.stop()  # and the whole PACS is gone, in the middle of a delivery
    until(lambda: any(record.stage == "deliver" and not record.finished for record in loop.records()), 30)
    loop.orthanc.start()
    loop.complete(study, SLICES)
    loop.quiet()
    mine = [record for record in loop.records() if record.operation in OPERATIONS and record.state != "partial"]
    assert {record.state for record in mine} == {"succeeded"}

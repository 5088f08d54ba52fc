"""The SR: both values of each parameter come back through highdicom and dcmtk, told apart, with their probability."""

import io
import shutil
import subprocess

import highdicom as hd
import pytest
from builders import ABSENT, SECRET, make_mr, make_series, read_back
from enhanced import make_enhanced
from test_dicom_segmentation import ALGORITHM

from reacquire.dicom import Finding, read_slice, unpack, write_report

FINDINGS = [
    Finding("ManufacturerModelName", "Signa HDxt", 0.75, "Skyra"),
    Finding("ScanOptions", "FAST_GEMS\\SAT_GEMS\\ACC_GEMS\\PFP\\FS", 0.5, None),
    Finding("MagneticFieldStrength", 1.5, 0.875, 2.8936, "T"),
    Finding("SliceThickness", 1.5, None, 1.1, "mm"),
    Finding("FlipAngle", 10.0, None, None, "deg"),
    Finding("EchoTime", 2.4, None, 1.42, "ms"),
    Finding("RepetitionTime", 5.25, None, 4.05, "ms"),
]


def write(slices=None, findings=FINDINGS, **options) -> bytes:
    slices = slices or [read_slice(data) for data in make_series(2)]
    return write_report(slices, findings, algorithm=ALGORITHM, settings={"weights": "abc"}, **options)


def measurement_group(data: bytes):
    report = hd.sr.srread(io.BytesIO(data))
    (group,) = report.content.get_image_measurement_groups()
    return report, group


def test_numbers_come_back_as_measurements_told_apart_by_derivation():
    _, group = measurement_group(write())
    found = [(m.name.value, m.derivation.value, m.value, m.unit.value) for m in group.get_measurements()]
    assert found == [
        ("130542", "PRED", 1.5, "T"),
        ("130542", "HDR", 2.8936, "T"),
        ("112225", "PRED", 1.5, "mm"),
        ("112225", "HDR", 1.1, "mm"),
        ("FlipAngle", "PRED", 10.0, "deg"),
        ("EchoTime", "PRED", 2.4, "ms"),
        ("EchoTime", "HDR", 1.42, "ms"),
        ("RepetitionTime", "PRED", 5.25, "ms"),
        ("RepetitionTime", "HDR", 4.05, "ms"),
    ]


def test_names_come_back_as_evaluations():
    _, group = measurement_group(write())
    found = [(e.name.value, e.value.meaning) for e in group.get_qualitative_evaluations()]
    options = ("ScanOptions", "FAST_GEMS/SAT_GEMS/ACC_GEMS/PFP/FS")
    assert found == [("113879", "Signa HDxt"), ("113879", "Skyra"), options]


def test_each_name_says_where_it_is_from_and_a_predicted_one_how_probable_it_is():
    """Read with pydicom: highdicom's evaluations have no children."""
    found = []
    (group,) = (
        i for e in read_back(write()).iterall() if e.keyword == "ContentSequence" for i in e.value if is_group(i)
    )
    for item in group.ContentSequence:
        children = {c.ConceptNameCodeSequence[0].CodeValue: c for c in item.get("ContentSequence", [])}
        if item.ValueType == "CODE" and children:
            probability = children.get("122157")
            derivation = children["121401"].ConceptCodeSequence[0].CodeValue
            value = probability and float(probability.MeasuredValueSequence[0].NumericValue)
            found.append((item.ConceptCodeSequence[0].CodeMeaning, derivation, value))
    options = "FAST_GEMS/SAT_GEMS/ACC_GEMS/PFP/FS"
    assert found == [("Signa HDxt", "PRED", 0.75), ("Skyra", "HDR", None), (options, "PRED", 0.5)]


def is_group(item) -> bool:
    return item.ValueType == "CONTAINER" and item.ConceptNameCodeSequence[0].CodeValue == "125007"


def test_a_numeric_category_has_its_probability_too():
    _, group = measurement_group(write())
    field = group.get_measurements()[0][0]
    assert [i.value for i in field.ContentSequence if i.name.value == "122157"] == [0.875]


def test_it_names_procedure_algorithm_and_observer():
    report, group = measurement_group(write())
    assert (report.SOPClassUID, report.Modality) == ("1.2.840.10008.5.1.4.1.1.88.34", "SR")
    assert report.ConceptNameCodeSequence[0].CodeValue == "126000"
    texts = {i.name.meaning: i.value for i in group[0].ContentSequence if i.value_type.value == "TEXT"}
    assert (texts["Algorithm Name"], texts["Algorithm Version"]) == ALGORITHM
    assert texts["Algorithm Parameters"] == "weights: abc"
    values = [i.value.value for i in report.content[0].ContentSequence if i.value_type.value == "CODE"]
    assert {"121007", "241615005"} <= set(values)


def test_nobody_has_verified_it():
    ds = read_back(write())
    assert (ds.VerificationFlag, ds.PreliminaryFlag, ds.CompletionFlag) == ("UNVERIFIED", "PRELIMINARY", "COMPLETE")
    assert ds.ContentQualification == "RESEARCH"


def references(ds, sequence: str) -> list[str]:
    found = []
    for element in ds.iterall():
        if element.keyword == sequence:
            found += [item.ReferencedSOPInstanceUID for item in element.value if "ReferencedSOPInstanceUID" in item]
    return found


def test_it_refers_to_the_slices_used_and_no_others():
    slices = [read_slice(data) for data in make_series(3)][:2]
    ds = read_back(write(slices))
    uids = {s.header.sop_instance_uid for s in slices}
    assert set(references(ds, "ReferencedSOPSequence")) == uids
    (study,) = ds.CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == "1.2.3.2"
    assert study.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.3"


def test_frames_of_an_enhanced_source_are_named_by_number():
    files = unpack(make_enhanced("siemens", 2))
    ds = read_back(write([read_slice(data) for data in files]))
    items = [i for e in ds.iterall() if e.keyword == "ReferencedSOPSequence" for i in e.value]
    assert {i.ReferencedSOPClassUID for i in items} == {"1.2.840.10008.5.1.4.1.1.4.1"}
    assert {int(i.ReferencedFrameNumber) for i in items if "ReferencedFrameNumber" in i} == {1, 2}
    (series,) = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert len(series.ReferencedSOPSequence) == 1


def test_patient_and_study_are_the_sources_and_nothing_else_identifies():
    source = make_mr(InstitutionName=SECRET, OperatorsName=f"{SECRET}^Op")
    ds, original = read_back(write([read_slice(source)])), read_back(source)
    copied = {"PatientName", "PatientID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName"}
    assert all(ds[k].value == original[k].value for k in (*copied, "StudyInstanceUID", "StudyDate"))
    assert {e.keyword for e in ds.iterall() if SECRET in str(e.value) and e.VR != "SQ"} == copied


def test_it_is_marked_synthetic_when_its_source_is():
    synthetic = read_slice(make_mr(SyntheticData="YES"), allow_synthetic=True)
    assert read_back(write([synthetic])).SyntheticData == "YES"
    assert "SyntheticData" not in read_back(write())


@pytest.mark.parametrize("keyword", ["PatientSex", "StudyID", "SliceThickness", "Manufacturer", "SeriesNumber"])
def test_a_source_without_an_attribute_is_served(keyword):
    assert read_back(write([read_slice(make_mr(**{keyword: ABSENT}))])).Modality == "SR"


@pytest.mark.parametrize("value", ["Größe", "x" * 100, "a\\b", " Aera "])
def test_odd_header_texts_are_reported_in_ascii(value):
    _, group = measurement_group(write(findings=[Finding("ManufacturerModelName", "Skyra", 0.5, value)]))
    (_, stated) = group.get_qualitative_evaluations()
    assert stated.value.meaning.isascii()
    assert 0 < len(stated.value.meaning) <= 64


def test_the_same_findings_give_the_same_uid():
    one, again = read_back(write()), read_back(write())
    other = read_back(write(findings=FINDINGS[1:]))
    assert one.SOPInstanceUID == again.SOPInstanceUID != other.SOPInstanceUID


def test_dcmtk_reads_it(tmp_path):
    if shutil.which("dsrdump") is None:
        pytest.skip("dsrdump is not installed (Debian and Ubuntu: dcmtk)")
    path = tmp_path / "report.dcm"
    path.write_bytes(write())
    result = subprocess.run(["dsrdump", str(path)], capture_output=True, timeout=60)
    text = result.stdout.decode()
    assert result.returncode == 0, result.stderr.decode()
    assert "Comprehensive 3D SR Document" in text
    assert text.count('"Derivation")=(PRED') == 7
    assert text.count('"Derivation")=(HDR') == 5
    assert not result.stderr

"""The collection in every layout it is downloaded in: one manifest, the right series, masks where they belong."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import duke_trees as trees
import numpy as np
import pytest
from duke_trees import MARGIN, Patient
from PIL import Image

from reacquire.dicom import read_slice
from training.ingest import IngestError, Request, ingest
from training.ingest.layout import find_series, layout_of
from training.ingest.manifest import MANIFEST, read_lines
from training.ingest.typos import FIXES, canonical, patient_of

LAYOUTS = ("classic", "descriptive", "idc")
ONE = Patient(1)
KEPT = range(MARGIN, trees.SLICES - MARGIN)


def run(source: Path, folder: Path, *, resume: bool = False, **how):
    return ingest(Request(source, folder, **{"margin": MARGIN, **how}), resume=resume)


def used(folder: Path) -> list[dict]:
    return [line for line in read_lines(folder) if not line["excluded"]]


def reasons(folder: Path) -> list[str]:
    return [line["excluded"] for line in read_lines(folder) if line["excluded"] and line["slice"] is None]


def masks(folder: Path, lines: list[dict]) -> np.ndarray:
    """The masks of the lines in canonical orientation."""
    planes = []
    for line in lines:
        slice_ = read_slice((folder / line["file"]).read_bytes(), allow_synthetic=True)
        with Image.open(folder / line["mask"]) as mask:
            planes.append(slice_.orientation.to_canonical(np.asarray(mask)))
    return np.stack(planes)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients in the classic layout with both tables."""
    root = tmp_path_factory.mktemp("plain")
    patients = [Patient(n) for n in (1, 2, 3)]
    for patient in patients:
        trees.write_patient(root, "classic", patient, ("pre",))
    trees.write_table(root, patients)
    return root


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("table", ["uids", "paths", "none"])
def test_the_pre_contrast_series_is_found_in_every_layout(layout: str, table: str, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    trees.write_patient(source, layout, ONE)
    if table != "none" and not (table == "paths" and layout != "descriptive"):
        trees.write_table(source, [ONE], uids=table == "uids")
    report = run(source, out)
    lines = used(out)
    assert (report.patients, report.slices) == (1, len(KEPT))
    assert {line["layout"] for line in lines} == {layout}
    assert {line["series_uid"] for line in lines} == {ONE.series_uid("pre")}
    assert [line["slice"] for line in lines] == list(KEPT)
    np.testing.assert_allclose([line["z_mm"] for line in lines], [trees.woman()[i].origin_mm[0] for i in KEPT])
    assert report.excluded == {"edge-slice": 2 * MARGIN}
    assert (out / "manifest.sha256").read_text().startswith(report.sha256)
    assert all((out / line["file"]).is_file() for line in lines)


@pytest.mark.parametrize("fix", FIXES, ids=[fix.example for fix in FIXES])
def test_each_typo_is_mended_and_each_row_is_needed(fix, monkeypatch: pytest.MonkeyPatch) -> None:
    import re

    from training.ingest import typos

    assert re.sub(fix.pattern, fix.disk, fix.example) == fix.on_disk
    assert canonical(fix.example) == canonical(fix.on_disk)
    monkeypatch.setattr(typos, "FIXES", tuple(f for f in FIXES if f is not fix))
    assert canonical(fix.example) != canonical(fix.on_disk), "another row does the same"


def test_paths_of_different_series_stay_different() -> None:
    assert canonical("x/600.000000-ax 3d dyn-12345") != canonical("x/601.000000-Ph1/ax 3d dyn-12345")
    assert patient_of("BreastMRI042/x") == "Breast_MRI_042"
    assert patient_of("Segmentation_Breast_MRI_002_Breast.seg.nrrd") == "Breast_MRI_002"
    assert patient_of("somebody/1.2.3") is None
    assert layout_of(Path("a/b/c")) == "other"


@pytest.mark.parametrize("kind", ["nrrd", "swapped", "layered", "nifti", "seg"])
@pytest.mark.parametrize("turned", [False, True])
def test_masks_are_placed_by_geometry(kind: str, turned: bool, tmp_path: Path) -> None:
    patient = Patient(2, turned)
    source, out, where = tmp_path / "in", tmp_path / "out", tmp_path / "masks"
    trees.write_patient(source, "classic", patient, ("pre",))
    if kind == "nifti":
        trees.write_nifti(where, patient)
    elif kind == "seg":
        trees.write_seg(where / patient.name, Patient(2))
    else:
        trees.write_nrrd(where, patient, swapped=kind == "swapped", layered=kind == "layered")
    report = run(source, out, masks=where)
    lines = used(out)
    assert (report.with_mask, report.reasons) == (1, ())
    expected = trees.truth()[list(KEPT)]
    assert {1, 2} <= set(np.unique(expected))
    found = masks(out, lines)
    first = np.argwhere(found != expected)
    assert len(first) <= (1 if kind in ("nrrd", "swapped", "layered") else 0), (
        "a vessel is the one voxel that may differ"
    )
    assert all(line["mask_source"] for line in lines)


def test_a_dicom_seg_inside_the_download_is_found_by_itself(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    trees.write_patient(source, "idc", ONE, ("pre",))
    trees.write_seg(trees.series_folder(source, "idc", ONE, "pre").parent / "SEG_1.2.3.4.5", ONE)
    run(source, out)
    assert np.array_equal(masks(out, used(out)), trees.truth()[list(KEPT)])


def test_masks_that_do_not_fit_are_left_out_with_a_reason(tmp_path: Path) -> None:
    source = tmp_path / "in"
    trees.write_patient(source, "classic", ONE, ("pre",))
    cases = {
        "mask-off-the-body": {"turned_without_saying": True},
        "mask-does-not-fit": {"shift_mm": 200.0},
    }
    for code, how in cases.items():
        path = trees.write_nifti(tmp_path / code, ONE, **how)
        report = run(source, tmp_path / f"out-{code}", masks=tmp_path / code)
        assert (report.with_mask, report.slices) == (0, len(KEPT))
        (reason,) = report.reasons
        assert code in reason
        assert str(path) in reason
    path.write_bytes(path.read_bytes()[:80])
    (reason,) = run(source, tmp_path / "out-damaged", masks=tmp_path / code).reasons
    assert "unreadable-mask" in reason
    assert str(path) in reason
    trees.write_nrrd(tmp_path / "named", ONE)
    import nrrd

    dense = next((tmp_path / "named").rglob("*Dense*"))
    data, header = nrrd.read(str(dense))
    nrrd.write(str(dense), data, {**header, "Segment0_Name": "Segment_1"})
    (reason,) = run(source, tmp_path / "out-named", masks=tmp_path / "named").reasons
    assert "unknown-segment" in reason


def test_parameters_come_from_the_header_and_are_checked_against_the_spreadsheet(tmp_path: Path) -> None:
    source = tmp_path / "in"
    trees.write_patient(source, "classic", ONE, ("pre",), EchoTime=None, FlipAngle="12")
    trees.write_clinical(source, [ONE])
    report = run(source, tmp_path / "out")
    line = used(tmp_path / "out")[0]
    iap = trees.woman()[0].protocol.iap
    assert line["iap"]["EchoTime"] == pytest.approx(iap["EchoTime"])
    assert line["iap_origin"]["EchoTime"] == "spreadsheet"
    assert line["iap_origin"]["RepetitionTime"] == "header"
    assert line["iap"]["FlipAngle"] == 12.0
    assert line["iap_conflicts"] == ["FlipAngle"]
    assert report.conflicts == {"FlipAngle": 1}
    assert len(line["iap"]) == 8


def test_the_spreadsheet_may_be_xlsx(tmp_path: Path) -> None:
    from openpyxl import Workbook

    from training.ingest.tables import read_clinical

    book = Workbook()
    for row in trees.clinical_rows([ONE]):
        book.active.append(row)
    book.save(tmp_path / "Clinical_and_Other_Features.xlsx")
    record = read_clinical(tmp_path / "Clinical_and_Other_Features.xlsx").of(ONE.name)
    assert (record["Manufacturer"], record["ManufacturerModelName"]) == ("SIEMENS", "Avanto")
    assert (record["MagneticFieldStrength"], record["FlipAngle"]) == (1.5, 10.0)


def test_patients_with_missing_or_foreign_values_are_reported(tmp_path: Path) -> None:
    source = tmp_path / "in"
    trees.write_patient(source, "classic", ONE, ("pre",), EchoTime=None)
    trees.write_patient(source, "classic", Patient(2), ("pre",), ManufacturerModelName="Ingenia")
    report = run(source, tmp_path / "out")
    assert report.excluded == {"missing-parameters": 1, "foreign-parameters": 1}
    assert any("EchoTime" in r for r in report.reasons)
    kept = run(source, tmp_path / "all", keep_incomplete=True)
    assert kept.patients == 2
    assert {len(line["iap"]) for line in used(tmp_path / "all")} == {7}


def test_a_missing_column_stops_with_its_name(plain: Path, tmp_path: Path) -> None:
    table = trees.write_clinical(tmp_path, [ONE], drop="TE (Echo Time)")
    with pytest.raises(IngestError, match=r"Clinical.*TE \(Echo Time\)"):
        run(plain, tmp_path / "out", clinical=table)
    table = trees.write_table(tmp_path, [ONE], drop="descriptive_path")
    with pytest.raises(IngestError, match=r"mapping.*descriptive_path"):
        run(plain, tmp_path / "out", mapping=table)
    (tmp_path / "broken.xlsx").write_bytes(b"PK")
    with pytest.raises(IngestError, match=r"broken.xlsx cannot be read"):
        run(plain, tmp_path / "out", mapping=tmp_path / "broken.xlsx")


def test_damaged_files_exclude_their_patient_alone(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for n in (1, 2, 3, 4):
        trees.write_patient(source, "classic", Patient(n), ("pre",))
    folder = trees.series_folder(source, "classic", ONE, "pre")
    short = sorted(folder.iterdir())[3]
    short.write_bytes(short.read_bytes()[:-500])
    nonsense = sorted(trees.series_folder(source, "classic", Patient(2), "pre").iterdir())[0]
    nonsense.write_bytes(b"<html>503</html>")
    for file in trees.series_folder(source, "classic", Patient(4), "pre").iterdir():
        file.write_bytes(b"")
    report = run(source, tmp_path / "out")
    assert report.patients == 1
    assert report.excluded["unreadable-dicom"] == 2
    assert report.excluded["no-pre-contrast-series"] == 1
    for file in (short, nonsense):
        assert any(str(file) in r and "download it again" in r for r in report.reasons)


def test_two_series_that_claim_to_be_pre_contrast(tmp_path: Path) -> None:
    source = tmp_path / "in"
    trees.write_patient(source, "classic", ONE, ("pre", "T1"))
    table = trees.write_table(source, [ONE])
    table.write_text(table.read_text().replace("/T1/", "/pre/"))
    report = run(source, tmp_path / "out")
    assert report.excluded == {"two-pre-contrast-series": 1}
    assert f"--choose {ONE.name}=" in report.reasons[0]
    assert ONE.series_uid("T1") in report.reasons[0]
    chosen = run(source, tmp_path / "chosen", chosen={ONE.name: ONE.series_uid("pre")})
    assert chosen.slices == len(KEPT)


def test_series_that_are_too_short_and_folders_without_dicom(plain: Path, tmp_path: Path) -> None:
    report = run(plain, tmp_path / "out", margin=20)
    assert report.excluded == {"too-few-slices": 3}
    (tmp_path / "empty").mkdir()
    with pytest.raises(IngestError, match=r"empty holds no .dcm file"):
        run(tmp_path / "empty", tmp_path / "other")
    with pytest.raises(IngestError, match="never overwritten"):
        run(plain, tmp_path / "out")


def test_equal_input_gives_an_equal_manifest_whatever_the_workers(plain: Path, tmp_path: Path) -> None:
    request = Request(plain, tmp_path / "a", margin=MARGIN)
    one = ingest(request)
    two = ingest(Request(plain, tmp_path / "b", margin=MARGIN), workers=2)
    assert one.sha256 == two.sha256
    lines = read_lines(tmp_path / "a")
    assert lines == sorted(lines, key=lambda line: (line["patient_id"], line["slice"]))


KILLED = """
import os, signal, sys
from pathlib import Path
from training.ingest import Request, ingest
from training.ingest.manifest import Progress
add = Progress.add
def add_and_die(self, patient, lines):
    add(self, patient, lines)
    self._path.open("a").write('{"patient": "cut o')
    os.kill(os.getpid(), signal.SIGKILL)
Progress.add = add_and_die
ingest(Request(Path(sys.argv[1]), Path(sys.argv[2]), margin=2))
"""


def test_a_killed_ingest_goes_on_where_it_was(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    died = subprocess.run(
        [sys.executable, "-c", KILLED, plain, out], env={**os.environ, "PYTHONPATH": "."}, timeout=120
    )
    assert died.returncode == -signal.SIGKILL
    assert not (out / MANIFEST).exists()
    with pytest.raises(IngestError, match="--resume"):
        run(plain, out)
    with pytest.raises(IngestError, match="other arguments"):
        run(plain, out, resume=True, margin=1)
    from training.ingest import run as module

    seen = []
    lines_of = module.patient_lines
    monkeypatch.setattr(module, "patient_lines", lambda p, **how: seen.append(p.name) or lines_of(p, **how))
    resumed = run(plain, out, resume=True)
    assert seen == ["Breast_MRI_002", "Breast_MRI_003"]  # the first was finished
    assert resumed.sha256 == run(plain, tmp_path / "whole").sha256
    assert not (out / "ingest.part.jsonl").exists()


def test_a_full_disk_keeps_what_was_finished(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.ingest.manifest import Progress

    finished = []
    add = Progress.add

    def fills_up(self, patient, lines):
        if finished:
            raise _full(self._path)
        add(self, patient, lines)
        finished.append(patient)

    def _full(path):
        from training.ingest.manifest import disk_error

        return disk_error(OSError(28, "No space left on device"), path)

    monkeypatch.setattr(Progress, "add", fills_up)
    with pytest.raises(IngestError, match=r"ingest.part.jsonl: the disk is full; make room .*--resume"):
        run(plain, tmp_path / "out")
    monkeypatch.undo()
    assert run(plain, tmp_path / "out", resume=True).patients == 3


def test_a_patient_is_kept_before_the_next_one_is_begun(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.ingest import run as module
    from training.ingest.manifest import Progress
    from training.progress import tracked

    events = []
    lines_of, add = module.patient_lines, Progress.add
    monkeypatch.setattr(module, "patient_lines", lambda p, **how: events.append("made") or lines_of(p, **how))
    monkeypatch.setattr(Progress, "add", lambda self, *what: events.append("kept") or add(self, *what))
    ingest(Request(plain, tmp_path / "out", margin=MARGIN), track=tracked)  # the bar of the command line
    assert events == ["made", "kept"] * 3


def test_a_simulated_cohort_comes_through(tmp_path: Path) -> None:
    from reacquire.phantom.cohort import write_cohort

    write_cohort(tmp_path / "cohort", women=1, seed=1, slices_per_woman=1, protocols_per_woman=2, truth=True)
    report = run(tmp_path / "cohort", tmp_path / "out")
    lines = used(tmp_path / "out")
    assert (report.patients, report.slices, report.with_mask) == (1, 2, 1)
    assert len({line["pair_group"] for line in lines}) == 1
    assert all((tmp_path / "out" / line[key]).is_file() for line in lines for key in ("file", "mask", "clean"))
    rows = [json.loads(x) for x in (tmp_path / "cohort" / MANIFEST).read_text().splitlines()]
    assert {line["sha256"] for line in lines} == {row["sha256"] for row in rows}
    (tmp_path / "cohort" / rows[0]["file"]).write_bytes(b"x")
    with pytest.raises(IngestError, match=r"1-001.dcm.*write the cohort again"):
        run(tmp_path / "cohort", tmp_path / "again")


def test_headers_decide_over_folder_names(tmp_path: Path) -> None:
    trees.write_patient(tmp_path, "descriptive", ONE)
    (patient,) = find_series(tmp_path).values()
    assert {s.uid for s in patient} == {ONE.series_uid(role) for role in trees.SERIES}
    assert {s.layout for s in patient} == {"descriptive"}

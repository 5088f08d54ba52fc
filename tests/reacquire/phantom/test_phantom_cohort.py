import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest

from reacquire.iap import Encoding, load_vocabulary
from reacquire.phantom import write_cohort
from reacquire.phantom.cohort import SPLITS, draw_scans
from reacquire.phantom.mr_object import encode_png
from reacquire.phantom.protocols import sample_protocol
from reacquire.phantom.scanner import FAT_PULSES, same_site, sample_scanner

ARGUMENTS = {"women": 2, "seed": 4, "slices_per_woman": 2, "protocols_per_woman": 2}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    manifest = write_cohort(tmp_path_factory.mktemp("cohort"), **ARGUMENTS, truth=True)
    return manifest.parent, [json.loads(line) for line in manifest.read_text().splitlines()]


def test_there_is_a_row_and_a_file_per_slice(cohort: tuple[Path, list[dict]]) -> None:
    root, rows = cohort
    assert len(rows) == 8
    assert len(set(root.rglob("*.dcm"))) == 8
    for row in rows:
        assert hashlib.sha256((root / row["file"]).read_bytes()).hexdigest() == row["sha256"]
        assert row["split"] in {"train", "val", "test"}


def test_the_layout_is_patient_study_series_file(cohort: tuple[Path, list[dict]]) -> None:
    for row in cohort[1]:
        patient, study, series, name = Path(row["file"]).parts
        assert patient == f"Phantom_MRI_{row['woman'] + 1:03d}" == row["patient_id"]
        assert study.split("-")[3] == "NA"
        assert series.split("-")[0].endswith(".000000")
        assert name == f"1-{row['slice'] + 1:03d}.dcm"


def test_headers_carry_the_parameters_of_the_manifest(cohort: tuple[Path, list[dict]]) -> None:
    root, rows = cohort
    for row in rows:
        header = pydicom.dcmread(root / row["file"])
        assert "\\".join(np.atleast_1d(header.ScanOptions)) == row["iap"]["ScanOptions"]
        for keyword in ("EchoTime", "RepetitionTime", "FlipAngle", "SliceThickness", "MagneticFieldStrength"):
            assert float(header[keyword].value) == pytest.approx(row["iap"][keyword])
        assert Encoding(load_vocabulary()).encode(row["iap"]).known.all()
        assert header.SyntheticData == "YES"
        assert header.BodyPartExamined == "BREAST"
        assert list(header.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
        assert header.pixel_array.shape == (header.Rows, header.Columns)


def test_scans_of_one_woman_are_aligned(cohort: tuple[Path, list[dict]]) -> None:
    root, rows = cohort
    for group in {row["pair_group"] for row in rows}:
        headers = [pydicom.dcmread(root / r["file"]) for r in rows if r["pair_group"] == group]
        assert len(headers) == 2
        assert len({h.FrameOfReferenceUID for h in headers}) == 1
        assert len({h.StudyInstanceUID for h in headers}) == 2
        sides = [h.Rows * float(h.PixelSpacing[0]) for h in headers]
        assert sides[0] == pytest.approx(sides[1])
        assert len({str(h.ImagePositionPatient[2]) for h in headers}) == 1


def test_truth_is_in_the_units_of_the_image(cohort: tuple[Path, list[dict]]) -> None:
    root, rows = cohort
    for row in rows[:2]:
        clean, image = np.load(root / row["clean"]), pydicom.dcmread(root / row["file"]).pixel_array
        assert clean.dtype == np.float32
        assert np.percentile(clean, 99) == pytest.approx(np.percentile(image, 99), rel=0.1)


def test_equal_arguments_write_equal_bytes(cohort: tuple[Path, list[dict]], tmp_path: Path) -> None:
    again = write_cohort(tmp_path, **{**ARGUMENTS, "women": 1})
    hashes = [json.loads(line)["sha256"] for line in again.read_text().splitlines()]
    assert hashes == [row["sha256"] for row in cohort[1] if row["woman"] == 0]


def test_a_cohort_is_never_overwritten(cohort: tuple[Path, list[dict]]) -> None:
    with pytest.raises(FileExistsError):
        write_cohort(cohort[0], **ARGUMENTS)


def test_a_cohort_needs_women(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        write_cohort(tmp_path, **{**ARGUMENTS, "women": 0})


def test_women_are_split_75_10_15() -> None:
    assert len(SPLITS) == 20
    assert [SPLITS.count(s) for s in ("train", "val", "test")] == [15, 2, 3]
    assert set(SPLITS[:5]) == {"train", "val", "test"}


SITE = ("coil_shift_mm", "b1_sign", "noise_gain", "ghost", "ghost_shift", "receive_phase")


@pytest.mark.parametrize("seed", range(12))
def test_interventions_change_what_the_protocol_decides_and_nothing_else(seed: int) -> None:
    (protocol, scanner), *others = draw_scans(np.random.default_rng(seed), 4, "interventions")
    for other, moved in others:
        assert all(getattr(moved, name) == getattr(scanner, name) for name in SITE)
        assert (other.fov_mm, other.chest_fraction) == (protocol.fov_mm, protocol.chest_fraction)
        assert moved.zero_background == (not other.is_siemens)
        assert moved.fat.inversion == other.inversion
        low, high = FAT_PULSES[other.protocol_id]
        assert low - 1e-9 <= moved.fat.pulses <= high + 1e-9
        if other.is_siemens == protocol.is_siemens:
            assert (moved.gamma, moved.filter_width) == (scanner.gamma, scanner.filter_width)


def test_some_interventions_change_one_number_alone() -> None:
    alone = 0
    for seed in range(40):
        (first, scanner), *others = draw_scans(np.random.default_rng(seed), 4, "interventions")
        for other, moved in others:
            changed = [k for k, value in first.iap.items() if other.iap[k] != value]
            if len(changed) == 1:
                assert moved == scanner
                alone += 1
    assert 0.15 < alone / 120 < 0.45


def test_fat_preparation_keeps_its_place_when_it_comes_back() -> None:
    rng = np.random.default_rng(3)
    there, back = (sample_protocol(rng, protocol_id=name) for name in ("S1", "G1"))
    scanner = sample_scanner(rng, there)
    returned = same_site(same_site(scanner, there, back, rng), back, there, rng)
    assert returned.fat.pulses == pytest.approx(scanner.fat.pulses)
    assert returned.fat.angle_deg == pytest.approx(scanner.fat.angle_deg)


def test_masks_are_readable_png(cohort: tuple[Path, list[dict]]) -> None:
    root, rows = cohort
    body = (root / rows[0]["mask"]).read_bytes()
    assert body.startswith(b"\x89PNG")
    plane = np.arange(6, dtype=np.uint8).reshape(2, 3)
    png = encode_png(plane)
    start = png.index(b"IDAT") + 4
    length = int.from_bytes(png[start - 8 : start - 4], "big")
    raw = np.frombuffer(zlib.decompress(png[start : start + length]), np.uint8).reshape(2, 4)
    np.testing.assert_array_equal(raw[:, 1:], plane)

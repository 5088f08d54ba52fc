"""The parametric maps: values come back where they belong, marked as synthetic, without stray header values."""

import io
import os
import shutil
import subprocess

import highdicom as hd
import numpy as np
import pytest
from builders import SECRET, make_series, read_back
from enhanced import make_enhanced
from iod_check import problems

from reacquire.dicom import read_slice, unpack, write_parametric_map
from reacquire.errors import DatasetError

ALGORITHM = ("Reacquire phantom-v0", "1.0.0+abababababab")


def slices(count: int = 3, **changes) -> list:
    return [read_slice(data) for data in make_series(count, **changes)]


def values_for(count: int, shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.random.default_rng(0).gamma(2, 20, (count, *shape)).astype(np.float32)


def write(sources: list, values: np.ndarray, **how) -> bytes:
    return write_parametric_map(sources, values, **{"quantity": "spread", "algorithm": ALGORITHM, **how})


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_values_come_back_for_each_source_whatever_the_order(order: tuple[int, ...]) -> None:
    sources, values = slices(), values_for(3)
    data = write([sources[i] for i in order], values[list(order)])
    ds = read_back(data)
    frames = hd.imread(io.BytesIO(data)).get_frames(apply_real_world_transform=True)
    uids = [source.header.sop_instance_uid for source in sources]
    for frame, groups in zip(frames, ds.PerFrameFunctionalGroupsSequence, strict=True):
        reference = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        np.testing.assert_array_equal(frame, values[uids.index(reference)])


def test_it_says_what_it_is() -> None:
    ds = read_back(write(slices(), values_for(3)))
    assert (ds.SOPClassUID, ds.SyntheticData, ds.ContentQualification) == (
        "1.2.840.10008.5.1.4.1.1.30", "YES", "RESEARCH")  # fmt: skip
    assert (ds.SeriesNumber, ds.ContentLabel, ds.FrameOfReferenceUID) == (6007, "CF_SPREAD", "1.2.3.5")
    (mapping,) = ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    assert "CFSPREAD" in str(mapping.QuantityDefinitionSequence)
    assert (ds.PatientName, ds.StudyInstanceUID) == (f"{SECRET}^Name", "1.2.3.2")


def test_mean_and_spread_are_two_objects_and_the_same_job_writes_the_same() -> None:
    sources, values = slices(), values_for(3)
    uids = [read_back(write(sources, values, quantity=q)).SOPInstanceUID for q in ("mean", "spread", "spread")]
    assert uids[1] == uids[2] != uids[0]
    assert read_back(write(sources, values, uid_root="1.2.3")).SOPInstanceUID.startswith("1.2.3.")


@pytest.mark.parametrize("layout", ["philips", "siemens"])
def test_frames_of_an_enhanced_source_are_named(layout: str) -> None:
    sources = [read_slice(data) for data in unpack(make_enhanced(layout, 3))]
    ds = read_back(write(sources, values_for(3)))
    found = [g.DerivationImageSequence[0].SourceImageSequence[0] for g in ds.PerFrameFunctionalGroupsSequence]
    assert {f.ReferencedFrameNumber for f in found} == {s.header.origin.frame for s in sources}


def test_the_standard_has_nothing_against_it() -> None:
    assert problems(read_back(write(slices(), values_for(3)))) == []


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed (Debian: dicom3tools)")
def test_dciodvfy_finds_no_error(tmp_path) -> None:
    path = tmp_path / "map.dcm"
    path.write_bytes(write(slices(), values_for(3)))
    run = subprocess.run(
        ["dciodvfy", str(path)], capture_output=True, env={**os.environ, "LC_ALL": "C"}, timeout=60, text=True
    )
    errors = [line for line in run.stderr.splitlines() if line.startswith("Error") and "0x0008,0x001c" not in line]
    assert errors == []


def test_values_that_are_no_map_are_refused() -> None:
    sources = slices(2)
    for values in (values_for(3), values_for(2).astype(np.float64), values_for(2) * np.nan):
        with pytest.raises(ValueError, match="finite float32"):
            write(sources, values)
    with pytest.raises(DatasetError):
        write([sources[0], slices(1, SeriesInstanceUID="1.2.9")[0]], values_for(2))

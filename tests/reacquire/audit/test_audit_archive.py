"""Walking an archive: grouping, zips, and everything in a folder that is no slice."""

import io
import zipfile
from pathlib import Path

import pytest
from builders import make_mr, make_series

from reacquire.audit import scan_path
from reacquire.audit.judge import spread
from reacquire.dicom import Limits
from reacquire.errors import ContainerError


@pytest.fixture
def archive(tmp_path) -> Path:
    """Two series, one of them in a zip, between things that are no slices."""
    root = tmp_path / "archive"
    (root / "a" / "deep").mkdir(parents=True)
    for number, data in enumerate(make_series(3)):
        (root / "a" / "deep" / f"{number}").write_bytes(data)
    (root / "a" / "note.txt").write_text("hello")
    (root / "empty").write_bytes(b"")
    (root / "cut.dcm").write_bytes(make_mr()[:-1000])
    (root / "us.dcm").write_bytes(make_mr(Modality="US"))
    (root / "synthetic.dcm").write_bytes(make_mr(SyntheticData="YES", SeriesInstanceUID="1.2.9"))
    (root / "loop").symlink_to(root)
    (root / "nowhere").symlink_to(root / "absent")
    with zipfile.ZipFile(root / "b.zip", "w") as packed:
        for number, data in enumerate(make_series(2, SeriesInstanceUID="1.2.3.99")):
            packed.writestr(f"{number}.dcm", data)
    return root


def test_series_are_found_and_the_rest_is_counted_by_reason(archive):
    seen: list[int] = []
    scan = scan_path(archive, on_file=seen.append)
    assert {series.uid: len(series.load()) for series in scan.series} == {"1.2.3.3": 3, "1.2.3.99": 2}
    assert {series.where for series in scan.series} == {"a/deep/0", "b.zip"}
    assert scan.left_out == {
        "not-dicom": 1,
        "empty-body": 1,
        "truncated-pixels": 1,
        "unsupported-modality": 1,
        "already-synthetic": 1,
    }
    assert (seen[-1], scan.files) == (10, 10)


def test_synthetic_images_are_taken_on_demand(archive):
    assert "1.2.9" in {series.uid for series in scan_path(archive, allow_synthetic=True).series}


def test_a_series_comes_back_as_it_lies_there(archive):
    (series,) = (s for s in scan_path(archive).series if s.where == "b.zip")
    assert series.load() == make_series(2, SeriesInstanceUID="1.2.3.99")


@pytest.mark.parametrize("damage", [b"PK\x03\x04 not a zip", b"MZ" + make_mr()[2:]])
def test_a_single_bad_file_is_a_reason_and_no_crash(tmp_path, damage):
    (tmp_path / "x").write_bytes(damage)
    scan = scan_path(tmp_path / "x")
    assert (scan.series, sum(scan.left_out.values())) == ((), 1)


def test_neither_a_file_nor_a_series_beyond_the_limits_is_loaded(archive, tmp_path):
    assert scan_path(archive, limits=Limits(instance_bytes=1000)).left_out["too-large"] >= 3
    (series,) = (s for s in scan_path(archive, limits=Limits(instances=2)).series if s.where == "a/deep/0")
    with pytest.raises(ContainerError):
        series.load()


def test_a_file_that_may_not_be_read_is_counted(tmp_path, monkeypatch):
    (tmp_path / "x.dcm").write_bytes(make_mr())
    opened = Path.open

    def refusing(path, *arguments, **given):
        if path.name == "x.dcm":
            raise PermissionError
        return opened(path, *arguments, **given)

    monkeypatch.setattr(Path, "open", refusing)
    assert scan_path(tmp_path).left_out == {"unreadable-file": 1}


def test_representations_hide_uid_and_place(archive):
    (first, *_) = scan_path(archive).series
    assert first.uid not in repr(first)
    assert "deep" not in repr(first)


@pytest.mark.parametrize(
    ("count", "most", "expected"), [(1, 9, [0]), (3, 9, [0, 1, 2]), (9, 3, [1, 4, 7]), (2, 1, [1])]
)
def test_slices_are_spread_over_the_series(count, most, expected):
    assert spread(count, most) == expected


def test_a_zip_as_the_archive_itself(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr("x.dcm", make_mr())
    (tmp_path / "one.zip").write_bytes(stream.getvalue())
    (series,) = scan_path(tmp_path / "one.zip").series
    assert series.where == "one.zip"

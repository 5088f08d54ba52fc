"""Uploads: one file, a zip of a series, and archives that mean harm (rows 3, 6, 38, 39)."""

import io
import stat
import zipfile

import pytest
from builders import make_mr, make_series

from reacquire.dicom import Limits, unpack
from reacquire.errors import ContainerError

GOOD = make_mr()


def make_zip(
    members: dict[str, bytes], *, mode: int = stat.S_IFREG | 0o644, method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.compress_type = mode << 16, method
            archive.writestr(entry, content)
    return buffer.getvalue()


def refusal(data: bytes, **limits: int) -> str:
    with pytest.raises(ContainerError) as caught:
        unpack(data, limits=Limits(**limits))
    return caught.value.code


def test_a_single_file_comes_back_as_it_is():
    assert unpack(GOOD) == [GOOD]
    assert unpack(b"not DICOM") == [b"not DICOM"]  # inspect says so, file by file


def test_a_zip_gives_its_files_in_order():
    series = make_series(3)
    members = {f"series/{n}.dcm": data for n, data in enumerate(series)}
    assert unpack(make_zip({**members, "__MACOSX/._0.dcm": b"x", ".DS_Store": b"x"})) == series


CASES = {
    "empty": (b"", {}, "empty-body"),
    "zip without files": (make_zip({}), {}, "empty-body"),
    "upload too large": (GOOD, {"series_bytes": 100}, "too-large"),
    "too many files": (make_zip({str(n): GOOD for n in range(4)}), {"instances": 3}, "too-large"),
    "too many entries": (make_zip({str(n): b"" for n in range(30)}), {"entries": 20}, "unsafe-archive"),
    "parent": (make_zip({"../a.dcm": GOOD}), {}, "unsafe-archive"),
    "parent, backslash": (make_zip({"a\\..\\..\\b.dcm": GOOD}), {}, "unsafe-archive"),
    "absolute": (make_zip({"/etc/a.dcm": GOOD}), {}, "unsafe-archive"),
    "drive": (make_zip({"C:/a.dcm": GOOD}), {}, "unsafe-archive"),
    "link": (make_zip({"a": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777), {}, "unsafe-archive"),
    "damaged": (make_zip({"a": GOOD})[:-30], {}, "unsafe-archive"),
    "bomb": (make_zip({"a": bytes(30 * 2**20)}), {}, "decompression-limit"),
    "many small bombs": (make_zip({str(n): bytes(2**20) for n in range(40)}), {}, "decompression-limit"),
    "member too large": (make_zip({"a": GOOD}), {"instance_bytes": 1000}, "decompression-limit"),
    "nested zip": (make_zip({"a.zip": make_zip({"a": GOOD})}), {}, "unsupported-container"),
    "nested gzip": (make_zip({"a.gz": b"\x1f\x8b" + bytes(200)}), {}, "unsupported-container"),
    "DICOMDIR": (make_zip({"disc/DICOMDIR": GOOD}), {}, "dicomdir-not-accepted"),
}


@pytest.mark.parametrize(("data", "limits", "code"), CASES.values(), ids=CASES.keys())
def test_unsafe_uploads_get_their_code(data, limits, code):
    assert refusal(data, **limits) == code


def test_a_member_that_claims_a_smaller_size_is_still_counted():
    data = make_zip({"a": bytes(3 * 2**20)}, method=zipfile.ZIP_DEFLATED)
    honest = (3 * 2**20).to_bytes(4, "little")
    assert refusal(data.replace(honest, (10).to_bytes(4, "little")), instance_bytes=2**20) in (
        "decompression-limit",
        "unsafe-archive",
    )


def test_an_encrypted_member_is_refused():
    data = bytearray(make_zip({"a": GOOD}, method=zipfile.ZIP_STORED))
    central = data.rindex(b"PK\x01\x02")
    data[6] |= 1
    data[central + 8] |= 1
    assert refusal(bytes(data)) == "unsafe-archive"

"""Reading refuses every row of the table of bad input with its code, and tells no header value."""

import contextlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from bad_input import CASES, GOOD
from builders import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    J2K,
    JPEG_LS,
    RLE,
    SECRET,
    make_mr,
)

from reacquire.dicom import Limits, inspect, read_slice
from reacquire.errors import ReacquireError

NEEDS_PIXELS = {"10 no f", "14", "16 J2K of", "17", "23", "8 e"}  # known only after decoding


def refusal(data: bytes, **options) -> ReacquireError:
    with pytest.raises(ReacquireError) as caught:
        read_slice(data, **options)
    return caught.value


@pytest.mark.parametrize(("data", "code"), CASES.values(), ids=CASES.keys())
def test_bad_input_gets_its_code(data, code):
    assert refusal(data).code == code


@pytest.mark.parametrize("data", [data for data, _ in CASES.values()], ids=CASES.keys())
def test_no_header_value_reaches_the_message(data):
    error = refusal(data)
    told = f"{error} {error.detail} {error.where} {error!r}"
    for value in (SECRET, "12.5", "1.2.3", "T1", "FANTASY", "BRAIN", "LOCALIZER", "../", "1,5"):
        assert value not in told
    assert error.detail


@pytest.mark.parametrize(
    ("data", "code"),
    [v for k, v in CASES.items() if not k.startswith(tuple(NEEDS_PIXELS))],
    ids=[k for k in CASES if not k.startswith(tuple(NEEDS_PIXELS))],
)
def test_inspect_refuses_without_decoding(data, code):
    with pytest.raises(ReacquireError) as caught:
        inspect(data)
    assert caught.value.code == code


def test_row_6_a_file_over_the_cap_is_too_large():
    assert refusal(GOOD, limits=Limits(instance_bytes=1000)).code == "too-large"


def test_row_26_the_real_ultrasound_is_refused(shared_data):
    data = (shared_data / "real-breast-mr" / "not-mr" / "ultrasound_rgb.dcm").read_bytes()
    assert refusal(data).code == "unsupported-modality"


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN, RLE, JPEG_LS, J2K])
def test_a_file_cut_anywhere_is_refused_with_a_code(syntax):
    data = make_mr(syntax=syntax)
    for length in [*range(0, len(data) - 40, max(1, len(data) // 60))]:
        assert refusal(data[:length]).code != "internal-error"


def test_random_damage_never_escapes_the_exception_tree():
    rng = np.random.default_rng(0)
    for syntax in (EXPLICIT, IMPLICIT, RLE, JPEG_LS):
        data = bytearray(make_mr(syntax=syntax))
        for _ in range(60):
            damaged = bytearray(data)
            for at in rng.integers(132, min(len(data), 1500), 4):
                damaged[at] = rng.integers(256)
            with contextlib.suppress(ReacquireError):
                read_slice(bytes(damaged))


def test_the_files_that_pydicom_bundles_are_refused_or_read_but_never_crash():
    codes = set()
    for path in (Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"):
        try:
            read_slice(path.read_bytes(), limits=Limits(instance_bytes=4 * 2**20))
        except ReacquireError as error:
            codes.add(error.code)
    assert {"not-part10", "unsupported-modality", "no-pixels"} <= codes

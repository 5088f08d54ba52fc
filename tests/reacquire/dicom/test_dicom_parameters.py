"""Acquisition parameters as real headers spell them: every oddity that was met, and where each value came from."""

import pytest
from builders import ABSENT, BIG_ENDIAN, IMPLICIT, make_mr
from enhanced import make_enhanced

from reacquire.dicom import inspect, unpack
from reacquire.errors import DatasetError
from reacquire.iap import load_vocabulary


def parameter(keyword: str, encoded: bytes):
    return inspect(make_mr(**{keyword: encoded})).iap.get(keyword)


@pytest.mark.parametrize(
    ("keyword", "encoded", "value"),
    [
        ("SliceThickness", b"1.1000000238419 ", 1.1),  # Siemens: single precision in text
        ("SliceThickness", b"1.1999999284744 ", 1.2),
        ("SliceThickness", b"3.0000", 3.0),  # Canon
        ("SliceThickness", b"2.005 ", 2.0),
        ("EchoTime", b"79.000", 79.0),
        ("EchoTime", b"58.40625", 58.40625),  # Philips
        ("EchoTime", b"123.6 ", 123.6),
        ("RepetitionTime", b"10000.000 ", 10000.0),
        ("RepetitionTime", b"8808.755859375 ", 8808.755859375),
        ("RepetitionTime", b"6.50099992752075", 6.50099992752075),
        ("RepetitionTime", b"+4.05 ", 4.05),
        ("RepetitionTime", b"4.05e0", 4.05),
        ("RepetitionTime", b".5", 0.5),
        ("FlipAngle", b"10", 10.0),
        ("FlipAngle", b" 10 ", 10.0),
        ("MagneticFieldStrength", b"3.0 ", 3.0),  # UIH
        ("MagneticFieldStrength", b"2.8936", 2.8936),
        ("MagneticFieldStrength", b"1.494 ", 1.494),
        ("MagneticFieldStrength", b"15000 ", 1.5),  # gauss
        ("MagneticFieldStrength", b"30000.0 ", 3.0),
        ("MagneticFieldStrength", b"20", 20.0),
        ("ScanOptions", b"FS", "FS"),
        ("ScanOptions", b"PFP\\NONE", "PFP\\NONE"),
        (
            "ScanOptions",
            b"SAT_GEMS\\EDR_GEMS\\EPI_GEMS\\ACC_GEMS\\PFF\\FS ",
            "SAT_GEMS\\EDR_GEMS\\EPI_GEMS\\ACC_GEMS\\PFF\\FS",
        ),
        ("ScanOptions", b"pfp\\sfs ", "PFP\\SFS"),
        ("ScanOptions", b"PFP \\ SFS ", "PFP\\SFS"),
        ("ScanOptions", b"\\FS ", "FS"),
        ("Manufacturer", b"TOSHIBA ", "TOSHIBA"),
        ("Manufacturer", b"CANON_MEC ", "CANON_MEC"),
        ("Manufacturer", b"Siemens HealthCare GmbH ", "Siemens HealthCare GmbH"),
        ("ManufacturerModelName", b"Aera\0\0", "Aera"),
    ],
)
def test_what_vendors_write_is_read(keyword, encoded, value):
    assert parameter(keyword, encoded) == value


NUMERIC = ("SliceThickness", "EchoTime", "RepetitionTime", "FlipAngle", "MagneticFieldStrength")


@pytest.mark.parametrize("keyword", NUMERIC)
@pytest.mark.parametrize(
    "encoded",
    [b"1,5 ", b"1.5 T ", b"1.5ms ", b"NaN ", b"nan ", b"inf ", b"-inf", b"1e400 ", b"0 ", b"0.0 ", b"-1", b"1_5 ",
     b"0x10", b"1.5\\3 ", b"--1 ", b"1e", b"1 5 ", b"\xb9\xb2", b"abc ", b"***"],
)  # fmt: skip
def test_what_is_no_positive_finite_number_is_refused_by_tag(keyword, encoded):
    with pytest.raises(DatasetError) as caught:
        parameter(keyword, encoded)
    assert (caught.value.code, caught.value.where) == ("invalid-attribute-value", keyword)


@pytest.mark.parametrize(
    ("encoded", "source"), [(b"", "empty"), (b"  ", "empty"), (b"\\", "empty"), (ABSENT, "absent")]
)
@pytest.mark.parametrize("syntax", [IMPLICIT, BIG_ENDIAN])
def test_empty_and_absent_scan_options_are_unknown_and_told_apart(encoded, source, syntax):
    header = inspect(make_mr(ScanOptions=encoded, syntax=syntax))
    assert "ScanOptions" not in header.iap
    assert header.parameter_sources["ScanOptions"] == source
    assert header.scan_options == ()


@pytest.mark.parametrize("keyword", NUMERIC)
def test_empty_and_absent_numbers_are_unknown_and_told_apart(keyword):
    assert inspect(make_mr(**{keyword: b""})).parameter_sources[keyword] == "empty"
    assert inspect(make_mr(**{keyword: ABSENT})).parameter_sources[keyword] == "absent"


def test_every_parameter_tells_where_it_was_found():
    assert set(inspect(make_mr()).parameter_sources.values()) == {"attribute"}
    sources = inspect(unpack(make_enhanced("philips", ManufacturerModelName=b""))[0]).parameter_sources
    assert sources["SliceThickness"] == "PerFrame:PixelMeasuresSequence"
    assert sources["FlipAngle"] == "Shared:MRTimingAndRelatedParametersSequence"
    assert sources["ManufacturerModelName"] == "empty"


def test_scan_options_keep_their_order_and_mean_a_set():
    one, other = (inspect(make_mr(ScanOptions=encoded)) for encoded in (b"PFP\\SFS ", b"SFS\\PFP "))
    assert one.scan_options == ("PFP", "SFS")
    assert other.iap["ScanOptions"] == "SFS\\PFP"
    assert set(one.scan_options) == set(other.scan_options)
    vocabulary = load_vocabulary()
    assert vocabulary.recognise(other.iap)["ScanOptions"] == "PFP\\SFS"
    assert "ScanOptions" not in vocabulary.recognise({"ScanOptions": "PFP\\SFS\\SFS"})


def test_philips_private_copies_are_never_read():
    assert 99 not in inspect(unpack(make_enhanced("philips"))[0]).iap.values()

"""Reading: every transfer syntax bit for bit, meaning of the pixels, acquisition parameters as the header has them."""

import subprocess
import sys

import numpy as np
import pytest
from builders import (
    ABSENT,
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    J2K,
    J2K_LOSSY,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    JPEG_LS_NEAR,
    RLE,
    make_dataset,
    make_mr,
    make_pixels,
    to_bytes,
)

from reacquire.dicom import inspect, read_slice
from reacquire.iap import load_vocabulary

LOSSLESS = [
    EXPLICIT,
    IMPLICIT,
    DEFLATED,
    BIG_ENDIAN,
    RLE,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    J2K,
]


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_syntaxes_are_read_bit_for_bit(syntax):
    pixels = make_pixels()
    image = read_slice(make_mr(pixels, syntax=syntax))
    assert image.pixels.dtype == np.float32
    assert image.pixels.dtype.isnative
    assert np.array_equal(image.pixels, pixels)
    assert image.warnings == ()


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_signed_sixteen_bit_pixels_keep_their_sign(syntax):
    pixels = make_pixels().astype(np.int16) - 700
    data = make_mr(pixels.view(np.uint16), syntax=syntax, BitsStored=16, HighBit=15, PixelRepresentation=1)
    image = read_slice(data)
    assert np.array_equal(image.pixels, pixels)
    assert image.stored_range == (-(2**15), 2**15 - 1)


@pytest.mark.parametrize(("syntax", "error"), [(JPEG_LS_NEAR, 2), (J2K_LOSSY, 60)])
def test_lossy_syntaxes_are_read_with_a_warning(syntax, error):
    image = read_slice(make_mr(syntax=syntax))
    assert 0 < np.abs(image.pixels - make_pixels()).max() <= error
    assert image.header.lossy
    assert "compressed with loss" in image.warnings[0]


def test_bits_above_bits_stored_are_dropped():
    """Old files keep an overlay in the unused bits (PS3.3 C.9.2, retired embedding)."""
    pixels = make_pixels()
    assert np.array_equal(read_slice(make_mr(pixels | 0x8000)).pixels, pixels)


def test_monochrome1_is_inverted_in_the_stored_range():
    image = read_slice(make_mr(PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(image.pixels, 4095 - make_pixels().astype(int))


def test_rescale_is_applied_and_widens_the_range():
    image = read_slice(make_mr(RescaleSlope="2.5", RescaleIntercept="-10"))
    assert np.array_equal(image.pixels, make_pixels() * np.float32(2.5) - 10)
    assert image.stored_range == (0, 10228)


@pytest.mark.parametrize(("slope", "reason"), [("0.01", "below 1"), ("0.5", "below 1"), ("100", "16-bit")])
def test_a_rescale_that_whole_numbers_cannot_hold_is_left_out_and_says_why(slope, reason):
    image = read_slice(make_mr(RescaleSlope=slope))
    assert np.array_equal(image.pixels, make_pixels())
    assert "not applied" in image.warnings[0]
    assert reason in image.warnings[0]


def test_a_signed_magnitude_image_may_not_become_negative():
    assert read_slice(make_mr(PixelRepresentation=1, BitsStored=16, HighBit=15)).stored_range == (0, 2**15 - 1)


def test_acquisition_parameters_come_as_in_the_header():
    assert inspect(make_mr()).iap == {
        "Manufacturer": "SIEMENS",
        "ManufacturerModelName": "Skyra",
        "MagneticFieldStrength": 2.8936,
        "ScanOptions": "PFP\\SFS",
        "FlipAngle": 10.0,
        "SliceThickness": 1.1,
        "EchoTime": 1.42,
        "RepetitionTime": 4.05,
    }


@pytest.mark.parametrize("syntax", [IMPLICIT, BIG_ENDIAN, DEFLATED])
def test_acquisition_parameters_do_not_depend_on_the_encoding(syntax):
    assert inspect(make_mr(syntax=syntax)).iap == inspect(make_mr()).iap


@pytest.mark.parametrize(
    ("change", "keyword", "value"),
    [
        ({"ScanOptions": b"pfp \\ sfs "}, "ScanOptions", "PFP\\SFS"),
        ({"MagneticFieldStrength": b"15000 "}, "MagneticFieldStrength", 1.5),
        ({"EchoTime": b" 79.000 "}, "EchoTime", 79.0),
        ({"RepetitionTime": b"1.0e1 "}, "RepetitionTime", 10.0),
        ({"Manufacturer": b"SIEMENS \0"}, "Manufacturer", "SIEMENS"),
    ],
)
def test_spelling_is_normalised(change, keyword, value):
    assert inspect(make_mr(**change)).iap[keyword] == value


@pytest.mark.parametrize("value", [ABSENT, b"", b"  ", b"\0\0"])
@pytest.mark.parametrize("keyword", ["ScanOptions", "EchoTime", "ManufacturerModelName"])
def test_row_35_absent_and_empty_parameters_are_unknown(keyword, value):
    assert keyword not in inspect(make_mr(**{keyword: value})).iap


def test_row_27_an_absent_body_part_is_a_warning():
    assert "BodyPartExamined is absent" in inspect(make_mr(BodyPartExamined=ABSENT)).warnings[0]


def test_row_22_inherited_loss_is_a_warning():
    assert inspect(make_mr(LossyImageCompression="01")).lossy


def test_row_42_an_unknown_charset_is_a_warning():
    data = make_mr(SpecificCharacterSet="ISO_IR 100").replace(b"ISO_IR 100", b"FANTASY_99")
    assert "SpecificCharacterSet is unknown" in inspect(data).warnings[0]


def test_row_33_synthetic_input_is_read_when_allowed():
    header = read_slice(make_mr(SyntheticData="YES"), allow_synthetic=True).header
    assert header.synthetic


@pytest.mark.parametrize(
    ("iop", "expected"),
    [
        (["1", "0", "0", "0", "1", "0"], lambda p: p),
        (["-1", "0", "0", "0", "1", "0"], lambda p: p[:, ::-1]),
        (["1", "0", "0", "0", "-1", "0"], lambda p: p[::-1]),
        (["-1", "0", "0", "0", "-1", "0"], lambda p: p[::-1, ::-1]),
        (["0", "1", "0", "1", "0", "0"], lambda p: p.T),
        (["0", "-1", "0", "1", "0", "0"], lambda p: p.T[::-1]),
        (["0", "1", "0", "-1", "0", "0"], lambda p: p.T[:, ::-1]),
        (["0.9986295", "0.0523360", "0", "-0.0523360", "0.9986295", "0"], lambda p: p),
    ],
)
def test_canonical_view_and_back(iop, expected):
    image = read_slice(make_mr(ImageOrientationPatient=iop))
    canonical = image.canonical()
    assert np.array_equal(canonical, expected(make_pixels()))
    assert np.array_equal(image.from_canonical(canonical), image.pixels)


def test_slice_spacing_prefers_the_spacing_over_the_thickness():
    assert read_slice(make_mr(SpacingBetweenSlices="2.2")).slice_spacing_mm == 2.2
    assert read_slice(make_mr()).slice_spacing_mm == 1.1


def test_real_aera_slices_read_as_pydicom_reads_them(shared_data):
    from pydicom import dcmread

    vocabulary = load_vocabulary()
    for path in sorted((shared_data / "real-breast-mr" / "aera-axial").glob("*.dcm"))[::8]:
        image = read_slice(path.read_bytes())
        assert np.array_equal(image.pixels, dcmread(path).pixel_array)
        assert image.iap["ManufacturerModelName"] == "Aera"
        assert "ManufacturerModelName" not in vocabulary.recognise(image.iap)
        assert image.warnings == ()


def test_reading_a_header_imports_nothing_heavy():
    code = (
        "import sys, reacquire.dicom\n"
        "assert not {'torch', 'highdicom', 'scipy', 'matplotlib', 'monai'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_private_groups_and_overlays_are_not_kept():
    ds = make_dataset()
    ds.private_block(0x0029, "VENDOR", create=True).add_new(1, "OB", bytes(50_000))
    ds.add_new(0x60003000, "OW", bytes(10_000))
    kept = set(inspect(to_bytes(ds)).dataset.keys())
    assert not [tag for tag in kept if tag.is_private or tag.group == 0x6000]

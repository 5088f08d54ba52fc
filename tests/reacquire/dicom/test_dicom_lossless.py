"""An edit that changes nothing gives back the source's very pixels, from every lossless transfer syntax."""

import io
import sys

import numpy as np
import pytest
from builders import J2K, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, JPEG_LS, RLE, make_mr
from pydicom import dcmread
from test_dicom_write import PROVENANCE

from reacquire.dicom import read_slice, write_counterfactual
from reacquire.dicom.samples import picture
from reacquire.dicom.selfcheck import sample
from reacquire.dicom.syntaxes import SYNTAXES
from reacquire.imaging import Preprocessing

LOSSLESS = [uid for uid, syntax in SYNTAXES.items() if not syntax.lossy]
FORMATS = {
    "16 bits": {"BitsStored": 16, "HighBit": 15},
    "16 bits signed": {"BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1},
}


def unchanged(data: bytes) -> np.ndarray:
    """The stored pixels of a counterfactual whose model changed nothing."""
    preprocessing = Preprocessing(size=16)
    source = read_slice(data)
    model = preprocessing.forward(source.canonical())
    canonical = preprocessing.apply_change(source.canonical(), model, model.values, stored_range=source.stored_range)
    written = write_counterfactual(source, source.from_canonical(canonical), provenance=PROVENANCE)
    return dcmread(io.BytesIO(written)).pixel_array


@pytest.mark.parametrize("uid", LOSSLESS, ids=lambda uid: SYNTAXES[uid].name)
def test_no_edit_gives_back_the_stored_pixels(uid):
    assert np.array_equal(unchanged(sample(SYNTAXES[uid])), picture())


@pytest.mark.parametrize("changes", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize("uid", [RLE, JPEG_LS, J2K, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1], ids=lambda u: SYNTAXES[u].name)
def test_all_sixteen_bits_survive(uid, changes):
    words = np.random.default_rng(0).integers(0, 2**16, (48, 64)).astype(np.uint16)
    found = unchanged(make_mr(words, syntax=uid, **changes))
    assert np.array_equal(found.astype(np.uint16), words)


def test_every_real_slice_comes_back_bit_for_bit(shared_data):
    paths = sorted((shared_data / "real-breast-mr" / "aera-axial").glob("*.dcm"))[::4]
    for path in paths:
        data = path.read_bytes()
        assert np.array_equal(unchanged(data), dcmread(io.BytesIO(data)).pixel_array)
    sys.stdout.write(f"{len(paths)} real slices bit-exact after an edit that changes nothing\n")

"""Normalisation and its inverse: percentiles, identity edits, half-pixel alignment, pinning by hash."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reacquire.errors import BundleError, PixelError
from reacquire.imaging import ModelImage, Preprocessing

RANGE = (0, 4095)


def noise(shape=(300, 280), seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4096, shape).astype(np.float32)


@pytest.mark.parametrize("resize", ["area", "antialias"])
def test_percentiles_of_the_resized_image_become_0_and_1(resize):
    image = Preprocessing(resize=resize).forward(noise())
    assert image.values.shape == (224, 224)
    assert np.percentile(image.values, [10, 99]) == pytest.approx([0, 1], abs=1e-5)
    assert image.values.min() < 0  # not clipped
    assert image.values.max() > 1


def test_area_resize_averages_whole_blocks():
    pixels = noise((448, 448))
    image = Preprocessing().forward(pixels)
    blocks = pixels.reshape(224, 2, 224, 2).mean((1, 3))
    assert image.values * (image.high - image.low) + image.low == pytest.approx(blocks, abs=1e-2)


def test_golden_numbers_of_a_ramp():
    row, column = np.mgrid[:448, :224]
    image = Preprocessing().forward((row + 3 * column).astype(np.float32))
    assert (image.low, image.high) == (243.5, 1040.5)  # sqrt(0.1 * 12) * 224 - 2 by the continuous ramp: 243.4
    assert image.values[0, 0] == pytest.approx((0.5 - image.low) / (image.high - image.low), abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(3, 400), st.integers(3, 400)),
    st.integers(0, 99),
    st.sampled_from(["area", "antialias"]),
)
def test_an_identity_edit_gives_the_native_pixels_bit_for_bit(shape, seed, resize):
    native, preprocessing = noise(shape, seed), Preprocessing(resize=resize)
    before = preprocessing.forward(native)
    after = preprocessing.apply_change(native, before, before.values.copy(), stored_range=RANGE)
    assert after.dtype == np.int32
    assert np.array_equal(after, native)


def test_a_uniform_change_is_added_in_native_units_and_rounded_once():
    native = noise()
    before = ModelImage(np.zeros((224, 224), np.float32), 100.0, 300.0)
    after = Preprocessing().apply_change(native, before, before.values + 0.5, stored_range=(-(2**15), 2**15 - 1))
    assert np.array_equal(after, native + 100)


def test_results_are_clipped_to_the_stored_range():
    native = noise()
    before = ModelImage(np.zeros((224, 224), np.float32), 0.0, 1.0)
    for change, bound in ((1e6, 4095), (-1e6, 0)):
        changed = before.values + np.float32(change)
        assert (Preprocessing().apply_change(native, before, changed, stored_range=RANGE) == bound).all()


def test_the_change_is_upsampled_without_shift():
    """A ramp of the model grid's pixel centres stays a ramp of the native pixel centres (align_corners=False)."""
    shape = (448, 336)
    centres = (np.arange(224) + 0.5) / 224
    before = ModelImage(np.zeros((224, 224), np.float32), 0.0, 1000.0)
    ramp = np.tile(centres[:, None], (1, 224)).astype(np.float32)
    change = Preprocessing().apply_change(np.zeros(shape), before, ramp, stored_range=RANGE)
    expected = (np.arange(448) + 0.5) / 448 * 1000
    assert np.abs(change[2:-2, 0] - expected[2:-2]).max() <= 0.5


def test_big_endian_and_negatively_strided_pixels_are_taken():
    pixels = noise()
    expected = Preprocessing().forward(pixels).values
    assert np.array_equal(Preprocessing().forward(pixels.astype(">u2")).values, expected)
    assert np.array_equal(Preprocessing().forward(np.ascontiguousarray(pixels[::-1])[::-1]).values, expected)


@pytest.mark.parametrize("pixels", [np.zeros((50, 50)), np.full((50, 50), 7), np.full((50, 50), np.nan)])
def test_a_slice_without_contrast_is_degenerate(pixels):
    with pytest.raises(PixelError) as caught:
        Preprocessing().forward(pixels)
    assert caught.value.code == "degenerate-image"


@pytest.mark.parametrize("shape", [(224, 224), (448, 448), (672, 448)])
def test_labels_survive_the_way_to_the_grid_and_back(shape):
    labels = np.zeros(shape, np.uint8)
    labels[shape[0] // 4 : shape[0] // 2, shape[1] // 8 : shape[1] // 2] = 1
    labels[shape[0] // 4 : shape[0] // 3, shape[1] // 4 : shape[1] // 2] = 2
    preprocessing = Preprocessing()
    logits = np.eye(3, dtype=np.float32)[preprocessing.forward_labels(labels)].transpose(2, 0, 1)
    back = preprocessing.labels_to_native(logits, shape)
    assert back.dtype == np.uint8
    assert (back != labels).mean() < 0.005


def test_the_hash_follows_every_parameter_and_survives_the_manifest():
    variants = [Preprocessing(), Preprocessing(size=256), Preprocessing(upper=98), Preprocessing(resize="antialias")]
    assert len({v.sha256 for v in variants}) == len(variants)
    for variant in variants:
        assert Preprocessing.from_dict(variant.to_dict()) == variant


@pytest.mark.parametrize("change", [{"version": 2}, {"clip": True}, {"size": 0}, {"resize": "cubic"}, {"lower": 99.5}])
def test_a_manifest_with_other_preprocessing_is_refused(change):
    with pytest.raises(BundleError):
        Preprocessing.from_dict({**Preprocessing().to_dict(), **change})

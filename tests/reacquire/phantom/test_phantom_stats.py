from collections.abc import Sequence

import numpy as np
import pytest

from reacquire.phantom import Protocol, Scanner, Subject, make_subject, simulate_slice
from reacquire.phantom.bands import ANATOMY_BANDS, CONTRAST_BANDS, SCANNER_BANDS, TEXTURE_BANDS, within
from reacquire.phantom.leaks import FEATURES, hand_features, mask_air, to_authors_input
from reacquire.phantom.stats import (
    anatomy_statistics,
    autocorrelation_half_width,
    image_statistics,
    mask_exponent,
    noise_statistics,
    radial_profiles,
    texture_statistics,
    tissue_medians,
)

Scans = dict[str, tuple[Protocol, Scanner]]


@pytest.fixture(scope="module")
def measured() -> Sequence[dict[str, float]]:
    return [anatomy_statistics(make_subject(seed)) for seed in range(20_000, 20_008)]


@pytest.mark.parametrize("name", list(ANATOMY_BANDS))
def test_the_median_woman_lies_in_the_measured_band(measured: Sequence[dict[str, float]], name: str) -> None:
    values, band = [woman[name] for woman in measured], ANATOMY_BANDS[name]
    assert 0.9 * band.low <= np.median(values) <= 1.1 * band.high  # eight women: the median itself scatters
    assert len(set(values)) > len(values) / 2  # women differ


def test_a_band_holds_its_limits() -> None:
    assert within(ANATOMY_BANDS, "mound depth", 67.0)
    assert not within(ANATOMY_BANDS, "mound depth", 66.9)


def test_deeper_breasts_are_larger(measured: Sequence[dict[str, float]]) -> None:
    volume = np.log([woman["mound volume, both"] for woman in measured])
    assert np.corrcoef(volume, [woman["mound depth"] for woman in measured])[0, 1] > 0.7


def test_gland_lies_away_from_the_skin(woman: Subject) -> None:
    by_skin = radial_profiles(woman)["by skin distance, 4 mm"]
    assert by_skin[0] < by_skin[4]


def test_spectrum_exponent_tells_rough_from_smooth() -> None:
    rng = np.random.default_rng(0)
    rough = rng.random((6, 96, 96)) < 0.3
    smooth = np.zeros((6, 96, 96), bool)
    smooth[:, 10:50, 20:44] = smooth[:, 60:90, 50:70] = True
    assert abs(mask_exponent(rough)) < 0.2
    assert mask_exponent(smooth) > 1.5


def test_autocorrelation_half_width_of_stripes() -> None:
    stripes = np.zeros((4, 40, 80), bool)
    stripes[..., np.arange(80) % 16 < 8] = True
    assert autocorrelation_half_width(stripes, np.ones_like(stripes)) == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize("name", ["S2", "S3", "G3"])
def test_fat_contrast_is_near_the_measured_one(woman: Subject, z_mm: float, scans: Scans, name: str) -> None:
    simulated = simulate_slice(woman, z_mm, *scans[name], noise_seed=1)
    band = CONTRAST_BANDS[name]
    assert 0.7 * band.low < image_statistics(simulated)["fat / gland"] < 1.3 * band.high


def test_noise_of_a_siemens_slice_grows_to_the_back(woman: Subject, z_mm: float, scans: Scans) -> None:
    simulated = simulate_slice(woman, z_mm, *scans["S1"], noise_seed=1)
    found = noise_statistics(simulated)
    assert found["noise, posterior / anterior"] > 2
    assert found["noise spectrum at Nyquist"] < 0.8
    medians = tissue_medians(simulated, woman)
    assert medians["lung / p99"] < 0.5 * medians["muscle / p99"]
    assert {f"S {name}" for name in medians} <= set(SCANNER_BANDS)


def test_texture_and_shading_are_plausible(woman: Subject, z_mm: float, scans: Scans) -> None:
    found = texture_statistics(simulate_slice(woman, z_mm, *scans["S2"], noise_seed=1), woman)
    assert set(found) == set(TEXTURE_BANDS)
    assert 0.5 < found["in-breast spectrum exponent"] < 3.5
    assert 0.01 < found["in-breast log-bias SD"] < found["torso log-bias SD"] < 1.0


def test_area_resize_is_exact_for_whole_windows() -> None:
    image = np.random.default_rng(1).random((448, 448)).astype(np.float32)
    blocks = image.reshape(224, 2, 224, 2).mean(axis=(1, 3))
    low, high = np.percentile(blocks, [10, 99])
    np.testing.assert_allclose(to_authors_input(image), (blocks - low) / (high - low), atol=1e-5)


def test_area_resize_of_512_alternates_windows_with_period_7() -> None:
    from reacquire.phantom.leaks import _area_matrix

    widths = np.diff(_area_matrix(512).indptr)
    assert set(widths) == {3, 4}
    np.testing.assert_array_equal(widths[:7], widths[7:14])


def test_hand_features_ignore_gain_and_scale(woman: Subject, z_mm: float, scans: Scans) -> None:
    image = simulate_slice(woman, z_mm, *scans["G1"], noise_seed=1).image
    features = hand_features(image)
    assert features.shape == (len(FEATURES),) == (20,)
    np.testing.assert_allclose(hand_features(image * 3.0), features, rtol=1e-3, atol=1e-3)


def test_masking_air_leaves_the_breasts(woman: Subject, z_mm: float, scans: Scans) -> None:
    simulated = simulate_slice(woman, z_mm, *scans["S1"], noise_seed=1)
    masked = mask_air(simulated.image)
    assert (masked[5:40] == 0).mean() > 0.95
    gland = simulated.labels == 2
    assert (masked[gland] == simulated.image[gland]).mean() > 0.98

import time
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from reacquire.phantom import Protocol, Scanner, Subject, contrast_only, make_pair, simulate_slice
from reacquire.phantom.render import slice_weights

Scans = dict[str, tuple[Protocol, Scanner]]


def test_a_slice_is_reproduced_bit_for_bit(woman: Subject, z_mm: float, scans: Scans) -> None:
    one, two = (simulate_slice(woman, z_mm, *scans["S1"], noise_seed=9) for _ in range(2))
    np.testing.assert_array_equal(one.image, two.image)


def test_noise_seeds_change_the_image_and_not_the_truth(woman: Subject, z_mm: float, scans: Scans) -> None:
    one, two = (simulate_slice(woman, z_mm, *scans["G3"], noise_seed=s) for s in (1, 2))
    assert (one.image != two.image).mean() > 0.2
    np.testing.assert_array_equal(one.clean, two.clean)


def test_without_a_seed_the_image_is_the_clean_one(woman: Subject, z_mm: float, scans: Scans) -> None:
    quiet = simulate_slice(woman, z_mm, *scans["S3"], noise_seed=None)
    np.testing.assert_allclose(quiet.image, quiet.clean, atol=0.5)


def test_equal_protocols_are_the_identity_at_level_0(woman: Subject, z_mm: float, scans: Scans) -> None:
    pair = make_pair(woman, z_mm, scans["S2"], scans["S2"], seed=1, contrast=True)
    np.testing.assert_array_equal(pair.contrast, pair.source.clean)
    np.testing.assert_array_equal(pair.target.clean, pair.source.clean)
    assert not np.array_equal(pair.source.image, pair.target.image)  # noise is never shared


@pytest.mark.parametrize("grid", ["native", "source"])
def test_pair_members_share_anatomy_and_field_of_view(woman: Subject, z_mm: float, scans: Scans, grid: str) -> None:
    pair = make_pair(woman, z_mm, scans["S1"], scans["G3"], seed=2, grid=grid)  # type: ignore[arg-type]
    assert pair.target.image.shape == ((448, 448) if grid == "source" else (512, 512))
    sides = [m.pixel_spacing_mm * m.image.shape[0] for m in (pair.source, pair.target)]
    assert sides[0] == pytest.approx(sides[1])
    areas = [m.breast.sum() * m.pixel_spacing_mm**2 for m in (pair.source, pair.target)]
    assert areas[0] == pytest.approx(areas[1], rel=0.005)


def test_level_0_keeps_the_sources_grid_and_changes_the_contrast(woman: Subject, z_mm: float, scans: Scans) -> None:
    level0 = contrast_only(woman, z_mm, scans["S1"], scans["G3"])
    source = simulate_slice(woman, z_mm, *scans["S1"], noise_seed=None)
    assert level0.shape == source.clean.shape
    ratio = [np.median(m[source.labels == 1]) / np.median(m[source.labels == 2]) for m in (level0, source.clean)]
    assert ratio[0] < 0.8 * ratio[1]  # GE suppresses fat further


def test_thicker_slices_blur_thin_structures(woman: Subject, z_mm: float, scans: Scans) -> None:
    protocol, scanner = scans["G5"]
    detail = []
    for thickness in (1.1, 2.5):
        scan = replace(protocol, iap={**protocol.iap, "SliceThickness": thickness})
        simulated = simulate_slice(woman, z_mm, scan, scanner, noise_seed=None)
        clean = simulated.clean / np.median(simulated.clean[simulated.labels == 2])
        inner = ndimage.binary_erosion(simulated.breast, iterations=8)  # without the skin
        detail.append(ndimage.laplace(clean)[inner].std())
    assert detail[1] < 0.95 * detail[0]


def test_the_slice_profile_is_wider_than_its_nominal_thickness(woman: Subject) -> None:
    weights = dict(slice_weights(woman, 0.0, 2.5))
    centre = woman.plane(0.0)
    assert sum(weights.values()) == pytest.approx(1.0, abs=0.03)
    assert weights[centre] == max(weights.values())
    assert weights[centre + 2] > 0.05


def test_labels_name_gland_only_inside_the_breasts(woman: Subject, z_mm: float, scans: Scans) -> None:
    simulated = simulate_slice(woman, z_mm, *scans["G1"], noise_seed=None)
    np.testing.assert_array_equal(simulated.labels > 0, simulated.breast)
    assert 0.1 < (simulated.labels == 2).sum() / simulated.breast.sum() < 0.5


@pytest.mark.parametrize("name", ["S1", "S2", "S3", "S4", "G1", "G2", "G3", "G4", "G5", "G6", "G7"])
def test_every_protocol_makes_a_plausible_image(woman: Subject, z_mm: float, scans: Scans, name: str) -> None:
    simulated = simulate_slice(woman, z_mm, *scans[name], noise_seed=1)
    protocol = scans[name][0]
    assert simulated.image.shape == (protocol.rows, protocol.rows)
    assert simulated.image.min() >= 0
    p10, p99 = np.percentile(simulated.image, [10, 99])
    assert p10 / p99 < 0.03
    assert (80 if protocol.is_siemens else 300) < p99 < (400 if protocol.is_siemens else 8000)
    fat, gland = (np.median(simulated.clean[simulated.labels == k]) for k in (1, 2))
    assert 0.1 < fat / gland < 0.95


def test_the_target_shares_nothing_with_the_sources_noise(woman: Subject, z_mm: float, scans: Scans) -> None:
    pair = make_pair(woman, z_mm, scans["S1"], scans["S1"], seed=3)
    # Inside the breasts, where magnitude noise has no bias that both would share.
    residuals = [(m.image - m.clean)[m.breast] for m in (pair.source, pair.target)]
    assert abs(np.corrcoef(*residuals)[0, 1]) < 0.03


def test_a_slice_takes_a_fraction_of_a_second(woman: Subject, z_mm: float, scans: Scans) -> None:
    # The target is 20 slices/s on an idle core; this bound only catches a change of order.
    start = time.process_time()
    for seed in range(4):
        simulate_slice(woman, z_mm, *scans["G3"], noise_seed=seed)
    assert (time.process_time() - start) / 4 < 0.5

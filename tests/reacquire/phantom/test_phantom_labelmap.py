from pathlib import Path

import numpy as np
import pytest

from reacquire.phantom import Subject, label_map_subject, sample_protocol, sample_scanner, simulate_slice
from reacquire.physics import tissue


def two_mounds() -> tuple[np.ndarray, np.ndarray]:
    """A label volume in RAS order: two boxes of fat with a core of gland before a strip of muscle."""
    volume = np.zeros((200, 110, 90), np.uint8)  # R to L runs down, posterior to anterior runs up
    volume[:, 0:8] = 2
    volume[:, 8:20] = 8
    for centre in (50, 150):
        volume[centre - 35 : centre + 35, 8:90, 15:75] = 8
        volume[centre - 35 : centre + 35, 86:90, 15:75] = 1
        volume[centre - 10 : centre + 10, 40:60, 35:55] = 4
    return volume, np.diag([1.0, 1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def made() -> Subject:
    return label_map_subject(*two_mounds(), seed=1)


def test_the_map_arrives_upright(made: Subject) -> None:
    rows = np.flatnonzero(made.breast.any(axis=(0, 2)))
    muscle = np.flatnonzero(made.labels[80, :, 200] == tissue.MUSCLE)
    assert rows[0] < muscle[0]  # breasts to the front, which is the low end of y
    assert made.nipple_mm == pytest.approx(-70, abs=6)


def test_gland_keeps_its_volume(made: Subject) -> None:
    assert (made.labels == tissue.FGT).sum() == pytest.approx(2 * 20 * 20 * 20, rel=0.02)


def test_flipped_storage_gives_the_same_woman(made: Subject) -> None:
    volume, affine = two_mounds()
    flipped = label_map_subject(volume[::-1], affine @ np.diag([-1.0, 1, 1, 1]), seed=1)
    np.testing.assert_array_equal(flipped.labels, made.labels)


@pytest.mark.parametrize(
    ("change", "message"), [("oblique", "oblique"), ("label", "no tissue"), ("flat", "three axes")]
)
def test_unusable_volumes_are_refused(change: str, message: str) -> None:
    volume, affine = two_mounds()
    if change == "oblique":
        affine = affine.copy()
        affine[0, 1] = 0.6
    volume = {"oblique": volume, "label": np.where(volume == 4, 77, volume), "flat": volume[0]}[change]
    with pytest.raises(ValueError, match=message):
        label_map_subject(volume, affine, seed=1)


@pytest.mark.parametrize("number", ["10", "26"])
def test_real_anatomies_can_be_scanned(shared_data: Path, number: str) -> None:
    nibabel = pytest.importorskip("nibabel")
    stored = nibabel.load(shared_data / "breast-anatomies" / f"anatomy_{number}.nii.gz")
    subject = label_map_subject(np.asarray(stored.dataobj), stored.affine, seed=2)
    rng = np.random.default_rng(0)
    protocol = sample_protocol(rng, protocol_id="S3")
    simulated = simulate_slice(
        subject, float(np.mean(subject.z_range)), protocol, sample_scanner(rng, protocol), noise_seed=1
    )
    assert 0.03 < (simulated.labels == 2).sum() / simulated.breast.sum() < 0.6
    gland, fat = (np.median(simulated.clean[simulated.labels == k]) for k in (2, 1))
    assert gland > 1.2 * fat

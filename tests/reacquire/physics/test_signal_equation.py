import numpy as np
import pytest

from reacquire.phantom.fatsat import FatPreparation, spectral_profile, suppressed_fat
from reacquire.physics import tissue
from reacquire.physics.signal import FAT_AMPLITUDE, ernst_angle_deg, fat_phasors, slope_in_t1, spgr


def test_spgr_equals_the_closed_form() -> None:
    e1 = np.exp(-5.0 / 1266.0)
    a = np.deg2rad(10)
    expected = 0.8 * np.sin(a) * (1 - e1) / (1 - e1 * np.cos(a)) * np.exp(-2.4 / 30.0)
    assert spgr(1266.0, tr_ms=5.0, flip_deg=10.0, te_ms=2.4, t2s_ms=30.0, pd=0.8) == pytest.approx(expected, rel=1e-12)


def test_spgr_equals_a_pulse_by_pulse_simulation() -> None:
    flip, tr, t1 = np.deg2rad(12.0), 5.5, 367.0
    mz = 1.0
    for _ in range(3000):  # perfect spoiling: only longitudinal magnetisation survives between pulses
        signal = mz * np.sin(flip)
        mz = 1 - (1 - mz * np.cos(flip)) * np.exp(-tr / t1)
    assert spgr(t1, tr_ms=tr, flip_deg=12.0) == pytest.approx(signal, rel=1e-9)


@pytest.mark.parametrize(("t1", "tr"), [(296.0, 4.26), (1266.0, 4.26), (1852.0, 7.0)])
def test_the_ernst_angle_maximises_the_signal(t1: float, tr: float) -> None:
    angles = np.linspace(0.5, 40, 4000)
    best = angles[np.argmax(spgr(t1, tr_ms=tr, flip_deg=angles))]
    assert best == pytest.approx(ernst_angle_deg(t1, tr), abs=0.02)


def test_signal_falls_with_t1() -> None:
    assert slope_in_t1(1266.0, tr_ms=5.0, flip_deg=10.0) < -0.5


def test_a_sweep_of_echo_times_finds_opposed_and_in_phase() -> None:
    te = np.linspace(1.5, 5.5, 4001)
    fat = np.array([abs(1 + fat_phasors(t, 1.5).sum()) for t in te])
    # One cycle of 3.4 ppm at 1.5 T takes 4.6 ms: opposed at 2.3 ms, in phase at 4.6 ms (six lines shift both slightly).
    assert te[np.argmin(fat)] == pytest.approx(2.3, abs=0.15)
    assert te[np.argmax(fat)] == pytest.approx(4.6, abs=0.3)


@pytest.mark.parametrize(
    ("te", "field", "low", "high"),
    [(2.43, 1.5, 160, 180), (2.45, 3.0, -35, -5), (1.42, 1.5, -112, -95), (1.45, 3.0, 125, 142)],
)
def test_fat_phase_at_the_cohorts_echo_times(te: float, field: float, low: float, high: float) -> None:
    phase = np.rad2deg(np.angle(fat_phasors(te, field).sum()))
    assert low <= phase <= high


def test_spectral_suppression_has_a_floor() -> None:
    ideal = FatPreparation(False, 90.0, 1, 0.0, 1.9, 0.0, 0.0, 0.0)
    full, deficit = suppressed_fat(ideal, te_ms=0.0, field_t=3.0, db0_ppm=np.zeros(1), b1=np.ones(1))
    assert full == pytest.approx(1.0)
    assert abs(full - deficit[0]) == pytest.approx(FAT_AMPLITUDE[-2:].sum(), abs=0.015)  # 8.6 % lies near water


def test_saturation_feels_the_transmit_field_and_inversion_does_not() -> None:
    weak_and_strong = {"te_ms": 1.4, "field_t": 1.5, "db0_ppm": np.zeros(2), "b1": np.array([0.85, 1.15])}
    saturation = suppressed_fat(FatPreparation(False, 90.0, 1, 0.0, 1.9, 0.0, 6.0, 0.0), **weak_and_strong)[1]
    inversion = suppressed_fat(FatPreparation(True, 90.0, 1, -0.55, 1.9, 0.0, 12.0, 0.0), **weak_and_strong)[1]
    assert abs(saturation[0] - saturation[1]) > 0.2
    assert inversion[0] == pytest.approx(inversion[1])


def test_off_resonance_defeats_the_suppression() -> None:
    on, off = spectral_profile(np.array([-3.4, -3.4 + 2.5]), 1.9)
    assert on > 0.99
    assert off < 0.05


def test_the_tissue_table_is_within_physics() -> None:
    for entry in tissue.TISSUES:
        assert 0 <= entry.pd <= 1
        assert 0 <= entry.fat_fraction <= 1
        assert min(*entry.t1_ms, *entry.t2s_ms) > 0
        assert entry.source
    with pytest.raises(ValueError, match="tissue table"):
        tissue.t1_ms(7.0)

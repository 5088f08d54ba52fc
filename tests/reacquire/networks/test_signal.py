"""What the editor is told of the signal equation: the numbers of the equation, and nothing of what is unknown."""

import numpy as np
import pytest
import torch

from reacquire.iap import Encoding, load_vocabulary
from reacquire.networks import EDITORS, Condition
from reacquire.networks.signal import B1, SIGNAL_TISSUES, T1_MS, T2S_MS, SignalEquation, log_signal
from reacquire.physics.signal import fat_phasors, spgr
from reacquire.physics.tissue import FAT, FGT

ENCODING = Encoding(load_vocabulary())
EQUATION = SignalEquation(ENCODING, T1_MS, T2S_MS)
SIEMENS = {"MagneticFieldStrength": 1.5, "FlipAngle": 10.0, "EchoTime": 1.7, "RepetitionTime": 4.1}


def condition(*records: dict) -> Condition:
    return Condition.stack([ENCODING.encode(record) for record in records])


def unscaled(features: torch.Tensor) -> torch.Tensor:
    return features * EQUATION.spread.tile(3) + torch.cat([EQUATION.mean, EQUATION.mean, 0 * EQUATION.mean])


def logarithm(features: np.ndarray, tissue: int) -> float:
    """Of the tissue's signal at the nominal flip angle."""
    return float(features[B1.index(1.0) * len(SIGNAL_TISSUES) + SIGNAL_TISSUES.index(tissue)])


def test_the_features_are_the_equation() -> None:
    (features,) = unscaled(EQUATION(condition(SIEMENS), condition(SIEMENS)))[:, : EQUATION.count // 3].numpy()
    expected = spgr(1266.0, tr_ms=4.1, flip_deg=10.0, te_ms=1.7, t2s_ms=30.0)
    assert logarithm(features, FGT) == pytest.approx(np.log(float(expected)), abs=1e-4)
    fat = fat_phasors(1.7, 1.5).sum()
    assert features[-3:] == pytest.approx([fat.real, fat.imag, abs(fat)], abs=1e-4)


@pytest.mark.parametrize("flip", [0.5, 10.0, 90.0])
def test_the_logarithm_is_that_of_the_phantoms_signal(flip: float) -> None:
    t1, t2s = np.array([296.0, 1266.0, 1852.0]), np.array([45.0, 30.0, 60.0])
    here = log_signal(*(torch.tensor(x) for x in (flip, 1.7, 4.1)), torch.from_numpy(t1), torch.from_numpy(t2s))
    np.testing.assert_allclose(here, np.log(spgr(t1, tr_ms=4.1, flip_deg=flip, te_ms=1.7, t2s_ms=t2s)), rtol=1e-6)


def test_a_change_of_parameters_is_the_difference_of_both_sides() -> None:
    flipped = SIEMENS | {"FlipAngle": 12.0}
    features = EQUATION(condition(SIEMENS), condition(flipped))
    before, after, change = features.chunk(3, dim=1)
    torch.testing.assert_close(after - before, change)
    raw = (change[0] * EQUATION.spread).numpy()
    ratio = {
        t: spgr(t1, tr_ms=4.1, flip_deg=12.0) / spgr(t1, tr_ms=4.1, flip_deg=10.0)
        for t, t1 in ((FAT, 296.0), (FGT, 1266.0))
    }
    for tissue, expected in ratio.items():
        assert logarithm(raw, tissue) == pytest.approx(np.log(float(expected)), abs=1e-4)
    assert EQUATION(condition(SIEMENS), condition(SIEMENS))[0, -change.shape[1] :].abs().max() == 0


def test_what_is_unknown_counts_as_its_mean_whatever_stands_there() -> None:
    known, stray = condition(SIEMENS), condition(SIEMENS)
    keywords = [p.keyword for p in ENCODING.parameters]
    for case in (known, stray):
        case.known[:, keywords.index("EchoTime")] = False
        case.known[:, keywords.index("MagneticFieldStrength")] = False
    stray.vector[:, ENCODING.slices["EchoTime"]] = torch.nan
    stray.vector[:, ENCODING.slices["MagneticFieldStrength"]] = torch.nan
    assert torch.equal(EQUATION(known, known), EQUATION(stray, stray))
    fields = [condition(SIEMENS | {"EchoTime": 2.13, "MagneticFieldStrength": field}) for field in (1.5, 3.0)]
    either = sum(EQUATION(field, field) for field in fields) / 2
    torch.testing.assert_close(EQUATION(known, known), either, atol=1e-5, rtol=1e-5)


def test_features_are_of_one_scale_over_the_vocabulary() -> None:
    rng = np.random.default_rng(0)
    drawn = [
        {
            "MagneticFieldStrength": float(rng.choice([1.5, 3.0])),
            **{
                k: float(np.clip(rng.normal(p.mean, p.sd), p.minimum, p.maximum))
                for k in ("FlipAngle", "EchoTime", "RepetitionTime")
                if (p := ENCODING.vocabulary[k])
            },
        }
        for _ in range(400)
    ]
    features = EQUATION(condition(*drawn), condition(*drawn))[:, : EQUATION.count // 3]
    assert features.mean(0).abs().max() < 0.5
    assert 0.5 < features.std(0).min() <= features.std(0).max() < 1.5


def test_networks_keep_their_own_relaxation_times() -> None:
    other = SignalEquation(ENCODING, tuple(0.9 * t for t in T1_MS), T2S_MS)
    assert not torch.allclose(other(*2 * [condition(SIEMENS)]), EQUATION(*2 * [condition(SIEMENS)]))
    assert not EQUATION.state_dict()  # nothing of it is learned, nothing is stored beside the configuration
    assert EDITORS["default"].to_dict()["t1_ms"] == list(T1_MS)

"""Levels of truth and physics on one simulated woman, with editors whose answer is known."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from reacquire.imaging import Preprocessing
from reacquire.physics import tissue
from training.evaluation.document import Figures
from training.evaluation.levels import Edits, equation_change, levels, physics
from training.evaluation.rescans import LIMITS, SINGLE, Rescan, make_rescans


@pytest.fixture(scope="module")
def rescans() -> list[Rescan]:
    return make_rescans(Preprocessing(size=224), women=1)


def editing(rescans: list[Rescan], image) -> Edits:
    """The rescans with ``image`` of each as its counterfactual."""
    return Edits(rescans, torch.from_numpy(np.stack([image(rescan) for rescan in rescans]))[:, None])


def measured(rescans: list[Rescan], name: str) -> dict[str, float]:
    """Figures of an editor that answers with this attribute of every rescan."""
    figures = levels(editing(rescans, lambda rescan: getattr(rescan, name))).figures["simulated"]
    return {key: figure.estimate.value for key, figure in figures.items()}


@pytest.mark.parametrize("level", ["0", "1", "2"])
def test_an_editor_that_knows_a_level_closes_the_gap_of_that_level_alone(rescans: list[Rescan], level: str) -> None:
    found = measured(rescans, f"level{level}")
    assert found[f"gap_closed_l{level}"] == pytest.approx(1)
    others = {"0", "1", "2"} - {level}
    assert all(found[f"gap_closed_l{other}"] < 0.99 for other in others)


def test_ceilings_are_what_a_noisy_scan_of_the_level_reaches(rescans: list[Rescan]) -> None:
    assert measured(rescans, "level0_noisy")["gap_closed_l0"] == measured(rescans, "source")["gap_ceiling_l0"]
    assert measured(rescans, "level2")["gap_closed_l1"] == measured(rescans, "source")["gap_ceiling_l1"]
    assert measured(rescans, "again")["gap_closed_l2"] == measured(rescans, "source")["gap_ceiling_l2"]


def test_contrast_moves_with_the_truth_and_stays_with_an_idle_editor(rescans: list[Rescan]) -> None:
    names = [f"contrast_transfer_{name}" for name in ("fat", "fibroglandular", "muscle")]
    true, idle = measured(rescans, "level1"), measured(rescans, "source")
    assert [true[name] for name in names] == [pytest.approx(1)] * 3
    assert [idle[name] for name in names] == [0] * 3
    assert [idle[f"gap_closed_l{level}"] for level in "012"] == [0] * 3


def values(figures: Figures, prefix: str) -> dict[str, float]:
    return {k.removeprefix(prefix): f.estimate.value for k, f in figures.items() if k.startswith(prefix)}


def test_an_idle_editor_has_no_slope(rescans: list[Rescan]) -> None:
    figures = physics(editing(rescans, lambda rescan: rescan.source)).figures["physics"]
    slopes = values(figures, "slope_edit_")
    assert slopes.keys() == {f"{keyword}_{name}" for keyword in SINGLE for name in ("muscle", "fat")}
    assert set(slopes.values()) == {0}
    assert values(figures, "error_edit_") == values(figures, "error_identity_") == values(figures, "asked_")
    assert all(size > 0 for size in values(figures, "asked_").values())


def test_an_editor_that_knows_the_truth_has_the_truths_slope(rescans: list[Rescan]) -> None:
    def on_the_sources_scale(rescan: Rescan) -> np.ndarray:
        (low, high), (low_0, high_0) = rescan.scale
        return (rescan.level0 * (high_0 - low_0) + low_0 - low) / (high - low)

    noiseless = [replace(rescan, source=rescan.clean_source) for rescan in rescans]
    figures = physics(editing(noiseless, on_the_sources_scale)).figures["physics"]
    slopes = values(figures, "slope_edit_")
    assert {name: slopes[name] for name in slopes if name.endswith("fat")} == pytest.approx(
        {f"{keyword}_fat": 1.0 for keyword in SINGLE}, abs=1e-3
    )
    muscle = {name: slope for name, slope in slopes.items() if name.endswith("muscle")}
    assert muscle == pytest.approx(values(figures, "slope_truth_"), abs=1e-3)


def test_one_number_alone_differs_and_stays_in_its_limits(rescans: list[Rescan]) -> None:
    assert [rescan.single for rescan in rescans] == 2 * [None, None, *SINGLE]
    for rescan in rescans:
        differing = {key for key in rescan.source_iap if rescan.source_iap[key] != rescan.target_iap.get(key)}
        assert differing
        if rescan.single is None:
            continue
        assert differing == {rescan.single}
        ends = SINGLE[rescan.single] or LIMITS[str(rescan.source_iap["Manufacturer"])][rescan.single]
        assert rescan.target_iap[rescan.single] in ends
        assert rescan.level0 is rescan.level1, "one acquisition"


def by_hand(kind: int, *, tr: float, flip: float, te: float, t1_factor: float) -> float:
    """ln of the spoiled gradient-echo signal at 1.5 T, up to the proton density."""
    t1, t2s = float(tissue.t1_ms(1.5)[kind]) * t1_factor, float(tissue.t2s_ms(1.5)[kind])
    e1, angle = math.exp(-tr / t1), math.radians(flip)
    return math.log(math.sin(angle) * (1 - e1) / (1 - math.cos(angle) * e1)) - te / t2s


@pytest.mark.parametrize(
    ("keyword", "name", "value"), [("FlipAngle", "flip", 16.0), ("RepetitionTime", "tr", 8.0), ("EchoTime", "te", 2.5)]
)
def test_the_expected_change_is_that_of_the_signal_equation(
    rescans: list[Rescan], keyword: str, name: str, value: float
) -> None:
    before = {"MagneticFieldStrength": 1.5, "RepetitionTime": 4.5, "FlipAngle": 10.0, "EchoTime": 1.5}
    scale = np.ones_like(rescans[0].t1_scale)
    scale[tissue.MUSCLE], scale[tissue.FGT] = 1.2, 0.9
    rescan = replace(rescans[0], source_iap=before, target_iap={**before, keyword: value}, t1_scale=scale)
    shown = {"tr": 4.5, "flip": 10.0, "te": 1.5}
    muscle, gland = partial(by_hand, tissue.MUSCLE, t1_factor=1.2), partial(by_hand, tissue.FGT, t1_factor=0.9)
    after = {**shown, name: value}
    expected = (muscle(**after) - gland(**after)) - (muscle(**shown) - gland(**shown))
    assert abs(expected) > 1e-3
    assert equation_change(rescan, tissue.MUSCLE) == pytest.approx(expected, rel=1e-5)

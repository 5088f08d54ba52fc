"""Overlap of labels by hand, and the verdicts that are drawn from its loss."""

import math

import pytest
import torch

from training.evaluation.document import Figure
from training.evaluation.summary import answers
from training.overlap import legacy_scores, tissue_dice, woman_scores
from training.statistics import Estimate

FAT, GLAND = "breast-non-fgt", "fibroglandular"
# One slice with both tissues, of which a pixel of gland is taken for fat; one of fat alone, half of it found
TRUE = torch.tensor([[[1, 1], [2, 2]], [[1, 1], [0, 0]]])
FOUND = torch.tensor([[[1, 1], [2, 1]], [[1, 0], [0, 0]]])


def test_scores_of_a_woman_are_those_by_hand() -> None:
    scores = woman_scores(FOUND, TRUE)
    assert scores[f"dice_{FAT}"] == pytest.approx(2 * 3 / (4 + 4))
    assert scores[f"dice_{GLAND}"] == pytest.approx(2 * 1 / (1 + 2))
    assert [scores[f"accuracy_{label}"] for label in ("background", FAT, GLAND)] == [7 / 8, 6 / 8, 7 / 8]
    assert [scores[f"hits_{label}"] for label in ("background", FAT, GLAND)] == [2, 3, 1]
    assert [scores[f"size_{label}"] for label in ("background", FAT, GLAND)] == [2, 4, 2]
    first, second = (2 * 2 / (3 + 2) + 2 * 1 / (1 + 2)) / 2, 2 * 1 / (1 + 2)
    assert scores["legacy_mean_dice_per_slice"] == pytest.approx((first + second) / 2)


def test_recall_is_of_what_there_is() -> None:
    legacy = legacy_scores(woman_scores(FOUND, TRUE))
    assert [legacy[f"legacy_recall_{label}"] for label in ("background", FAT, GLAND)] == [1, 3 / 4, 1 / 2]
    assert math.isnan(legacy_scores(woman_scores(FOUND[1:], TRUE[1:]))[f"legacy_recall_{GLAND}"])


def test_a_slice_without_gland_does_not_count_for_gland() -> None:
    found = tissue_dice(["a", "a"], FOUND, TRUE)
    assert found == {"a": [pytest.approx((6 / 8 + 2 / 3) / 2)]}
    more = tissue_dice(["a"] * 4, torch.cat([FOUND, TRUE[1:], TRUE[1:]]), torch.cat([TRUE, TRUE[1:], TRUE[1:]]))
    assert more["a"][0] == pytest.approx((2 * 7 / (8 + 8) + 2 / 3) / 2), "fat gains, gland stands as it was"


def test_slices_stay_with_their_woman_and_a_woman_without_gland_has_no_mean_of_both() -> None:
    found = tissue_dice(["a", "b"], FOUND, TRUE)
    assert found["a"] == [pytest.approx((4 / 5 + 2 / 3) / 2)]
    assert math.isnan(found["b"][0])


def verdict_of(**figures: tuple[float, float, float]) -> str:
    editor = {name: Figure(Estimate(*numbers, 9), "editor") for name, numbers in figures.items()}
    (answer,) = answers({"editor": editor})
    return answer.verdict


@pytest.mark.parametrize(
    ("lost", "found"),
    [
        ((0.002, 0.001, 0.004), "Met: on edited slices the segmenter loses at most 0.004"),
        ((-0.01, -0.02, -0.001), "Met: on edited slices the segmenter loses at most 0.000"),
        ((0.002, -0.02, 0.024), "Not decided: the interval holds 0.005"),  # the point alone would have said yes
        ((0.04, 0.03, 0.05), "Not met: on edited slices the segmenter loses at least 0.030"),
        ((0.002, math.nan, math.nan), "Not decided: there is no interval"),
    ],
)
def test_anatomy_is_judged_by_the_interval_of_what_is_lost(lost: tuple, found: str) -> None:
    assert verdict_of(dice_counterfactual=(0.8, 0.7, 0.9), dice_lost=lost).startswith(found)


@pytest.mark.parametrize(
    ("fat", "gland", "found"),
    [
        ((1.0, 0.95, 1.05), (1.02, 0.96, 1.08), "Met: it moved about fully"),
        ((1.0, 0.95, 1.05), (1.0, 0.8, 1.2), "Not decided"),
        ((0.5, 0.0, 1.5), (0.8, 0.75, 0.85), "Not met: it moved in part"),  # a tissue that surely failed decides
        ((1.0, 0.95, 1.05), (0.1, 0.0, 0.2), "Not met: it moved hardly"),
        ((1.0, 0.95, 1.05), (1.3, 1.2, 1.4), "Not met: it moved too far"),
    ],
)
def test_contrast_is_judged_by_the_interval_of_each_tissue(fat: tuple, gland: tuple, found: str) -> None:
    assert verdict_of(contrast_transfer_fat=fat, contrast_transfer_gland=gland).startswith(found)


def test_a_slice_is_left_alone_where_the_intervals_say_so() -> None:
    noise = (0.02, 0.018, 0.022)
    assert verdict_of(composition_error=(0.01, 0.008, 0.012), noise_level=noise).startswith("Met")
    assert verdict_of(composition_error=(0.019, 0.012, 0.026), noise_level=noise).startswith("Not decided")
    assert verdict_of(composition_error=(0.03, 0.025, 0.035), noise_level=noise).startswith("Not met")

import numpy as np
import pytest

from training.statistics import Estimate, holm, mean_over_women, paired_difference, pooled_ratio


def test_a_woman_counts_once_however_many_slices_she_has() -> None:
    assert mean_over_women({"a": [0.0] * 99, "b": [1.0]}).value == 0.5


def test_the_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    estimates = [mean_over_women({i: rng.normal(1.0, 1.0, 3) for i in range(30)}, seed=s) for s in range(200)]
    covered = np.mean([e.low <= 1.0 <= e.high for e in estimates])
    assert 0.89 <= covered <= 0.98


def test_missing_values_and_women_without_any_are_left_out() -> None:
    assert mean_over_women({"a": [float("nan"), 2.0], "b": [float("nan")]}).n == 1
    assert np.isnan(mean_over_women({}).value)


def test_a_pooled_ratio_is_the_ratio_of_sums() -> None:
    ratio = pooled_ratio({"a": [1.0], "b": [9.0]}, {"a": [10.0], "b": [10.0]})
    assert ratio.value == 0.5
    assert ratio.low >= 0.1 and ratio.high <= 0.9


def test_a_pooled_ratio_needs_the_same_women() -> None:
    with pytest.raises(ValueError, match="same women"):
        pooled_ratio({"a": [1.0]}, {"b": [1.0]})


def test_a_constant_difference_is_found_and_none_is_not() -> None:
    rng = np.random.default_rng(1)
    base = {i: rng.normal(0, 1, 2) for i in range(20)}
    better = {i: v + 0.1 + 0.01 * rng.normal() for i, v in base.items()}
    estimate, p = paired_difference(better, base)
    assert estimate.low > 0 and p < 0.01
    none, p_none = paired_difference(base, base)
    assert none.value == 0 and p_none == 1.0


def test_holm_on_its_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert np.isnan(holm([0.01, float("nan")])[1])


def test_a_single_woman_has_no_interval() -> None:
    estimate = mean_over_women({"a": [1.0, 2.0]})
    assert estimate == Estimate(1.5, pytest.approx(float("nan"), nan_ok=True), pytest.approx(np.nan, nan_ok=True), 1)


def test_a_ratio_that_a_resample_can_lack_has_no_interval() -> None:
    ratio = pooled_ratio({"a": [1.0], "b": [0.0], "c": [0.0]}, {"a": [2.0], "b": [0.0], "c": [0.0]})
    assert ratio.value == 0.5 and np.isnan(ratio.low) and np.isnan(ratio.high)

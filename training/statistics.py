"""Intervals and tests over women. A woman's slices depend on each other, so the woman is the unit, never the slice.

Resampling itself is SciPy's; here is only what it has to be told: which values belong to whom.
"""

import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import DegenerateDataWarning, bootstrap, norm, permutation_test

RESAMPLES = 2000
PERMUTATIONS = 100_000  # signs of up to 16 women are tried in full
LEVEL = 0.95
PerWoman = Mapping[Any, Sequence[float]]  # keys are hashable; Mapping is invariant in them


@dataclass(frozen=True)
class Estimate:
    """A figure with its percentile bootstrap interval; ``n`` counts the units that were resampled.

    All three values are NaN where no unit has any; the interval is NaN with a single unit, and where a resample can
    lack what the figure is a ratio of.
    """

    value: float
    low: float
    high: float
    n: int
    unit: str = "women"

    def to_dict(self) -> dict[str, float | int | str | None]:
        """Plain data, as ``nulled``."""
        return nulled(asdict(self))


def nulled(value: Any) -> Any:
    """Plain data with null in place of NaN, which JSON lacks."""
    if isinstance(value, Mapping):
        return {str(k): nulled(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [nulled(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def mean_over_women(values: PerWoman, *, unit: str = "women", seed: int = 0) -> Estimate:
    """Mean over women of the mean over a woman's values, with its 95 % interval.

    Parameters
    ----------
    values : per woman the figures of her slices or pairs; NaN counts as missing, and so does a woman without any other
    unit : what the report calls her
    seed : of the resampling
    """
    return _mean(_per_woman_means(values), unit, seed)


def pooled_ratio(parts: PerWoman, wholes: PerWoman, *, unit: str = "women", seed: int = 0) -> Estimate:
    """Sum of all parts over the sum of all wholes, women resampled as a whole.

    Raises
    ------
    ValueError
        When the two do not hold the same women.
    """
    women = _same_women(parts, wholes)
    sums = np.array([[np.nansum(parts[w]), np.nansum(wholes[w])] for w in women], dtype=float).reshape(-1, 2)

    def ratio(part: NDArray, whole: NDArray, axis: int = -1) -> NDArray:
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample without any whole has no ratio
            return np.asarray(part.sum(axis) / whole.sum(axis))

    if not len(women) or not sums[:, 1].sum():
        return Estimate(np.nan, np.nan, np.nan, 0, unit)
    value = float(sums[:, 0].sum() / sums[:, 1].sum())
    if len(women) == 1:
        return Estimate(value, np.nan, np.nan, 1, unit)
    low, high = _interval((sums[:, 0], sums[:, 1]), ratio, seed)
    return Estimate(value, low, high, len(women), unit)


def paired_difference(a: PerWoman, b: PerWoman, *, unit: str = "women", seed: int = 0) -> tuple[Estimate, float]:
    """(mean over women of a - b with its interval, two-sided p of a sign-flip permutation test over women).

    Women who lack either are left out; p is NaN with fewer than two.

    Raises
    ------
    ValueError
        When the two do not hold the same women.
    """
    women = _same_women(a, b)
    differences = np.array([_mean_of(a[w]) - _mean_of(b[w]) for w in women], dtype=float)
    differences = differences[np.isfinite(differences)]
    estimate = _mean(differences, unit, seed)
    if len(differences) < 2:
        return estimate, float("nan")
    test = permutation_test(
        (differences,),
        lambda x, axis=-1: x.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        rng=np.random.default_rng(seed),
    )
    return estimate, float(test.pvalue)


def jackknifed(
    statistic: Callable[[Sequence[Hashable]], float], women: Sequence[Hashable], *, unit: str = "women"
) -> Estimate:
    """Any statistic of a list of women with its delete-one-woman jackknife interval (Tukey 1958).

    For distances between distributions: a bootstrap draws a woman twice, which such distances take for structure.
    """
    value, n = float(statistic(women)), len(women)
    if n < 3:
        return Estimate(value, np.nan, np.nan, n, unit)
    without = np.array([statistic([w for w in women if w != out]) for out in women])
    half = norm.ppf((1 + LEVEL) / 2) * np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2))
    return Estimate(value, value - float(half), value + float(half), n, unit)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for having tested all of them (Holm 1979), in the order given; NaN stays NaN."""
    p = np.asarray(p_values, dtype=float)
    tested = np.flatnonzero(np.isfinite(p))
    adjusted = np.full(len(p), np.nan)
    largest = 0.0
    for rank, index in enumerate(tested[np.argsort(p[tested], kind="stable")]):
        largest = max(largest, min(1.0, float(p[index]) * (len(tested) - rank)))
        adjusted[index] = largest
    return [float(x) for x in adjusted]


def _per_woman_means(values: PerWoman) -> NDArray[np.float64]:
    means = np.array([_mean_of(v) for v in values.values()], dtype=float)
    return means[np.isfinite(means)]


def _mean_of(values: Sequence[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else float("nan")


def _mean(values: NDArray[np.float64], unit: str, seed: int) -> Estimate:
    if not len(values):
        return Estimate(np.nan, np.nan, np.nan, 0, unit)
    if len(values) == 1:
        return Estimate(float(values[0]), np.nan, np.nan, 1, unit)
    low, high = _interval((values,), np.mean, seed)
    return Estimate(float(values.mean()), low, high, len(values), unit)


def _interval(samples: tuple[NDArray, ...], statistic: object, seed: int) -> tuple[float, float]:
    """Percentile interval; the samples are resampled together."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # it becomes NaN, which the report shows as none
        result = bootstrap(
            samples,
            statistic,
            paired=len(samples) > 1,
            vectorized=True,
            n_resamples=RESAMPLES,
            confidence_level=LEVEL,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _same_women(a: PerWoman, b: PerWoman) -> list[Hashable]:
    if a.keys() != b.keys():
        raise ValueError("the two samples must hold the same women")
    return list(a)

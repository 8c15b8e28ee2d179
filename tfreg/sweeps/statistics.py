"""Intervals and tests of differences over seeds, and the choice of a scale.

    difference = statistics.compare([0.91, 0.92, 0.94], [0.90, 0.90, 0.91])  # by seed
    p_values = statistics.correct_holm([difference.p, 0.04])
    losses = [[0.30, 0.31], [0.29, 0.30]]  # on the validation set: [scales, seeds]
    best, within = statistics.choose_scales([1e-4, 1e-3], losses)

The trap: the difference of two runs may be noise, and says little about two settings.
SciPy is imported only when it is needed: `pip install tfreg[sweep]`.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
_ROUNDING = 1e-12  # A smaller difference is float64's rounding.


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95% t interval, which is NaN for a single seed."""

    mean: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Difference(Interval):
    """A mean difference, paired by seed, and the p-value of no difference."""

    p: float


def compute_interval(values: npt.ArrayLike) -> Interval:
    """Returns the mean of independent values and its t interval.

    Args:
        values: `[seeds]`, one or more.

    Source: `scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)`.
    """
    from scipy import stats

    array = np.asarray(values, np.float64)
    mean = float(np.mean(array))
    if array.size < 2:
        return Interval(mean, math.nan, math.nan)
    half = stats.t.ppf((1 + LEVEL) / 2, array.size - 1) * compute_error(array)
    return Interval(mean, mean - half, mean + half)


def compute_error(values: npt.ArrayLike) -> float:
    """Returns the standard error of the mean, NaN for a single value."""
    array = np.asarray(values, np.float64)
    if array.size < 2:
        return math.nan
    return float(np.std(array, ddof=1) / math.sqrt(array.size))


def compare(values: npt.ArrayLike, baseline: npt.ArrayLike) -> Difference:
    """Returns the paired difference of two settings over the same seeds.

    Args:
        values: `[seeds]` of the setting.
        baseline: `[seeds]` of the baseline.

    Returns:
        The mean of `values - baseline`. p is that of the t test; of the sign test if
        all differences are the same, since they have no variance; and NaN for a single
        seed.

    Source: `scipy.stats.ttest_rel(values, baseline)`; `scipy.stats.binomtest`.
    """
    from scipy import stats

    differences = np.asarray(values, np.float64) - np.asarray(baseline, np.float64)
    interval = compute_interval(differences)
    error = compute_error(differences)
    if math.isnan(error):
        p = math.nan
    elif error < _ROUNDING:
        # Accuracies are counts: the differences of two seeds can be equal by chance.
        same_sign = 2.0 ** (1 - differences.size)
        p = same_sign if abs(interval.mean) > _ROUNDING else 1.0
    else:
        p = 2 * float(stats.t.sf(abs(interval.mean) / error, differences.size - 1))
    return Difference(interval.mean, interval.low, interval.high, p)


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values corrected for their number; NaNs are not counted.

    Source: Holm 1979; `statsmodels.stats.multitest.multipletests(method="holm")`.
    """
    corrected = [math.nan] * len(p_values)
    order = sorted(
        (i for i, p in enumerate(p_values) if not math.isnan(p)),
        key=lambda i: p_values[i],
    )
    largest = 0.0
    for rank, i in enumerate(order):
        # The corrected p-values must keep the order.
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def choose_scales(
    scales: Sequence[float], losses: npt.ArrayLike
) -> tuple[float, float | None]:
    """Returns the best scale, and the largest one within a standard error of it.

    Args:
        scales: of a path, in any order; one or more.
        losses: `[scales, seeds]` on the validation set; rows with NaN are ignored.

    Returns:
        The scale of the smallest mean loss; and the largest scale within one standard
        error of it, None for a single seed.

    Raises:
        ValueError: every scale's losses have NaN.

    Source: Breiman et al. 1984; `cv.glmnet`'s lambda.min and lambda.1se.
    """
    array = np.asarray(losses, np.float64)
    means = np.where(np.isnan(array).any(axis=1), np.inf, array.mean(axis=1))
    best = int(np.argmin(means))
    if math.isinf(means[best]):
        raise ValueError(
            f"losses must be finite for some scale, got none of {list(scales)}: "
            "lower the learning rate"
        )
    if array.shape[1] < 2:
        return scales[best], None
    bound = means[best] + compute_error(array[best])
    return scales[best], max(
        s for s, m in zip(scales, means, strict=True) if m <= bound
    )


def predict(values: npt.ArrayLike) -> tuple[float, float]:
    """Returns the 95% prediction interval of a further value, NaN for a single value.

    Args:
        values: `[seeds]`, independent and normal.

    Source: Geisser 1993, the t prediction interval.
    """
    from scipy import stats

    array = np.asarray(values, np.float64)
    if array.size < 2:
        return math.nan, math.nan
    half = stats.t.ppf((1 + LEVEL) / 2, array.size - 1)
    half *= np.std(array, ddof=1) * math.sqrt(1 + 1 / array.size)
    return float(np.mean(array) - half), float(np.mean(array) + half)

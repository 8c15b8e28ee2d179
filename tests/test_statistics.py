"""Intervals, tests and choices against SciPy, closed forms and planted effects."""

import math

import numpy as np
import pytest
from scipy import stats

from tfreg.sweeps import statistics


@pytest.mark.parametrize("num_seeds", [2, 5, 30])
def test_an_interval_is_that_of_scipy(num_seeds, rng):
    values = rng.normal(0.97, 0.01, num_seeds)
    wanted = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    got = statistics.compute_interval(values)
    np.testing.assert_allclose((got.low, got.high), tuple(wanted), rtol=1e-12)
    assert got.mean == pytest.approx(values.mean(), rel=1e-12)


def test_a_paired_difference_is_that_of_scipy(rng):
    baseline = rng.normal(0.9, 0.05, 5)
    values = baseline + rng.normal(0.01, 0.005, 5)
    wanted = stats.ttest_rel(values, baseline)
    got = statistics.compare(values, baseline)
    assert got.p == pytest.approx(wanted.pvalue, rel=1e-9)
    interval = tuple(wanted.confidence_interval(0.95))
    np.testing.assert_allclose((got.low, got.high), interval, rtol=1e-9)
    # Unpaired the spread of the seeds hides it.
    assert got.p < 0.05 < stats.ttest_ind(values, baseline).pvalue


@pytest.mark.parametrize("num_seeds", [2, 5, 9])
def test_a_shift_that_never_varies_has_the_p_value_of_the_sign_test(num_seeds, rng):
    # Of 500 examples each, so that two seeds can agree to the example by chance.
    values = rng.integers(250, 450, num_seeds) / 500
    assert statistics.compare(values, values).p == 1.0
    for shift in (-2 / 500, 2 / 500):
        wanted = stats.binomtest(num_seeds, num_seeds).pvalue
        assert statistics.compare(values + shift, values).p == pytest.approx(wanted)


def test_one_seed_alone_has_a_mean_and_nothing_else():
    got = statistics.compare([0.75], [0.5])
    assert got.mean == 0.25
    assert math.isnan(got.low) and math.isnan(got.high) and math.isnan(got.p)
    scales = statistics.choose_scales([1e-4, 1e-3], [[0.2], [0.1]])
    assert scales == (1e-3, None)


def test_holm_is_worked_out_by_hand():
    # Times 4, 3, 2, 1 in order; the third would fall below the second.
    got = statistics.correct_holm([0.04, 0.01, math.nan, 0.02, 0.025])
    assert got[1] == pytest.approx(0.04) and math.isnan(got[2])
    assert [got[3], got[4], got[0]] == pytest.approx([0.06, 0.06, 0.06])
    assert statistics.correct_holm([0.6, 0.9]) == [1.0, 1.0]


# Means 0.50, 0.40, 0.42, 0.43, 0.60 and a standard error of 0.02 at the best.
SPREAD = 0.02 * math.sqrt(3) * np.array([-1, 0, 1])
MEANS = np.array([0.50, 0.40, 0.42, 0.43, 0.60])


def test_the_largest_scale_within_one_standard_error_by_hand():
    scales = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    losses = MEANS[:, None] + SPREAD
    # 0.42 is on the bound of 0.42, but for a rounding.
    losses[2] -= 1e-9
    assert statistics.choose_scales(scales, losses) == (1e-4, 1e-3)
    # Towards less regularization nothing is taken: there 0.41 would be as good, too.
    losses[0] -= 0.09
    assert statistics.choose_scales(scales, losses) == (1e-4, 1e-3)
    order = [4, 2, 0, 3, 1]
    shuffled = [scales[i] for i in order]
    assert statistics.choose_scales(shuffled, losses[order]) == (1e-4, 1e-3)


def test_a_scale_that_diverged_is_not_chosen():
    losses = MEANS[:3, None] + SPREAD
    losses[1, 2] = math.nan
    assert statistics.choose_scales([1e-5, 1e-4, 1e-3], losses)[0] == 1e-3
    with pytest.raises(ValueError, match="losses must be finite for some scale"):
        statistics.choose_scales([1e-4], [[math.nan, 1.0]])


def count_found(effect, num_sweeps, rng):
    """Returns how many sweeps find the first setting, and any, significant."""
    first = anything = 0
    for _ in range(num_sweeps):
        of_seed = rng.normal(0, 0.01, 5)  # The same for all settings of a seed.
        accuracies = 0.97 + of_seed + rng.normal(0, 0.001, (13, 5))
        accuracies[1] += effect
        p_values = [statistics.compare(row, accuracies[0]).p for row in accuracies[1:]]
        corrected = statistics.correct_holm(p_values)
        first += corrected[0] < 0.05
        anything += min(corrected) < 0.05
    return first, anything


def test_planted_noise_raises_a_false_alarm_in_at_most_one_sweep_of_twenty(rng):
    _, alarms = count_found(0.0, 200, rng)
    # At most the 97.5% quantile of the alarms at a rate of 0.05.
    assert alarms <= stats.binom.ppf(0.975, 200, 0.05)
    assert alarms > 0  # The test does find something.


def test_a_planted_effect_is_found(rng):
    found, _ = count_found(0.01, 200, rng)
    assert found > 190

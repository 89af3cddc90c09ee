"""Tests of differences, each against a published case, another implementation or a simulation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import mnist_lab as lab


@pytest.mark.parametrize("seed", range(5))
def test_a_paired_difference_has_the_interval_and_p_value_of_scipys_paired_t_test(seed):
    values, baseline = np.random.default_rng(seed).normal(0.9, 0.02, (2, 3 + seed)).tolist()
    difference, test = lab.paired_difference(values, baseline), stats.ttest_rel(values, baseline)
    assert (difference.low, difference.high) == pytest.approx(tuple(test.confidence_interval()))
    assert lab.paired_p(values, baseline) == test.pvalue
    assert difference.excludes_zero == (test.pvalue < 0.05)


@pytest.mark.parametrize("values", [[], [0.9], [0.9, 0.8]])
def test_pairs_without_a_spread_have_no_p_value_and_what_is_no_pair_is_refused(values):
    baseline = [value - 0.1 for value in values]
    assert math.isnan(lab.paired_p(values, baseline))
    with pytest.raises(ValueError, match="longer"):
        lab.paired_difference(values, [*baseline, 0.5])


def spread(mean: float, sd: float) -> lab.Mean:
    return lab.Mean(mean, sd, math.nan, math.nan, 5)


def test_a_difference_of_half_a_standard_deviation_takes_cohens_32_pairs():
    # (1.960 + 0.842)² / 0.5² = 31.4
    assert lab.repeats_needed(spread(0.5, 1.0)) == lab.repeats_needed(spread(-0.5, 1.0)) == 32
    assert lab.repeats_needed(spread(0.25, 1.0)) == 126  # four times 31.4
    assert lab.repeats_needed(spread(0.5, 1.0), confidence=0.99) == 47  # (2.576 + 0.842)² / 0.25
    assert lab.repeats_needed(spread(0.5, 1.0), power=0.9) == 43  # (1.960 + 1.282)² / 0.25
    assert lab.repeats_needed(spread(5.0, 0.001)) == 2
    for unknown in (spread(0.0, 1.0), spread(0.1, math.nan)):
        with pytest.raises(ValueError, match="not zero, with a spread"):
            lab.repeats_needed(unknown)


@pytest.mark.parametrize(
    ("both", "only_a", "only_b", "neither", "p"),
    [  # Fagerland, Lydersen & Laake 2013, table 1; Armitage & Berry 1994, p. 127; no difference
        (1, 1, 7, 12, 18 / 256),
        (20, 12, 2, 16, 212 / 2**14),
        (7, 0, 0, 3, 1.0),
    ],
)
def test_mcnemars_test_gives_the_p_values_of_known_tables(both, only_a, only_b, neither, p):
    a = torch.tensor([0] * both + [0] * only_a + [1] * only_b + [1] * neither)
    b = torch.tensor([0] * both + [2] * only_a + [0] * only_b + [2] * neither)
    labels = torch.zeros_like(a)
    found, swapped = lab.mcnemar(labels, a, b), lab.mcnemar(labels, b, a)
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.difference == -swapped.difference == (only_a - only_b) / len(labels)
    assert found.p == pytest.approx(p, rel=1e-9) == swapped.p


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms())
def test_holms_method_rejects_what_stepping_down_by_hand_rejects_in_any_order(p_values, random):
    rejected = set()
    for left, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[place] * (len(p_values) - left) > 0.05:
            break
        rejected.add(place)
    adjusted = lab.holm(p_values)
    assert rejected == {place for place, p in enumerate(adjusted) if p <= 0.05}
    assert (adjusted >= p_values).all() and (adjusted <= 1).all()
    order = random.sample(range(len(p_values)), len(p_values))
    assert np.array_equal(lab.holm([p_values[place] for place in order]), adjusted[order])


def test_holm_adjusts_a_worked_case_and_does_not_count_what_could_not_be_compared():
    # 4 · 0.005 = 0.02; 3 · 0.01 = 0.03; 2 · 0.03 = 0.06; 1 · 0.04 is raised to 0.06
    adjusted = lab.holm([0.01, 0.04, math.nan, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, math.nan, 0.06, 0.02], nan_ok=True)
    assert lab.holm([]).shape == (0,)
    with pytest.raises(ValueError, match=r"between 0 and 1, found \[0\.2, 1\.5, nan\]"):
        lab.holm([0.2, 1.5, math.nan])


def test_the_pareto_front_is_what_no_other_beats_in_both():
    seconds, accuracies = [5, 1, 2, 2, 9, 1], [0.9, 0.5, 0.8, 0.7, 0.9, 0.4]
    assert lab.pareto_front(seconds, accuracies).tolist() == [True, True, True, False, False, False]
    assert lab.pareto_front([], []).tolist() == []


@pytest.mark.parametrize("mean", [0.0, 0.2])
def test_moderated_test_finds_the_usual_variance_and_sees_more_than_one_t_test_each(mean):
    rng = np.random.default_rng(0)
    drawn = rng.normal(mean, np.sqrt(0.04 / rng.chisquare(4, 2000))[:, None], (2000, 3))
    means, p = lab.moderated_differences(drawn.tolist())
    # Smyth 2004: (4 · 0.01 + 2 · s²) / 6 with 6 degrees of freedom, the model drawn from
    half = stats.t.ppf(0.975, 6) * np.sqrt((0.04 + 2 * drawn.var(1, ddof=1)) / 6 / 3)
    assert [m.high - m.mean for m in means] == pytest.approx(half, rel=0.1)
    assert [m.sd for m in means] == pytest.approx(drawn.std(1, ddof=1))
    assert [m.excludes_zero for m in means] == [value < 0.05 for value in p]
    if mean:
        alone = stats.ttest_1samp(drawn, 0, axis=1).pvalue
        assert np.mean(np.array(p) < 0.01) > 2 * np.mean(alone < 0.01)
    else:
        assert stats.kstest(p, "uniform").pvalue > 0.01


def test_moderated_test_pools_variances_that_stray_no_more_than_by_chance():
    means, p = lab.moderated_differences([[m - 0.1, m, m + 0.1] for m in (0.0, 0.1, 0.2, 0.3)])
    half = [m.high - m.mean for m in means]
    assert half == pytest.approx([half[0]] * 4) and half[0] < lab.mean_interval([-0.1, 0, 0.1]).high
    assert p[0] == pytest.approx(1) and (np.diff(p) < 0).all()


def test_moderated_test_without_enough_to_go_by_says_nothing():
    means, p = lab.moderated_differences([[0.1, 0.2], [], [0.3], [0.1, 0.4]])
    assert np.isnan(p).all() and [m.count for m in means] == [2, 0, 1, 2]
    means, p = lab.moderated_differences([[0.1, 0.2], [0.1, 0.3], [0.2, 0.2], [0.3], []])
    assert np.isfinite(p[:3]).all() and np.isnan(p[3:]).all()
    assert np.isnan(means[3].low) and means[3].mean == 0.3
    means, p = lab.moderated_differences([[0.1, 0.1]] * 2 + [[0.1, 0.3]])
    assert np.isnan(p).all() and np.isnan([m.low for m in means]).all()

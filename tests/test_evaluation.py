"""Scores, intervals and comparisons, each against a count by hand or another implementation."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import mnist_lab as lab
from mnist_lab import evaluation


def matrices(draw) -> np.ndarray:
    """Confusion matrices, some with classes that never occur or are never predicted."""
    counts = draw(st.lists(st.integers(0, 30), min_size=100, max_size=100))
    confusion = np.array(counts).reshape(10, 10)
    confusion[sorted(draw(st.sets(st.integers(0, 9))))] = 0
    confusion[:, sorted(draw(st.sets(st.integers(0, 9))))] = 0
    return confusion


CONFUSIONS = st.composite(matrices)().filter(np.any)


def answers(confusion: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and predictions that have this confusion matrix."""
    true, said = np.indices((10, 10))
    pairs = np.repeat(np.stack([true, said], axis=2).reshape(100, 2), confusion.ravel(), axis=0)
    return torch.from_numpy(pairs[:, 0]), torch.from_numpy(pairs[:, 1])


def counted(confusion: np.ndarray, digit: int) -> tuple[int, int, int, int]:
    """TP, FP, FN and TN of one digit, cell by cell."""
    cells = [(true, said, int(confusion[true, said])) for true in range(10) for said in range(10)]
    tp = sum(count for true, said, count in cells if true == digit and said == digit)
    fp = sum(count for true, said, count in cells if true != digit and said == digit)
    fn = sum(count for true, said, count in cells if true == digit and said != digit)
    tn = sum(count for true, said, count in cells if true != digit and said != digit)
    return tp, fp, fn, tn


def ratio(numerator: Fraction | int, denominator: Fraction | int) -> Fraction:
    return Fraction(numerator) / denominator if denominator else Fraction(0)


@settings(deadline=None, max_examples=80)
@given(CONFUSIONS)
def test_scores_counted_by_hand_equal_scikit_learns_exactly(confusion):
    by_hand = []
    for digit in range(10):
        tp, fp, fn, _ = counted(confusion, digit)
        precision, recall = ratio(tp, tp + fp), ratio(tp, tp + fn)
        by_hand.append((precision, recall, ratio(2 * precision * recall, precision + recall)))
    scores = lab.score(*answers(confusion))
    found = np.stack([scores.precision, scores.recall, scores.f1], axis=1)
    assert found.tolist() == [[float(value) for value in row] for row in by_hand]
    assert np.array_equal(scores.confusion, confusion)
    assert scores.support.tolist() == confusion.sum(1).tolist()
    total = int(confusion.sum())
    assert scores.accuracy == int(confusion.trace()) / total
    macro = (scores.macro_precision, scores.macro_recall, scores.macro_f1)
    weighted = (scores.weighted_precision, scores.weighted_recall, scores.weighted_f1)
    weights = [Fraction(int(support), total) for support in scores.support]
    for place, column in enumerate(zip(*by_hand, strict=True)):
        assert macro[place] == pytest.approx(float(sum(column) / 10), abs=1e-15)
        mean = sum(weight * value for weight, value in zip(weights, column, strict=True))
        assert weighted[place] == pytest.approx(float(mean), abs=1e-15)


@settings(deadline=None, max_examples=40)
@given(CONFUSIONS)
def test_the_four_counts_of_a_digit_are_those_counted_cell_by_cell(confusion):
    table = evaluation.counts_per_class(confusion)
    assert list(table.columns) == ["digit", "TP", "FP", "FN", "TN"]
    assert table.values.tolist() == [[d, *counted(confusion, d)] for d in range(10)]
    assert (table[["TP", "FP", "FN", "TN"]].sum(axis=1) == confusion.sum()).all()


def test_the_recall_weighted_by_support_is_the_accuracy():
    scores = lab.score(torch.tensor([0] * 8 + [1] * 2), torch.tensor([0] * 6 + [1] * 3 + [0]))
    assert scores.weighted_recall == pytest.approx(scores.accuracy) == 0.7
    assert scores.weighted_precision == pytest.approx(0.8 * 6 / 7 + 0.2 * 1 / 3)
    assert scores.macro_recall == pytest.approx((6 / 8 + 1 / 2) / 10)


@pytest.mark.parametrize(("labels", "predictions"), [([], []), ([1, 2], [1])])
def test_scores_of_nothing_or_of_unequal_lengths_are_refused(labels, predictions):
    with pytest.raises(ValueError, match=f"found {len(labels)} labels and {len(predictions)} pred"):
        lab.score(torch.tensor(labels), torch.tensor(predictions))


def test_accuracy_counts_the_largest_logit():
    logits = torch.eye(10)[[3, 1, 4, 1]]
    assert lab.accuracy(torch.tensor([3, 1, 5, 1]), logits) == 0.75


def test_the_table_has_a_row_per_digit_and_no_interval_for_an_absent_one():
    labels = torch.tensor([0] * 10 + [1] * 10)
    predictions = torch.tensor([0] * 8 + [1] * 12)
    table = lab.per_class_table(lab.score(labels, predictions))
    assert table["digit"].tolist() == list(range(10))
    assert table["support"].tolist() == [10, 10] + [0] * 8
    assert table.loc[0, ["precision", "recall"]].tolist() == [1.0, 0.8]
    assert tuple(table.loc[0, ["recall_low", "recall_high"]]) == lab.wilson_interval(8, 10)
    assert table.loc[2:, ["recall_low", "recall_high"]].isna().all(axis=None)


def test_the_most_frequent_confusions_come_first_ties_in_order_and_none_that_never_happened():
    confusion = np.diag([50] * 10)
    confusion[8, 3], confusion[3, 8], confusion[0, 6], confusion[9, 4] = 2, 2, 2, 7
    before = confusion.copy()
    table = lab.frequent_confusions(confusion)
    assert table.values.tolist() == [[9, 4, 7], [0, 6, 2], [3, 8, 2], [8, 3, 2]]
    assert list(table.columns) == ["true", "predicted", "errors"]
    assert lab.frequent_confusions(confusion, count=2).values.tolist() == [[9, 4, 7], [0, 6, 2]]
    assert np.array_equal(confusion, before)


def test_a_perfect_classifier_has_no_confusions():
    assert len(lab.frequent_confusions(np.diag([5] * 10))) == 0


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_gives_the_published_bounds(correct, total, low, high):
    assert lab.wilson_interval(correct, total) == pytest.approx((low, high), abs=5e-5)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_bounds_are_where_the_score_test_just_rejects(counts):
    correct, total = counts
    z = stats.norm.ppf(0.975)
    for bound in lab.wilson_interval(correct, total):
        assert -1e-12 <= bound <= 1 + 1e-12
        distance = abs(correct / total - bound)
        assert distance == pytest.approx(z * math.sqrt(bound * (1 - bound) / total), abs=1e-6)


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (-1, 5), (6, 5), (0, -1)])
def test_an_impossible_proportion_is_refused(correct, total):
    with pytest.raises(ValueError, match=f"{correct} of {total}"):
        lab.wilson_interval(correct, total)


VALUES = st.lists(st.floats(0.5, 1, width=32), min_size=2, max_size=12).filter(
    lambda values: np.std(values) > 1e-6
)


@settings(deadline=None, max_examples=40)
@given(VALUES, st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_of_a_mean_is_scipys(values, confidence):
    mean = lab.mean_interval(values, confidence)
    low, high = stats.t.interval(
        confidence, len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
    )
    assert (mean.low, mean.high) == pytest.approx((low, high), abs=1e-9)
    assert (mean.mean, mean.sd, mean.count) == pytest.approx(
        (np.mean(values), np.std(values, ddof=1), len(values))
    )


def test_one_value_has_a_mean_and_nothing_can_be_said_of_its_spread():
    mean = lab.mean_interval([0.9])
    assert (mean.mean, mean.count) == (0.9, 1)
    assert all(math.isnan(value) for value in (mean.sd, mean.low, mean.high))
    assert not mean.excludes_zero


def test_the_mean_of_no_values_is_refused():
    with pytest.raises(ValueError, match="at least one value"):
        lab.mean_interval([])


PAIRS = st.lists(
    st.tuples(st.floats(0.5, 1, width=32), st.floats(0.5, 1, width=32)), min_size=2, max_size=12
).filter(lambda pairs: np.std([a - b for a, b in pairs]) > 1e-6)


@settings(deadline=None, max_examples=40)
@given(PAIRS)
def test_a_paired_difference_has_the_interval_of_scipys_paired_t_test(pairs):
    values, baseline = zip(*pairs, strict=True)
    difference = lab.paired_difference(values, baseline)
    test = stats.ttest_rel(values, baseline)
    interval = test.confidence_interval(0.95)
    assert (difference.low, difference.high) == pytest.approx(
        (interval.low, interval.high), abs=1e-7
    )
    if abs(test.pvalue - 0.05) > 1e-6:
        assert difference.excludes_zero == (test.pvalue < 0.05)


@pytest.mark.parametrize(("values", "baseline"), [([], []), ([1.0, 2.0], [1.0])])
def test_a_difference_of_values_that_are_no_pairs_is_refused(values, baseline):
    with pytest.raises(ValueError, match="found"):
        lab.paired_difference(values, baseline)


def spread(mean: float, sd: float) -> lab.Mean:
    return lab.Mean(mean, sd, math.nan, math.nan, 5)


def test_a_difference_of_half_a_standard_deviation_takes_cohens_32_pairs():
    # (1.960 + 0.842)² / 0.5² = 31.4
    assert lab.repeats_needed(spread(0.5, 1.0)) == 32
    assert lab.repeats_needed(spread(-0.5, 1.0)) == 32


def test_more_repeats_are_needed_for_less_difference_more_spread_or_more_certainty():
    base = lab.repeats_needed(spread(0.5, 1.0))
    assert lab.repeats_needed(spread(0.25, 1.0)) == 126  # four times 31.4
    assert lab.repeats_needed(spread(0.5, 2.0)) > base
    assert lab.repeats_needed(spread(0.5, 1.0), confidence=0.99) > base
    assert lab.repeats_needed(spread(0.5, 1.0), power=0.9) > base


def test_at_least_two_repeats_are_asked_for():
    assert lab.repeats_needed(spread(5.0, 0.001)) == 2


@pytest.mark.parametrize("difference", [spread(0.0, 1.0), spread(0.1, math.nan)])
def test_repeats_for_no_difference_or_an_unknown_spread_are_refused(difference):
    with pytest.raises(ValueError, match="not zero, with a spread"):
        lab.repeats_needed(difference)


def test_probabilities_are_exponentials_that_sum_to_one():
    logits = torch.tensor([[0.0, math.log(3.0)] + [-100.0] * 8])
    expected = torch.tensor([[0.25, 0.75] + [0.0] * 8])
    torch.testing.assert_close(lab.probabilities(logits), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_stored_half_precision_logits_give_single_precision_probabilities(dtype):
    found = lab.probabilities(torch.tensor([[0.0] * 10], dtype=dtype))
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert found.sum().item() == pytest.approx(1, abs=1e-6)


def compared(both: int, only_a: int, only_b: int, neither: int) -> evaluation.McNemar:
    labels = torch.zeros(both + only_a + only_b + neither, dtype=torch.int64)
    a = torch.tensor([0] * both + [0] * only_a + [1] * only_b + [1] * neither)
    b = torch.tensor([0] * both + [2] * only_a + [0] * only_b + [2] * neither)
    return evaluation.mcnemar(labels, a, b)


def two_tails(only_a: int, only_b: int) -> float:
    """Twice the smaller binomial tail with probability 1/2, as McNemar's exact test has it."""
    n, least = only_a + only_b, min(only_a, only_b)
    return min(1.0, float(Fraction(2 * sum(math.comb(n, k) for k in range(least + 1)), 2**n)))


@pytest.mark.parametrize(
    ("both", "only_a", "only_b", "neither", "p"),
    [
        (1, 1, 7, 12, 18 / 256),  # Fagerland, Lydersen & Laake 2013, table 1
        (20, 12, 2, 16, 212 / 2**14),  # Armitage & Berry 1994, p. 127: 0.0129
        (10, 0, 5, 2, 2 / 32),
        (0, 6, 6, 0, 1.0),
        (7, 0, 0, 3, 1.0),
    ],
)
def test_mcnemars_test_gives_the_p_values_of_known_tables(both, only_a, only_b, neither, p):
    found = compared(both, only_a, only_b, neither)
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.difference == (only_a - only_b) / (both + only_a + only_b + neither)
    assert found.p == pytest.approx(p, rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5))
def test_mcnemars_p_is_the_binomials_and_the_same_with_the_two_swapped(only_a, only_b, both):
    found, swapped = compared(both, only_a, only_b, 1), compared(both, only_b, only_a, 1)
    assert found.p == pytest.approx(two_tails(only_a, only_b), rel=1e-9)
    assert (swapped.p, swapped.difference) == (pytest.approx(found.p), -found.difference)


@pytest.mark.parametrize("lengths", [(0, 0, 0), (2, 1, 2), (2, 2, 3)])
def test_mcnemars_test_of_nothing_or_of_unequal_lengths_is_refused(lengths):
    with pytest.raises(ValueError, match=f"{lengths[0]} labels, {lengths[1]} and {lengths[2]} pre"):
        evaluation.mcnemar(*(torch.zeros(length, dtype=torch.int64) for length in lengths))


def test_holm_adjusts_the_p_values_of_a_worked_case():
    # 4 · 0.005 = 0.02; 3 · 0.01 = 0.03; 2 · 0.03 = 0.06; 1 · 0.04 is raised to 0.06
    assert evaluation.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@settings(deadline=None, max_examples=80)
@given(P_VALUES)
def test_holms_p_values_are_no_smaller_at_most_1_and_in_the_same_order(p_values):
    p, adjusted = np.array(p_values), evaluation.holm(p_values)
    assert ((adjusted >= p) & (adjusted <= np.minimum(1, len(p) * p))).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
    assert adjusted[np.argmin(p)] == min(1, len(p) * min(p_values))


@settings(deadline=None, max_examples=80)
@given(P_VALUES.flatmap(lambda p: st.tuples(st.just(p), st.permutations(range(len(p))))))
def test_holms_p_values_do_not_depend_on_the_order_of_the_tests(case):
    p, order = np.array(case[0]), list(case[1])
    assert np.array_equal(evaluation.holm(p[order]), evaluation.holm(p)[order])


@settings(deadline=None, max_examples=80)
@given(P_VALUES)
def test_holms_method_rejects_what_stepping_down_by_hand_rejects(p_values):
    rejected, left = set(), len(p_values)
    for place in sorted(range(len(p_values)), key=lambda place: p_values[place]):
        if p_values[place] * left > 0.05:
            break
        rejected.add(place)
        left -= 1
    assert rejected == {i for i, p in enumerate(evaluation.holm(p_values)) if p <= 0.05}


def test_a_comparison_that_could_not_be_made_is_not_counted_as_a_test():
    adjusted = evaluation.holm([0.01, math.nan, 0.03])
    assert adjusted[[0, 2]] == pytest.approx([0.02, 0.03]) and math.isnan(adjusted[1])
    assert evaluation.holm([]).shape == (0,)


def test_a_p_value_that_is_no_probability_is_refused():
    with pytest.raises(ValueError, match=r"between 0 and 1, found \[1\.5\]"):
        evaluation.holm([0.2, 1.5, math.nan])


def test_report_as_f1_is_eight_errors_of_non_zero_against_zero_and_none_of_a_single_digit():
    table = evaluation.reachable_f1(0.999556, positives=9020, negatives=980, count=30)
    fitting = table[table["difference"].abs() < 5e-7]
    assert len(fitting) > 0 and set(fitting["fp"] + fitting["fn"]) == {8}
    ones = evaluation.reachable_f1(0.999556, positives=1135, negatives=8865, count=2)
    assert ones[["fp", "fn"]].values.tolist() == [[0, 1], [1, 0]]
    assert ones["f1"].tolist() == [2268 / 2269, 2270 / 2271]
    assert (ones["difference"].abs() > 5e-7).all()


@settings(deadline=None, max_examples=80)
@given(st.floats(0.01, 1), st.integers(1, 15), st.integers(0, 15), st.integers(1, 12))
def test_the_reachable_f1_values_are_the_nearest_of_all(target, positives, negatives, count):
    every = [
        (abs(f1 - target), fp + fn, f1)
        for fn in range(positives + 1)
        for fp in range(negatives + 1)
        for f1 in [2 * (positives - fn) / (2 * (positives - fn) + fp + fn)]
    ]
    nearest = sorted(every)[:count]
    table = evaluation.reachable_f1(target, positives, negatives, count)
    assert table["difference"].abs().tolist() == [distance for distance, _, _ in nearest]
    assert (table["fp"] + table["fn"]).tolist() == [errors for _, errors, _ in nearest]
    right = positives - table["fn"]  # values as near as one another may stand in either order
    expected = 2 * right / (2 * right + table["fp"] + table["fn"])
    np.testing.assert_allclose(table["f1"], expected)
    assert not table.duplicated(["fp", "fn"]).any()


@pytest.mark.parametrize(("target", "positives"), [(0.0, 5), (1.1, 5), (math.nan, 5), (0.9, 0)])
def test_an_f1_that_cannot_be_is_refused(target, positives):
    with pytest.raises(ValueError, match=f"found {target}, {positives} and 3"):
        evaluation.reachable_f1(target, positives, 3)


def test_the_pareto_front_is_what_no_other_beats_in_both():
    seconds, accuracies = [5, 1, 2, 2, 9, 1], [0.9, 0.5, 0.8, 0.7, 0.9, 0.4]
    assert lab.pareto_front(seconds, accuracies).tolist() == [True, True, True, False, False, False]
    assert lab.pareto_front([], []).tolist() == []


def drawn_differences(count=4000, pairs=3, extra=4.0, usual=0.01, mean=0.0, seed=0):
    """Comparisons whose variances follow the model of the moderated t-test."""
    rng = np.random.default_rng(seed)
    variances = usual * extra / rng.chisquare(extra, count)
    return rng.normal(mean, np.sqrt(variances)[:, None], (count, pairs))


def test_moderated_test_finds_the_usual_variance_and_how_far_others_stray():
    differences = drawn_differences()
    usual, extra = evaluation._usual_variance(differences.var(1, ddof=1), np.full(4000, 2.0))
    assert usual == pytest.approx(0.01, rel=0.1) and extra == pytest.approx(4, rel=0.2)


def test_moderated_p_values_are_uniform_where_nothing_differs():
    _, p = lab.moderated_differences(drawn_differences().tolist())
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.01)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_moderated_test_sees_more_than_one_t_test_each():
    differences = drawn_differences(mean=0.2)
    _, p = lab.moderated_differences(differences.tolist())
    alone = stats.ttest_1samp(differences, 0, axis=1).pvalue
    assert np.mean(np.array(p) < 0.01) > 2 * np.mean(alone < 0.01)


def test_moderated_intervals_and_p_values_agree():
    means, p = lab.moderated_differences(drawn_differences(count=50, mean=0.1).tolist())
    assert {m.excludes_zero for m in means} == {True, False}
    assert [m.excludes_zero for m in means] == [value < 0.05 for value in p]


def test_moderated_test_pools_variances_that_stray_no_more_than_by_chance():
    base = np.array([-0.1, 0.0, 0.1])
    differences = [(base + shift).tolist() for shift in (0.0, 0.1, 0.2, 0.3)]
    means, p = lab.moderated_differences(differences)
    expected = 2 * stats.t.sf(np.array([0, 0.1, 0.2, 0.3]) / np.sqrt(0.01 / 3), 8)
    # The centre of log variances is not the log of their mean: the usual one is above 0.01.
    assert means[0].sd == pytest.approx(0.1)
    assert (np.diff(p) < 0).all() and p[1] > expected[1]


def test_moderated_test_without_enough_to_go_by_says_nothing():
    means, p = lab.moderated_differences([[0.1, 0.2], [], [0.3], [0.1, 0.4]])
    assert np.isnan(p).all() and [m.count for m in means] == [2, 0, 1, 2]
    means, p = lab.moderated_differences([[0.1, 0.2], [0.1, 0.3], [0.2, 0.2], [0.3], []])
    assert np.isfinite(p[:3]).all() and np.isnan(p[3:]).all()
    assert np.isnan(means[3].low) and means[3].mean == 0.3
    means, same = lab.moderated_differences([[0.1, 0.1]] * 2 + [[0.1, 0.3]])
    assert np.isnan(same).all() and np.isnan([m.low for m in means]).all()

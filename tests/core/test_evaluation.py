"""Scores and intervals, each against a count by hand, a published number or another formula."""

import math
import re

import numpy as np
import pytest
import torch
from scipy import stats

import mnist_lab as lab


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_counted_by_hand_also_of_classes_that_never_occur(seed):
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, 10 - seed, 200), rng.integers(seed, 10, 200)
    by_hand = []
    for digit in range(10):
        right = int(((labels == digit) & (predictions == digit)).sum())
        of, called = int((labels == digit).sum()), int((predictions == digit).sum())
        by_hand.append([right / called if called else 0, right / of if of else 0])
        by_hand[-1] += [2 * right / (of + called) if of + called else 0, of]
    scores = lab.score(torch.tensor(labels), torch.tensor(predictions))
    found = np.stack([scores.precision, scores.recall, scores.f1, scores.support], axis=1)
    assert found == pytest.approx(np.array(by_hand))
    counts = [[sum((labels == i) & (predictions == j)) for j in range(10)] for i in range(10)]
    assert scores.confusion.tolist() == counts
    assert scores.accuracy == (labels == predictions).mean()
    macro = (scores.macro_precision, scores.macro_recall, scores.macro_f1)
    weighted = (scores.weighted_precision, scores.weighted_recall, scores.weighted_f1)
    assert macro == pytest.approx(found[:, :3].mean(0))
    assert weighted == pytest.approx(scores.support @ found[:, :3] / 200)


DIGITS = torch.tensor([1, 2])


@pytest.mark.parametrize("ask", [lab.score, lambda y, a: lab.mcnemar(y, y, a)])
@pytest.mark.parametrize(
    ("labels", "predictions", "found"),
    [
        (DIGITS[:0], DIGITS[:0], "[0]]"),
        (DIGITS, DIGITS[:1], "[1]]"),
        (DIGITS, DIGITS[:, None], "[2, 1]]"),
        (DIGITS + 9, DIGITS + 9, "expected digits 0 to 9, found [10, 11]"),
        (DIGITS, DIGITS - 2, "expected digits 0 to 9, found [-1]"),
    ],
)
def test_what_is_not_a_digit_for_each_image_is_refused(ask, labels, predictions, found):
    with pytest.raises(ValueError, match=re.escape(found)):
        ask(labels, predictions)


@pytest.mark.parametrize("logits", [torch.zeros(2), torch.ones(3, 10), torch.eye(2, 10) / 0])
def test_accuracy_counts_the_largest_of_ten_finite_logits_and_refuses_others(logits):
    assert lab.accuracy(torch.tensor([3, 1, 5, 1]), torch.eye(10)[[3, 1, 4, 1]]) == 0.75
    with pytest.raises(ValueError, match=r"finite numbers of shape \[2, 10\], found \[[23]"):
        lab.accuracy(DIGITS, logits)


def test_the_table_has_a_row_per_digit_and_no_interval_for_an_absent_one():
    labels, predictions = torch.tensor([0] * 10 + [1] * 10), torch.tensor([0] * 8 + [1] * 12)
    table = lab.per_class_table(lab.score(labels, predictions))
    columns = ["digit", "support", "precision", "recall", "recall_low", "recall_high", "f1"]
    assert list(table) == columns and table["digit"].tolist() == list(range(10))
    assert table["support"].tolist() == [10, 10] + [0] * 8
    bounds = lab.wilson_interval(8, 10)
    assert table.loc[0].tolist() == pytest.approx([0, 10, 1.0, 0.8, *bounds, 8 / 9])
    assert table.loc[2:, ["recall_low", "recall_high"]].isna().all(axis=None)


def test_the_most_frequent_confusions_come_first_ties_in_order_and_none_that_never_happened():
    confusion = np.diag([50] * 10)
    confusion[8, 3], confusion[3, 8], confusion[0, 6], confusion[9, 4] = 2, 2, 2, 7
    table = lab.frequent_confusions(confusion)
    assert table.values.tolist() == [[9, 4, 7], [0, 6, 2], [3, 8, 2], [8, 3, 2]]
    assert list(table) == ["true", "predicted", "errors"]
    assert lab.frequent_confusions(confusion, count=2).values.tolist() == [[9, 4, 7], [0, 6, 2]]
    assert len(lab.frequent_confusions(np.diag([5] * 10))) == 0


def test_wilsons_interval_gives_the_bounds_published_by_newcombe_1998():
    assert lab.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert lab.wilson_interval(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (-1, 5), (6, 5), (0, -1)])
def test_an_impossible_proportion_is_refused(correct, total):
    with pytest.raises(ValueError, match=f"{correct} of {total}"):
        lab.wilson_interval(correct, total)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_the_interval_of_a_mean_is_scipys(confidence):
    values = [0.91, 0.93, 0.9, 0.95]
    mean = lab.mean_interval(iter(values), confidence)
    interval = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    assert (mean.low, mean.high) == pytest.approx(tuple(interval), abs=1e-9)
    assert (mean.mean, mean.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))


def test_what_too_few_repeats_cannot_say_is_not_a_number():
    one, none, equal = (lab.mean_interval(values) for values in ([0.9], [], [0.5, 0.5, 0.5]))
    assert (one.mean, one.count, none.count) == (0.9, 1, 0)
    assert all(map(math.isnan, (one.sd, one.low, one.high, none.mean, none.sd, none.low)))
    assert not one.excludes_zero and not none.excludes_zero
    assert (equal.sd, equal.low, equal.high, equal.excludes_zero) == (0, 0.5, 0.5, True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_probabilities_are_exponentials_that_sum_to_one_in_double_precision(dtype):
    found = lab.probabilities(torch.tensor([[0.0, math.log(3.0)] + [-100.0] * 8], dtype=dtype))
    assert found.dtype == torch.float64
    assert found[0].tolist() == pytest.approx([0.25, 0.75] + [0.0] * 8, abs=1e-3)
    assert found.sum().item() == pytest.approx(1, abs=1e-15)

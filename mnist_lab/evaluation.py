"""How good a classifier is, and how sure that is."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import optimize, special, stats
from sklearn import metrics
from torch import Tensor

from mnist_lab.models import CLASSES


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one set of predictions; all shares lie in [0, 1].

    Attributes:
        confusion: int64 [10, 10], how often true class (row) was called predicted class (column).
        accuracy: share recognised.
        precision, recall, f1: float64 [10], per class; 0 where the denominator is 0.
        support: int64 [10], images of each class.
        macro_precision, macro_recall, macro_f1: plain means over the ten classes.
        weighted_precision, weighted_recall, weighted_f1: means weighted by support; the weighted
            recall is the accuracy.
    """

    confusion: np.ndarray
    accuracy: float
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    macro_precision: float
    macro_recall: float
    macro_f1: float
    weighted_precision: float
    weighted_recall: float
    weighted_f1: float


def score(labels: Tensor, predictions: Tensor) -> Scores:
    """Scores by scikit-learn for int64 labels [N] and predicted classes [N].

    Raises:
        ValueError: if the two differ in length or are empty.
    """
    if len(labels) != len(predictions) or len(labels) == 0:
        raise ValueError(
            f"expected as many predictions as labels, and some: found {len(labels)} labels and "
            f"{len(predictions)} predictions"
        )
    truth, predicted = labels.numpy(), predictions.numpy()
    classes = list(range(CLASSES))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, predicted, labels=classes, zero_division=0
    )
    return Scores(
        confusion=metrics.confusion_matrix(truth, predicted, labels=classes),
        accuracy=float(metrics.accuracy_score(truth, predicted)),
        precision=precision,
        recall=recall,
        f1=f1,
        support=support,
        macro_precision=float(precision.mean()),
        macro_recall=float(recall.mean()),
        macro_f1=float(f1.mean()),
        weighted_precision=float(np.average(precision, weights=support)),
        weighted_recall=float(np.average(recall, weights=support)),
        weighted_f1=float(np.average(f1, weights=support)),
    )


def accuracy(labels: Tensor, logits: Tensor) -> float:
    """Share of images whose largest logit is their label's. Logits [N, 10], labels int64 [N]."""
    return float(metrics.accuracy_score(labels.numpy(), logits.argmax(1).numpy()))


def counts_per_class(confusion: np.ndarray) -> pd.DataFrame:
    """The four counts of "is it this digit?" for each digit, from a confusion matrix [10, 10].

    Returns:
        One row per digit; columns ``digit``, ``TP``, ``FP``, ``FN``, ``TN``, int64. Each row sums
        to the number of images.
    """
    hits = np.diag(confusion)
    false_alarms = confusion.sum(0) - hits
    missed = confusion.sum(1) - hits
    rest = confusion.sum() - hits - false_alarms - missed
    return pd.DataFrame(
        {"digit": range(len(hits)), "TP": hits, "FP": false_alarms, "FN": missed, "TN": rest}
    )


def per_class_table(scores: Scores) -> pd.DataFrame:
    """One row per digit: support, precision, recall, the recall's 95 % Wilson interval, F1."""
    intervals = [
        wilson_interval(int(scores.confusion[digit, digit]), int(scores.support[digit]))
        if scores.support[digit]
        else (math.nan, math.nan)
        for digit in range(CLASSES)
    ]
    return pd.DataFrame(
        {
            "digit": range(CLASSES),
            "support": scores.support,
            "precision": scores.precision,
            "recall": scores.recall,
            "recall_low": [low for low, _ in intervals],
            "recall_high": [high for _, high in intervals],
            "f1": scores.f1,
        }
    )


def frequent_confusions(confusion: np.ndarray, count: int = 10) -> pd.DataFrame:
    """The ``count`` most frequent mistakes: columns ``true``, ``predicted``, ``errors``.

    Mistakes never made are left out; ties are in order of true, then predicted class.
    """
    errors = confusion.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:count]
    true, predicted = np.unravel_index(order, errors.shape)
    table = pd.DataFrame({"true": true, "predicted": predicted, "errors": errors[true, predicted]})
    return table[table["errors"] > 0].reset_index(drop=True)


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of the proportion ``correct / total`` by Wilson's score method.

    It stays inside [0, 1] and keeps its coverage near 1, where accuracies in this course lie and
    where ``p ± z·sqrt(p(1 - p)/n)`` fails (Wilson 1927; Brown, Cai & DasGupta 2001).

    Raises:
        ValueError: if ``total`` is not positive or ``correct`` is outside [0, total].
    """
    if total <= 0 or not 0 <= correct <= total:
        raise ValueError(f"expected 0 <= correct <= total and total > 0: {correct} of {total}")
    interval = stats.binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class Mean:
    """A mean over repeats with its standard deviation and t-interval.

    With fewer than two repeats the standard deviation and the bounds are NaN: nothing can be said.
    """

    mean: float
    sd: float
    low: float
    high: float
    count: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly on one side of zero."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Mean:
    """Mean of independent repeats with Student's t-interval.

    Raises:
        ValueError: if there are no values.
    """
    sample = np.asarray(values, dtype=float)
    if sample.size == 0:
        raise ValueError("expected at least one value, found none")
    mean = float(sample.mean())
    if sample.size == 1:
        return Mean(mean, math.nan, math.nan, math.nan, 1)
    sd = float(sample.std(ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, sample.size - 1)) * sd / math.sqrt(sample.size)
    return Mean(mean, sd, mean - half, mean + half, int(sample.size))


def mean_or_nothing(values: Iterable[float]) -> Mean:
    """``mean_interval``, NaN in all its numbers where there are no values."""
    listed = list(values)
    return mean_interval(listed) if listed else Mean(math.nan, math.nan, math.nan, math.nan, 0)


def paired_difference(
    values: Sequence[float], baseline: Sequence[float], confidence: float = 0.95
) -> Mean:
    """Mean of ``values - baseline``, pair by pair (here: seed by seed), with its t-interval.

    Raises:
        ValueError: if the two differ in length or are empty.
    """
    if len(values) != len(baseline):
        raise ValueError(f"expected pairs, found {len(values)} values and {len(baseline)}")
    return mean_interval(np.subtract(values, baseline).tolist(), confidence)


def paired_p(values: Sequence[float], baseline: Sequence[float]) -> float:
    """Two-sided p value of the paired t-test that both have the same mean (Student 1908).

    NaN with fewer than two pairs, and where all differences are equal: such a sample, as coarse
    accuracies give it, says nothing of how much the differences vary.

    Raises:
        ValueError: if the two differ in length.
    """
    if not len(values) and not len(baseline):
        return math.nan
    difference = paired_difference(values, baseline)
    if not difference.sd > 1e-12:
        return math.nan
    return float(stats.ttest_rel(values, baseline).pvalue)


def moderated_differences(
    differences: Sequence[Sequence[float]], confidence: float = 0.95
) -> tuple[list[Mean], list[float]]:
    """Many mean differences, each from few pairs, with t-intervals and p values.

    From three pairs a standard deviation is itself a guess. Many comparisons together tell which
    variance is usual, and how far variances stray from it. Each one is pulled towards the usual
    one, the more the less they stray, and the t-distribution gets the degrees of freedom that this
    adds: the moderated t-test (Smyth 2004, doi:10.2202/1544-6115.1027).

    Args:
        differences: the paired differences of each comparison. Those with fewer than two pairs
            get NaN, as do all if fewer than three have two, or most have no spread at all.
        confidence: of the intervals.

    Returns:
        For each comparison its mean with the standard deviation as seen and the moderated
        interval, and the two-sided p value that the mean is zero.
    """
    means = [mean_or_nothing(d) for d in differences]
    usable = [m for m in means if m.count > 1]
    # Where most accuracies are too coarse to differ between seeds, no variance is usual.
    if len(usable) < 3 or np.median([m.sd for m in usable]) == 0:
        unknown = [Mean(m.mean, m.sd, math.nan, math.nan, m.count) for m in means]
        return unknown, [math.nan] * len(means)
    df = np.array([m.count - 1 for m in usable], dtype=float)
    usual, extra = _usual_variance(np.array([m.sd**2 for m in usable]), df)
    moderated, p_values = [], []
    for mean in means:
        if mean.count < 2:
            moderated.append(Mean(mean.mean, math.nan, math.nan, math.nan, mean.count))
            p_values.append(math.nan)
            continue
        own = mean.count - 1
        if math.isinf(extra):
            variance, degrees = usual, float(df.sum())
        else:
            variance = (extra * usual + own * mean.sd**2) / (extra + own)
            degrees = min(extra + own, float(df.sum()))
        error = math.sqrt(variance / mean.count)
        half = float(stats.t.ppf((1 + confidence) / 2, degrees)) * error
        low, high = mean.mean - half, mean.mean + half
        moderated.append(Mean(mean.mean, mean.sd, low, high, mean.count))
        p_values.append(float(2 * stats.t.sf(abs(mean.mean) / error, degrees)))
    return moderated, p_values


def _usual_variance(variances: np.ndarray, df: np.ndarray) -> tuple[float, float]:
    """The variance that others are pulled to, and how many degrees of freedom it is worth.

    Matches mean and variance of the log variances to those of a scaled F-distribution (Smyth 2004,
    section 6.2). The second number is infinite where they stray no more than chance has it.
    """
    logs = np.log(np.maximum(variances, 1e-5 * np.median(variances)))
    centred = logs - special.digamma(df / 2) + np.log(df / 2)
    stray = float(centred.var(ddof=1) - special.polygamma(1, df / 2).mean())
    if stray <= 0:
        return float(np.exp(centred.mean())), math.inf
    half = optimize.brentq(lambda x: float(special.polygamma(1, x)) - stray, 1e-6, 1e8)
    return float(np.exp(centred.mean() + special.digamma(half) - math.log(half))), 2 * half


def pareto_front(seconds: Sequence[float], accuracies: Sequence[float]) -> np.ndarray:
    """bool [N]: True where no other is as fast and as accurate, and better in one of the two."""
    time, reached = np.asarray(seconds, dtype=float), np.asarray(accuracies, dtype=float)
    order = np.lexsort((-reached, time))
    best_before = np.maximum.accumulate(np.append(-np.inf, reached[order]))[:-1]
    front = np.empty(len(time), dtype=bool)
    front[order] = reached[order] > best_before
    return front


def repeats_needed(difference: Mean, confidence: float = 0.95, power: float = 0.8) -> int:
    """About how many pairs it takes to tell a true difference of this size and spread from zero.

    Normal approximation of the paired t-test's sample size, (z_{1-α/2} + z_{power})² · sd² / d²
    (Cohen 1988, ch. 2), at least 2.

    Raises:
        ValueError: if the difference is zero or its spread unknown.
    """
    if difference.mean == 0 or math.isnan(difference.sd):
        raise ValueError(f"expected a difference that is not zero, with a spread: {difference}")
    z = stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(power)
    return max(2, math.ceil((z * difference.sd / difference.mean) ** 2))


@dataclass(frozen=True)
class McNemar:
    """Two classifiers compared on the same images.

    Attributes:
        only_a, only_b: images that only the first, or only the second, gets right.
        difference: accuracy of the first minus accuracy of the second, a share of all images.
        p: exact two-sided p value of "neither is better"; 1 if they never differ.
    """

    only_a: int
    only_b: int
    difference: float
    p: float


def mcnemar(labels: Tensor, predictions_a: Tensor, predictions_b: Tensor) -> McNemar:
    """McNemar's exact test for labels and predicted classes, int64 [N] each.

    Images that both get right or both get wrong say nothing about which is better. Among the others
    each would win half of the time if they were equally good: a binomial test (McNemar 1947). It
    keeps its error rate for two networks trained once (Dietterich 1998), and speaks of these two
    networks only: another seed gives others.

    Raises:
        ValueError: if the three differ in length or are empty.
    """
    if not 0 < len(labels) == len(predictions_a) == len(predictions_b):
        raise ValueError(
            f"expected as many predictions as labels, and some: found {len(labels)} labels, "
            f"{len(predictions_a)} and {len(predictions_b)} predictions"
        )
    right_a, right_b = predictions_a == labels, predictions_b == labels
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    differing = only_a + only_b
    p = float(stats.binomtest(only_a, differing).pvalue) if differing else 1.0
    return McNemar(only_a, only_b, (only_a - only_b) / len(labels), p)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p values, float64 in the order given (Holm 1979).

    Calling "different" whatever is below 0.05 afterwards is wrong anywhere among these tests with
    a probability of at most 5 %, however the tests depend on each other. NaN, a comparison that
    could not be made, stays NaN and is not counted as a test.

    Raises:
        ValueError: if a value lies outside [0, 1].
    """
    p = np.asarray(p_values, dtype=float)
    if ((p < 0) | (p > 1)).any():
        raise ValueError(
            f"expected p values between 0 and 1, found {p[(p < 0) | (p > 1)].tolist()}"
        )
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    stepped = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted


def reachable_f1(target: float, positives: int, negatives: int, count: int = 10) -> pd.DataFrame:
    """The values nearest to ``target`` that a two-class F1 can take at all.

    With ``positives`` images of the class and ``negatives`` others, F1 = 2TP / (2TP + FP + FN)
    takes one value for each pair of whole numbers FN and FP. A printed F1 that none of them rounds
    to is of something else.

    Returns:
        ``count`` rows, nearest first, then fewest errors: ``fp``, ``fn``, ``f1`` and
        ``difference``, which is ``f1 - target``.

    Raises:
        ValueError: if ``target`` lies outside (0, 1] or there are no positives.
    """
    if not 0 < target <= 1 or positives < 1 or negatives < 0:
        raise ValueError(
            "expected an F1 above 0 and at most 1, at least one positive and no fewer than zero "
            f"negatives: found {target}, {positives} and {negatives}"
        )
    missed = np.arange(positives + 1)
    hits = positives - missed
    # For each FN the F1 falls with FP, so the nearest lie around where it crosses the target.
    crossing = np.floor(2 * hits / target - 2 * hits - missed).clip(0, negatives).astype(int)
    around = crossing[:, None] + np.arange(-count, count + 1)
    fn, fp = np.broadcast_arrays(missed[:, None], around.clip(0, negatives))
    pairs = np.unique(np.stack([fn.ravel(), fp.ravel()]), axis=1)
    table = pd.DataFrame({"fp": pairs[1], "fn": pairs[0]})
    table["f1"] = 2 * (positives - table["fn"]) / (2 * positives - table["fn"] + table["fp"])
    table["difference"] = table["f1"] - target
    ranks = pd.DataFrame(
        {"distance": table["difference"].abs(), "errors": table["fp"] + table["fn"]}
    )
    order = ranks.sort_values(["distance", "errors"], kind="stable").index[:count]
    return table.loc[order].reset_index(drop=True)


def probabilities(logits: Tensor) -> Tensor:
    """Softmax of logits [N, 10]: float32 [N, 10] whose rows sum to 1; float64 of float64."""
    return torch.softmax(logits, dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))

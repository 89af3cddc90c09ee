"""Whether a difference is more than chance: paired tests and how many repeats they take."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, special, stats
from torch import Tensor

from mnist_lab.evaluation import require_answers


@dataclass(frozen=True)
class Mean:
    """A mean of ``count`` repeats and its t-interval; NaN is what so few cannot say."""

    mean: float
    sd: float
    low: float
    high: float
    count: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly on one side of zero."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Iterable[float], confidence: float = 0.95) -> Mean:
    """Mean of independent repeats, their standard deviation and Student's t-interval."""
    sample = np.asarray(list(values), dtype=float)
    count = sample.size
    mean = float(sample.mean()) if count else math.nan
    sd = float(sample.std(ddof=1)) if count > 1 else math.nan
    # As by scipy's ttest_1samp, which warns where all repeats are equal.
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * sd / math.sqrt(max(count, 1))
    return Mean(mean, sd, mean - half, mean + half, count)


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> Mean:
    """Mean of ``values - baseline``, pair by pair (here: seed by seed), with its t-interval."""
    return mean_interval(a - b for a, b in zip(values, baseline, strict=True))


def paired_p(values: Sequence[float], baseline: Sequence[float]) -> float:
    """Two-sided p value of the paired t-test; NaN where the pairs show no spread of differences."""
    spread = paired_difference(values, baseline).sd > 1e-12
    return float(stats.ttest_rel(values, baseline).pvalue) if spread else math.nan


def moderated_differences(differences: Sequence[Sequence[float]]) -> tuple[list[Mean], list[float]]:
    """Many mean differences, each from few pairs, with 95 % intervals and two-sided p values.

    The moderated t-test (Smyth 2004, doi:10.2202/1544-6115.1027): each variance is pulled towards
    the usual one, the more the less they stray, which adds degrees of freedom. NaN for fewer than
    two pairs, and for all where fewer than three comparisons have two, or most have no spread.
    """
    means = [mean_interval(values) for values in differences]
    mean, sd, count = (np.array([getattr(m, a) for m in means]) for a in ("mean", "sd", "count"))
    df = np.maximum(count - 1, 0)
    usual, extra = _usual_variance(sd[df > 0] ** 2, df[df > 0])
    own = df / (df + extra)
    error = np.sqrt((own * sd**2 + (1 - own) * usual) / count)
    degrees = np.minimum(df + extra, df.sum())
    half = stats.t.ppf(0.975, degrees) * error
    p_values = 2 * stats.t.sf(abs(mean) / error, degrees)
    ends = zip(means, (mean - half).tolist(), (mean + half).tolist(), strict=True)
    return [replace(m, low=low, high=high) for m, low, high in ends], p_values.tolist()


def _usual_variance(variances: np.ndarray, df: np.ndarray) -> tuple[float, float]:
    """The variance others are pulled to, and the degrees of freedom it is worth (section 6.2)."""
    if len(variances) < 3 or np.median(variances) == 0:
        return math.nan, math.nan
    logs = np.log(np.maximum(variances, 1e-5 * np.median(variances)))
    centred = logs - special.digamma(df / 2) + np.log(df / 2)
    stray = float(centred.var(ddof=1) - special.polygamma(1, df / 2).mean())
    if stray <= 0:  # no more than by chance
        return float(np.exp(centred.mean())), math.inf
    half = optimize.brentq(lambda x: float(special.polygamma(1, x)) - stray, 1e-6, 1e8)
    return float(np.exp(centred.mean() + special.digamma(half) - math.log(half))), 2 * half


def pareto_front(seconds: Iterable[float], accuracies: Iterable[float]) -> np.ndarray:
    """bool [N]: True where no other is as fast and as accurate, and better in one of the two."""
    points = list(zip(seconds, accuracies, strict=True))
    beaten = [any(s <= t and a >= b and (s, a) != (t, b) for s, a in points) for t, b in points]
    return ~np.array(beaten, dtype=bool)


def repeats_needed(difference: Mean, confidence: float = 0.95, power: float = 0.8) -> int:
    """About how many pairs tell a true difference of this size and spread from 0 (Cohen 1988)."""
    if difference.mean == 0 or math.isnan(difference.sd):
        raise ValueError(f"expected a difference that is not zero, with a spread: {difference}")
    z = stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(power)
    return max(2, math.ceil((z * difference.sd / difference.mean) ** 2))


@dataclass(frozen=True)
class McNemar:
    """Images that one alone gets right, accuracy of a minus that of b, p that neither is better."""

    only_a: int
    only_b: int
    difference: float
    p: float


def mcnemar(labels: Tensor, predictions_a: Tensor, predictions_b: Tensor) -> McNemar:
    """McNemar's exact test (1947): does each get half of the images that one alone gets right?

    It speaks of two trained networks; another seed gives others (Dietterich 1998).
    """
    require_answers(labels, predictions_a, predictions_b)
    right_a, right_b = predictions_a == labels, predictions_b == labels
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a, only_b, (only_a - only_b) / len(labels), p)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p values: trusting all below 0.05 errs anywhere in at most 5 % of cases (Holm 1979).

    NaN, a comparison that could not be made, stays NaN and is not counted.
    """
    p = np.asarray(p_values, dtype=float)
    if ((p < 0) | (p > 1)).any():
        raise ValueError(f"expected p values between 0 and 1, found {p.tolist()}")
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    stepped = p[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted

"""Whether a network's confidence can be believed, and what it costs to answer only when sure.

Probabilities are float [N, 10] with rows that sum to 1, labels int64 [N]. The *confidence* of an
answer is its largest probability.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import optimize, stats
from torch import Tensor
from torch.nn import functional as F

from mnist_lab.evaluation import wilson_interval

COLDEST, HOTTEST = 0.01, 100.0


def _answers(labels: Tensor, probabilities: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Confidence float64 [N] and rightness bool [N] of each answer."""
    if len(labels) != len(probabilities) or len(labels) == 0:
        raise ValueError(
            f"expected as many rows of probabilities as labels, and some: found {len(labels)} "
            f"labels and {len(probabilities)} rows"
        )
    confidence, predictions = probabilities.double().max(1)
    off = (probabilities.double().sum(1) - 1).abs().max().item()
    if not off < 0.01:
        raise ValueError(
            f"expected rows of probabilities that sum to 1, found one that is off by {off:.3g}: "
            "are these logits?"
        )
    return confidence.numpy(), (predictions == labels).numpy()


def reliability(labels: Tensor, probabilities: Tensor, bins: int = 15) -> pd.DataFrame:
    """Confidence against accuracy, in ``bins`` equal steps of confidence.

    Returns:
        One row for each bin that holds answers: ``low`` (exclusive) and ``high`` (inclusive)
        confidence, ``count`` of answers, their mean ``confidence``, their ``accuracy`` and its 95 %
        Wilson bounds ``accuracy_low`` and ``accuracy_high``.

    Raises:
        ValueError: if lengths differ, there is nothing, or rows do not sum to 1.
    """
    confidence, right = _answers(labels, probabilities)
    edges = np.linspace(0, 1, bins + 1)
    place = (np.searchsorted(edges, confidence, side="left") - 1).clip(0, bins - 1)
    rows = []
    for index in np.unique(place):
        inside = place == index
        correct, count = int(right[inside].sum()), int(inside.sum())
        low, high = wilson_interval(correct, count)
        rows.append(
            {
                "low": edges[index],
                "high": edges[index + 1],
                "count": count,
                "confidence": confidence[inside].mean(),
                "accuracy": correct / count,
                "accuracy_low": low,
                "accuracy_high": high,
            }
        )
    return pd.DataFrame(rows)


def expected_calibration_error(labels: Tensor, probabilities: Tensor, bins: int = 15) -> float:
    """Mean distance between confidence and accuracy over the bins, weighted by their answers.

    Guo et al. 2017, arXiv:1706.04599, eq. 3. It is a share, like accuracy. Chance alone keeps it
    above 0 for a perfectly calibrated network, the more so the fewer answers there are.

    Raises:
        ValueError: as ``reliability`` does.
    """
    table = reliability(labels, probabilities, bins)
    distance = (table["accuracy"] - table["confidence"]).abs()
    return float(np.average(distance, weights=table["count"]))


def fit_temperature(labels: Tensor, logits: Tensor) -> float:
    """The T > 0 for which ``softmax(logits / T)`` has the least cross-entropy on these labels.

    Temperature scaling (Guo et al. 2017, arXiv:1706.04599, section 4.2): T above 1 makes a network
    less sure of itself, T below 1 surer, and no answer changes. Fit it on validation images, never
    on those it is judged by. T is sought between 0.01 and 100, and is 1 where nothing else is
    better. A network without a validation error gets a T far below 1: no error speaks for doubt.

    Raises:
        ValueError: if lengths differ, there is nothing, or a logit is not finite.
    """
    if len(labels) != len(logits) or len(labels) == 0:
        raise ValueError(
            f"expected as many rows of logits as labels, and some: found {len(labels)} labels and "
            f"{len(logits)} rows"
        )
    exact = logits.double()
    if not bool(torch.isfinite(exact).all()):
        broken = int((~torch.isfinite(exact)).sum())
        raise ValueError(f"expected finite logits, found {broken} that are not")

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(exact / math.exp(log_temperature), labels))

    found = optimize.minimize_scalar(
        loss, bounds=(math.log(COLDEST), math.log(HOTTEST)), method="bounded"
    )
    return math.exp(found.x) if found.fun < loss(0.0) else 1.0


def coverage_curve(labels: Tensor, probabilities: Tensor) -> pd.DataFrame:
    """What becomes of the errors if only the surest answers are given, for every threshold.

    The risk-coverage curve of a classifier with a reject option (Chow 1970; El-Yaniv & Wiener
    2010). Answers of equal confidence are given together or not at all.

    Returns:
        One row for each different confidence, highest first: answers are given at ``threshold`` and
        above; ``answered`` and ``errors`` count images, ``coverage`` is the share answered,
        ``error_rate`` and ``accuracy`` are shares of the answered.

    Raises:
        ValueError: if lengths differ, there is nothing, or rows do not sum to 1.
    """
    confidence, right = _answers(labels, probabilities)
    thresholds, group = np.unique(-confidence, return_inverse=True)
    answered = np.bincount(group).cumsum()
    errors = np.bincount(group[~right], minlength=len(thresholds)).cumsum()
    return pd.DataFrame(
        {
            "threshold": -thresholds,
            "answered": answered,
            "coverage": answered / len(labels),
            "errors": errors,
            "error_rate": errors / answered,
            "accuracy": (answered - errors) / answered,
        }
    )


@dataclass(frozen=True)
class Answered:
    """What a network does that answers only at a confidence of ``threshold`` and above.

    Attributes:
        threshold: the least confidence that is answered; infinity answers nothing.
        images: how many were asked.
        answered, errors: how many were answered, and how many of these wrongly.
        coverage: share answered.
        error_rate: share of the answered that is wrong; NaN if nothing was answered.
        error_rate_high: what the true error rate lies below with 95 % confidence (Clopper & Pearson
            1934, one-sided), for a threshold chosen on *other* images; 1 if nothing was answered.
    """

    threshold: float
    images: int
    answered: int
    errors: int
    coverage: float
    error_rate: float
    error_rate_high: float


def answered_at(labels: Tensor, probabilities: Tensor, threshold: float) -> Answered:
    """Coverage and errors at a given confidence threshold.

    Raises:
        ValueError: if lengths differ, there is nothing, or rows do not sum to 1.
    """
    confidence, right = _answers(labels, probabilities)
    given = confidence >= threshold
    answered, errors = int(given.sum()), int((given & ~right).sum())
    high = 1.0
    if answered:
        test = stats.binomtest(errors, answered, alternative="less")
        high = float(test.proportion_ci(0.95, method="exact").high)
    return Answered(
        threshold=float(threshold),
        images=len(labels),
        answered=answered,
        errors=errors,
        coverage=answered / len(labels),
        error_rate=errors / answered if answered else math.nan,
        error_rate_high=high,
    )


def coverage_at(labels: Tensor, probabilities: Tensor, error_rate: float = 1e-4) -> Answered:
    """The largest share that may be answered with at most ``error_rate`` errors among the answers.

    Its threshold is the finding: choose it here on validation images, then measure it on the test
    images with ``answered_at``. The images that chose it have too few errors by selection, which
    makes ``error_rate_high`` too low. And 10,000 images cannot show a rate of 1 in 10,000 in any
    case: without a single error among n answers, the bound is still about 3/n.

    Raises:
        ValueError: if lengths differ, there is nothing, or rows do not sum to 1.
    """
    curve = coverage_curve(labels, probabilities)
    allowed = curve.loc[curve["error_rate"] <= error_rate, "threshold"]
    return answered_at(labels, probabilities, allowed.iloc[-1] if len(allowed) else math.inf)


@dataclass(frozen=True)
class CodesRead:
    """What single-digit answers make of codes of several digits.

    Attributes:
        digits: digits in a code.
        digit: the single-digit answers it rests on.
        read: share of codes in which every digit is answered.
        wrong: share of the codes read that have at least one wrong digit; NaN if none is read.
        wrong_high: the same if the true error rate of a digit is as high as its 95 % bound.
    """

    digits: int
    digit: Answered
    read: float
    wrong: float
    wrong_high: float


def code_read_rate(
    labels: Tensor, probabilities: Tensor, threshold: float, digits: int = 6
) -> CodesRead:
    """How many postal codes can be read if each digit is answered from ``threshold`` up only.

    With coverage c and error rate e of a digit, c^digits of the codes are read, and
    1 - (1 - e)^digits of these are wrong. That takes the digits of a code as independent, and as
    hard as MNIST's. One writer and one pen make real ones alike: hard digits then gather in fewer
    codes, so more codes are read than this says, and errors come together.

    Raises:
        ValueError: if lengths differ, there is nothing, or rows do not sum to 1.
    """
    digit = answered_at(labels, probabilities, threshold)
    return CodesRead(
        digits=digits,
        digit=digit,
        read=digit.coverage**digits,
        wrong=1 - (1 - digit.error_rate) ** digits,
        wrong_high=1 - (1 - digit.error_rate_high) ** digits,
    )

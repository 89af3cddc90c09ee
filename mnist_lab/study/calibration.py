"""Whether a network's confidence can be believed, and what it costs to answer only when sure.

Labels are int64 [N], probabilities float [N, 10]; others are a ``ValueError``.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize, stats
from torch import Tensor
from torch.nn import functional as F

from mnist_lab.evaluation import require_answers, wilson_interval


def _answers(labels: Tensor, probabilities: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The confidence of each answer, its largest probability, and whether it is right: [N] each."""
    require_answers(labels, logits=probabilities)
    off = float((probabilities.double().sum(1) - 1).abs().max())
    if off > 0.01:
        raise ValueError(f"expected rows that sum to 1, found one off by {off:.3g}: logits?")
    confidence, predictions = probabilities.double().max(1)
    return confidence.numpy(), (predictions == labels).numpy()


def reliability(labels: Tensor, probabilities: Tensor, bins: int = 15) -> pd.DataFrame:
    """Mean confidence, accuracy and its Wilson bounds of the answers in each bin that has any."""
    confidence, right = _answers(labels, probabilities)
    rows = []
    for low, high in itertools.pairwise(np.linspace(0, 1, bins + 1)):
        inside = (low < confidence) & (confidence <= high)  # an edge belongs to the bin below it
        if n := inside.sum():
            hits = right[inside].sum()
            bounds = wilson_interval(hits, n)
            rows.append((low, high, n, confidence[inside].mean(), hits / n, *bounds))
    columns = ["low", "high", "count", "confidence", "accuracy", "accuracy_low", "accuracy_high"]
    return pd.DataFrame(rows, columns=columns)


def expected_calibration_error(labels: Tensor, probabilities: Tensor, bins: int = 15) -> float:
    """Mean distance between confidence and accuracy, a share (Guo et al. 2017, arXiv:1706.04599).

    Chance alone keeps it above 0, the more so the fewer answers there are.
    """
    table = reliability(labels, probabilities, bins)
    return float(np.average(abs(table.accuracy - table.confidence), weights=table["count"]))


def fit_temperature(labels: Tensor, logits: Tensor) -> float:
    """The T from 0.01 to 100 with the least cross-entropy of ``softmax(logits / T)``; 1 if all tie.

    Fit it on validation images (Guo et al. 2017, section 4.2). Where none is wrong it is far below
    1; above 1 it makes a network less sure of itself. No answer changes.
    """
    require_answers(labels, logits=logits)
    exact = logits.double()

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(exact / math.exp(log_temperature), labels))

    found = optimize.minimize_scalar(loss, bounds=(math.log(0.01), math.log(100)), method="bounded")
    return math.exp(found.x) if found.fun < loss(0.0) else 1.0


class Answered(NamedTuple):
    """What a network does that answers only at a confidence of ``threshold`` and above."""

    threshold: float
    answered: int
    coverage: float
    errors: int
    error_rate: float
    error_rate_high: float  # 95 % bound, if other images chose the threshold


def coverage_curve(labels: Tensor, probabilities: Tensor) -> pd.DataFrame:
    """``Answered`` at every confidence, from none to all answers (El-Yaniv & Wiener 2010)."""
    confidence, right = _answers(labels, probabilities)
    thresholds = np.array([math.inf, *np.unique(confidence)[::-1]])
    answered = len(labels) - np.searchsorted(np.sort(confidence), thresholds)
    errors = (~right).sum() - np.searchsorted(np.sort(confidence[~right]), thresholds)
    table = pd.DataFrame({"threshold": thresholds, "answered": answered})
    table["coverage"], table["errors"] = answered / len(labels), errors
    table["error_rate"] = table["errors"] / table["answered"]
    high = stats.beta.ppf(0.95, errors + 1, answered - errors)  # Clopper & Pearson 1934
    return table.assign(error_rate_high=np.where(errors < answered, high, 1.0))


def answered_at(labels: Tensor, probabilities: Tensor, threshold: float) -> Answered:
    """Coverage and errors where every answer of at least this confidence is given."""
    curve = coverage_curve(labels, probabilities)
    given = curve[curve["threshold"] >= threshold]
    return Answered(*next(given.tail(1).itertuples(index=False)))


def coverage_at(labels: Tensor, probabilities: Tensor, error_rate: float = 1e-4) -> Answered:
    """The largest share that may be answered with at most this share of errors among the answers.

    Choose its threshold on validation images and judge it on test images by ``answered_at``.
    """
    curve = coverage_curve(labels, probabilities)
    allowed = curve.loc[~(curve["error_rate"] > error_rate), "threshold"]
    return answered_at(labels, probabilities, allowed.iloc[-1])

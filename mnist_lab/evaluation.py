"""How good a classifier is, and how sure that is.

Labels and predictions are int64 [N], logits float [N, 10]; others are a ``ValueError``.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import Tensor

from mnist_lab.models import CLASSES


@dataclass(frozen=True, eq=False)
class Scores:
    """Shares in [0, 1], 0 where 0/0, and how often true class (row) was called another (column)."""

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
    """Scores of predicted classes, by scikit-learn."""
    require_answers(labels, predictions)
    answers = {"y_true": labels, "y_pred": predictions, "labels": range(CLASSES)}
    confusion = confusion_matrix(**answers)
    precision, recall, f1, support = precision_recall_fscore_support(**answers, zero_division=0)
    shares = (precision, recall, f1)
    macro = (float(share.mean()) for share in shares)
    weighted = (float(np.average(share, weights=support)) for share in shares)
    return Scores(confusion, confusion.trace() / len(labels), *shares, support, *macro, *weighted)


def accuracy(labels: Tensor, logits: Tensor) -> float:
    """Share of images whose largest logit is their label's."""
    require_answers(labels, logits=logits)
    return float((logits.argmax(1) == labels).double().mean())


def require_answers(labels: Tensor, *predictions: Tensor, logits: Tensor | None = None) -> None:
    """A ``ValueError`` unless each image has a digit in each and, if given, ten finite logits."""
    digits, count = (labels, *predictions), labels.numel()
    shapes = [list(given.shape) for given in digits]
    if count == 0 or any(shape != [count] for shape in shapes):
        raise ValueError(f"expected one digit for each image, and some: found shapes {shapes}")
    if unknown := set(torch.cat(digits).tolist()) - set(range(CLASSES)):
        raise ValueError(f"expected digits 0 to {CLASSES - 1}, found {sorted(unknown)}")
    if logits is not None and not (logits.shape == (count, CLASSES) and logits.isfinite().all()):
        found = f"{list(logits.shape)}, {int(logits.isfinite().sum())} of them finite"
        raise ValueError(f"expected finite numbers of shape [{count}, {CLASSES}], found {found}")


def per_class_table(scores: Scores) -> pd.DataFrame:
    """One row per digit: support, precision, recall, the recall's 95 % Wilson interval, F1."""
    right_of = zip(scores.confusion.diagonal().tolist(), scores.support.tolist(), strict=True)
    bounds = [wilson_interval(n, of) if of else (math.nan, math.nan) for n, of in right_of]
    table = pd.DataFrame({"digit": range(CLASSES), "support": scores.support})
    table["precision"], table["recall"] = scores.precision, scores.recall
    table[["recall_low", "recall_high"]] = bounds
    return table.assign(f1=scores.f1)


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of the proportion ``correct / total`` by Wilson's score method (1927).

    Near 1 it stays inside [0, 1] and keeps its coverage, where ``p ± z·sqrt(p(1 - p)/n)`` fails
    (Brown, Cai & DasGupta 2001). No such proportion is a ``ValueError``.
    """
    if total <= 0 or not 0 <= correct <= total:
        raise ValueError(f"expected 0 <= correct <= total and total > 0: {correct} of {total}")
    interval = stats.binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def probabilities(logits: Tensor) -> Tensor:
    """Softmax of each row of logits: float64 [N, 10], in which processors agree on close ones."""
    return torch.softmax(logits, dim=1, dtype=torch.float64)

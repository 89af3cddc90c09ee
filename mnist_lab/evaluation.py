"""How good a classifier is, and how sure that is.

Labels and predictions are int64 tensors [N], logits float tensors [N, 10]. Other shapes, classes
and numbers that are not finite raise ``ValueError``.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mnist_lab.models import CLASSES


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores in [0, 1]. What would be 0/0 is 0."""

    confusion: np.ndarray  # int64 [10, 10]: how often the true class (row) was called a column's
    accuracy: float
    precision: np.ndarray  # float64 [10], one per class, as are the next two
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray  # int64 [10]: images of each class
    macro_precision: float
    macro_recall: float
    macro_f1: float
    weighted_precision: float
    weighted_recall: float
    weighted_f1: float


def score(labels: Tensor, predictions: Tensor) -> Scores:
    """Scores of predicted classes, by scikit-learn."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    require_answers(labels, predictions)
    answers = {"y_true": labels, "y_pred": predictions, "labels": range(CLASSES)}
    confusion = confusion_matrix(**answers)
    precision, recall, f1, support = precision_recall_fscore_support(**answers, zero_division=0)
    return Scores(
        confusion=confusion,
        accuracy=confusion.trace() / len(labels),
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
    """Share of images whose largest logit is their label's."""
    require_answers(labels, logits=logits)
    return float((logits.argmax(1) == labels).double().mean())


def require_answers(labels: Tensor, *predictions: Tensor, logits: Tensor | None = None) -> None:
    """Raise ``ValueError`` unless there is a label for each prediction and row of finite logits."""
    digits, count = (labels, *predictions), labels.numel()
    shapes = [list(given.shape) for given in digits]
    if count == 0 or any(shape != [count] for shape in shapes):
        raise ValueError(f"expected one digit for each image of at least one: found {shapes}")
    if unknown := set(torch.cat(digits).tolist()) - set(range(CLASSES)):
        raise ValueError(f"expected digits 0 to {CLASSES - 1}, found {sorted(unknown)}")
    if logits is not None and not (logits.shape == (count, CLASSES) and logits.isfinite().all()):
        found = f"{list(logits.shape)}, {int(logits.isfinite().sum())} of them finite"
        raise ValueError(f"expected finite numbers of shape [{count}, {CLASSES}], found {found}")


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of the proportion ``correct / total`` by Wilson's score method (1927).

    Near 1 it stays inside [0, 1] and keeps its coverage, where ``p ± z·sqrt(p(1 - p)/n)`` fails
    (Brown, Cai & DasGupta 2001). It says how sure the sample of images is, for one trained network;
    training it from another seed is not part of it.

    Raises:
        ValueError: if ``total`` is not positive or ``correct`` is outside [0, total].
    """
    from scipy import stats

    if total <= 0 or not 0 <= correct <= total:
        raise ValueError(f"expected 0 <= correct <= total and total > 0: {correct} of {total}")
    interval = stats.binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def probabilities(logits: Tensor) -> Tensor:
    """Softmax of each row of logits: float64 [N, 10].

    In 32 bits, which of two nearly equal ones is larger would depend on the processor.
    """
    return torch.softmax(logits, dim=1, dtype=torch.float64)

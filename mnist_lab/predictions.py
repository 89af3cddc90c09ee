"""What trained networks answered, kept in files, and the tables that are computed from it alone."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mnist_lab import calibration
from mnist_lab.errors import LabError
from mnist_lab.evaluation import (
    frequent_confusions,
    holm,
    mcnemar,
    mean_interval,
    per_class_table,
    probabilities,
    score,
    wilson_interval,
)
from mnist_lab.models import CLASSES
from mnist_lab.training import Fit

ERRORS_ALLOWED = {"1 in 10,000": 1e-4, "1 in 1,000": 1e-3}
POSTAL_CODE = 6


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the trainings of one network answered to the test images.

    Logits are rounded to 16-bit floats, as files hold them: whatever is computed from them can be
    computed again from the file, to the last digit.

    Attributes:
        network: its name in tables.
        seeds: int64 [S], one of each training.
        logits: float32 [S, N, 10] for the test images.
        labels: int64 [N].
        validation_logits: float32 [M, 10] of the first training, for the validation images.
        validation_labels: int64 [M].
    """

    network: str
    seeds: Tensor
    logits: Tensor
    labels: Tensor
    validation_logits: Tensor
    validation_labels: Tensor

    @property
    def answers(self) -> Tensor:
        """The digit with the largest logit: int64 [S, N]."""
        return self.logits.argmax(2)

    def arrays(self) -> dict[str, np.ndarray]:
        """What ``Run.array`` keeps in a file and ``read_predictions`` reads back."""
        return {
            "network": np.array(self.network),
            "seeds": self.seeds.numpy(),
            "logits": self.logits.half().numpy(),
            "labels": self.labels.numpy().astype(np.uint8),
            "validation_logits": self.validation_logits.half().numpy(),
            "validation_labels": self.validation_labels.numpy().astype(np.uint8),
        }


def keep_predictions(
    network: str, fits: Sequence[Fit], labels: Tensor, validation_labels: Tensor
) -> Predictions:
    """The answers of several trainings of one network.

    Raises:
        ValueError: if there is no training.
    """
    if not fits:
        raise ValueError(f"expected at least one finished training of {network}, found none")
    return Predictions(
        network,
        torch.tensor([fit.recipe.seed for fit in fits]),
        torch.stack([fit.test_logits for fit in fits]).half().float(),
        labels,
        fits[0].validation_logits.half().float(),
        validation_labels,
    )


def read_predictions(path: Path) -> Predictions:
    """What ``Predictions.arrays`` wrote. Nothing is unpickled.

    Raises:
        LabError: if the file cannot be read or does not hold that.
    """
    try:
        with np.load(path, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        read = Predictions(
            str(arrays["network"]),
            torch.from_numpy(arrays["seeds"].astype(np.int64)),
            torch.from_numpy(arrays["logits"].astype(np.float32)),
            torch.from_numpy(arrays["labels"].astype(np.int64)),
            torch.from_numpy(arrays["validation_logits"].astype(np.float32)),
            torch.from_numpy(arrays["validation_labels"].astype(np.int64)),
        )
    except Exception as error:  # zip, header and missing entries each have errors of their own
        raise LabError(
            f"{path.name} does not hold predictions: {type(error).__name__}: {error}\n"
            "  Expected an .npz of network, seeds, logits, labels, validation_logits and "
            "validation_labels; run the notebook that wrote it again."
        ) from error
    expected = (len(read.seeds), len(read.labels), CLASSES)
    if tuple(read.logits.shape) != expected:
        raise LabError(
            f"{path.name} holds logits of shape {tuple(read.logits.shape)}; expected {expected}, "
            "one for each seed, label and digit."
        )
    return read


def score_table(predictions: Sequence[Predictions]) -> pd.DataFrame:
    """How good each network is, over its seeds.

    Returns:
        One row per network: ``network``, ``seeds``; ``accuracy``, mean over seeds, with ``sd`` and
        the ends ``low`` and ``high`` of its t-interval, cut to [0, 1]; ``first seed``, the accuracy
        of that one training, with its Wilson interval ``first low`` to ``first high``; means over
        seeds of macro and weighted precision, recall and F1. Shares in [0, 1].
    """
    rows = []
    for one in predictions:
        every = [score(one.labels, answers) for answers in one.answers]
        mean = mean_interval([scores.accuracy for scores in every])
        correct = int(every[0].confusion.trace())
        low, high = wilson_interval(correct, len(one.labels))
        mean_low, mean_high = np.clip([mean.low, mean.high], 0, 1).tolist()
        row: dict[str, object] = {
            "network": one.network,
            "seeds": mean.count,
            "accuracy": mean.mean,
            "sd": mean.sd,
            "low": mean_low,
            "high": mean_high,
            "first seed": every[0].accuracy,
            "first low": low,
            "first high": high,
        }
        for how, what in itertools.product(("macro", "weighted"), ("precision", "recall", "f1")):
            values = [getattr(scores, f"{how}_{what}") for scores in every]
            row[f"{how} {what.replace('f1', 'F1')}"] = float(np.mean(values))
        rows.append(row)
    return pd.DataFrame(rows)


def digit_table(predictions: Sequence[Predictions]) -> pd.DataFrame:
    """``per_class_table`` of each network's first training, with a first column ``network``."""
    parts = []
    for one in predictions:
        part = per_class_table(score(one.labels, one.answers[0]))
        part.insert(0, "network", one.network)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def mcnemar_table(predictions: Sequence[Predictions]) -> pd.DataFrame:
    """McNemar's test for each pair of networks, first trainings, corrected for all pairs.

    Returns:
        One row per pair: ``first``, ``second``, ``only first right``, ``only second right``,
        ``points`` (accuracy of the first minus that of the second, in percent points), ``p``,
        ``p (Holm)``, ``differ`` ("yes" or "cannot tell").
    """
    rows = []
    for a, b in itertools.combinations(predictions, 2):
        test = mcnemar(a.labels, a.answers[0], b.answers[0])
        rows.append((a.network, b.network, test.only_a, test.only_b, 100 * test.difference, test.p))
    columns = ["first", "second", "only first right", "only second right", "points", "p"]
    table = pd.DataFrame(rows, columns=columns)
    table["p (Holm)"] = holm(table["p"].tolist())
    table["differ"] = np.where(table["p (Holm)"] < 0.05, "yes", "cannot tell")
    return table


def low_recalls(predictions: Predictions) -> tuple[list[int], list[str]]:
    """The digit with the lowest recall in each training, and the digits that are low in all.

    A digit is low where the Wilson interval of its recall lies wholly below the mean recall of all
    ten. In a single training one may be so by luck.
    """
    every = [score(predictions.labels, answers) for answers in predictions.answers]
    tables = [per_class_table(scores) for scores in every]
    lowest = [int(table["recall"].to_numpy().argmin()) for table in tables]
    low = [
        (table["recall_high"] < scores.macro_recall).to_numpy()
        for table, scores in zip(tables, every, strict=True)
    ]
    return lowest, [str(digit) for digit in np.flatnonzero(np.all(low, axis=0))]


def summed_confusion(predictions: Predictions) -> np.ndarray:
    """Confusion matrix int64 [10, 10], summed over the seeds."""
    return np.sum(_confusions(predictions), axis=0)


def confusions_by_seed(predictions: Predictions) -> pd.DataFrame:
    """``evaluation.frequent_confusions`` over all seeds, and how many errors fall to each."""
    every = _confusions(predictions)
    table = frequent_confusions(np.sum(every, axis=0))
    for seed, confusion in zip(predictions.seeds.tolist(), every, strict=True):
        table[f"seed {seed}"] = confusion[table["true"], table["predicted"]]
    return table


def _confusions(predictions: Predictions) -> list[np.ndarray]:
    return [score(predictions.labels, answers).confusion for answers in predictions.answers]


def calibration_table(predictions: Sequence[Predictions]) -> pd.DataFrame:
    """What temperature scaling changes, for the first training of each network.

    Returns:
        One row per network: ``network``, ``T`` fitted on the validation images, expected
        calibration error ``before`` and ``after`` on the test images.
    """
    rows = []
    for one in predictions:
        T = calibration.fit_temperature(one.validation_labels, one.validation_logits)
        before, after = (
            calibration.expected_calibration_error(one.labels, probabilities(one.logits[0] / t))
            for t in (1.0, T)
        )
        rows.append((one.network, T, before, after))
    return pd.DataFrame(rows, columns=["network", "T", "before", "after"])


def coverage_table(predictions: Sequence[Predictions]) -> pd.DataFrame:
    """What each network answers if it may decline, and how often it is wrong then.

    The threshold is the lowest confidence with at most the errors allowed among the answers on the
    validation images; the test images judge it.

    Returns:
        One row per network and rate in ``ERRORS_ALLOWED``, for the first training: ``network``,
        ``errors allowed``, ``answered`` (share of test images), ``errors`` among them,
        ``error rate below`` (one-sided bound, 95 % confidence), ``six-digit codes read`` (share,
        if digits are independent), ``codes wrong below``. The bounds are NaN without an answer.
    """
    rows = []
    for one, (name, allowed) in itertools.product(predictions, ERRORS_ALLOWED.items()):
        held_out = probabilities(one.validation_logits)
        chosen = calibration.coverage_at(one.validation_labels, held_out, allowed)
        code = calibration.code_read_rate(
            one.labels, probabilities(one.logits[0]), chosen.threshold, POSTAL_CODE
        )
        digit = code.digit
        rows.append(
            {
                "network": one.network,
                "errors allowed": name,
                "answered": digit.coverage,
                "errors": digit.errors,
                "error rate below": digit.error_rate_high if digit.coverage else math.nan,
                "six-digit codes read": code.read,
                "codes wrong below": code.wrong_high if digit.coverage else math.nan,
            }
        )
    return pd.DataFrame(rows)


def recall_differences(plain: Predictions, changed: Predictions) -> pd.DataFrame:
    """What a change does to the recall of each digit.

    Returns:
        One row per digit: ``digit``; ``as it is`` and ``changed``, means over seeds, and their
        ``difference``; ``worst`` and ``best`` difference of a seed.
    """
    before, after = (
        np.array([score(one.labels, answers).recall for answers in one.answers])
        for one in (plain, changed)
    )
    by_seed = after - before
    table = pd.DataFrame({"as it is": before.mean(0), "changed": after.mean(0)})
    table["difference"] = by_seed.mean(0)
    table["worst"], table["best"] = by_seed.min(0), by_seed.max(0)
    return table.rename_axis("digit").reset_index()


def overfitting_table(curves: pd.DataFrame) -> pd.DataFrame:
    """How far the validation loss rises after its least value.

    Args:
        curves: one row per epoch of each training: ``network``, ``seed``, ``epoch``,
            ``training loss``, ``validation loss``.

    Returns:
        One row per training: ``network``, ``seed``, ``epoch`` of the least validation loss,
        ``of epochs``, ``rise`` of the loss from there to the last epoch.
    """
    trainings = curves.groupby(["network", "seed"], sort=False)
    least = curves.loc[trainings["validation loss"].idxmin()].reset_index(drop=True)
    last = trainings.tail(1).reset_index(drop=True)
    return least[["network", "seed", "epoch"]].assign(
        **{"of epochs": last["epoch"], "rise": last["validation loss"] - least["validation loss"]}
    )


def epoch_choices(curves: pd.DataFrame) -> pd.DataFrame:
    """The epoch that the least training loss chooses, and the one of the least validation loss.

    Args:
        curves: as ``overfitting_table`` takes them.

    Returns:
        One row per training: ``network``, ``seed``, ``epochs``, ``by training``,
        ``by validation``; ``loses``, how far the validation loss of the first choice lies above
        that of the second.
    """
    trainings = curves.groupby(["network", "seed"], sort=False)
    ours, theirs = (
        curves.loc[trainings[f"{images} loss"].idxmin()].reset_index(drop=True)
        for images in ("training", "validation")
    )
    return pd.DataFrame(
        {
            "network": ours["network"],
            "seed": ours["seed"],
            "epochs": trainings["epoch"].max().to_numpy(),
            "by training": ours["epoch"],
            "by validation": theirs["epoch"],
            "loses": ours["validation loss"] - theirs["validation loss"],
        }
    )

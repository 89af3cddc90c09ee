"""What trained networks answered, kept in files, and the tables that are computed from it alone.

The tables have one row per network and, where it is not told, are of its first training. Shares lie
in [0, 1].
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mnist_lab import evaluation
from mnist_lab.evaluation import Scores, probabilities, wilson_interval
from mnist_lab.files import LabError
from mnist_lab.models import CLASSES
from mnist_lab.study import calibration
from mnist_lab.study.statistics import holm, mcnemar, mean_interval
from mnist_lab.training import Fit

ERRORS_ALLOWED = {"1 in 10,000": 1e-4, "1 in 1,000": 1e-3}
POSTAL_CODE = 6
MAX_UNPACKED = 200_000_000  # bytes; ten seeds of a network's answers are 5 million
TRAINING = ["network", "seed"]  # the columns that tell one training from another


def per_class_table(scores: Scores) -> pd.DataFrame:
    """One row per digit: support, precision, recall, the recall's 95 % Wilson interval, F1."""
    bounds = [
        wilson_interval(correct, total) if total else (math.nan, math.nan)
        for correct, total in zip(scores.confusion.diagonal(), scores.support, strict=True)
    ]
    low, high = zip(*bounds, strict=True)
    return pd.DataFrame(
        {
            "digit": range(CLASSES),
            "support": scores.support,
            "precision": scores.precision,
            "recall": scores.recall,
            "recall_low": low,
            "recall_high": high,
            "f1": scores.f1,
        }
    )


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the trainings of one network answered, the validation images only by the first.

    Logits are rounded to 16-bit floats, as files hold them: whatever is computed from them can be
    computed again from the file, to the last digit.
    """

    network: str
    seeds: Tensor  # int64 [S]
    logits: Tensor  # float32 [S, N, 10] for the test images
    labels: Tensor  # int64 [N]
    validation_logits: Tensor  # float32 [M, 10]
    validation_labels: Tensor  # int64 [M]

    @property
    def answers(self) -> Tensor:
        """The digit with the largest logit: int64 [S, N]."""
        return self.logits.argmax(2)

    @cached_property
    def scores(self) -> list[Scores]:
        """Those of each training."""
        return [evaluation.score(self.labels, answers) for answers in self.answers]

    @property
    def confidence(self) -> Tensor:
        """Of each answer of the first training: float64 [N]."""
        return probabilities(self.logits[0]).max(1).values

    def arrays(self) -> dict[str, np.ndarray]:
        """What ``RunFolder.array`` keeps in a file and ``read_predictions`` reads back."""
        kept = {"network": np.array(self.network), "seeds": self.seeds.numpy()}
        kept |= {k: getattr(self, k).half().numpy() for k in ("logits", "validation_logits")}
        return kept | {k: getattr(self, k).byte().numpy() for k in ("labels", "validation_labels")}


def keep_predictions(
    network: str, fits: Sequence[Fit], labels: Tensor, validation_labels: Tensor
) -> Predictions:
    """The answers of several trainings of one network; ValueError if there is none."""
    if not fits:
        raise ValueError(f"expected at least one finished training of {network}, found none")
    seeds = torch.tensor([fit.recipe.seed for fit in fits])
    logits = torch.stack([fit.test_logits for fit in fits]).half().float()
    held_out = fits[0].validation_logits.half().float()
    return Predictions(network, seeds, logits, labels, held_out, validation_labels)


def read_predictions(path: Path) -> Predictions:
    """What ``Predictions.arrays`` gave, nothing unpickled; LabError for a file of anything else."""
    try:
        with ZipFile(path) as archive:  # what it would unpack to, before it does
            if sum(entry.file_size for entry in archive.infolist()) > MAX_UNPACKED:
                raise ValueError(f"more than {MAX_UNPACKED:,} bytes of arrays")
        with np.load(path, allow_pickle=False) as kept:
            names = list(Predictions.__annotations__)[1:]
            tensors = [torch.from_numpy(kept[name]) for name in names]
            tensors = [t.float() if t.is_floating_point() else t.long() for t in tensors]
            read = Predictions(str(kept["network"]), *tensors)
        expected, shape = (len(read.seeds), len(read.labels), CLASSES), tuple(read.logits.shape)
        if shape != expected:
            raise ValueError(f"logits of {shape}, not {expected} for each seed, label and digit")
    except Exception as error:  # zip, header and missing entries each have errors of their own
        raise LabError(
            f"{path.name} does not hold predictions: {type(error).__name__}: {error}\n"
            "  Expected an .npz of network, seeds, logits, labels, validation_logits and "
            "validation_labels; run the notebook that wrote it again."
        ) from error
    return read


def score_table(predictions: Sequence[Predictions]) -> pd.DataFrame:
    """Mean ``accuracy`` over ``seeds`` with ``sd`` and t-interval, ``low`` to ``high``; that of the
    ``first seed`` with its Wilson interval; mean macro and weighted precision, recall and F1.
    """
    rows = []
    for one in predictions:
        mean = mean_interval(scores.accuracy for scores in one.scores)
        row: dict[str, object] = {"network": one.network, "seeds": mean.count}
        row |= {"accuracy": mean.mean, "sd": mean.sd}
        row["low"], row["high"] = np.clip([mean.low, mean.high], 0, 1)
        row["first seed"], right = one.scores[0].accuracy, int(one.scores[0].confusion.trace())
        row["first low"], row["first high"] = evaluation.wilson_interval(right, len(one.labels))
        for name in itertools.product(("macro", "weighted"), ("precision", "recall", "f1")):
            values = [getattr(scores, "_".join(name)) for scores in one.scores]
            row[" ".join(name).replace("f1", "F1")] = np.mean(values)
        rows.append(row)
    return pd.DataFrame(rows)


def digit_table(predictions: Sequence[Predictions]) -> pd.DataFrame:
    """``per_class_table`` of each network's first training, with a first column ``network``."""
    tables = {one.network: per_class_table(one.scores[0]) for one in predictions}
    return pd.concat(tables, names=["network"]).reset_index(level=0).reset_index(drop=True)


def mcnemar_table(predictions: Sequence[Predictions]) -> pd.DataFrame:
    """McNemar's test of each pair of networks: images that only one reads, ``points`` of accuracy
    by which the first is better, and whether they ``differ``: "yes" or "cannot tell".
    """
    rows = [
        (a.network, b.network, *astuple(mcnemar(a.labels, a.answers[0], b.answers[0])))
        for a, b in itertools.combinations(predictions, 2)
    ]
    columns = ["first", "second", "only first right", "only second right", "points", "p"]
    table = pd.DataFrame(rows, columns=columns)
    table["points"] *= 100
    table["p (Holm)"] = holm(table["p"].tolist())
    table["differ"] = np.where(table["p (Holm)"] < 0.05, "yes", "cannot tell")
    return table


def low_recalls(predictions: Predictions) -> tuple[list[int], list[str]]:
    """The digit with the lowest recall in each training, and the digits that are low in all.

    Low is a recall whose Wilson interval lies wholly below the mean of all ten: once may be luck.
    """
    scores = predictions.scores
    low = np.all([per_class_table(s)["recall_high"] < s.macro_recall for s in scores], axis=0)
    return [int(s.recall.argmin()) for s in scores], [str(digit) for digit in np.flatnonzero(low)]


def summed_confusion(predictions: Predictions) -> np.ndarray:
    """Confusion matrix int64 [10, 10], summed over the seeds."""
    return np.sum([scores.confusion for scores in predictions.scores], axis=0)


def frequent_confusions(confusion: np.ndarray, count: int = 10) -> pd.DataFrame:
    """The ``count`` most frequent mistakes, ties in order: ``true``, ``predicted``, ``errors``."""
    errors = confusion - np.diag(confusion.diagonal())
    true, predicted = np.nonzero(errors)
    table = pd.DataFrame({"true": true, "predicted": predicted, "errors": errors[true, predicted]})
    return table.sort_values("errors", ascending=False, kind="stable", ignore_index=True)[:count]


def confusions_by_seed(predictions: Predictions) -> pd.DataFrame:
    """``frequent_confusions`` over all seeds, and how many errors fall to each: ``seed 0``, …"""
    table = frequent_confusions(summed_confusion(predictions))
    for seed, scores in zip(predictions.seeds.tolist(), predictions.scores, strict=True):
        table[f"seed {seed}"] = scores.confusion[table["true"], table["predicted"]]
    return table


def calibration_table(predictions: Sequence[Predictions]) -> pd.DataFrame:
    """``network``, ``T`` fitted on the validation images, expected calibration error of the test
    images ``before`` and ``after`` scaling by it.
    """
    rows = []
    for one in predictions:
        T = calibration.fit_temperature(one.validation_labels, one.validation_logits)
        scaled = [probabilities(one.logits[0] / t) for t in (1, T)]
        errors = [calibration.expected_calibration_error(one.labels, each) for each in scaled]
        rows.append((one.network, T, *errors))
    return pd.DataFrame(rows, columns=["network", "T", "before", "after"])


def coverage_table(predictions: Sequence[Predictions]) -> pd.DataFrame:
    """What each network answers if it may decline, and how often it is wrong then.

    The threshold is the lowest confidence with at most the errors allowed among the answers on the
    validation images; the test images judge it. ``below`` are one-sided bounds, 95 % confidence,
    NaN without an answer; codes are read digit by digit, as if these were independent.
    """
    rows = []
    for one, (name, rate) in itertools.product(predictions, ERRORS_ALLOWED.items()):
        held_out, test = probabilities(one.validation_logits), probabilities(one.logits[0])
        threshold = calibration.coverage_at(one.validation_labels, held_out, rate).threshold
        digit = calibration.answered_at(one.labels, test, threshold)
        high = digit.error_rate_high if digit.coverage else math.nan
        codes = (digit.coverage**POSTAL_CODE, 1 - (1 - high) ** POSTAL_CODE)
        rows.append((one.network, name, digit.coverage, digit.errors, high, *codes))
    columns = ["network", "errors allowed", "answered", "errors", "error rate below"]
    columns += ["six-digit codes read", "codes wrong below"]
    return pd.DataFrame(rows, columns=columns)


def recall_differences(plain: Predictions, changed: Predictions) -> pd.DataFrame:
    """What a change does to the recall of each digit: means, ``worst`` and ``best`` of seeds."""
    before, after = (np.array([each.recall for each in one.scores]) for one in (plain, changed))
    apart = after - before
    table = pd.DataFrame({"digit": range(CLASSES), "as it is": before.mean(0)})
    table["changed"], table["difference"] = after.mean(0), apart.mean(0)
    return table.assign(worst=apart.min(0), best=apart.max(0))


def overfitting_table(curves: pd.DataFrame) -> pd.DataFrame:
    """One row per training: ``epoch`` of the least validation loss, ``of epochs``, and the ``rise``
    from there to the last one.

    ``curves`` have a row per epoch: ``network``, ``seed``, ``epoch``, ``training loss``,
    ``validation loss``.
    """
    least = _at_least(curves, "validation loss")
    last = curves.drop_duplicates(TRAINING, keep="last", ignore_index=True)
    rise = last["validation loss"] - least["validation loss"]
    return least[[*TRAINING, "epoch"]].assign(**{"of epochs": last["epoch"], "rise": rise})


def epoch_choices(curves: pd.DataFrame) -> pd.DataFrame:
    """One row per training: the epoch of the least training loss and of the least validation loss,
    and by how much more validation loss the first choice ``loses``.
    """
    table = curves.groupby(TRAINING, sort=False)["epoch"].max().rename("epochs").reset_index()
    ours, theirs = (_at_least(curves, f"{images} loss") for images in ("training", "validation"))
    table["by training"], table["by validation"] = ours["epoch"], theirs["epoch"]
    return table.assign(loses=ours["validation loss"] - theirs["validation loss"])


def _at_least(curves: pd.DataFrame, loss: str) -> pd.DataFrame:
    """The epoch of each training where this loss is least."""
    return curves.loc[curves.groupby(TRAINING, sort=False)[loss].idxmin()].reset_index(drop=True)

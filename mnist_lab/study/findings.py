"""The report's numbers, from stored answers, tables and trainings. Shares lie in [0, 1].

A notebook records what these functions give, the report prints it, ``verify`` computes it again.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from pandas import DataFrame, Series

from mnist_lab.evaluation import wilson_interval
from mnist_lab.models import parameter_count
from mnist_lab.recipes import FAST, REPORT_A
from mnist_lab.study import experiments, predictions
from mnist_lab.study.ideas import CATALOGUE, Idea
from mnist_lab.study.predictions import Predictions, per_class_table
from mnist_lab.study.statistics import Mean, mcnemar, mean_interval, pareto_front, repeats_needed

Numbers = dict[str, Any]
SCORES = ("accuracy", "macro_precision", "macro_recall", "macro_f1")
SOFTMAX_FLOOR = math.log(math.e + 9) - 1  # of the loss, in nats, if probabilities are the logits


def digit_counts(counts: DataFrame, duplicates: DataFrame) -> Numbers:
    """How many images each digit has, a row each: columns ``training``, ``test``; and repeats."""
    train = counts["training"]
    where = ("duplicates_train", "duplicates_test", "duplicates_between")
    return {
        "train_images": train.sum(),
        "test_images": counts["test"].sum(),
        "rarest_digit": train.argmin(),
        "rarest_count": train.min(),
        "commonest_digit": train.argmax(),
        "commonest_count": train.max(),
        "imbalance": train.max() / train.min(),
        "twos": train[2],
        "rank_of_2_from_rarest": (train < train[2]).sum() + 1,
        **dict(zip(where, duplicates["exact duplicates"], strict=True)),
    }


def architecture() -> Numbers:
    """Numbers of Report A's recipe and of FAST's that follow from these alone."""
    network = REPORT_A.build()
    return {
        "lr": REPORT_A.lr,
        "batch_size": REPORT_A.batch_size,
        "convolution_parameters": parameter_count(network[0]),
        "linear_parameters": (28 * 28 + 1) * 10 * 24 * 24,
        "parameters_a": parameter_count(network),
        "fast_parameters": parameter_count(FAST.build()),
        "softmax_floor": SOFTMAX_FLOOR,
    }


def speed_ladder(table: DataFrame) -> Numbers:
    """Which rung saves most, from the columns ``name``, ``seconds`` and ``accuracy``."""
    seconds = table.set_index("name")["seconds"]
    gains = (seconds.shift() / seconds).iloc[1:]
    return {
        "ladder_ratio": seconds.iloc[0] / seconds.iloc[-1],
        "tensor_ratio": seconds.iloc[0] / seconds.iloc[1],
        "fastest_rung": gains.idxmax(),
        "slower_rungs": gains[gains < 1].index.tolist(),
        "loop_accuracy": table["accuracy"].iloc[0],
        "ladder_accuracy": table["accuracy"].iloc[-1],
    }


def one_network(one: Predictions, training_images: Iterable[int]) -> Numbers:
    """Scores of the first training; what all say of digits with so many ``training_images``."""
    scores, wrong, confident = one.scores[0], one.answers[0] != one.labels, one.confidence > 0.9
    confusion, recall = scores.confusion, per_class_table(scores)
    low, high = wilson_interval(int(confusion.trace()), len(one.labels))
    lowest, below = predictions.low_recalls(one)
    rank = float(recall["recall"].corr(Series(list(training_images)), "spearman"))
    hits, mistakes = confusion[1:, 1:].sum(), confusion[0, 1:].sum() + confusion[1:, 0].sum()
    return {
        "test_images": len(one.labels),
        "validation_images": len(one.validation_labels),
        "seeds": len(one.seeds),
        "correct": int(confusion.trace()),
        "errors": int(wrong.sum()),
        **{name: getattr(scores, name) for name in SCORES},
        "accuracy_low": low,
        "accuracy_high": high,
        **{f"recall_of_2{end}": recall[f"recall{end}"][2] for end in ("", "_low", "_high")},
        "recall_of_2_below_mean": "2" in below,
        "low_recall_digits": below,
        "lowest_recall_digits": lowest,
        "recall_and_frequency": 0.0 if math.isnan(rank) else rank,
        "confident_answers": int(confident.sum()),
        "confident_errors": int((confident & wrong).sum()),
        "mean_confidence": float(one.confidence.mean()),
        "non_zero_images": confusion[1:].sum(),
        "non_zero_errors": mistakes,
        "non_zero_f1": 2 * hits / (2 * hits + mistakes) if hits else 0.0,
    }


def confused_pairs(one: Predictions) -> Numbers:
    """How often two digits are taken for one another, in all trainings of a network together."""
    summed = predictions.summed_confusion(one)
    both = summed + summed.T
    errors = {(a, b): int(both[a, b]) for a in range(10) for b in range(a + 1, 10)}
    worst = sorted(errors, key=lambda pair: -errors[pair])[:2]
    numbers: Numbers = {
        "worst_pairs": [list(pair) for pair in worst],
        "worst_pairs_errors": [errors[pair] for pair in worst],
        "errors_of_all_seeds": sum(errors.values()),
    }
    for a, b in ((3, 8), (0, 6)):  # Report A: these are confused
        numbers[f"errors_{a}_{b}"] = errors[a, b]
        numbers[f"rank_{a}_{b}"] = 1 + sum(count > errors[a, b] for count in errors.values())
    return numbers


def confusion_table(confusion: np.ndarray) -> DataFrame:
    """A confusion matrix [10, 10] as a table with a first column ``true``."""
    return DataFrame(confusion).rename_axis("true").reset_index()


def never_right(networks: Sequence[Predictions]) -> torch.Tensor:
    """The test images that no training of any network reads as labelled: int64 places."""
    return torch.cat([one.answers != one.labels for one in networks]).all(0).nonzero().flatten()


def all_networks(networks: Sequence[Predictions], tests: DataFrame, scaled: DataFrame) -> Numbers:
    """What all networks have in common, from their answers, McNemar's tests and temperatures."""
    return {
        "never_right": len(never_right(networks)),
        "networks_asked": sum(len(one.seeds) for one in networks),
        "pairs_compared": len(tests),
        "pairs_differing": int((tests["differ"] == "yes").sum()),
        "temperatures_that_help": int((scaled["after"] < scaled["before"]).sum()),
        "networks_scaled": len(scaled),
    }


def cross_validation(table_1: DataFrame) -> Numbers:
    """Means of the folds, ours beside Report A's."""
    ours, theirs = (mean_interval(table_1[name].dropna()) for name in ("this run", "Report A"))
    of_b = table_1["this run, B"].mean()
    return {
        "folds": ours.count,
        "cv_mean": ours.mean,
        "cv_sd": ours.sd,
        "cv_test_mean": table_1["this run, test images"].mean(),
        "cv_mean_b": None if math.isnan(of_b) else of_b,
        "report_a_cv_mean": theirs.mean,
        "report_a_cv_sd": theirs.sd,
    }


def epochs_chosen(curves: DataFrame) -> Numbers:
    """How often the reports' networks overfit, and what choosing by training loss costs B's."""
    rise = predictions.overfitting_table(curves[curves["network"].isin(["A", "B", "B′"])])["rise"]
    choices = predictions.epoch_choices(curves[curves["network"].isin(["B", "B′"])])
    return {
        "trainings": len(rise),
        "trainings_that_rise": int((rise > 0).sum()),
        "epoch_choices": len(choices),
        "epoch_choices_differ": int((choices["by training"] != choices["by validation"]).sum()),
        "epoch_choice_loses": choices["loses"].max(),
    }


def doubled_softmax(silenced: DataFrame, one: Predictions) -> Numbers:
    """How well "floor plus errors" tells the loss of a softmax taken twice, and its confidence."""
    return {
        "softmax_floor": SOFTMAX_FLOOR,
        "silenced_gap": (silenced["validation loss"] - silenced["floor + errors"]).abs().max(),
        "doubled_softmax_mean": float(one.confidence.mean()),
    }


def flips_and_l1(plain: Predictions, flipped: Predictions, l1: Predictions) -> Numbers:
    """What flips and an L1 penalty of 0.01 do to a network, seed by seed, on the test images."""
    pairs = zip(flipped.answers, plain.answers, strict=True)
    tests = [mcnemar(plain.labels, *pair) for pair in pairs]
    costs = [test.difference for test in tests]
    by_digit = predictions.recall_differences(plain, flipped).sort_values("difference")
    return {
        "flip_costs": costs,
        "flip_cost": float(np.mean(costs)),
        "flips_worse": all(test.p < 0.05 and test.difference < 0 for test in tests),
        "flips_hurt": by_digit.loc[by_digit["best"] < 0, "digit"].tolist(),
        "l1_accuracy": max(scores.accuracy for scores in l1.scores),
        "guessing": float(torch.bincount(plain.labels).max() / len(plain.labels)),
    }


def with_wilson(shares: Iterable[float], images: int) -> DataFrame:
    """The 95 % Wilson bounds ``low`` and ``high`` of shares of so many images, a row each."""
    bounds = [wilson_interval(round(share * images), images) for share in shares]
    return DataFrame(bounds, columns=["low", "high"])


def recognised(table: DataFrame) -> DataFrame:
    """``accuracy`` with its Wilson bounds, from the columns ``recognised`` and ``images``."""
    shares, images = table["recognised"] / table["images"], int(table["images"].iloc[0])
    return with_wilson(shares, images).assign(accuracy=shares.to_numpy())


def sturdiest(means: DataFrame) -> dict[str, str]:
    """The network with the highest of ``shifts.mean_over_steps``, for each kind of shift."""
    return dict(zip(means["kind"], means.set_index("kind").idxmax(axis=1), strict=True))


def learning_rates(trainings: DataFrame, last_batch: DataFrame) -> Numbers:
    """The baseline's spread over seeds, and which rates can be told from its own."""
    table = experiments.learning_rate_table(trainings, REPORT_A.lr)
    base = mean_interval(trainings.loc[trainings["lr"] == REPORT_A.lr, "last"])
    return {
        "seeds": base.count,
        "baseline_mean": base.mean,
        "baseline_sd": base.sd,
        "comparisons": len(table) - 1,
        "told_apart": int(table["verdict"].isin(["better", "worse"]).sum()),
        "best": f"lr {table.set_index('lr')['validation'].idxmax():g}",
        "worst_fall": (last_batch["before"] - last_batch["after"]).max(),
    }


def screening(measured: DataFrame) -> Numbers:
    """How many ideas of ``experiments.compare`` help, hurt or stay open, and how much they vary."""
    ideas = without_baselines(measured)
    verdict, spread = ideas["verdict"], float(ideas["sd"].median())
    return {
        "ideas": len(ideas),
        "helped": names_with(ideas, experiments.HELPS),
        "hurt": names_with(ideas, experiments.HURTS),
        "undecided": int(verdict.isin(experiments.UNDECIDED).sum()),
        "broken": int(verdict.isin(["diverged", "failed"]).sum()),
        "outside": int(((ideas["low"] > 0) | (ideas["high"] < 0)).sum()),
        "typical_sd": spread,
        "needed_for_a_tenth": repeats_needed(Mean(0.1, spread, 0, 0, 2)),
    }


def confirmation(measured: DataFrame, confirmed: DataFrame) -> Numbers:
    """What became of the leading ideas with fresh seeds."""
    again, before = without_baselines(confirmed), measured.set_index("name")["difference"]
    return {
        "leaders": again["name"].tolist(),
        "holds": names_with(again, experiments.HELPS),
        "confirmed_of": len(again),
        "shrunk": int((again["difference"] < before[again["name"]].to_numpy()).sum()),
    }


def combinations(
    ideas: Sequence[Idea], confirmed: DataFrame, compared: DataFrame, selection: DataFrame | None
) -> Numbers:
    """What was put together, whether it helps, and how many steps the greedy selection took."""
    return {
        "catalogue": len(CATALOGUE),
        "combined": experiments.combined(ideas, confirmed)[0],
        "combined_epochs": compared["epochs"].iloc[0],
        "combinations_help": names_with(without_baselines(compared), experiments.HELPS),
        "selection_steps": 0 if selection is None or selection.empty else len(selection) - 1,
    }


def pareto_names(points: DataFrame) -> list[str]:
    """The names that no other beats in both ``seconds`` and ``accuracy``."""
    return points["name"][pareto_front(points["seconds"], points["accuracy"])].tolist()


def names_with(compared: DataFrame, verdict: str) -> list[str]:
    """The ideas with this verdict, of ``experiments.compare``."""
    return compared.loc[compared["verdict"] == verdict, "name"].tolist()


def without_baselines(compared: DataFrame) -> DataFrame:
    """The ideas alone, of ``experiments.compare``."""
    return compared[compared["family"] != "baseline"]

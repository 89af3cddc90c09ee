"""Results of a finished run computed again from its files, by the functions its notebooks called.

Scores, intervals and tests come from the stored predictions, comparisons of ideas from the accuracy
of each training. Nothing is trained and no image is looked at.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mnist_lab.course.run import RunFolder
from mnist_lab.files import LabError
from mnist_lab.recipes import REPORT_A
from mnist_lab.study import experiments, findings, predictions, shifts
from mnist_lab.study.findings import Numbers, with_wilson
from mnist_lab.study.ideas import CATALOGUE


@dataclass(frozen=True)
class Results:
    """Numbers of one section of ``metrics.json``, and tables by name."""

    section: str
    numbers: Numbers
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


def settings(run: RunFolder, notebook: str, *names: str, **renamed: str) -> Numbers:
    """Numbers that repeat settings of a notebook, some by a name of their own."""
    used = run.provenance["parameters"][notebook]
    return {name: used[name] for name in names} | {new: used[old] for new, old in renamed.items()}


def data(run: RunFolder) -> Results:
    """Counts of images."""
    counts, duplicates = run.read_table("class_counts"), run.read_table("duplicates")
    return Results("data", findings.digit_counts(counts, duplicates))


def training(run: RunFolder) -> Results:
    """Networks in training, and the speed ladder."""
    metrics, ladder = run.metrics, run.read_table("speed_ladder")
    images, shares = metrics["evaluation"]["test_images"], run.read_table("networks")["accuracy"]
    numbers = settings(
        run, "03_cnn_training", "epochs", "ladder_seeds", comparison_epochs="epochs_b"
    )
    numbers |= findings.architecture() | findings.speed_ladder(ladder)
    for name, start in (("accuracy", "accuracy"), ("fast_accuracy", "fast")):
        bounds = with_wilson([metrics["training"][name]], images).iloc[0]
        numbers |= {f"{start}_low": bounds["low"], f"{start}_high": bounds["high"]}
    speed_up = ladder["seconds"].iloc[0] / ladder["seconds"]
    tables = {
        "networks": with_wilson(shares, images).round(4),
        "speed_ladder": speed_up.to_frame("speed-up").round(4),
    }
    return Results("training", numbers, tables)


def networks(run: RunFolder) -> Results:
    """Scores, confusions, calibration and coverage."""
    by_file, silenced = run.predictions, run.read_table("silenced_digits")
    named = {one.network: one for one in by_file.values()}
    every = [named[network] for network in run.read_table("comparison")["network"]]
    a, flipped, l1 = (by_file[name] for name in ("report_a", "report_a_flips", "report_a_l1"))
    for name, one in by_file.items():
        if not np.array_equal(one.labels, a.labels):
            raise LabError(f"predictions/{name}.npz has other labels than report_a.npz")
    tested, scaled = predictions.mcnemar_table(every), predictions.calibration_table(every)
    numbers = (
        findings.one_network(a, run.read_table("class_counts")["training"])
        | findings.confused_pairs(a)
        | findings.all_networks(every, tested, scaled)
        | findings.doubled_softmax(silenced, by_file["report_b_code"])
        | findings.flips_and_l1(a, flipped, l1)
    )
    floor_and_errors = findings.SOFTMAX_FLOOR + silenced["share of errors"]
    tables = {
        "comparison": predictions.score_table(every),
        "digits": predictions.digit_table(every),
        "mcnemar": tested,
        "per_class": predictions.per_class_table(a.scores[0]),
        "confusion_matrix": findings.confusion_table(a.scores[0].confusion),
        "confusion_summed": findings.confusion_table(predictions.summed_confusion(a)),
        "confusions": predictions.confusions_by_seed(a),
        "calibration": scaled,
        "coverage": predictions.coverage_table(every),
        "flips": predictions.recall_differences(a, flipped),
        "silenced_digits": floor_and_errors.to_frame("floor + errors"),
    }
    return Results("evaluation", numbers, tables)


def epochs(run: RunFolder) -> Results:
    """Cross-validation, and which epoch is best."""
    curves = run.read_table("learning_curves")
    numbers = findings.epochs_chosen(curves) | findings.cross_validation(run.read_table("table_1"))
    numbers |= settings(run, "04_evaluation", "epochs", "cv_epochs", "cv_epochs_b")
    return Results("evaluation", numbers, {"overfitting": predictions.overfitting_table(curves)})


def changed_images(run: RunFolder) -> Results:
    """Accuracy on shifted images, and on other people's digits."""
    shifted, images = run.read_table("shifts"), run.metrics["evaluation"]["shifted_images"]
    means = shifts.mean_over_steps(shifted)
    numbers: Numbers = {"sturdiest": findings.sturdiest(means)}
    tables = {"shifts": with_wilson(shifted["accuracy"], images), "shift_means": means}
    if run.has_table("uci_digits"):
        other = run.read_table("uci_digits")
        tables["uci_digits"] = findings.recognised(other)
        shares = dict(zip(other["network"], tables["uci_digits"]["accuracy"], strict=True))
        files = {name: one.network for name, one in run.predictions.items()}
        numbers |= {f"uci_{name}": shares[n] for name, n in files.items() if n in shares}
    return Results("evaluation", numbers, tables)


def ideas(run: RunFolder) -> Results:
    """Learning rates, ideas and combinations."""
    rates, selection = run.read_table("learning_rate_trainings"), None
    tables = {"learning_rates": experiments.learning_rate_table(rates, REPORT_A.lr)}
    for name in ("optimisation", "confirmation", "combinations"):
        trainings = run.read_table(f"{name.removesuffix('s')}_trainings")
        tables[name] = experiments.compare(trainings, moderated=name == "optimisation")
    measured, confirmed = tables["optimisation"], tables["confirmation"]
    for family, part in measured.groupby("family", sort=False):
        tables[f"optimisation_{family}".lower().replace(" ", "_")] = part
    if run.has_table("selection"):
        selection = experiments.selection_steps(run.read_table("selection_trainings"))
        tables["selection"] = selection
    numbers = (
        findings.learning_rates(rates, run.read_table("last_batch"))
        | findings.screening(measured)
        | findings.confirmation(measured, confirmed)
        | findings.combinations(CATALOGUE, confirmed, tables["combinations"], selection)
    )
    repeated = ("epochs", "idea_seeds", "long_epochs", "fresh_seeds")
    numbers |= settings(run, "05_optimization", *repeated, selection_limit="selection_steps")
    numbers["pareto"] = findings.pareto_names(run.read_table("time_and_accuracy"))
    return Results("optimization", numbers, tables)


PARTS: tuple[Callable[[RunFolder], Results], ...]
PARTS = (data, training, networks, epochs, changed_images, ideas)
"""What is computed again, in order."""

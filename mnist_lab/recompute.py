"""Tables and numbers of a finished run, computed again from its predictions and trainings."""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mnist_lab import evaluation, experiments, predictions, shifts
from mnist_lab.atomic import shown
from mnist_lab.errors import LabError
from mnist_lab.predictions import Predictions, read_predictions
from mnist_lab.recipes import REPORT_A

ROUNDING = 1.5e-6  # tables hold six decimals


@dataclass(frozen=True)
class Check:
    """One thing that was checked: what it is, and what differs, a line each."""

    what: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class FinishedRun:
    """The files of a finished run, read when they are needed.

    Every property and method raises ``LabError`` for a file that is missing or cannot be read.
    """

    folder: Path

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Every number of the report, by section."""
        return self._json("metrics.json")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Where the run came from."""
        return self._json("provenance.json")

    @cached_property
    def manifest(self) -> dict[str, str]:
        """SHA-256 of every file, by its path."""
        return self._json("manifest.json")

    @cached_property
    def predictions(self) -> dict[str, Predictions]:
        """Stored answers, by file name."""
        return {p.stem: read_predictions(p) for p in sorted(self.folder.glob("predictions/*.npz"))}

    def table(self, name: str) -> pd.DataFrame:
        """``tables/<name>.csv``."""
        try:
            return pd.read_csv(self.folder / "tables" / f"{name}.csv")
        except (OSError, ValueError) as error:
            raise LabError(f"tables/{name}.csv cannot be read: {error}") from error

    def has_table(self, name: str) -> bool:
        """Whether there is such a table."""
        return (self.folder / "tables" / f"{name}.csv").exists()

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise LabError(
                f"{shown(self.folder)} is not a finished run: {name} cannot be read: {error}\n"
                "  Give the folder of a report, such as report/mnist-full."
            ) from error


class Numbers:
    """The numbers of ``metrics.json``, ticked off as they are computed again."""

    def __init__(self, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        self._metrics = metrics
        self._ticked: set[tuple[str, str]] = set()
        self._problems: list[str] = []

    def expect(self, section: str, **values: object) -> None:
        """Tick these numbers off and note which of them differ."""
        for name, expected in values.items():
            found = self._metrics.get(section, {}).get(name, "nothing")
            self._ticked.add((section, name))
            if not _equal(found, _plain(expected)):
                self._problems.append(
                    f"metrics.json, {section}.{name}: {found}, computed again {_plain(expected)}"
                )

    def check(self) -> Check:
        """What was ticked off, and what differs."""
        every = [(s, name) for s, values in self._metrics.items() for name in values]
        left = [
            f"{section}.{name}" for section, name in every if (section, name) not in self._ticked
        ]
        sections = sorted({name.split(".")[0] for name in left})
        what = (
            f"metrics.json: {len(every) - len(left)} of {len(every)} values computed again; the "
            f"others ({', '.join(sections) or 'none'}) come from images, settings or the clock"
        )
        return Check(what, tuple(self._problems))


def check_predictions(run: FinishedRun, numbers: Numbers) -> Iterator[Check]:
    """Every score, interval and test that rests on stored predictions."""
    by_file = run.predictions
    order = run.table("comparison")["network"].tolist()
    named = {one.network: one for one in by_file.values()}
    if missing := [network for network in order if network not in named]:
        raise LabError(f"predictions of {', '.join(missing)} are missing")
    networks = [named[network] for network in order]
    a = by_file["report_a"]
    differing = [n for n, one in by_file.items() if not np.array_equal(one.labels, a.labels)]
    yield Check(
        f"predictions: {len(by_file)} files, of {len(order)} networks and two variants",
        tuple(f"predictions/{name}.npz has other labels than report_a.npz" for name in differing),
    )
    first, summed = evaluation.score(a.labels, a.answers[0]), predictions.summed_confusion(a)
    pairs = predictions.mcnemar_table(networks)
    calibrated = predictions.calibration_table(networks)
    covered = predictions.coverage_table(networks)
    per_class = evaluation.per_class_table(first)
    flips = predictions.recall_differences(a, by_file["report_a_flips"])
    yield same_table(run, "comparison", predictions.score_table(networks))
    yield same_table(run, "digits", predictions.digit_table(networks))
    yield same_table(run, "mcnemar", pairs)
    yield same_table(run, "per_class", per_class)
    yield same_table(run, "confusion_matrix", _matrix(first.confusion))
    yield same_table(run, "confusion_summed", _matrix(summed))
    yield same_table(run, "confusions", predictions.confusions_by_seed(a))
    yield same_table(run, "calibration", calibrated)
    yield same_table(run, "coverage", covered)
    yield same_table(run, "flips", flips)
    _expect_scores(numbers, a, run.table("per_class"))
    _expect_confusions(numbers, summed)
    right = np.zeros(len(a.labels), dtype=bool)
    for one in networks:
        right |= (one.answers == one.labels).any(0).numpy()
    numbers.expect(
        "evaluation",
        never_right=int((~right).sum()),
        networks_asked=sum(len(one.seeds) for one in networks),
        pairs_compared=len(pairs),
        pairs_differing=int((pairs["differ"] == "yes").sum()),
        temperatures_that_help=int((calibrated["after"] < calibrated["before"]).sum()),
        networks_scaled=len(calibrated),
    )
    b_code = evaluation.probabilities(by_file["report_b_code"].logits[0])
    numbers.expect("evaluation", doubled_softmax_mean=float(b_code.max(1).values.mean()))
    tests = [
        evaluation.mcnemar(a.labels, changed, plain)
        for changed, plain in zip(by_file["report_a_flips"].answers, a.answers, strict=True)
    ]
    numbers.expect(
        "evaluation",
        flip_costs=[test.difference for test in tests],
        flip_cost=float(np.mean([test.difference for test in tests])),
        flips_worse=all(test.p < 0.05 and test.difference < 0 for test in tests),
        flips_hurt=flips[flips["best"] < 0].sort_values("difference")["digit"].tolist(),
        l1_accuracy=max(evaluation.accuracy(a.labels, z) for z in by_file["report_a_l1"].logits),
        guessing=float(np.bincount(a.labels).max() / len(a.labels)),
    )


def _expect_scores(numbers: Numbers, a: Predictions, table: pd.DataFrame) -> None:
    """Numbers about the first training of Report A's network."""
    scores, answers = evaluation.score(a.labels, a.answers[0]), a.answers[0]
    correct = int(scores.confusion.trace())
    low, high = evaluation.wilson_interval(correct, len(a.labels))
    per_class = evaluation.per_class_table(scores)
    two = per_class.iloc[2]
    lowest, below = predictions.low_recalls(a)
    together = pd.DataFrame({"recall": per_class["recall"], "images": table["training images"]})
    rank = float(together.corr("spearman").to_numpy()[0, 1])
    wrong, sure = a.labels != answers, evaluation.probabilities(a.logits[0]).max(1).values > 0.9
    is_not_0, said_not_0 = a.labels != 0, answers != 0
    tp = int((is_not_0 & said_not_0).sum())
    mistaken = int((is_not_0 != said_not_0).sum())
    numbers.expect(
        "evaluation",
        test_images=len(a.labels),
        seeds=len(a.seeds),
        correct=correct,
        errors=len(a.labels) - correct,
        accuracy=scores.accuracy,
        accuracy_low=low,
        accuracy_high=high,
        macro_precision=scores.macro_precision,
        macro_recall=scores.macro_recall,
        macro_f1=scores.macro_f1,
        recall_of_2=two["recall"],
        recall_of_2_low=two["recall_low"],
        recall_of_2_high=two["recall_high"],
        recall_of_2_below_mean="2" in below,
        low_recall_digits=below,
        lowest_recall_digits=lowest,
        recall_and_frequency=0.0 if math.isnan(rank) else rank,
        confident_answers=int(sure.sum()),
        confident_errors=int((sure & wrong).sum()),
        mean_confidence=float(evaluation.probabilities(a.logits[0]).max(1).values.mean()),
        non_zero_images=int(is_not_0.sum()),
        non_zero_errors=mistaken,
        non_zero_f1=2 * tp / (2 * tp + mistaken) if tp else 0.0,
    )


def _expect_confusions(numbers: Numbers, summed: np.ndarray) -> None:
    pairs = {
        (a, b): int(summed[a, b] + summed[b, a]) for a, b in itertools.combinations(range(10), 2)
    }
    worst = sorted(pairs, key=lambda pair: -pairs[pair])[:2]
    for a, b in ((3, 8), (0, 6)):
        rank = 1 + sum(count > pairs[a, b] for count in pairs.values())
        numbers.expect("evaluation", **{f"errors_{a}_{b}": pairs[a, b], f"rank_{a}_{b}": rank})
    numbers.expect(
        "evaluation",
        worst_pairs=[list(pair) for pair in worst],
        worst_pairs_errors=[pairs[pair] for pair in worst],
        errors_of_all_seeds=sum(pairs.values()),
    )


def check_cross_validation(run: FinishedRun, numbers: Numbers) -> Iterator[Check]:
    """Means and standard deviations of the folds."""
    table = run.table("table_1")
    ours = evaluation.mean_interval(table["this run"].dropna().tolist())
    theirs = evaluation.mean_interval(table["Report A"].dropna().tolist())
    of_b = table["this run, B"].dropna()
    numbers.expect(
        "evaluation",
        folds=ours.count,
        cv_mean=ours.mean,
        cv_sd=ours.sd,
        cv_test_mean=table["this run, test images"].mean(),
        report_a_cv_mean=theirs.mean,
        report_a_cv_sd=theirs.sd,
        cv_mean_b=of_b.mean() if len(of_b) else None,
    )
    yield Check(f"tables/table_1.csv: means of {ours.count} folds")


def check_learning_curves(run: FinishedRun, numbers: Numbers) -> Iterator[Check]:
    """Which epoch is best, and which the training loss would choose."""
    curves = run.table("learning_curves")
    yield same_table(run, "overfitting", predictions.overfitting_table(curves))
    found = run.table("overfitting")
    found = found[found["network"].isin(["A", "B", "B′"])]
    choices = predictions.epoch_choices(curves[curves["network"].isin(["B", "B′"])])
    numbers.expect(
        "evaluation",
        trainings=len(found),
        trainings_that_rise=int((found["rise"] > 0).sum()),
        epoch_choices=len(choices),
        epoch_choices_differ=int((choices["by training"] != choices["by validation"]).sum()),
        epoch_choice_loses=choices["loses"].max(),
    )
    silenced = run.table("silenced_digits")
    floor = math.log(math.e + 9) - 1
    expected = pd.DataFrame({"floor + errors": floor + silenced["share of errors"]})
    gap = (silenced["validation loss"] - expected["floor + errors"]).abs().max()
    numbers.expect("evaluation", softmax_floor=floor, silenced_gap=gap)
    yield same_table(run, "silenced_digits", expected)


def check_shifts(run: FinishedRun, numbers: Numbers) -> Iterator[Check]:
    """Intervals of accuracies on changed and on other images."""
    shifted = run.table("shifts")
    images = run.metrics["evaluation"]["shifted_images"]
    yield same_table(run, "shifts", _wilson(shifted["accuracy"], [images] * len(shifted)))
    means = shifts.mean_over_steps(shifted)
    yield same_table(run, "shift_means", means)
    best = means.set_index("kind").idxmax(axis=1)
    numbers.expect("evaluation", sturdiest=best.to_dict())
    if run.has_table("uci_digits"):
        other = run.table("uci_digits")
        share = other["recognised"] / other["images"]
        expected = _wilson(share, other["images"].tolist()).assign(accuracy=share)
        yield same_table(run, "uci_digits", expected)
        for name, one in run.predictions.items():
            found = share[other["network"] == one.network]
            if len(found):
                numbers.expect("evaluation", **{f"uci_{name}": found.iloc[0]})


def check_learning_rates(run: FinishedRun, numbers: Numbers) -> Iterator[Check]:
    """Learning rates compared with Report A's, from the accuracy of each training."""
    trainings = run.table("learning_rate_trainings")
    expected = experiments.learning_rate_table(trainings, REPORT_A.lr)
    yield same_table(run, "learning_rates", expected, tolerance=1e-4)
    base = trainings.loc[trainings["lr"] == REPORT_A.lr, "last"]
    told = expected["verdict"].isin(["better", "worse"])
    best = expected["lr"].to_numpy()[int(expected["validation"].to_numpy().argmax())]
    numbers.expect(
        "optimization",
        seeds=len(base),
        baseline_mean=base.mean(),
        baseline_sd=base.std(),
        comparisons=len(expected) - 1,
        told_apart=int(told.sum()),
        best=f"lr {best:g}",
    )
    steps = run.table("last_batch")
    numbers.expect("optimization", worst_fall=(steps["before"] - steps["after"]).max())


def check_ideas(run: FinishedRun, numbers: Numbers) -> Iterator[Check]:
    """Verdicts on ideas, from the accuracy of each training."""
    tables = {}
    for name in ("optimisation", "confirmation", "combinations"):
        trainings = run.table(f"{name.removesuffix('s')}_trainings")
        tables[name] = experiments.compare(trainings, moderated=name == "optimisation")
        yield same_table(run, name, tables[name])
    measured, confirmed = tables["optimisation"], tables["confirmation"]
    for family, part in measured.groupby("family", sort=False):
        yield same_table(run, "optimisation_" + str(family).lower().replace(" ", "_"), part)
    compared = measured[measured["family"] != "baseline"]
    by_verdict = {
        verdict: compared.loc[compared["verdict"] == verdict, "name"].tolist()
        for verdict in (experiments.HELPS, experiments.HURTS)
    }
    undecided = int(compared["verdict"].isin(experiments.UNDECIDED).sum())
    spread = float(np.nanmedian(compared["sd"]))
    before = measured.set_index("name")["difference"]
    again = confirmed[confirmed["family"] != "baseline"]
    numbers.expect(
        "optimization",
        ideas=len(compared),
        helped=by_verdict[experiments.HELPS],
        hurt=by_verdict[experiments.HURTS],
        undecided=undecided,
        broken=len(compared) - undecided - sum(map(len, by_verdict.values())),
        outside=int(((compared["low"] > 0) | (compared["high"] < 0)).sum()),
        typical_sd=spread,
        needed_for_a_tenth=evaluation.repeats_needed(evaluation.Mean(0.1, spread, 0, 0, 2)),
        leaders=again["name"].tolist(),
        holds=_helping(confirmed),
        confirmed_of=len(again),
        shrunk=int((again["difference"] < before[again["name"]].to_numpy()).sum()),
        combinations_help=_helping(tables["combinations"]),
    )
    steps = 0
    if run.has_table("selection"):
        expected = experiments.selection_steps(run.table("selection_trainings"))
        steps = len(expected) - 1
        yield same_table(run, "selection", expected)
    points = run.table("time_and_accuracy")
    front = evaluation.pareto_front(points["seconds"].tolist(), points["accuracy"].tolist())
    numbers.expect("optimization", selection_steps=steps, pareto=points["name"][front].tolist())


def _helping(table: pd.DataFrame) -> list[str]:
    return table.loc[table["verdict"] == experiments.HELPS, "name"].tolist()


def check_training(run: FinishedRun, numbers: Numbers) -> Iterator[Check]:
    """Intervals and ratios of the chapter on training."""
    images = run.metrics["evaluation"]["test_images"]
    networks = run.table("networks")
    expected = _wilson(networks["accuracy"], [images] * len(networks))
    yield same_table(run, "networks", expected, tolerance=1e-4)
    ladder = run.table("speed_ladder")
    expected = pd.DataFrame({"speed-up": ladder["seconds"].iloc[0] / ladder["seconds"]})
    yield same_table(run, "speed_ladder", expected, tolerance=0.02)
    reached = run.metrics["training"]["fast_accuracy"]
    low, high = evaluation.wilson_interval(round(reached * images), images)
    numbers.expect("training", fast_low=low, fast_high=high, softmax_floor=math.log(math.e + 9) - 1)


def same_table(
    run: FinishedRun, name: str, expected: pd.DataFrame, tolerance: float = ROUNDING
) -> Check:
    """The columns of ``expected`` against those of ``tables/<name>.csv``."""
    found = run.table(name)
    what = f"tables/{name}.csv: {len(expected.columns)} columns of {len(expected)} rows"
    if len(found) != len(expected):
        return Check(what, (f"tables/{name}.csv has {len(found)} rows, expected {len(expected)}",))
    if missing := [str(column) for column in expected if str(column) not in found]:
        return Check(what, (f"tables/{name}.csv lacks {', '.join(missing)}",))
    problems = []
    for column in expected:
        for row, (ours, theirs) in enumerate(
            zip(found[str(column)], expected[column], strict=True)
        ):
            if not _equal(ours, _plain(theirs), tolerance):
                problems.append(
                    f"tables/{name}.csv, row {row + 1}, {column}: {ours}, computed again {theirs}"
                )
    return Check(what, tuple(problems))


def _matrix(confusion: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(confusion).rename_axis("true").reset_index()


def _wilson(shares: pd.Series, images: Sequence[int]) -> pd.DataFrame:
    bounds = [
        evaluation.wilson_interval(round(share * n), n)
        for share, n in zip(shares, images, strict=True)
    ]
    return pd.DataFrame(bounds, columns=["low", "high"])


def _plain(value: Any) -> Any:
    """A NumPy value as a plain one, a tuple as a list."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _equal(found: Any, expected: Any, tolerance: float = ROUNDING) -> bool:
    """Equal, numbers up to rounding; nothing, NaN and an empty text are the same."""
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and found.keys() == expected.keys()
            and all(_equal(found[key], expected[key], tolerance) for key in expected)
        )
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(_equal(a, b, tolerance) for a, b in zip(found, expected, strict=True))
        )
    if _nothing(found) or _nothing(expected):
        return _nothing(found) and _nothing(expected)
    numeric = (bool, int, float, np.number)
    if isinstance(found, numeric) and isinstance(expected, numeric):
        return abs(float(found) - float(expected)) <= tolerance * max(1.0, abs(float(expected)))
    return str(found) == str(expected)


def _nothing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


PARTS: tuple[Callable[[FinishedRun, Numbers], Iterable[Check]], ...] = (
    check_predictions,
    check_cross_validation,
    check_learning_curves,
    check_shifts,
    check_learning_rates,
    check_ideas,
    check_training,
)
"""What is computed again, in order."""


def title(part: Callable[..., object]) -> str:
    """What a part of ``PARTS`` is about."""
    return str(part.__doc__).splitlines()[0]

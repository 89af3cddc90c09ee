"""Many ideas against one baseline: trained with the same seeds, judged by validation images.

The test images choose nothing: their accuracy is reported beside the choice. Accuracies are shares,
differences percent points; ``low`` and ``high`` end 95 % intervals; NaN: nothing can be said.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from mnist_lab.data import Digits
from mnist_lab.evaluation import accuracy
from mnist_lab.models import multiply_adds, network_options, parameter_count
from mnist_lab.recipes import Recipe
from mnist_lab.splits import Split
from mnist_lab.study.ideas import HYPERPARAMETERS, REGULARISATION, Idea
from mnist_lab.study.statistics import holm, mean_interval, moderated_differences, paired_p
from mnist_lab.study.store import Store
from mnist_lab.study.sweeps import Outcome
from mnist_lab.training import Diverged, Fit

HELPS, HURTS = "helps", "hurts"
UNDECIDED = ("no difference seen", "too few seeds")
BASELINE, LONGER = "baseline", "baseline, longer"
TRAINING = ["seed", "validation", "last", "test", "seconds", "failed"]


@dataclass(frozen=True)
class Experiment:
    """How to train: ``seeds`` of a recipe, judged by ``split``; the rest as in ``Store.sweep``."""

    store: Store
    digits: Digits
    split: Split
    seeds: int
    first_seed: int = 0
    jobs: int = 1
    device: str = "auto"
    scheduler: str = ""
    echo: Callable[[str], None] | None = print

    def train(self, recipes: Sequence[Recipe], seeds: int = 0) -> list[list[Outcome]]:
        """What becomes of each recipe with every seed, all of them in one sweep."""
        count = seeds or self.seeds
        every = [one for recipe in recipes for one in recipe.seeds(count, self.first_seed)]
        how = {k: getattr(self, k) for k in ("split", "jobs", "device", "scheduler", "echo")}
        outcomes = iter(self.store.sweep(every, self.digits, **how))
        return [list(islice(outcomes, count)) for _ in recipes]


def plan(
    ideas: Sequence[Idea], baseline: Recipe, long_epochs: int = 0
) -> list[tuple[Idea, Recipe, str]]:
    """Baselines, then ideas: each with its recipe and the name of its baseline ("" of one).

    Families in ``REGULARISATION`` take ``long_epochs`` and a baseline of their own.
    """
    short = baseline.but(name=BASELINE)
    long = short.but(name=LONGER, epochs=long_epochs or short.epochs)
    bases = [short] if long == short else [short, long]
    planned = [(Idea("baseline", base.name, "", {}), base, "") for base in bases]
    for idea in ideas:
        base = bases[-1] if idea.family in REGULARISATION else short
        planned.append((idea, idea.applied_to(base), base.name))
    return planned


def train_ideas(
    experiment: Experiment,
    ideas: Sequence[Idea],
    baseline: Recipe,
    *,
    long_epochs: int = 0,
    baseline_seeds: int = 0,
) -> pd.DataFrame:
    """Train what ``plan`` names, baselines with more seeds if wanted: one row per training.

    ``family``, ``name``, ``proposed_by``, ``against`` (the baseline's name, "" of one), ``epochs``,
    ``parameters``, ``multiply_adds`` of an image, and what ``training_row`` gives.
    """
    planned = plan(ideas, baseline, long_epochs)
    bases = [recipe for _, recipe, against in planned if not against]
    outcomes = experiment.train(bases, max(experiment.seeds, baseline_seeds))
    outcomes += experiment.train([recipe for _, recipe, against in planned if against])
    rows = []
    for (idea, recipe, against), of_one in zip(planned, outcomes, strict=True):
        model, shape = recipe.build(), (1, recipe.image_size, recipe.image_size)
        work = {"parameters": parameter_count(model), "multiply_adds": multiply_adds(model, shape)}
        shared = {**vars(idea), "against": against, "epochs": recipe.epochs, **work}
        for seed, outcome in enumerate(of_one, experiment.first_seed):
            rows.append(shared | training_row(seed, outcome, experiment.digits))
    return pd.DataFrame(rows).drop(columns="changes")


def training_row(seed: int, outcome: Outcome, digits: Digits) -> dict[str, Any]:
    """``seed``, three accuracies, ``seconds``, and ``failed``: "", "diverged" or "failed".

    ``validation`` is after the best epoch, as by early stopping; ``last``, ``test`` after the last.
    """
    if isinstance(outcome, Fit):
        reached = outcome.history.validation_accuracies
        test = accuracy(digits.test.labels, outcome.test_logits)
        values = [max(reached), reached[-1], test, outcome.seconds, ""]
    else:
        values = [np.nan] * 4 + ["diverged" if isinstance(outcome, Diverged) else "failed"]
    return dict(zip(TRAINING, [seed, *values], strict=True))


def compare(trainings: pd.DataFrame, *, moderated: bool = False) -> pd.DataFrame:
    """Each idea of ``train_ideas`` against its baseline, with the same seeds: one row each.

    Means over the ``seeds`` that finished; the ``difference`` in validation accuracy, tested one by
    one or, for many ideas with few seeds, by ``moderated_differences``; ``p_holm``, corrected for
    all rows; the fewest ``seconds`` (what else the machine does can only add). ``verdict``: "helps"
    or "hurts" where ``p_holm`` is below 0.05, "no difference seen", "too few seeds" to test one,
    "diverged" or "failed" where a training did, "baseline".
    """
    words = trainings[["proposed_by", "against", "failed"]].astype(object).fillna("")
    by_name = trainings.assign(**words).groupby("name", sort=False)
    against = by_name["against"].first()
    by_seed = trainings.pivot(index="seed", columns="name", values="validation")[against.index]
    reached = [mean_interval(by_seed[name].dropna()) for name in against.index]
    pairs = [
        by_seed[[name, base]].dropna().to_numpy().T if base else np.empty((2, 0))
        for name, base in against.items()
    ]
    differences = [(100 * (ours - theirs)).tolist() for ours, theirs in pairs]
    if moderated:
        means, p_values = moderated_differences(differences)
    else:
        means, p_values = list(map(mean_interval, differences)), [paired_p(*p) for p in pairs]
    table = by_name[["family", "proposed_by", "epochs"]].first()
    table.insert(1, "name", table.index)
    table["seeds"] = [one.count for one in reached]
    bounds = ["validation", "validation_low", "validation_high"]
    table[bounds] = [(one.mean, one.low, one.high) for one in reached]
    table["baseline_validation"] = [mean_interval(theirs).mean for _, theirs in pairs]
    table["last"], table["last_sd"] = by_name["last"].mean(), by_name["last"].std()
    table["test"] = by_name["test"].mean()
    table[["difference", "low", "high", "sd"]] = [(d.mean, d.low, d.high, d.sd) for d in means]
    table["p"], table["p_holm"] = p_values, holm(p_values)
    table["seconds"] = by_name["seconds"].min()
    table[["parameters", "multiply_adds"]] = by_name[["parameters", "multiply_adds"]].first()
    p, gain = table["p_holm"], table["difference"]
    conditions = [against == "", (p < 0.05) & (gain > 0), p < 0.05, p.isna() & (gain != 0)]
    verdict = np.select(conditions, [BASELINE, HELPS, HURTS, UNDECIDED[1]], UNDECIDED[0])
    failed = by_name["failed"].agg(lambda why: min(filter(None, why), default=""))
    return table.assign(verdict=failed.where(failed != "", verdict)).reset_index(drop=True)


def train_learning_rates(
    experiment: Experiment, rates: Iterable[float], baseline: Recipe
) -> pd.DataFrame:
    """``lr`` and what ``training_row`` gives, for the baseline's rate and these, lowest first."""
    lr = {BASELINE: baseline.lr} | {f"lr {lr}": lr for lr in rates if lr != baseline.lr}
    ideas = [Idea("learning rate", name, "", {"lr": lr[name]}) for name in list(lr)[1:]]
    trainings = train_ideas(experiment, ideas, baseline)
    trainings["lr"] = trainings["name"].map(lr)
    return trainings.sort_values("lr", kind="stable", ignore_index=True)[["lr", *TRAINING]]


def learning_rate_table(trainings: pd.DataFrame, baseline: float) -> pd.DataFrame:
    """``compare`` for ``train_learning_rates``, not corrected, and accuracies in percent.

    ``verdict`` is "better" or "worse" where the interval of the difference excludes zero, "cannot
    be told apart" or "baseline"; ``sd`` is that of ``validation``.
    """
    blank = dict.fromkeys(["family", "proposed_by", "epochs", "parameters", "multiply_adds"], "")
    against = trainings["lr"].map(lambda lr: "" if lr == baseline else baseline)
    table = compare(trainings.assign(**blank, name=trainings["lr"], against=against))
    table = table.rename(columns={"name": "lr"})
    table["sd"] = trainings.groupby("lr", sort=False)["validation"].std().to_numpy()
    table[["validation", "sd", "test"]] *= 100
    conditions = [table["lr"] == baseline, table["low"] > 0, table["high"] < 0]
    table["verdict"] = np.select(conditions, [BASELINE, "better", "worse"], "cannot be told apart")
    return table[["lr", "validation", "sd", "test", "difference", "low", "high", "verdict"]]


def leading(ideas: Sequence[Idea], table: pd.DataFrame, count: int) -> list[Idea]:
    """The ``count`` of these ideas with the largest differences in ``table``, one of a family."""
    by_name = {idea.name: idea for idea in ideas}
    known = table[table["name"].isin(by_name)].dropna(subset=["difference"])
    best = known.sort_values("difference", ascending=False, kind="stable").drop_duplicates("family")
    return [by_name[name] for name in best["name"][:count]]


def combined(ideas: Sequence[Idea], table: pd.DataFrame) -> tuple[list[str], Idea]:
    """Those of these ideas that help in ``table``: their names, and all of them as one idea.

    Of each family the best, larger differences first; none that changes what a better one did.
    """
    names: list[str] = []
    changes: dict[str, Any] = {}
    for idea in leading(ideas, table[table["verdict"] == HELPS], len(table)):
        if changes.keys().isdisjoint(idea.changes):
            changes |= idea.changes
            names.append(idea.name)
    return names, Idea("combination", "all that helps", "", changes)


def forward_selection(
    experiment: Experiment, ideas: Sequence[Idea], baseline: Recipe, *, most: int = 5
) -> tuple[pd.DataFrame, Idea]:
    """Greedy search: at each step, keep the idea that raises mean validation accuracy most, if any.

    An idea is left out once a value that it changes has been chosen, and where it cannot go with
    what was chosen. One row per training: ``step`` (0 is the baseline), ``name`` of the idea added,
    whether it was ``chosen``, what ``training_row`` gives; and all that was chosen, as one idea.
    """
    steps = [train_ideas(experiment, [], baseline).assign(step=0, chosen=True)]
    changes: dict[str, Any] = {}
    for step in range(1, most + 1):
        current, left = Idea("", "", "", changes).applied_to(baseline), []
        for idea in ideas:
            if changes.keys().isdisjoint(idea.changes):
                with suppress(ValueError):  # such as momentum for Adam
                    idea.applied_to(current)
                    left.append(idea)
        trainings = train_ideas(experiment, left, current)
        table = compare(trainings)
        gains = (table["difference"] > 1e-9) & ~table["verdict"].isin(["diverged", "failed"])
        best = leading(left, table[gains], 1)
        chosen = trainings["name"].isin([idea.name for idea in best])
        steps.append(trainings.assign(step=step, chosen=chosen)[trainings["against"] != ""])
        if not best:
            break
        changes = {**changes, **best[0].changes}
    trained = pd.concat(steps, ignore_index=True)[["step", "name", "chosen", *TRAINING]]
    return trained, Idea("combination", "greedy selection", "", changes)


def selection_steps(trainings: pd.DataFrame) -> pd.DataFrame:
    """One row per step of ``forward_selection``, from its rows.

    ``added``, of ``candidates`` tried, reached ``validation``, a ``gain`` (a share) over the step
    before. The highest of several means is partly luck: expect less of it with new seeds.
    """
    chosen = trainings[trainings["chosen"]].groupby("step")
    table = chosen["name"].first().to_frame("added")
    table["candidates"] = trainings.groupby("step")["name"].nunique()
    table.loc[0, "candidates"] = 0
    means = [mean_interval(values) for _, values in chosen["validation"]]
    table[["validation", "low", "high"]] = [(one.mean, one.low, one.high) for one in means]
    table["gain"], table["test"] = table["validation"].diff(), chosen["test"].mean()
    return table.reset_index()


def responses(ideas: Sequence[Idea], table: pd.DataFrame, baseline: Recipe) -> pd.DataFrame:
    """Validation accuracy against each number that two or more of these ideas vary alone.

    ``table`` is of ``compare``, with this baseline. One row per recipe, the family's baseline
    first: ``parameter``, as ``HYPERPARAMETERS`` has it, ``value``, ``accuracy``, ``low``, ``high``.
    """
    own = {**network_options(baseline.model), **vars(baseline), **dict(baseline.options)}
    own["train_fraction"] = 1.0
    columns = {"validation": "accuracy", "validation_low": "low", "validation_high": "high"}
    found = table.set_index("name")[[*columns]].rename(columns=columns)
    rows = []
    for field, label in HYPERPARAMETERS.items():
        alone = [idea for idea in ideas if set(idea.changes) == {field}]
        if len(alone) > 1:
            long = alone[0].family in REGULARISATION and LONGER in found.index
            rows.append((label, own[field], LONGER if long else BASELINE))
            rows += [(label, idea.changes[field], idea.name) for idea in alone]
    curves = pd.DataFrame(rows, columns=["parameter", "value", "name"]).astype({"value": float})
    return curves.join(found, on="name").drop(columns="name")

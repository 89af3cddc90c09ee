"""Many ideas against one baseline: trained with the same seeds, judged by validation images.

The test images choose nothing here. Their accuracy is reported beside the choice.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import pandas as pd

from mnist_lab.data import Digits
from mnist_lab.evaluation import (
    accuracy,
    holm,
    mean_interval,
    mean_or_nothing,
    moderated_differences,
    paired_p,
)
from mnist_lab.ideas import LONG, Idea
from mnist_lab.models import network_options
from mnist_lab.recipes import Recipe
from mnist_lab.shapes import multiply_adds, parameter_count
from mnist_lab.splits import Split
from mnist_lab.store import Store
from mnist_lab.sweeps import Outcome
from mnist_lab.training import Diverged, Fit

HELPS, HURTS = "helps", "hurts"
UNDECIDED = ("no difference seen", "too few seeds")
SIGNIFICANCE = 0.05
NAN = float("nan")
BASELINE, LONGER = "baseline", "baseline, longer"


@dataclass(frozen=True)
class Experiment:
    """What every training of an experiment shares.

    Attributes:
        store: keeps the fits.
        digits: what to train on.
        split: whose validation images judge.
        seeds: trainings of each recipe.
        first_seed: the first of them; the others follow it.
        jobs: trainings side by side.
        device: "auto", "cpu", "cuda", …
        scheduler: address of a Dask scheduler whose workers train instead; "" for none.
        echo: gets one line per training; ``None`` for silence.
    """

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
        wanted = [recipe.seeds(seeds or self.seeds, self.first_seed) for recipe in recipes]
        outcomes = iter(
            self.store.sweep(
                chain(*wanted),
                self.digits,
                split=self.split,
                jobs=self.jobs,
                device=self.device,
                scheduler=self.scheduler,
                echo=self.echo,
            )
        )
        return [list(islice(outcomes, len(of_one))) for of_one in wanted]


def train_ideas(
    experiment: Experiment,
    ideas: Sequence[Idea],
    baseline: Recipe,
    *,
    long_epochs: int | None = None,
    baseline_seeds: int | None = None,
) -> pd.DataFrame:
    """Train each idea and its baseline with the seeds of the experiment.

    Args:
        experiment: how to train.
        ideas: what to try.
        baseline: what each idea changes one thing in.
        long_epochs: epochs of the families in ``LONG`` and of their own baseline; those of
            ``baseline`` if not given.
        baseline_seeds: trainings of the baselines, if more than of each idea.

    Returns:
        One row per training, the baselines first: ``family``, ``name``, ``asked``, ``against``
        (name of the baseline it is compared with; "" of a baseline), ``epochs``, ``seed``;
        ``validation``, accuracy on the validation images after the best epoch, ``last`` and
        ``test``, on validation and test images after the last, shares in [0, 1]; ``seconds``;
        ``parameters`` and ``multiply_adds`` for an image; ``failed``: "", or "diverged" or "failed"
        where there is no accuracy.
    """
    short = baseline.but(name=BASELINE)
    long = short.but(name=LONGER, epochs=long_epochs or short.epochs)
    bases = [short] if long == short else [short, long]
    wanted = [(Idea("baseline", base.name, "", {}), base, "") for base in bases]
    outcomes = experiment.train(bases, max(experiment.seeds, baseline_seeds or 0))
    recipes = []
    for idea in ideas:
        base = bases[-1] if idea.family in LONG else short
        recipes.append(idea.applied_to(base))
        wanted.append((idea, recipes[-1], base.name))
    outcomes += experiment.train(recipes)
    rows = []
    for (idea, recipe, against), of_idea in zip(wanted, outcomes, strict=True):
        model, size = recipe.build(), recipe.image_size
        fixed = {
            "family": idea.family,
            "name": idea.name,
            "asked": idea.asked,
            "against": against,
            "epochs": recipe.epochs,
            "parameters": parameter_count(model),
            "multiply_adds": multiply_adds(model, (1, size, size)),
        }
        seeds = range(experiment.first_seed, experiment.first_seed + len(of_idea))
        rows += [
            fixed | training_row(seed, outcome, experiment.digits)
            for seed, outcome in zip(seeds, of_idea, strict=True)
        ]
    return pd.DataFrame(rows)


def training_row(
    seed: int, outcome: Outcome, digits: Digits, *, best_epoch: bool = True
) -> dict[str, Any]:
    """What became of one training: ``seed`` to ``failed`` of a row of ``train_ideas``.

    ``validation`` is that of the best epoch, as early stopping would choose it, or of the last.
    """
    if isinstance(outcome, Fit):
        accuracies = outcome.history.validation_accuracies
        return {
            "seed": seed,
            "validation": max(accuracies) if best_epoch else accuracies[-1],
            "last": accuracies[-1],
            "test": accuracy(digits.test.labels, outcome.test_logits),
            "seconds": outcome.seconds,
            "failed": "",
        }
    failed = "diverged" if isinstance(outcome, Diverged) else "failed"
    missing = dict.fromkeys(("validation", "last", "test", "seconds"), NAN)
    return {"seed": seed, **missing, "failed": failed}


def compare(trainings: pd.DataFrame, *, moderated: bool = False) -> pd.DataFrame:
    """Each idea against its baseline, from the rows of ``train_ideas``.

    Args:
        trainings: what ``train_ideas`` gives.
        moderated: whether intervals and p values are those of
            ``evaluation.moderated_differences``, for many ideas with few seeds each, or of a
            t-test of each idea by itself.

    Returns:
        One row per idea, baselines first. ``family``, ``name``, ``asked``, ``epochs``, ``seeds``
        that finished; ``validation`` with the ends ``validation_low`` and ``validation_high`` of
        its t-interval, ``beside``, that of the baseline with the same seeds, ``last`` with
        ``last_sd`` over seeds, and ``test``: mean accuracies, shares in [0, 1]. ``difference``,
        ``low``, ``high``: from the baseline, in points of validation accuracy, paired by the seeds
        that both have, with the 95 % t-interval, and ``sd``, their standard deviation; ``p`` that
        there is none, and ``p_holm``, corrected for all rows; ``seconds`` of the shortest training
        (what else the machine does can only add), ``parameters``, ``multiply_adds``; ``verdict``:
        "helps" or "hurts" where ``p_holm`` is below 0.05, "too few seeds" where a difference cannot
        be tested, "no difference seen", "diverged" or "failed" where a training did, "baseline".
        NaN where nothing can be said.
    """
    groups = {str(name): part for name, part in trainings.groupby("name", sort=False)}
    against = {
        name: part["against"].iloc[0] if isinstance(part["against"].iloc[0], str) else ""
        for name, part in groups.items()
    }
    pairs = [
        by_seed(part, groups[against[name]]) if against[name] else ([], [])
        for name, part in groups.items()
    ]
    differences = [[100 * (a - b) for a, b in zip(*both, strict=True)] for both in pairs]
    if moderated:
        means, p_values = moderated_differences(differences)
    else:
        means = [mean_or_nothing(values) for values in differences]
        p_values = [paired_p(*both) for both in pairs]
    rows = []
    for (name, part), pair, difference, p in zip(
        groups.items(), pairs, means, p_values, strict=True
    ):
        first, done = part.iloc[0], part.dropna(subset=["validation"])
        validation = mean_or_nothing(done["validation"])
        failed = [why for why in part["failed"] if isinstance(why, str) and why]
        rows.append(
            {
                "family": first["family"],
                "name": name,
                "asked": first["asked"],
                "epochs": first["epochs"],
                "seeds": len(done),
                "validation": validation.mean,
                "validation_low": validation.low,
                "validation_high": validation.high,
                "beside": float(np.mean(pair[1])) if pair[1] else NAN,
                "last": done["last"].mean(),
                "last_sd": done["last"].std(),
                "test": done["test"].mean(),
                "difference": difference.mean,
                "low": difference.low,
                "high": difference.high,
                "sd": difference.sd,
                "p": p,
                "p_holm": NAN,
                "seconds": done["seconds"].min(),
                "parameters": first["parameters"],
                "multiply_adds": first["multiply_adds"],
                "verdict": min(failed) if failed else "" if against[name] else BASELINE,
            }
        )
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"].tolist())
    judged = zip(table["verdict"], table["difference"], table["p_holm"], strict=True)
    table["verdict"] = [_verdict(*row) for row in judged]
    return table


def learning_rate_table(trainings: pd.DataFrame, baseline: float) -> pd.DataFrame:
    """Learning rates against one of them.

    Args:
        trainings: one row each: ``lr``, ``seed``, ``validation`` and ``test`` accuracy, as shares.
        baseline: the rate that the others are compared with.

    Returns:
        One row per rate: ``lr``; ``validation``, mean accuracy, and ``sd`` over seeds, ``test``, in
        percent; ``difference`` from the baseline in points, paired by seed, with its 95 % interval
        ``low`` to ``high``; ``verdict``: "better" or "worse" where that excludes zero, "cannot be
        told apart", "baseline". NaN where nothing can be said.
    """
    base = trainings[trainings["lr"] == baseline]
    rows = []
    for lr, part in trainings.groupby("lr", sort=False):
        mean = mean_interval((100 * part["validation"]).tolist())
        row: dict[str, object] = {"lr": lr, "validation": mean.mean, "sd": mean.sd}
        row["test"] = 100 * part["test"].mean()
        if lr == baseline:
            rows.append(row | {"difference": NAN, "low": NAN, "high": NAN, "verdict": BASELINE})
            continue
        ours, theirs = by_seed(part, base)
        d = mean_interval([100 * (a - b) for a, b in zip(ours, theirs, strict=True)])
        verdict = (
            ("better" if d.mean > 0 else "worse") if d.excludes_zero else "cannot be told apart"
        )
        rows.append(row | {"difference": d.mean, "low": d.low, "high": d.high, "verdict": verdict})
    return pd.DataFrame(rows)


def by_seed(part: pd.DataFrame, baseline: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Validation accuracies of two recipes' trainings, for the seeds with which both finished."""
    both = pd.merge(part, baseline, on="seed", suffixes=("", "_baseline"))
    both = both.dropna(subset=["validation", "validation_baseline"])
    return both["validation"].tolist(), both["validation_baseline"].tolist()


def leading(ideas: Sequence[Idea], table: pd.DataFrame, count: int) -> list[Idea]:
    """The ``count`` ideas with the largest mean difference, at most one of a family.

    Args:
        ideas: what may be chosen.
        table: of ``compare``; other ideas in it are left out, and those that failed.
        count: how many, if there are so many families.
    """
    by_name = {idea.name: idea for idea in ideas}
    known = table[table["name"].isin(by_name)].dropna(subset=["difference"])
    best = known.sort_values("difference", ascending=False, kind="stable").drop_duplicates("family")
    return [by_name[str(name)] for name in best["name"][:count]]


def combined(ideas: Sequence[Idea], table: pd.DataFrame) -> tuple[list[str], Idea]:
    """All that helps, as one idea: of each family the best that helps, larger differences first.

    Args:
        ideas: what may be combined.
        table: of ``compare``; other ideas in it are left out.

    Returns:
        The names of the ideas that were combined, and the idea. One is left out where it changes
        what a better one did.
    """
    changes: dict[str, Any] = {}
    names = []
    for idea in leading(ideas, table[table["verdict"] == HELPS], len(table)):
        if changes.keys().isdisjoint(idea.changes):
            changes |= idea.changes
            names.append(idea.name)
    return names, Idea("combination", "all that helps", "", changes)


def forward_selection(
    experiment: Experiment, ideas: Sequence[Idea], baseline: Recipe, *, most: int = 5
) -> tuple[pd.DataFrame, Idea]:
    """Greedy search: at each step, keep the idea that raises validation accuracy most.

    It ends when no idea that is left raises the mean, or after ``most`` steps. An idea is left out
    once a value that it changes has been chosen, and where it cannot go with what was chosen.

    Returns:
        One row per training: ``step`` (0 is the baseline), ``name`` of the idea that is added,
        ``chosen`` (whether the step kept it), ``seed`` to ``failed`` as in ``train_ideas``; and
        what was chosen as one idea.
    """
    current, changes = baseline.but(name=BASELINE), dict[str, Any]()
    rows: list[dict[str, Any]] = []

    def reached(step: int, name: str, outcomes: Sequence[Outcome]) -> float:
        seeds = range(experiment.first_seed, experiment.first_seed + len(outcomes))
        tried: list[dict[str, Any]] = [
            {"step": step, "name": name, "chosen": step == 0}
            | training_row(seed, outcome, experiment.digits)
            for seed, outcome in zip(seeds, outcomes, strict=True)
        ]
        rows.extend(tried)
        return float(np.mean([row["validation"] for row in tried]))

    best = reached(0, BASELINE, experiment.train([current])[0])
    for step in range(1, most + 1):
        candidates: dict[str, tuple[Idea, Recipe]] = {}
        for idea in ideas:
            if changes.keys().isdisjoint(idea.changes):
                try:
                    candidates[idea.name] = (idea, idea.applied_to(current))
                except ValueError:
                    continue  # such as momentum for Adam
        tried = experiment.train([recipe for _, recipe in candidates.values()])
        means = {
            name: reached(step, name, outcomes)
            for name, outcomes in zip(candidates, tried, strict=True)
        }
        means = {name: mean for name, mean in means.items() if mean > best}
        if not means:
            break
        name = max(means, key=lambda candidate: means[candidate])
        idea, current = candidates[name]
        best, changes = means[name], changes | dict(idea.changes)
        for row in rows:
            row["chosen"] |= (row["step"], row["name"]) == (step, name)
    return pd.DataFrame(rows), Idea("combination", "greedy selection", "", changes)


def selection_steps(trainings: pd.DataFrame) -> pd.DataFrame:
    """One row per step of ``forward_selection``, from its rows.

    Returns:
        ``step``, ``added``, ``candidates`` tried, ``validation`` with ``low`` and ``high`` of its
        t-interval, ``gain`` over the step before, ``test`` (shares in [0, 1]). The highest of
        several means is partly luck: expect less of it with new seeds.
    """
    rows: list[dict[str, Any]] = []
    for step, part in trainings[trainings["chosen"]].groupby("step"):
        mean = mean_or_nothing(part["validation"])
        candidates = trainings.loc[trainings["step"] == step, "name"].nunique() if step else 0
        rows.append(
            {
                "step": step,
                "added": part["name"].iloc[0],
                "candidates": candidates,
                "validation": mean.mean,
                "low": mean.low,
                "high": mean.high,
                "gain": mean.mean - rows[-1]["validation"] if rows else NAN,
                "test": part["test"].mean(),
            }
        )
    return pd.DataFrame(rows)


PARAMETERS = {
    "lr": "learning rate",
    "batch_size": "batch size",
    "epochs": "epochs",
    "kernel_size": "first kernel (pixels)",
    "padding": "padding (pixels)",
    "width": "width (times)",
    "dropout1": "dropout after linear 1 (p)",
    "l1": "L1 penalty (λ)",
    "weight_decay": "L2 penalty (λ)",
    "train_fraction": "share of the baseline's images",
}
"""Fields of a recipe whose values lie on an axis, with the axis's label."""


def responses(ideas: Sequence[Idea], table: pd.DataFrame, baseline: Recipe) -> pd.DataFrame:
    """Validation accuracy against each number that two or more ideas of a family vary alone.

    Args:
        ideas: where the names in ``table`` come from.
        table: of ``compare``.
        baseline: that of the table.

    Returns:
        One row per recipe, the family's baseline included: ``parameter``, a value of
        ``PARAMETERS``; ``value``; ``accuracy``, ``low`` and ``high``, as
        ``figures.response_curves`` takes them.
    """
    own = {**network_options(baseline.model), **dataclasses.asdict(baseline), "train_fraction": 1.0}
    own |= dict(baseline.options)
    columns = {"validation": "accuracy", "validation_low": "low", "validation_high": "high"}
    found = table.set_index("name")[list(columns)].rename(columns=columns).T.to_dict()
    rows: list[dict[str, Any]] = []
    for field, label in PARAMETERS.items():
        alone = [idea for idea in ideas if set(idea.changes) == {field}]
        if len(alone) < 2:
            continue
        is_long = alone[0].family in LONG and LONGER in found
        points = [(LONGER if is_long else BASELINE, own[field])]
        points += [(idea.name, idea.changes[field]) for idea in alone]
        rows += [
            {"parameter": label, "value": float(value)} | found[name] for name, value in points
        ]
    return pd.DataFrame(rows, columns=["parameter", "value", "accuracy", "low", "high"])


def _verdict(said: str, difference: float, p: float) -> str:
    if said:
        return said
    if p < SIGNIFICANCE:
        return HELPS if difference > 0 else HURTS
    return UNDECIDED[1] if math.isnan(p) and difference else UNDECIDED[0]

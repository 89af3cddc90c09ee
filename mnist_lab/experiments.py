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
from mnist_lab.evaluation import Mean, accuracy, holm, mean_interval, paired_difference, paired_p
from mnist_lab.ideas import LONG, Idea
from mnist_lab.models import network_options
from mnist_lab.recipes import Recipe
from mnist_lab.shapes import multiply_adds, parameter_count
from mnist_lab.splits import Split
from mnist_lab.store import Store
from mnist_lab.sweeps import Outcome, finished
from mnist_lab.training import Diverged

HELPS, HURTS = "helps", "hurts"
UNDECIDED = ("no difference seen", "too few seeds")
SIGNIFICANCE = 0.05
NAN = float("nan")


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


def validation_accuracies(outcomes: Sequence[Outcome]) -> dict[int, float]:
    """Share of validation images recognised, by seed, of the trainings that finished."""
    return {f.recipe.seed: f.history.validation_accuracies[-1] for f in finished(outcomes)}


def by_seed(
    outcomes: Sequence[Outcome], baseline: Sequence[Outcome]
) -> tuple[list[float], list[float]]:
    """Validation accuracies of both, for the seeds with which both finished."""
    ours, theirs = validation_accuracies(outcomes), validation_accuracies(baseline)
    both = [seed for seed in ours if seed in theirs]
    return [ours[seed] for seed in both], [theirs[seed] for seed in both]


def mean_or_nothing(values: Sequence[float]) -> Mean:
    """``mean_interval``, NaN in all its numbers where there are no values."""
    return mean_interval(values) if values else Mean(NAN, NAN, NAN, NAN, 0)


def compare_ideas(
    experiment: Experiment,
    ideas: Sequence[Idea],
    baseline: Recipe,
    *,
    long_epochs: int | None = None,
    baseline_seeds: int | None = None,
) -> pd.DataFrame:
    """Each idea against the baseline.

    Args:
        experiment: how to train.
        ideas: what to try.
        baseline: what each idea changes one thing in.
        long_epochs: epochs of the families in ``LONG`` and of their own baseline; those of
            ``baseline`` if not given.
        baseline_seeds: trainings of the baselines, if more than of each idea; pairs are made of
            the seeds that both have.

    Returns:
        One row per recipe, baselines first. ``family``, ``name``, ``asked``, ``epochs``, ``seeds``
        that finished; ``validation`` with the ends ``validation_low`` and ``validation_high`` of
        its t-interval, and ``test``: mean accuracies, shares in [0, 1]. ``difference``, ``low``,
        ``high``: from the baseline, in points of validation accuracy, paired by seed, with the
        95 % t-interval, and ``sd``, their standard deviation; ``p`` of the paired t-test and
        ``p_holm``, corrected for all rows; ``seconds`` of a training, ``parameters``,
        ``multiply_adds`` for an image; ``verdict``: "helps" or "hurts" where ``p_holm`` is below
        0.05, "too few seeds" where a difference cannot be tested, "no difference seen", "diverged"
        or "failed" where a training did, "baseline". NaN where nothing can be said.
    """
    short = baseline.but(name="baseline")
    long = short.but(name="baseline, longer", epochs=long_epochs or short.epochs)
    bases = [short] if long == short else [short, long]
    recipes = [idea.applied_to(long if idea.family in LONG else short) for idea in ideas]
    of_bases = experiment.train(bases, baseline_seeds or experiment.seeds)
    outcomes = experiment.train(recipes)
    rows = [
        _row(Idea("baseline", base.name, "", {}), base, of_base, [], experiment.digits)
        for base, of_base in zip(bases, of_bases, strict=True)
    ]
    for idea, recipe, outcome in zip(ideas, recipes, outcomes, strict=True):
        of_base = of_bases[-1] if idea.family in LONG else of_bases[0]
        rows.append(_row(idea, recipe, outcome, of_base, experiment.digits))
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"].tolist())
    judged = zip(table["verdict"], table["difference"], table["p_holm"], strict=True)
    table["verdict"] = [_verdict(*row) for row in judged]
    return table


def forward_selection(
    experiment: Experiment, ideas: Sequence[Idea], baseline: Recipe, *, most: int = 5
) -> tuple[pd.DataFrame, Recipe]:
    """Greedy search: at each step, keep the idea that raises validation accuracy most.

    It ends when no idea that is left raises the mean, or after ``most`` steps. An idea is left out
    once a value that it changes has been chosen, and where it cannot go with what was chosen.

    Returns:
        One row per step, the baseline first: ``step``, ``added``, ``candidates`` tried,
        ``validation`` with ``low`` and ``high`` of its t-interval, ``gain`` over the step before,
        ``test`` (shares in [0, 1]); and the recipe of the last step. The highest of several
        means is partly luck, so expect less of it with new seeds.
    """
    current = baseline.but(name="baseline")
    outcomes = experiment.train([current])[0]
    rows = [_step(0, "baseline", 0, NAN, outcomes, experiment.digits)]
    chosen: set[str] = set()
    for step in range(1, most + 1):
        candidates = {}
        for idea in ideas:
            if chosen.isdisjoint(idea.changes):
                try:
                    candidates[idea.name] = (idea, idea.applied_to(current))
                except ValueError:
                    continue  # such as momentum for Adam
        if not candidates:
            break
        tried = experiment.train([recipe for _, recipe in candidates.values()])
        reached = {
            name: mean_or_nothing(list(validation_accuracies(outcomes).values())).mean
            for name, outcomes in zip(candidates, tried, strict=True)
            if len(finished(outcomes)) == experiment.seeds
        }
        if not reached or max(reached.values()) <= rows[-1]["validation"]:
            break
        name = max(reached, key=lambda candidate: reached[candidate])
        idea, current = candidates[name]
        chosen |= set(idea.changes)
        outcomes = tried[list(candidates).index(name)]
        gain = reached[name] - rows[-1]["validation"]
        rows.append(_step(step, name, len(candidates), gain, outcomes, experiment.digits))
    return pd.DataFrame(rows), current.but(name="greedy selection")


def combined(
    ideas: Sequence[Idea], table: pd.DataFrame, baseline: Recipe
) -> tuple[list[str], Recipe]:
    """The baseline with the best idea of each family that helps, the largest difference first.

    Args:
        ideas: what may be combined.
        table: of ``compare_ideas``; other ideas in it are left out.
        baseline: what to change. An idea is left out where it changes what a better one did.

    Returns:
        The names of the ideas that were combined, and the recipe.
    """
    by_name = {(idea.family, idea.name): idea for idea in ideas}
    helping = table[table["verdict"] == HELPS].sort_values("difference", ascending=False)
    recipe, changed, names = baseline, set[str](), []
    for row in helping.drop_duplicates("family").itertuples():
        idea = by_name.get((str(row.family), str(row.name)))
        if idea and changed.isdisjoint(idea.changes):
            recipe = idea.applied_to(recipe)
            changed |= set(idea.changes)
            names.append(idea.name)
    return names, recipe.but(name="all that helps")


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
        table: of ``compare_ideas``.
        baseline: that of the table.

    Returns:
        One row per recipe, the family's baseline included: ``parameter``, a value of
        ``PARAMETERS``; ``value``; ``accuracy``, ``low`` and ``high``, as
        ``figures.response_curves`` takes them.
    """
    own = {**network_options(baseline.model), **dataclasses.asdict(baseline), "train_fraction": 1.0}
    own |= dict(baseline.options)
    columns = {"validation": "accuracy", "validation_low": "low", "validation_high": "high"}
    found = table.set_index(["family", "name"])[list(columns)].rename(columns=columns).T.to_dict()
    longer = ("baseline", "baseline, longer")
    rows: list[dict[str, Any]] = []
    for field, label in PARAMETERS.items():
        alone = [idea for idea in ideas if set(idea.changes) == {field}]
        if len(alone) < 2:
            continue
        is_long = alone[0].family in LONG and longer in found
        base = longer if is_long else ("baseline", "baseline")
        points = [(base, own[field])]
        points += [((idea.family, idea.name), idea.changes[field]) for idea in alone]
        rows += [{"parameter": label, "value": float(value)} | found[key] for key, value in points]
    return pd.DataFrame(rows, columns=["parameter", "value", "accuracy", "low", "high"])


def _step(
    step: int,
    added: str,
    candidates: int,
    gain: float,
    outcomes: Sequence[Outcome],
    digits: Digits,
) -> dict[str, Any]:
    mean = mean_or_nothing(list(validation_accuracies(outcomes).values()))
    return {
        "step": step,
        "added": added,
        "candidates": candidates,
        "validation": mean.mean,
        "low": mean.low,
        "high": mean.high,
        "gain": gain,
        "test": _test_accuracy(outcomes, digits),
    }


def _test_accuracy(outcomes: Sequence[Outcome], digits: Digits) -> float:
    reached = [accuracy(digits.test.labels, one.test_logits) for one in finished(outcomes)]
    return float(np.mean(reached)) if reached else NAN


def _row(
    idea: Idea,
    recipe: Recipe,
    outcomes: Sequence[Outcome],
    baseline: Sequence[Outcome],
    digits: Digits,
) -> dict[str, object]:
    fits = finished(outcomes)
    ours, theirs = by_seed(outcomes, baseline)
    validation = mean_or_nothing(list(validation_accuracies(outcomes).values()))
    difference = paired_difference(ours, theirs) if ours else mean_or_nothing([])
    model = recipe.build()
    broken = [outcome for outcome in outcomes if outcome not in fits]
    size = recipe.image_size
    return {
        "family": idea.family,
        "name": idea.name,
        "asked": idea.asked,
        "epochs": recipe.epochs,
        "seeds": len(fits),
        "validation": validation.mean,
        "validation_low": validation.low,
        "validation_high": validation.high,
        "test": _test_accuracy(outcomes, digits),
        "difference": 100 * difference.mean,
        "low": 100 * difference.low,
        "high": 100 * difference.high,
        "sd": 100 * difference.sd,
        "p": paired_p(ours, theirs),
        "p_holm": NAN,
        "seconds": np.median([f.seconds for f in fits] or [NAN]),
        "parameters": parameter_count(model),
        "multiply_adds": multiply_adds(model, (1, size, size)),
        "verdict": _broken(broken) if broken else "baseline" if not baseline else "",
    }


def _broken(outcomes: Sequence[Outcome]) -> str:
    return "diverged" if any(isinstance(outcome, Diverged) for outcome in outcomes) else "failed"


def _verdict(said: str, difference: float, p: float) -> str:
    if said:
        return said
    if p < SIGNIFICANCE:
        return HELPS if difference > 0 else HURTS
    return UNDECIDED[1] if math.isnan(p) and difference else UNDECIDED[0]

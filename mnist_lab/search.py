"""What was tried for FAST and STRONG, judged by images held out of the training set.

The trials of STRONG are half as long as STRONG itself. ACCURATE is STRONG with more of what they
say is worth its time.
The test set has no part in it. ``python -m mnist_lab search`` measures all of it again and writes
``search.csv``, which notebook 3 shows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path

import pandas as pd

from mnist_lab.data import Digits
from mnist_lab.evaluation import mean_or_nothing, paired_difference
from mnist_lab.experiments import by_seed, training_row
from mnist_lab.recipes import FAST, STRONG, Recipe
from mnist_lab.shapes import multiply_adds
from mnist_lab.splits import Split, stratified_split
from mnist_lab.store import Store
from mnist_lab.transforms import Augmentation

TABLE = Path(__file__).with_name("search.csv")
VALIDATION_FRACTION = 1 / 6  # 10,000 of MNIST's training images


@dataclass(frozen=True)
class Trial:
    """One recipe tried: what it is meant to become, what sets it apart, and over how many seeds."""

    base: Recipe
    change: str
    recipe: Recipe
    seeds: int = 3


def _one_change_each(
    base: Recipe, changes: dict[str, dict[str, object]], seeds: int = 3
) -> tuple[Trial, ...]:
    unchanged = Trial(base, "as it is", base, seeds)
    changed = (Trial(base, name, base.but(**values), seeds) for name, values in changes.items())
    return (unchanged, *changed)


SGD_TO_ADAM: dict[str, object] = {
    "optimiser": "adam",
    "lr": 0.01,
    "momentum": 0.0,
    "nesterov": False,
    "weight_decay": 0.0,
}

SHORT_STRONG = STRONG.but(name="STRONG, half as long", epochs=STRONG.epochs // 2)

TRIALS: tuple[Trial, ...] = (
    *_one_change_each(
        FAST,
        {
            "one epoch": {"epochs": 1},
            "three epochs": {"epochs": 3},
            "width 32": {"width": 32},
            "128 hidden units": {"hidden": 128},
            "ReLU in the hidden layer": {"activation": "relu"},
            "lr 0.3": {"lr": 0.3},
            "lr 1.0": {"lr": 1.0},
            "batch 128": {"batch_size": 128},
            "batch 512": {"batch_size": 512},
            "Adam, lr 0.01": SGD_TO_ADAM,
            "constant lr 0.1": {"schedule": "constant", "lr": 0.1},
            "no weight decay": {"weight_decay": 0.0},
            "no label smoothing": {"label_smoothing": 0.0},
            "batches not shifted": {"batch_shift": 0},
            "weights averaged (0.98)": {"averaging": 0.98},
            "each image turned by up to 5°": {"augmentation": Augmentation(rotation=5.0)},
            "border of 2 cut off": {"border": 2},
        },
    ),
    *_one_change_each(
        SHORT_STRONG,
        {
            "eight epochs": {"epochs": 8},
            "width 32": {"width": 32},
            "no augmentation": {"augmentation": Augmentation()},
            "last weights, not averaged": {"averaging": 0.0},
        },
        seeds=2,
    ),
)  # fmt: skip


def search_split(digits: Digits) -> Split:
    """The held-out images of the search: a sixth of the training images, stratified."""
    return stratified_split(digits, VALIDATION_FRACTION)


def search(
    store: Store,
    digits: Digits,
    seeds: int | None = None,
    *,
    jobs: int = 1,
    trials: tuple[Trial, ...] = TRIALS,
    echo: Callable[[str], None] | None = print,
) -> pd.DataFrame:
    """Every trial over several seeds, ``seeds`` of each where given, judged by validation images.

    Returns:
        One row per trial: ``recipe`` (what it was tried for), ``change``, ``seeds`` that finished,
        ``accuracy`` on the validation images with the ends ``low`` and ``high`` of its t-interval,
        ``difference`` from the unchanged recipe, paired by seed, with ``difference_low`` and
        ``difference_high``, and ``cost``, the multiply-adds of a training as a multiple of the
        unchanged recipe's, and ``settings``, which identifies the trial's recipe. Shares lie in
        [0, 1]; NaN where nothing can be said.
    """
    split = search_split(digits)
    wanted = [trial.recipe.seeds(seeds or trial.seeds) for trial in trials]
    outcomes = iter(store.sweep(chain(*wanted), digits, split=split, jobs=jobs, echo=echo))
    by_trial = [list(islice(outcomes, len(recipes))) for recipes in wanted]
    tables = [
        pd.DataFrame(
            [
                training_row(r.seed, o, digits, best_epoch=False)
                for r, o in zip(recipes, tried, strict=True)
            ]
        )
        for recipes, tried in zip(wanted, by_trial, strict=True)
    ]
    bases = {
        t.base.name: part for t, part in zip(trials, tables, strict=True) if t.recipe == t.base
    }
    return pd.DataFrame(
        [_row(t, part, bases[t.base.name]) for t, part in zip(trials, tables, strict=True)]
    )


def _row(trial: Trial, part: pd.DataFrame, base: pd.DataFrame) -> dict[str, object]:
    mean = mean_or_nothing(part["validation"].dropna())
    ours, theirs = by_seed(part, base)
    difference = paired_difference(ours, theirs) if ours else mean_or_nothing([])
    return {
        "recipe": trial.base.name,
        "change": trial.change,
        "seeds": mean.count,
        "accuracy": mean.mean,
        "low": mean.low,
        "high": mean.high,
        "difference": difference.mean,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "cost": _multiply_adds(trial.recipe) / _multiply_adds(trial.base),
        "settings": _settings(trial.recipe),
    }


def _settings(recipe: Recipe) -> str:
    """Twelve characters that differ for recipes that differ in more than their name."""
    return sha256(recipe.but(name="").to_json().encode()).hexdigest()[:12]


def _multiply_adds(recipe: Recipe) -> int:
    """Of the whole training, for each image of the training set."""
    shape = (1, recipe.image_size, recipe.image_size)
    return recipe.epochs * multiply_adds(recipe.build(), shape)


def search_results() -> pd.DataFrame:
    """The table that ``search`` gave when the recipes were chosen, as ``search.csv`` keeps it."""
    return pd.read_csv(TABLE)

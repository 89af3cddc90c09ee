"""What was tried for FAST and STRONG: ideas like the others, against another baseline."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from mnist_lab.data import Digits
from mnist_lab.splits import stratified_split
from mnist_lab.study.experiments import BASELINE, Experiment, compare, plan, train_ideas
from mnist_lab.study.ideas import SEARCHES
from mnist_lab.study.store import Store


def search(store: Store, digits: Digits, seeds: int | None = None, **how: Any) -> pd.DataFrame:
    """Measure again what was tried for FAST and STRONG, judged by a sixth of the training images.

    ``how`` are further fields of ``Experiment``. One row per trial: ``accuracy`` is after the last
    epoch, ``difference`` from the unchanged recipe a share too, ``cost`` the multiply-adds of a
    training as a multiple of the unchanged recipe's, ``settings`` a digest of the recipe.
    """
    split = stratified_split(digits, 1 / 6)
    tables = []
    for baseline, trials, usual_seeds in SEARCHES:
        experiment = Experiment(store, digits, split, seeds or usual_seeds, **how)
        trainings = train_ideas(experiment, trials, baseline)
        table = compare(trainings.assign(validation=trainings["last"]))
        unnamed = [recipe.but(name="").to_json() for _, recipe, _ in plan(trials, baseline)]
        work = table["epochs"] * table["multiply_adds"]
        apart = table[["difference", "low", "high"]].where(table["name"] != BASELINE, 0) / 100
        found = table[["seeds", "validation", "validation_low", "validation_high"]]
        found = found.set_axis(["seeds", "accuracy", "low", "high"], axis=1)
        found[["difference", "difference_low", "difference_high"]] = apart
        found["cost"] = work / work[0]
        found["settings"] = [sha256(one.encode()).hexdigest()[:12] for one in unnamed]
        found.insert(0, "recipe", baseline.name)
        found.insert(1, "change", table["name"].replace(BASELINE, "as it is"))
        tables.append(found)
    return pd.concat(tables, ignore_index=True)


def search_results() -> pd.DataFrame:
    """What ``search`` gave when FAST and STRONG were chosen."""
    return pd.read_csv(Path(__file__).with_name("search.csv"))

"""The search that chose the fast recipes: what it holds out, what it reports, what is on record."""

import numpy as np
import pandas as pd
import pytest
import torch

import mnist_lab as lab
from mnist_lab import search
from mnist_lab.store import Store

TINY = lab.REPORT_A.but(name="tiny", epochs=1, batch_size=32, lr=0.05)
HOT = TINY.but(lr=1e6, epochs=3)
TRIALS = (
    search.Trial(TINY, "as it is", TINY),
    search.Trial(TINY, "two epochs", TINY.but(epochs=2)),
    search.Trial(TINY, "lr too high", HOT),
)


@pytest.fixture(scope="module")
def table(few_digits, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("search"))
    return search.search(store, few_digits, seeds=2, trials=TRIALS, echo=None).set_index("change")


def test_a_sixth_of_the_training_images_is_held_out(few_digits):
    split = search.search_split(few_digits)
    assert (len(split.train), len(split.validation)) == (166, 34)
    together = torch.cat([split.train, split.validation]).sort().values
    assert torch.equal(together, torch.arange(200))


def test_each_trial_is_judged_by_the_images_held_out(few_digits, table):
    split = search.search_split(few_digits)
    reached = [
        lab.fit(
            recipe, few_digits, split=split, device="cpu", echo=None
        ).history.validation_accuracies[-1]
        for recipe in TINY.but(epochs=2).seeds(2)
    ]
    assert table.loc["two epochs", "accuracy"] == pytest.approx(np.mean(reached))
    expected = lab.mean_interval(reached)
    assert table.loc["two epochs", "low"] == pytest.approx(expected.low)


def test_the_unchanged_recipe_differs_from_itself_by_nothing(table):
    row = table.loc["as it is"]
    assert (row["difference"], row["difference_low"], row["difference_high"]) == (0, 0, 0)
    assert row["cost"] == 1


def test_twice_the_epochs_cost_twice_as_much(table):
    assert table.loc["two epochs", "cost"] == 2


def test_a_trial_that_diverges_is_a_row_without_numbers(table):
    row = table.loc["lr too high"]
    assert row["seeds"] == 0
    assert np.isnan(row["accuracy"]) and np.isnan(row["difference"])


def test_each_trial_has_its_own_number_of_seeds(few_digits, tmp_path):
    trials = (
        search.Trial(TINY, "as it is", TINY, seeds=3),
        search.Trial(TINY, "two epochs", TINY.but(epochs=2), seeds=2),
    )
    table = search.search(Store(tmp_path), few_digits, trials=trials, echo=None)
    assert table["seeds"].tolist() == [3, 2]
    assert table["difference_low"].notna().all()


def test_every_trial_differs_from_its_base_in_what_it_says_and_appears_once():
    changes = [(trial.base.name, trial.change) for trial in search.TRIALS]
    assert len(set(changes)) == len(changes)
    for trial in search.TRIALS:
        assert (trial.recipe == trial.base) == (trial.change == "as it is"), trial.change
    assert len({trial.recipe for trial in search.TRIALS}) == len(search.TRIALS)


def test_the_record_is_of_the_trials_of_this_course():
    record = lab.search_results()
    assert set(zip(record["recipe"], record["change"], strict=True)) == {
        (trial.base.name, trial.change) for trial in search.TRIALS
    }
    assert (record["seeds"] >= 2).all()
    none = pd.DataFrame(columns=["seed", "validation"])
    again = {(t.base.name, t.change): search._row(t, none, none) for t in search.TRIALS}
    rows = [again[key] for key in zip(record["recipe"], record["change"], strict=True)]
    np.testing.assert_allclose(record["cost"], [row["cost"] for row in rows], atol=1e-6)
    assert record["settings"].tolist() == [row["settings"] for row in rows]


def test_settings_differ_where_recipes_do_and_not_with_the_name():
    assert search._settings(TINY.but(name="other")) == search._settings(TINY)
    assert len({search._settings(trial.recipe) for trial in search.TRIALS}) == len(search.TRIALS)


def test_the_recipes_for_speed_and_accuracy_were_searched_for():
    assert {trial.base for trial in search.TRIALS} == {lab.FAST, search.SHORT_STRONG}
    assert search.SHORT_STRONG.but(epochs=8) == lab.STRONG
    larger = {"width": 32, "averaging": 0.998, "epochs": 20}
    assert lab.STRONG.but(**larger) == lab.ACCURATE

"""Ideas, many of them compared with one baseline, and what was tried for FAST and STRONG."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import mnist_lab as lab
from mnist_lab.data import Images
from mnist_lab.models import network_options
from mnist_lab.study import experiments, ideas
from mnist_lab.study.experiments import Experiment, compare
from mnist_lab.study.search import search
from mnist_lab.study.store import Store

TINY = lab.REPORT_A.but(name="tiny", epochs=2, batch_size=20, lr=0.05)
HOT = lab.Idea("learning rate", "far too high", "", {"lr": 1e6})
NAMES = ["lr 0.1", "lr 0.2", "Adam, lr 0.001", "L1 1e-2", "L1 1e-3", "50 % of the images"]
TRIED = (*ideas.choose(NAMES), HOT)


@pytest.fixture(scope="module")
def experiment(few_digits, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("experiments"))
    split = lab.stratified_split(few_digits, 0.3)
    return Experiment(store, few_digits, split, seeds=2, first_seed=1, device="cpu", echo=None)


@pytest.fixture(scope="module")
def trainings(experiment):
    return experiments.train_ideas(experiment, TRIED, TINY, long_epochs=3, baseline_seeds=3)


@pytest.fixture(scope="module")
def table(trainings):
    return compare(trainings).set_index("name", drop=False)


def accuracies(digits, split, *recipes):
    fits = [lab.fit(r, digits, split=split, device="cpu", echo=None) for r in recipes]
    return [fitted.history.validation_accuracies[-1] for fitted in fits]


def reached(experiment, recipe):
    return accuracies(experiment.digits, experiment.split, *recipe.seeds(2, 1))


def made_up(**validation):
    """Rows of ``train_ideas`` with these validation accuracies; the first name is the baseline."""
    fixed = ["family", "proposed_by", "epochs", "parameters", "multiply_adds", "seconds"]
    rows = [
        {**dict.fromkeys(fixed, 0), **dict.fromkeys(["validation", "last", "test"], value)}
        | {"name": name, "against": "" if name == "base" else "base", "seed": seed, "failed": ""}
        for name, values in validation.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_the_catalogue_has_unique_names_with_a_question_and_is_chosen_from_by_name():
    assert len({idea.name for idea in ideas.CATALOGUE}) == len(ideas.CATALOGUE)
    assert {idea.family for idea in ideas.CATALOGUE} == set(ideas.QUESTIONS)
    assert {idea.proposed_by for idea in ideas.CATALOGUE} == {"", "A", "B", "A, B"}
    assert [idea.name for idea in ideas.choose(["kernel 3", "lr 0.1"])] == ["lr 0.1", "kernel 3"]
    assert len(ideas.choose(ideas.EIGHT)) == 8
    with pytest.raises(ValueError, match="kernel 4"):
        ideas.choose(["lr 0.1", "kernel 4"])


GROUPS = [(lab.REPORT_A.but(epochs=5), ideas.CATALOGUE), *(one[:2] for one in ideas.SEARCHES)]


@pytest.mark.parametrize(("baseline", "group"), GROUPS)
def test_each_idea_changes_its_baseline_and_makes_a_network(baseline, group):
    for idea in group:
        recipe = idea.applied_to(baseline)
        assert recipe != baseline and recipe.name == idea.name
        values = network_options(recipe.model) | dict(recipe.options) | vars(recipe)
        assert {name: values[name] for name in idea.changes} == idea.changes, idea.name
        recipe.build()
    (half,) = ideas.choose(["50 % of the images"])  # of those that the baseline uses
    assert half.applied_to(baseline.but(train_fraction=0.4)).train_fraction == 0.2


@pytest.mark.parametrize(
    ("name", "recipe", "baseline"),
    [("lr 0.2", TINY.but(lr=0.2), TINY),
     ("L1 1e-2", TINY.but(epochs=3, l1=0.01), TINY.but(epochs=3))],
)  # fmt: skip
def test_an_idea_is_compared_seed_by_seed_with_the_baseline_of_its_length(
    experiment, table, name, recipe, baseline
):
    ours, theirs = reached(experiment, recipe), reached(experiment, baseline)
    expected, row = lab.paired_difference(ours, theirs), table.loc[name]
    assert row["seeds"] == 2 and row["epochs"] == recipe.epochs
    assert row["validation"] == pytest.approx(np.mean(ours))
    assert row["baseline_validation"] == pytest.approx(np.mean(theirs))
    bounds = [100 * expected.mean, 100 * expected.low, 100 * expected.high]
    assert row[["difference", "low", "high"]].tolist() == pytest.approx(bounds)


def test_baselines_stand_first_and_a_recipe_that_diverges_has_no_numbers(experiment, table):
    assert table["name"].tolist()[:2] == ["baseline", "baseline, longer"]
    assert table["seeds"].tolist()[:2] == [3, 3] and table["difference"][:2].isna().all()
    row = table.loc["far too high"]
    assert row["verdict"] == "diverged" and row["seeds"] == 0
    assert row[["validation", "difference", "test", "p"]].isna().all()
    same_length = experiments.train_ideas(experiment, ideas.choose(["L1 1e-2"]), TINY)
    assert same_length["name"].unique().tolist() == ["baseline", "L1 1e-2"]


def test_comparison_of_trainings_read_back_from_a_file_is_the_same(trainings, table, tmp_path):
    trainings.to_csv(tmp_path / "trainings.csv", index=False)
    again = compare(pd.read_csv(tmp_path / "trainings.csv"))
    pd.testing.assert_frame_equal(again, table.reset_index(drop=True), check_dtype=False)


@pytest.mark.parametrize(
    ("values", "verdict", "of_rates"),
    [([0.91, 0.92, 0.94], "helps", "better"), ([0.889, 0.9, 0.921], "hurts", "worse"),
     ([0.95, 0.89, 0.97], "no difference seen", "cannot be told apart"),
     ([0.9, 0.91, 0.93], "no difference seen", "cannot be told apart"),
     ([0.5], "too few seeds", "cannot be told apart")],
)  # fmt: skip
def test_verdict_needs_more_than_chance(values, verdict, of_rates):
    rows = made_up(base=[0.9, 0.912, 0.931], idea=values)
    assert compare(rows)["verdict"].tolist() == ["baseline", verdict]
    rates = rows.assign(lr=rows["name"].map({"base": 0.1, "idea": 0.3}))
    found = experiments.learning_rate_table(rates, 0.1)["verdict"].tolist()
    assert found == ["baseline", of_rates]


@pytest.mark.parametrize("moderated", [False, True])
def test_p_values_are_corrected_for_all_comparisons_that_could_be_made(moderated):
    values = {"base": [0.9, 0.91, 0.93], "a": [0.91, 0.92, 0.95], "b": [0.93, 0.9, 0.92]}
    rows = made_up(**values, c=[0.9, 0.9, 0.94], single=[0.9])
    table = compare(rows, moderated=moderated)
    np.testing.assert_allclose(table["p_holm"], lab.holm(table["p"].tolist()))
    assert table["p_holm"].count() == 3
    apart = [100 * np.subtract(rows.loc[rows["name"] == name, "validation"], values["base"])
             for name in ("a", "b", "c")]  # fmt: skip
    means, _ = lab.moderated_differences(apart)
    assert (table["low"][1] == pytest.approx(means[0].low)) == moderated


def test_learning_rates_are_compared_with_the_baselines(experiment):
    trainings = experiments.train_learning_rates(experiment, [0.2, 0.05, 0.01], TINY)
    table = experiments.learning_rate_table(trainings, 0.05).set_index("lr")
    assert list(table.index) == [0.01, 0.05, 0.2]
    ours, theirs = (100 * np.array(reached(experiment, TINY.but(lr=lr))) for lr in (0.2, 0.05))
    expected, mean = lab.paired_difference(ours, theirs), lab.mean_interval(ours)
    found = table.loc[0.2, ["validation", "sd", "difference", "high"]].tolist()
    assert found == pytest.approx([mean.mean, mean.sd, expected.mean, expected.high])


def test_responses_have_each_value_and_the_baseline_of_its_length(table):
    curves = experiments.responses(TRIED, table, TINY).set_index(["parameter", "value"])
    assert set(curves.index.get_level_values(0)) == {"learning rate", "L1 penalty (λ)"}
    found = curves["accuracy"].to_dict()
    assert found["learning rate", 0.05] == table.loc["baseline", "validation"]
    assert found["L1 penalty (λ)", 0.0] == table.loc["baseline, longer", "validation"]
    assert found["L1 penalty (λ)", 0.01] == table.loc["L1 1e-2", "validation"]


def test_the_best_of_each_family_leads_and_is_combined_if_it_helps(table):
    better = {"lr 0.1": 1, "lr 0.2": 2, "50 % of the images": 3, "Adam, lr 0.001": 0.5}
    judged = table.assign(verdict="no difference seen", difference=-1.0)
    for name, difference in better.items():
        judged.loc[name, ["verdict", "difference"]] = "helps", difference
    first = experiments.leading(TRIED, judged, 3)
    assert [idea.name for idea in first] == ["50 % of the images", "lr 0.2", "Adam, lr 0.001"]
    assert HOT not in experiments.leading(TRIED, table, 99)
    names, idea = experiments.combined(TRIED, judged)
    assert names == ["50 % of the images", "lr 0.2"]  # Adam comes with a learning rate of its own
    assert idea.changes == {"train_fraction": 0.5, "lr": 0.2}
    assert experiments.combined(TRIED, table.assign(verdict="hurts"))[0] == []


def test_forward_selection_adds_what_gains_most_until_nothing_gains(experiment):
    few = ideas.choose(["lr 0.2", "momentum 0.9, lr 0.014", "Adam, lr 0.001", "batch 512"])
    rows, idea = experiments.forward_selection(experiment, [*few, HOT], TINY, most=3)
    steps = experiments.selection_steps(rows)
    means = {one.name: np.mean(reached(experiment, one.applied_to(TINY))) for one in few}
    assert steps["validation"][0] == pytest.approx(np.mean(reached(experiment, TINY)))
    assert steps["added"][1] == max(means, key=lambda name: means[name])
    assert steps["candidates"].tolist()[:2] == [0, 5] and (steps["gain"][1:] > 0).all()
    last = np.mean(reached(experiment, idea.applied_to(TINY)))
    assert last == pytest.approx(steps["validation"].iloc[-1])
    rows, idea = experiments.forward_selection(experiment, [HOT], TINY)
    assert experiments.selection_steps(rows)["added"].tolist() == ["baseline"]
    assert rows["name"].unique().tolist() == ["baseline", "far too high"] and not idea.changes


def test_the_record_of_the_search_is_of_trials_judged_by_a_sixth_of_the_images(
    few_digits, tmp_path
):
    parts = [Images(part.images[:n], part.labels[:n])
             for part, n in ((few_digits.train, 60), (few_digits.test, 5))]  # fmt: skip
    digits = dataclasses.replace(few_digits, train=parts[0], test=parts[1])
    again = search(Store(tmp_path), digits, 2, device="cpu", echo=None)
    record = lab.search_results()
    trial = ["recipe", "change", "settings"]
    assert record[trial].to_numpy().tolist() == again[trial].to_numpy().tolist()
    assert list(record) == list(again) and record["settings"].is_unique
    np.testing.assert_allclose(record["cost"], again["cost"], atol=1e-6)
    recipes = [*lab.FAST.but(epochs=3).seeds(2), *lab.FAST.seeds(2)]
    values = accuracies(digits, lab.stratified_split(digits, 1 / 6), *recipes)
    expected = lab.paired_difference(values[:2], values[2:])
    row = again.set_index("change").loc["three epochs"]
    found = row[["accuracy", "difference", "difference_high"]].tolist()
    assert found == pytest.approx([np.mean(values[:2]), expected.mean, expected.high])
    assert (again.loc[again["change"] == "as it is", "difference"] == 0).all()


def test_the_recipes_for_speed_and_accuracy_were_searched_for():
    (fast, _, _), (half, _, _) = ideas.SEARCHES
    assert fast == lab.FAST and half.but(epochs=8) == lab.STRONG
    assert lab.STRONG.but(width=32, averaging=0.998, epochs=20) == lab.ACCURATE

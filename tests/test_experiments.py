"""The catalogue of ideas, and how many of them are compared with one baseline."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

import mnist_lab as lab
from mnist_lab import experiments, ideas
from mnist_lab.experiments import Experiment
from mnist_lab.store import Store

TINY = lab.REPORT_A.but(name="tiny", epochs=2, batch_size=20, lr=0.05)
HOT = lab.Idea("learning rate", "far too high", "", {"lr": 1e6})
TRIED = (
    *ideas.choose(
        ["lr 0.1", "lr 0.2", "Adam, lr 0.001", "L1 1e-2", "L1 1e-3", "50 % of the images"]
    ),
    HOT,
)


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
    return experiments.compare(trainings)


def accuracies(experiment, recipe, seeds=2):
    return [
        lab.fit(
            recipe.but(seed=seed),
            experiment.digits,
            split=experiment.split,
            device="cpu",
            echo=None,
        ).history.validation_accuracies[-1]
        for seed in range(1, 1 + seeds)
    ]


def test_names_of_ideas_are_unique_and_families_have_a_question():
    assert len({idea.name for idea in ideas.CATALOGUE}) == len(ideas.CATALOGUE)
    assert {idea.family for idea in ideas.CATALOGUE} == set(ideas.QUESTIONS)
    assert set(ideas.QUESTIONS) > ideas.LONG
    assert {idea.asked for idea in ideas.CATALOGUE} == {"", "A", "B", "A, B"}


@pytest.mark.parametrize("idea", ideas.CATALOGUE, ids=lambda idea: idea.name)
def test_each_idea_changes_report_a_and_makes_a_network(idea):
    recipe = idea.applied_to(lab.REPORT_A.but(epochs=5))
    assert recipe != lab.REPORT_A.but(epochs=5)
    assert recipe.name == idea.name
    values = dict(recipe.options) | dataclasses.asdict(recipe)
    for name, value in idea.changes.items():
        if name != "augmentation":
            assert values[name] == pytest.approx(value) if name != "optimiser" else value
    recipe.build()


def test_a_share_of_images_is_a_share_of_what_the_baseline_uses():
    (half,) = ideas.choose(["50 % of the images"])
    assert half.applied_to(lab.REPORT_A.but(train_fraction=0.4)).train_fraction == 0.2


def test_ideas_are_chosen_by_name_in_the_order_of_the_catalogue():
    assert [idea.name for idea in ideas.choose(["kernel 3", "lr 0.1"])] == ["lr 0.1", "kernel 3"]
    assert len(ideas.choose(ideas.EIGHT)) == 8
    with pytest.raises(ValueError, match="kernel 4"):
        ideas.choose(["lr 0.1", "kernel 4"])


def test_an_idea_is_compared_with_the_baseline_seed_by_seed(experiment, table):
    row = table.set_index("name").loc["lr 0.2"]
    ours, theirs = (accuracies(experiment, recipe) for recipe in (TINY.but(lr=0.2), TINY))
    expected = lab.paired_difference(ours, theirs)
    assert row["validation"] == pytest.approx(np.mean(ours))
    assert row["difference"] == pytest.approx(100 * expected.mean)
    assert (row["low"], row["high"]) == pytest.approx((100 * expected.low, 100 * expected.high))
    assert row["seeds"] == 2


def test_ideas_against_overfitting_have_a_longer_baseline(experiment, table):
    row = table.set_index("name").loc["L1 1e-2"]
    assert row["epochs"] == 3
    longer = TINY.but(epochs=3)
    ours, theirs = (accuracies(experiment, r) for r in (longer.but(l1=0.01), longer))
    assert row["difference"] == pytest.approx(100 * (np.mean(ours) - np.mean(theirs)))


def test_baselines_stand_first_with_their_own_number_of_seeds(table):
    assert table["name"].tolist()[:2] == ["baseline", "baseline, longer"]
    assert table["seeds"].tolist()[:2] == [3, 3]
    assert table["verdict"].tolist()[:2] == ["baseline", "baseline"]
    assert table["difference"][:2].isna().all()


def test_one_baseline_is_enough_where_none_is_longer(experiment):
    table = experiments.train_ideas(experiment, ideas.choose(["L1 1e-2"]), TINY)
    table = experiments.compare(table)
    assert table["name"].tolist() == ["baseline", "L1 1e-2"]


def test_a_recipe_that_diverges_is_a_row_without_numbers(table):
    row = table.set_index("name").loc["far too high"]
    assert row["verdict"] == "diverged" and row["seeds"] == 0
    assert math.isnan(row["difference"]) and math.isnan(row["test"])


def test_p_values_are_corrected_for_all_comparisons_that_could_be_made(table):
    tested = table.dropna(subset=["p"])
    assert len(tested)
    np.testing.assert_allclose(tested["p_holm"], lab.holm(tested["p"].tolist()))


@pytest.mark.parametrize(
    ("difference", "p", "verdict"),
    [(1.0, 0.01, "helps"), (-1.0, 0.01, "hurts"), (5.0, 0.06, "no difference seen"),
     (0.0, math.nan, "no difference seen"), (5.0, math.nan, "too few seeds")],
)  # fmt: skip
def test_verdict_needs_a_small_corrected_p(difference, p, verdict):
    assert experiments._verdict("", difference, p) == verdict


def test_responses_have_each_value_and_the_baseline_of_its_length(table):
    curves = experiments.responses(TRIED, table, TINY).set_index(["parameter", "value"])
    by_name = table.set_index("name")["validation"]
    assert set(curves.index.get_level_values(0)) == {"learning rate", "L1 penalty (λ)"}
    assert curves.loc[("learning rate", 0.05), "accuracy"] == by_name["baseline"]
    assert curves.loc[("L1 penalty (λ)", 0.0), "accuracy"] == by_name["baseline, longer"]
    assert curves.loc[("L1 penalty (λ)", 0.01), "accuracy"] == by_name["L1 1e-2"]


def test_comparison_of_trainings_read_back_from_a_file_is_the_same(trainings, table, tmp_path):
    trainings.to_csv(tmp_path / "trainings.csv", index=False)
    again = experiments.compare(pd.read_csv(tmp_path / "trainings.csv"))
    pd.testing.assert_frame_equal(again.fillna({"asked": ""}), table)


def judged(table, differences):
    """The table, with these differences for these ideas, which help."""
    table = table.assign(verdict="no difference seen", difference=-1.0).set_index("name")
    table.loc[list(differences), "verdict"] = "helps"
    table.loc[list(differences), "difference"] = list(differences.values())
    return table.reset_index()


def test_leading_ideas_have_the_largest_differences_one_of_a_family(table):
    better = {"lr 0.1": 1, "lr 0.2": 2, "50 % of the images": 3, "L1 1e-3": 0.5}
    first = experiments.leading(TRIED, judged(table, better), 3)
    assert [idea.name for idea in first] == ["50 % of the images", "lr 0.2", "L1 1e-3"]
    tunable = [idea for idea in TRIED if idea.family != "training images"]
    assert [i.name for i in experiments.leading(tunable, judged(table, better), 1)] == ["lr 0.2"]
    assert "far too high" not in [i.name for i in experiments.leading(TRIED, table, 99)]


def test_the_best_of_each_family_that_helps_is_combined(table):
    better = {"lr 0.1": 1, "lr 0.2": 2, "50 % of the images": 3, "Adam, lr 0.001": 0.5}
    names, idea = experiments.combined(TRIED, judged(table, better))
    assert names == ["50 % of the images", "lr 0.2"]  # Adam comes with a learning rate of its own
    recipe = idea.applied_to(TINY)
    assert (recipe.lr, recipe.train_fraction, recipe.optimiser) == (0.2, 0.5, "sgd")
    names, nothing = experiments.combined(TRIED, table.assign(verdict="hurts"))
    assert names == [] and not nothing.changes


def test_forward_selection_adds_what_gains_most_until_nothing_gains(experiment):
    few = ideas.choose(["lr 0.2", "momentum 0.9, lr 0.014", "Adam, lr 0.001", "batch 512"])
    rows, idea = experiments.forward_selection(experiment, few, TINY, most=3)
    steps = experiments.selection_steps(rows)
    reached = {one.name: np.mean(accuracies(experiment, one.applied_to(TINY))) for one in few}
    base = np.mean(accuracies(experiment, TINY))
    assert steps["validation"][0] == pytest.approx(base)
    best = max(reached, key=lambda name: reached[name])
    assert reached[best] > base and steps["added"][1] == best
    assert (steps["validation"].diff()[1:] > 0).all()
    assert steps["gain"][1:].tolist() == pytest.approx(steps["validation"].diff()[1:].tolist())
    assert steps["candidates"][1] == len(few)
    last = accuracies(experiment, idea.applied_to(TINY))
    assert np.mean(last) == pytest.approx(steps["validation"].iloc[-1])


def test_forward_selection_stops_where_nothing_gains(experiment):
    rows, idea = experiments.forward_selection(experiment, [HOT], TINY)
    assert experiments.selection_steps(rows)["added"].tolist() == ["baseline"]
    assert rows["name"].unique().tolist() == ["baseline", "far too high"]
    assert not idea.changes


def test_p_value_is_scipys_and_none_for_samples_that_say_nothing():
    from scipy import stats

    ours, theirs = [0.98, 0.97, 0.99], [0.97, 0.95, 0.985]
    assert lab.paired_p(ours, theirs) == stats.ttest_rel(ours, theirs).pvalue
    for values in ([], [0.9], [0.9, 0.8]):
        assert math.isnan(lab.paired_p(values, [v - 0.1 for v in values]))
    with pytest.raises(ValueError, match="pairs"):
        lab.paired_p([0.9, 0.8], [0.9])

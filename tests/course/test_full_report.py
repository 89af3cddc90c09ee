"""The committed report of the full run holds what it says."""

import json
import re

import pandas as pd
import pytest

from mnist_lab.course.settings import PROFILES
from mnist_lab.course.verify import verify
from mnist_lab.data import PROJECT
from mnist_lab.study.ideas import CATALOGUE
from mnist_lab.study.predictions import read_predictions

FULL = PROJECT / "report" / "mnist-full"
NETWORKS = ("report_a", "report_b", "report_b_code", "fast", "strong", "accurate")


@pytest.fixture(scope="module")
def provenance() -> dict:
    return json.loads((FULL / "provenance.json").read_text(encoding="utf-8"))


def test_it_verifies_and_most_of_its_numbers_are_computed_again():
    checks = verify(FULL)
    assert [problem for check in checks for problem in check.problems] == []
    (said,) = [check.what for check in checks if check.what.startswith("metrics.json")]
    again, total = map(int, re.findall(r"\d+", said)[:2])
    assert again >= 0.7 * total


def test_it_is_of_the_full_profile_on_mnist(provenance):
    assert provenance["dataset"]["name"] == "mnist"
    assert provenance["profile"] == "full" and provenance["given"] == {}
    for notebook, used in provenance["parameters"].items():
        values = PROFILES["full"].get(notebook, {})
        assert {name: used[name] for name in values} == values


@pytest.mark.parametrize("name", NETWORKS)
def test_predictions_of_every_network_are_there(name):
    kept = read_predictions(FULL / "predictions" / f"{name}.npz")
    assert kept.logits.shape[1:] == (10_000, 10) and len(kept.seeds) >= 2


def test_every_idea_has_three_seeds_and_the_baseline_ten():
    table = pd.read_csv(FULL / "tables" / "optimisation.csv").set_index("name")
    assert set(table.index) == {idea.name for idea in CATALOGUE} | {"baseline", "baseline, longer"}
    trained = pd.read_csv(FULL / "tables" / "optimisation_trainings.csv")["name"].value_counts()
    assert trained.min() >= 3 and trained["baseline"] >= 10


def test_its_files_are_small_enough_to_keep():
    for name in ("report.html", "report.pdf"):
        assert (FULL / name).stat().st_size < 4_000_000
    assert sum(path.stat().st_size for path in FULL.glob("predictions/*.npz")) < 8_000_000


def test_no_file_names_a_folder_of_the_machine_that_made_it():
    for path in [*FULL.glob("*.json"), *FULL.rglob("*.ipynb"), *FULL.glob("*.html")]:
        found = re.search(r"/(home|root|tmp|work)/", path.read_text(encoding="utf-8"))
        assert not found, path.name

"""A finished run is checked against itself, and every change of it is named."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mnist_lab.course.report import FILTERS
from mnist_lab.course.run import RunFolder
from mnist_lab.course.verify import check_page, check_results, retrain, verify


def refresh_manifest(folder: Path, *changed: str) -> None:
    """What a forger would do: list the changed files' new digests."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for name in changed:
        manifest[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def problems_of_results(folder: Path) -> list[str]:
    """Without the page, which takes seconds."""
    return [p for check in check_results(RunFolder(folder)) for p in check.problems]


def change_cell(folder: Path, name: str, row: int | slice, column: str, change: float) -> None:
    path = folder / "tables" / f"{name}.csv"
    frame = pd.read_csv(path)
    frame[column] = frame[column].astype(float)
    frame.loc[row, column] += change
    frame.to_csv(path, index=False)


def change_number(folder: Path, section: str, **changes: object) -> None:
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics[section] |= changes
    path.write_text(json.dumps(metrics), encoding="utf-8")


@pytest.fixture
def copy(course, tmp_path) -> Path:
    return Path(shutil.copytree(course[0], tmp_path / "copy"))


def test_the_command_verifies_a_finished_run_and_changes_nothing(course):
    before = {path: path.stat().st_mtime_ns for path in course[0].rglob("*")}
    command = [sys.executable, "-m", "mnist_lab", "verify", str(course[0])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert all(line.startswith("holds") for line in lines[:-1])
    assert lines[-1] == f"All {len(lines) - 1} checks hold."
    assert {path: path.stat().st_mtime_ns for path in course[0].rglob("*")} == before


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("comparison", "accuracy"),
        ("digits", "recall_low"),
        ("mcnemar", "p (Holm)"),
        ("confusion_summed", "3"),
        ("calibration", "after"),
        ("coverage", "errors"),
        ("overfitting", "rise"),
        ("learning_rates", "high"),
        ("optimisation", "p_holm"),
        ("confirmation", "difference"),
        ("shifts", "low"),
    ],
)
def test_a_changed_cell_of_a_table_is_named(copy, name, column):
    last = len(pd.read_csv(copy / "tables" / f"{name}.csv")) - 1
    change_cell(copy, name, last, column, 0.01)
    where = f"tables/{name}.csv, row {last + 1}, {column}"
    found = problems_of_results(copy)
    assert found and all(problem.startswith(where) for problem in found)


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("data", "twos", 1),
        ("training", "ladder_ratio", 20.5),
        ("training", "epochs", 20),
        ("evaluation", "errors", 1),
        ("evaluation", "cv_mean", 0.99),
        ("evaluation", "trainings_that_rise", 99),
        ("evaluation", "sturdiest", {}),
        ("optimization", "helped", ["lr 0.2"]),
        ("optimization", "fresh_seeds", 100),
    ],
)
def test_a_changed_number_is_named(copy, section, name, value):
    change_number(copy, section, **{name: value})
    found = [problem.split(":")[0] for problem in problems_of_results(copy)]
    assert found == [f"metrics.json, {section}.{name}"]


def test_a_changed_training_changes_what_rests_on_it(copy):
    change_cell(copy, "optimisation_trainings", 5, "validation", 0.05)
    assert any(p.startswith("tables/optimisation.csv") for p in problems_of_results(copy))


def test_a_changed_prediction_is_named_with_what_rests_on_it(copy):
    path = copy / "predictions" / "report_a.npz"
    with np.load(path, allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in kept.files}
    right = int((arrays["logits"][0].argmax(1) == arrays["labels"]).argmax())
    arrays["logits"][0, right] = np.roll(arrays["logits"][0, right], 1)
    np.savez_compressed(path, **arrays)
    found = [problem for check in verify(copy) for problem in check.problems]
    assert any("predictions/report_a.npz is not the file" in problem for problem in found)
    assert any(p.startswith("tables/comparison.csv, row 1, accuracy") for p in found)
    assert any(p.startswith("metrics.json, evaluation.accuracy:") for p in found)


def test_a_file_that_cannot_be_read_does_not_stop_the_other_checks(copy):
    (copy / "tables" / "shifts.csv").write_bytes(b"\x00\xff\x00")
    found = problems_of_results(copy)
    assert len(found) == 1 and "shifts.csv cannot be read" in found[0]


@pytest.mark.parametrize("added", ["99.99 %", "<script>alert(1)</script>"])
def test_a_page_that_says_something_else_is_named(copy, added):
    metrics = json.loads((copy / "metrics.json").read_text(encoding="utf-8"))
    printed = FILTERS["percent"](metrics["evaluation"]["accuracy"])
    path = copy / "report.html"
    path.write_text(path.read_text(encoding="utf-8").replace(printed, added), encoding="utf-8")
    problems = check_page(copy).problems
    assert problems and all(problem.startswith("report.html after") for problem in problems)
    assert f"'{added.split()[0].split('>')[0]}" in problems[0]


def test_a_painted_figure_in_the_page_is_named(copy):
    path, painted = copy / "report.html", io.BytesIO()
    Image.new("RGB", (300, 200), "green").save(painted, "PNG")
    data = f'"data:image/png;base64,{base64.b64encode(painted.getvalue()).decode()}"'
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r'"data:image/png[^"]*"', data, text, count=1), encoding="utf-8")
    assert check_page(copy).problems == ("report.html: figure 1 is not the one in figures/",)


def test_files_that_are_missing_or_were_added_are_named(copy):
    (copy / "tables" / "coverage.csv").unlink()
    (copy / "tables" / "mine\x1b[2J.csv").write_text("a\n1\n")
    command = [sys.executable, "-m", "mnist_lab", "verify", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == ""
    assert "tables/coverage.csv is missing" in done.stdout
    assert "tables/mine�[2J.csv is not in the manifest" in done.stdout
    assert re.search(r"\d+ of \d+ checks do not hold", done.stdout)


def test_what_is_no_run_cannot_be_verified(tmp_path):
    command = [sys.executable, "-m", "mnist_lab", "verify", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "is no finished run" in done.stderr


def test_training_an_idea_again_reaches_what_the_run_recorded(copy):
    lines: list[str] = []
    checks = retrain(copy, 2, seed=3, echo=lines.append)
    assert [check.problems for check in checks] == [(), ()]
    assert len(lines) >= 2
    change_cell(copy, "optimisation_trainings", slice(None), "validation", -0.5)
    (apart,) = retrain(copy, 1, seed=3, echo=lines.append)
    assert apart.problems

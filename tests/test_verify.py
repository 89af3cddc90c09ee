"""A finished run is checked against itself, and every change of it is named."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mnist_lab import recompute, report
from mnist_lab.verify import retrain, verify


def refresh_manifest(folder: Path, *changed: str) -> None:
    """What a forger would do: list the changed files' new digests."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for name in changed:
        manifest[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def differing(folder: Path) -> list[str]:
    return [problem for check in verify(folder) for problem in check.problems]


@pytest.fixture
def copy(course, tmp_path) -> Path:
    return Path(shutil.copytree(course[0], tmp_path / "copy"))


def test_the_command_verifies_a_finished_run(course):
    before = {path: path.stat().st_mtime_ns for path in course[0].rglob("*")}
    done = subprocess.run(
        [sys.executable, "-m", "mnist_lab", "verify", str(course[0])],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert all(line.startswith("holds") for line in lines[:-1])
    assert lines[-1] == f"All {len(lines) - 1} checks hold."
    assert {path: path.stat().st_mtime_ns for path in course[0].rglob("*")} == before


def change_cell(folder: Path, name: str, row: int, column: str, change: float) -> None:
    path = folder / "tables" / f"{name}.csv"
    frame = pd.read_csv(path)
    frame[column] = frame[column].astype(float)
    frame.loc[row, column] += change
    frame.to_csv(path, index=False)


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
    tables = [p for p in differing_tables(copy) if not p.startswith("metrics.json")]
    assert tables and all(problem.startswith(where) for problem in tables)


def differing_tables(folder: Path) -> list[str]:
    """Without the page, which takes seconds."""
    run = recompute.FinishedRun(folder)
    numbers = recompute.Numbers(run.metrics)
    checks = [check for part in recompute.PARTS for check in part(run, numbers)]
    return [problem for check in [*checks, numbers.check()] for problem in check.problems]


def test_a_changed_training_changes_what_rests_on_it(copy):
    change_cell(copy, "optimisation_trainings", 5, "validation", 0.05)
    problems = differing_tables(copy)
    assert any(problem.startswith("tables/optimisation.csv") for problem in problems)


def test_a_changed_prediction_is_named_with_what_rests_on_it(copy):
    path = copy / "predictions" / "report_a.npz"
    with np.load(path, allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in kept.files}
    right = int((arrays["logits"][0].argmax(1) == arrays["labels"]).argmax())
    arrays["logits"][0, right] = np.roll(arrays["logits"][0, right], 1)
    np.savez_compressed(path, **arrays)
    problems = differing(copy)
    assert any("predictions/report_a.npz is not the file" in problem for problem in problems)
    refresh_manifest(copy, "predictions/report_a.npz")
    problems = differing(copy)
    assert any(p.startswith("tables/comparison.csv, row 1, accuracy") for p in problems)
    assert any(p.startswith("metrics.json, evaluation.accuracy:") for p in problems)


def test_a_changed_number_of_the_page_is_named(copy):
    metrics = json.loads((copy / "metrics.json").read_text(encoding="utf-8"))
    printed = report.percent(metrics["evaluation"]["accuracy"])
    path = copy / "report.html"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(printed, "99.99 %"), encoding="utf-8")
    refresh_manifest(copy, "report.html")
    problems = differing(copy)
    assert problems and all(problem.startswith("report.html after") for problem in problems)
    assert "'99.99'" in problems[0] and f"'{printed.split()[0]}'" in problems[0]


def test_a_number_changed_in_the_metrics_alone_is_named(copy):
    path = copy / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics["evaluation"]["errors"] -= 1
    path.write_text(json.dumps(metrics), encoding="utf-8")
    assert [p.split(":")[0] for p in differing_tables(copy)] == ["metrics.json, evaluation.errors"]


def test_files_that_are_missing_or_were_added_are_named(copy):
    (copy / "tables" / "coverage.csv").unlink()
    (copy / "tables" / "mine.csv").write_text("a\n1\n")
    done = subprocess.run(
        [sys.executable, "-m", "mnist_lab", "verify", str(copy)], capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr == ""
    assert "tables/coverage.csv is missing" in done.stdout
    assert "tables/mine.csv is not in the manifest" in done.stdout
    assert re.search(r"\d+ of \d+ checks do not hold", done.stdout)


def test_what_is_no_run_cannot_be_verified(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mnist_lab", "verify", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 2 and "is not a finished run" in done.stderr


def test_training_an_idea_again_reaches_what_the_run_recorded(copy):
    lines: list[str] = []
    checks = retrain(copy, 2, seed=3, echo=lines.append)
    assert [check.problems for check in checks] == [(), ()]
    assert len(lines) >= 2
    trainings = pd.read_csv(copy / "tables" / "optimisation_trainings.csv")
    trainings["validation"] -= 0.5
    trainings.to_csv(copy / "tables" / "optimisation_trainings.csv", index=False)
    (apart,) = retrain(copy, 1, seed=3, echo=lines.append)
    assert apart.problems

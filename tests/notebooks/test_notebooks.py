"""The notebooks: their shape, and what they store against what they compute."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from rules import MACHINE_PATH, assert_annotated_literals, assert_no_cell_rebinds, cells, tags

import mnist_lab as lab
from mnist_lab.course.pipeline import NOTEBOOKS
from mnist_lab.data import PROJECT
from mnist_lab.files import LabError

PATHS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
TAGS = {"parameters", "record", "nbval-check-output", "nbval-ignore-output"}
SAVES = re.compile(r"\brun\.(figure|table|numbers|array)\(")
LONGEST_CELL = 30

each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def test_they_are_those_that_a_run_executes():
    assert tuple(path.stem for path in PATHS) == NOTEBOOKS


@each_notebook
def test_it_is_stored_as_executed_once_in_order_without_errors_or_warnings(path):
    for number, cell in enumerate(cells(path), 1):
        assert cell.execution_count == number
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr"
            kinds = set(output.get("data", {}))
            assert not kinds & {"image/svg+xml", "application/vnd.jupyter.widget-view+json"}


@each_notebook
def test_nothing_in_the_file_names_a_place_on_a_machine(path):
    text = path.read_text(encoding="utf-8")
    assert not MACHINE_PATH.search(re.sub(r'"image/png": "[^"]*"', "", text))


@each_notebook
def test_one_parameters_cell_of_annotated_literals_each_with_a_comment(path):
    (tagged,) = [c for c in cells(path) if "parameters" in tags(c)]
    assert_annotated_literals(tagged.source)


@each_notebook
def test_cells_are_short_their_tags_known_and_no_cell_rebinds_what_another_uses(path):
    for cell in cells(path):
        assert set(tags(cell)) <= TAGS
        assert len(cell.source.splitlines()) <= LONGEST_CELL, cell.source.splitlines()[0]
    assert_no_cell_rebinds(path)


@each_notebook
def test_results_are_saved_in_folded_record_cells_alone(path):
    for cell in cells(path):
        recording = "record" in tags(cell)
        assert recording == bool(SAVES.search(cell.source)), cell.source
        assert not recording or cell.metadata["jupyter"] == {"source_hidden": True}
        assert not recording or not cell.outputs


@each_notebook
def test_it_has_the_frame_of_a_lesson(path):
    text = "\n".join(c.source for c in cells(path, "markdown"))
    assert re.match(r"# \d · ", text)
    for part in ("**You will be able to**", "**Time**", "**Needs**", "## Summary", "## Exercises"):
        assert part in text
    exercises = re.findall(r"^\d\. ", text.split("## Exercises")[1], re.MULTILINE)
    assert 3 <= len(exercises) <= 5


@pytest.fixture(scope="session")
def mnist_is_here() -> bool:
    try:
        lab.load_digits("mnist", mirrors=[])
    except LabError:
        return False
    return True


@pytest.fixture(scope="session")
def shared_runs(tmp_path_factory) -> Path:
    """One store for all notebooks, as a student has it, but empty at the start."""
    return tmp_path_factory.mktemp("runs")


def compare(path: Path, runs: Path, strict: bool) -> subprocess.CompletedProcess[str]:
    """Run nbval on one notebook; without ``strict`` only cells tagged for it are compared."""
    mode = "--nbval" if strict else "--nbval-lax"
    command = [sys.executable, "-m", "pytest", "-n", "0", mode, "--nbval-current-env", str(path)]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "--tb=short"],
        env={**os.environ, "MNIST_LAB_RUNS": str(runs)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )


@each_notebook
def test_running_it_again_gives_what_it_stores(path, shared_runs, mnist_is_here):
    done = compare(path, shared_runs, strict=mnist_is_here)
    assert done.returncode == 0, done.stdout[-4000:]


def test_the_stored_training_loop_and_fit_agree():
    printed = [output.get("text", "") for cell in cells(PATHS[2]) for output in cell.outputs]
    (said,) = [text for text in printed if "equal to 1e-4" in text]
    assert said.strip().endswith("True")


def test_two_fifths_of_all_cells_are_compared():
    every = [cell for path in PATHS for cell in cells(path) if "record" not in tags(cell)]
    ignored = [cell for cell in every if "nbval-ignore-output" in tags(cell)]
    assert len(ignored) <= 0.6 * len(every)


def test_a_number_changed_in_a_stored_output_is_noticed(tmp_path):
    notebook = nbformat.read(PATHS[2], as_version=4)
    place, first = next(
        (place, cell)
        for place, cell in enumerate(notebook.cells)
        if "nbval-check-output" in tags(cell) and cell.outputs
    )
    (output,) = first.outputs
    assert "260 parameters" in output["text"]
    output["text"] = output["text"].replace("260 parameters", "261 parameters")
    notebook.cells = [c for c in notebook.cells[: place + 1] if c.cell_type == "code"]
    changed = tmp_path / "changed.ipynb"
    nbformat.write(notebook, changed)
    done = compare(changed, tmp_path, strict=False)
    assert done.returncode == 1 and "261 parameters" in done.stdout

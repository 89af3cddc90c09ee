"""The five notebooks: their shape, and what they store against what they compute."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from rules import assert_annotated_literals

import mnist_lab as lab
from mnist_lab.data import PROJECT
from mnist_lab.errors import LabError

PATHS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
TAGS = {"parameters", "nbval-check-output", "nbval-ignore-output"}
LONGEST_CELL = 30

each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


def test_there_are_five_in_order():
    assert [path.stem for path in PATHS] == [
        "01_data_exploration",
        "02_preprocessing",
        "03_cnn_training",
        "04_evaluation",
        "05_optimization",
    ]


@each_notebook
def test_every_cell_was_executed_once_in_order(path):
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_outputs_hold_no_error_no_stderr_no_svg_and_no_widget(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr"
            kinds = set(output.get("data", {}))
            assert not kinds & {"image/svg+xml", "application/vnd.jupyter.widget-view+json"}


@each_notebook
def test_nothing_in_the_file_names_a_place_on_a_machine(path):
    text = path.read_text(encoding="utf-8")
    prose = re.sub(r'"image/png": "[^"]*"', "", text)
    assert not re.search(r"(?<![\w.])/(home|root|tmp|usr|work|Users)/|[A-Z]:\\\\", prose)


@each_notebook
def test_one_parameters_cell_of_annotated_literals_each_with_a_comment(path):
    tagged = [c for c in code_cells(path) if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert_annotated_literals(tagged[0].source)


@each_notebook
def test_tags_are_known_and_cells_are_short(path):
    for cell in code_cells(path):
        assert set(cell.metadata.get("tags", [])) <= TAGS
        assert len(cell.source.splitlines()) <= LONGEST_CELL, cell.source.splitlines()[0]


@each_notebook
def test_it_has_the_frame_of_a_lesson(path):
    text = "\n".join(
        c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown"
    )
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
    command = [sys.executable, "-m", "pytest", mode, "--nbval-current-env", str(path)]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "--tb=short"],
        env={**os.environ, "MNIST_LAB_RUNS": str(runs)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )


def test_the_stored_training_loop_and_fit_agree():
    outputs = [
        output.get("text", "")
        for cell in code_cells(PATHS[2])
        for output in cell.outputs
        if "equal to 1e-4" in output.get("text", "")
    ]
    assert len(outputs) == 1 and outputs[0].strip().endswith("True")


@each_notebook
def test_running_it_again_gives_what_it_stores(path, shared_runs, mnist_is_here):
    done = compare(path, shared_runs, strict=mnist_is_here)
    assert done.returncode == 0, done.stdout[-4000:]


def test_two_fifths_of_all_cells_are_compared():
    cells = [cell for path in PATHS for cell in code_cells(path)]
    ignored = [cell for cell in cells if "nbval-ignore-output" in cell.metadata.get("tags", [])]
    assert len(ignored) <= 0.6 * len(cells)


def test_a_number_changed_in_a_stored_output_is_noticed(tmp_path):
    notebook = nbformat.read(PATHS[2], as_version=4)
    first = next(
        cell
        for cell in notebook.cells
        if "nbval-check-output" in cell.metadata.get("tags", []) and cell.outputs
    )
    (output,) = first.outputs
    assert "260 parameters" in output["text"]
    output["text"] = output["text"].replace("260 parameters", "261 parameters")
    place = notebook.cells.index(first)
    notebook.cells = [c for c in notebook.cells[: place + 1] if c.cell_type == "code"]
    changed = tmp_path / "changed.ipynb"
    nbformat.write(notebook, changed)
    done = compare(changed, tmp_path, strict=False)
    assert done.returncode == 1 and "261 parameters" in done.stdout

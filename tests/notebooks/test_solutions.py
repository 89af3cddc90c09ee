"""The worked solutions: one notebook for each of the course, run on the bundled digits."""

import re
from pathlib import Path

import nbformat
import papermill
import pytest
from rules import MACHINE_PATH, assert_annotated_literals, assert_no_cell_rebinds, cells, tags

from mnist_lab.course import execution, exercises
from mnist_lab.data import PROJECT

PATHS = sorted((PROJECT / "notebooks" / "solutions").glob("*.ipynb"))
LONGEST_CELL = 20

each_solution = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def parts(text: str, heading: str) -> dict[str, str]:
    """What stands below each numbered heading, by its number."""
    found = re.split(heading, text, flags=re.MULTILINE)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def exercises_of(path: Path) -> dict[str, str]:
    """The text of each exercise of a notebook of the course, by its number."""
    text = "\n".join(cell.source for cell in cells(path, "markdown")).split("## Exercises")[1]
    return parts(text, r"^(\d)\. ")


def solutions_of(path: Path) -> dict[str, str]:
    """The source of all cells below each heading of a notebook of solutions."""
    text = "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    return parts(text, r"^## Exercise (\d)$")


def test_each_notebook_has_its_solutions():
    notebooks = sorted((PROJECT / "notebooks").glob("*.ipynb"))
    assert [path.name for path in PATHS] == [path.name for path in notebooks]


@each_solution
def test_every_exercise_has_a_solution_and_calls_its_check(path):
    asked = exercises_of(PROJECT / "notebooks" / path.name)
    solved = solutions_of(path)
    assert list(solved) == list(asked)
    for number, text in asked.items():
        mentioned = set(re.findall(r'lab\.check\("([^"]*)"', text))
        assert mentioned <= {f"{path.stem[:2]}.{number}"}
        assert set(re.findall(r'lab\.check\("([^"]*)"', solved[number])) == mentioned


@each_solution
def test_it_is_kept_executed_and_in_the_form_of_the_course(path):
    notebook, text = nbformat.read(path, as_version=4), path.read_text(encoding="utf-8")
    nbformat.validate(notebook)
    assert text == nbformat.writes(notebook) + "\n" and not MACHINE_PATH.search(text)
    for place, cell in enumerate(notebook.cells):
        assert cell.id == f"s{path.stem[:2]}-{place:02d}"
    for number, cell in enumerate(cells(path), 1):
        assert cell.execution_count == number
        assert len(cell.source.splitlines()) <= LONGEST_CELL, cell.source.splitlines()[0]
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr"
    assert [tags(cell) for cell in cells(path)] == [["parameters"]] + [[]] * (number - 1)
    assert_annotated_literals(cells(path)[0].source)
    assert_no_cell_rebinds(path)


@each_solution
def test_it_runs_on_the_bundled_digits_and_every_check_holds(path, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MNIST_LAB_RUNS", str(tmp_path / "runs"))
    done = papermill.execute_notebook(
        str(path),
        str(tmp_path / path.name),
        {"dataset": "uci-digits"},
        kernel_name="python3",
        kernel_manager_class=execution.this_interpreter([]),
        cwd=str(tmp_path),
        progress_bar=False,
    )
    printed = ""
    for count, cell in enumerate((c for c in done.cells if c.cell_type == "code"), 1):
        assert cell.execution_count == count
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr", output
            printed += output.get("text", "")
    said = re.findall(r"^\d\d\.\d: .*$", printed, re.MULTILINE)
    known = [name for name in exercises.exercises() if name[:2] == path.stem[:2]]
    assert said == [f"{name}: holds." for name in known]

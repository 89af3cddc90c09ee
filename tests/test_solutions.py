"""The worked solutions: one notebook for each of the course, run on the bundled digits."""

import re
from pathlib import Path

import nbformat
import papermill
import pytest
from rules import assert_annotated_literals

from mnist_lab import checks, pipeline
from mnist_lab.data import PROJECT

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
PATHS = sorted((PROJECT / "notebooks" / "solutions").glob("*.ipynb"))
LONGEST_CELL = 20

each_solution = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


def exercises_of(path: Path) -> dict[str, str]:
    """The text of each exercise of a notebook of the course, by its number."""
    text = "\n".join(cell.source for cell in cells(path, "markdown")).split("## Exercises")[1]
    parts = re.split(r"^(\d)\. ", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def solutions_of(path: Path) -> dict[str, str]:
    """The source of all cells below each heading of a notebook of solutions."""
    text = "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    parts = re.split(r"^## Exercise (\d)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_each_notebook_has_its_solutions():
    assert [path.name for path in PATHS] == [path.name for path in NOTEBOOKS]


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
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert path.read_text(encoding="utf-8") == nbformat.writes(notebook) + "\n"
    count = 0
    for place, cell in enumerate(notebook.cells):
        assert cell.id == f"s{path.stem[:2]}-{place:02d}"
        if cell.cell_type == "code":
            count += 1
            assert cell.execution_count == count
            for output in cell.outputs:
                assert output.output_type != "error" and output.get("name") != "stderr"
            assert len(cell.source.splitlines()) <= LONGEST_CELL, cell.source.splitlines()[0]
    assert notebook.cells[0].source.startswith(f"# {int(path.stem[:2])} · ")


@each_solution
def test_one_parameters_cell_of_annotated_literals_each_with_a_comment(path):
    tags = [cell.metadata.get("tags", []) for cell in cells(path, "code")]
    assert sorted(tags, reverse=True)[0] == ["parameters"] and sum(map(len, tags)) == 1
    assert_annotated_literals(cells(path, "code")[tags.index(["parameters"])].source)


@each_solution
def test_nothing_in_the_file_names_a_place_on_a_machine(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(home|root|tmp|usr|work|Users)/|[A-Z]:\\\\", text)


@each_solution
def test_it_runs_on_the_bundled_digits_and_every_check_holds(path, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MNIST_LAB_RUNS", str(tmp_path / "runs"))
    done = papermill.execute_notebook(
        str(path),
        str(tmp_path / path.name),
        {"dataset": "uci-digits"},
        kernel_name="python3",
        kernel_manager_class=pipeline._this_interpreter(),
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
    known = [name for name in checks.exercises() if name[:2] == path.stem[:2]]
    assert said == [f"{name}: holds." for name in known]

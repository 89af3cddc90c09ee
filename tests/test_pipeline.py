"""Every test runs tiny notebooks of its own through real kernels, one failure mode each."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import nbformat
import psutil
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mnist_lab.__main__ import main
from mnist_lab.atomic import replace_folder
from mnist_lab.data import PROJECT
from mnist_lab.errors import LabError
from mnist_lab.parameters import PROFILES, notebook_parameters, plan_parameters
from mnist_lab.pipeline import NOTEBOOKS, CourseFailed, render_again, run_course

PARAMETERS = """\
dataset: str = "auto"  # which digits
seed: int = 0  # of every random choice
output: str = ""  # where results are kept
epochs: int = 1  # passes over the data
lr: float = 0.1  # learning rate
shuffle: bool = True  # a new order each epoch
sizes: list[int] = [8, 16]  # what is compared
title: str = "x"  # of the figure
"""
KEEP = """\
import json, os
path = os.path.join(output, "metrics.json")
metrics = json.load(open(path)) if os.path.exists(path) else {}
metrics[f"n{len(metrics)}"] = dict(dataset=dataset, seed=seed, epochs=epochs, title=title)
json.dump(metrics, open(path, "w"))
"""
CHILD = """\
import sys
from pathlib import Path
from mnist_lab.pipeline import run_course

def render(folder):
    (folder / "report.html").write_text("child")

folder = Path(sys.argv[1])
run_course(dataset="uci-digits", out=folder / "report", notebooks=folder / "notebooks",
           names=sys.argv[2:], render=render)
"""


def write_notebook(folder: Path, name: str, *cells: str, parameters: str = PARAMETERS) -> None:
    """A notebook with a cell of parameters (if any), then ``cells``."""
    notebook = new_notebook(cells=[new_markdown_cell("# Title"), *map(new_code_cell, cells)])
    notebook.metadata.kernelspec = {"name": "python3", "language": "python", "display_name": "x"}
    notebook.metadata.language_info = {"name": "python"}
    if parameters:
        tags = {"tags": ["parameters"]}
        notebook.cells.insert(1, new_code_cell(parameters, metadata=tags))
    (folder / "notebooks").mkdir(exist_ok=True)
    nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")


def render(folder: Path) -> None:
    (folder / "report.html").write_text((folder / "metrics.json").read_text())


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below ``folder``."""
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def kernels_of(process: psutil.Process) -> list[psutil.Process]:
    return [p for p in process.children(recursive=True) if "ipykernel_launcher" in p.cmdline()]


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MNIST_LAB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def run(tmp_path):
    """Run the named notebooks of ``tmp_path`` into its report; the lines said are ``run.said``."""

    def run(*names: str, **options: object) -> Path:
        settings = {
            "dataset": "uci-digits",
            "out": tmp_path / "report",
            "notebooks": tmp_path / "notebooks",
            "names": names,
            "render": render,
            "echo": run.said.append,
        }
        return run_course(**(settings | options))

    run.said = []
    return run


@pytest.fixture
def last_report(tmp_path) -> dict[str, str]:
    """The contents of a finished report that is in place."""
    (tmp_path / "report" / "notebooks").mkdir(parents=True)
    for name in ("report.html", "metrics.json", "provenance.json", "notebooks/one.ipynb"):
        (tmp_path / "report" / name).write_text(f"the last {name}")
    return contents(tmp_path / "report")


def kept_notebook(runs: Path, name: str) -> nbformat.NotebookNode:
    (path,) = runs.glob(f"*/notebooks/{name}.ipynb")
    return nbformat.read(path, as_version=4)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the report of two notebooks, and the lines that were said."""
    folder = tmp_path_factory.mktemp("finished {course}")
    where = "print(output); print(__import__('sys').executable)"
    write_notebook(folder, "one", KEEP, where, "")
    write_notebook(folder, "two", KEEP)
    write_notebook(folder, "bare", "1 + 1", parameters="")
    (folder / "report").mkdir()
    (folder / "report" / "provenance.json").write_text("{}")
    (folder / "report" / "stale.txt").write_text("of the last report")
    elsewhere = folder / "home" / "kernels" / "python3"
    elsewhere.mkdir(parents=True)
    spec = {"argv": ["/bin/false"], "display_name": "another", "language": "python"}
    (elsewhere / "kernel.json").write_text(json.dumps(spec))
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNIST_LAB_RUNS", str(folder / "runs"))
        patch.setenv("JUPYTER_PATH", str(folder / "home"))
        report = run_course(
            dataset="uci-digits",
            seed=7,
            out=folder / "report",
            parameters={"epochs": "3", "title": 'a "quoted" é'},
            notebooks=folder / "notebooks",
            names=("one", "two", "bare"),
            render=render,
            echo=said.append,
        )
    return report, said


def test_finished_report_replaces_the_last_one(finished):
    report, _ = finished
    assert sorted(contents(report)) == [
        "manifest.json",
        "metrics.json",
        "notebooks/bare.ipynb",
        "notebooks/one.ipynb",
        "notebooks/two.ipynb",
        "provenance.json",
        "report.html",
    ]


def test_nothing_is_left_beside_the_report(finished):
    report, _ = finished
    left = {p.name for p in report.parent.iterdir()} - {".report.lock"}
    assert left == {"home", "notebooks", "report", "runs"}
    assert not list((report.parent / "runs").iterdir())


def test_parameters_reach_every_notebook_that_has_them(finished):
    report, _ = finished
    passed = {"dataset": "uci-digits", "seed": 7, "epochs": 3, "title": 'a "quoted" é'}
    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics == {"n0": passed, "n1": passed}


def test_kernel_is_this_interpreter_whatever_python3_means_to_jupyter(finished):
    report, _ = finished
    notebook = nbformat.read(report / "notebooks" / "one.ipynb", as_version=4)
    assert sys.executable in json.dumps(notebook)


def test_executed_notebooks_hold_no_path_of_the_run(finished):
    report, _ = finished
    for path in (report / "notebooks").iterdir():
        text = path.read_text()
        assert str(report.parent) not in text
        assert "runs/" not in text
    notebook = nbformat.read(report / "notebooks" / "one.ipynb", as_version=4)
    injected = next(c for c in notebook.cells if "injected-parameters" in c.metadata.tags)
    assert 'output = ""' in injected.source
    assert notebook.metadata.papermill.parameters.output == ""
    nbformat.validate(notebook)


def test_provenance_names_every_parameter_that_was_used(finished):
    report, _ = finished
    text = (report / "provenance.json").read_text()
    origin = json.loads(text)
    assert origin["dataset"]["name"] == "uci-digits"
    assert origin["parameters"]["two"] == {
        "dataset": "uci-digits",
        "seed": 7,
        "epochs": 3,
        "lr": 0.1,
        "shuffle": True,
        "sizes": [8, 16],
        "title": 'a "quoted" é',
    }
    assert origin["parameters"]["bare"] == {}
    assert list(origin["seconds"]["notebooks"]) == ["one", "two", "bare"]
    assert str(report.parent) not in text


def test_manifest_lists_the_digest_of_every_other_file(finished):
    report, _ = finished
    expected = contents(report)
    del expected["manifest.json"]
    assert json.loads((report / "manifest.json").read_text()) == expected


def test_each_notebook_is_announced_and_timed(finished):
    _, said = finished
    assert [line.split()[0] for line in said] == ["one", "one", "two", "two", "bare", "bare"]
    assert said[1].startswith("one done in ")


def test_bar_counts_the_code_cells_of_all_notebooks(tmp_path, run, capfd):
    write_notebook(tmp_path, "one", KEEP, "", "1")
    run("one", progress=True)
    errors = capfd.readouterr().err
    assert "4/4" in errors
    assert "WARNING" not in errors, "the kernel speaks over the bar"
    assert run.said == []


def test_misspelt_parameter_is_told_the_nearest_and_nothing_runs(tmp_path, run, runs, last_report):
    write_notebook(tmp_path, "one", f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(LabError, match=r"(?s)'epoch'.*'epochs'\?.*epochs, lr, shuffle, sizes"):
        run("one", parameters={"epoch": "3"})
    assert not (tmp_path / "ran").exists()
    assert not runs.exists()
    assert contents(tmp_path / "report") == last_report


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("epochs", "1.5", "whole number"),
        ("epochs", "", "whole number"),
        ("lr", "fast", "number"),
        ("lr", "nan", "number"),
        ("shuffle", "2", "true or false"),
        ("sizes", "8", r"list\[int\]"),
        ("sizes", "[8", r"list\[int\]"),
        ("sizes", "[8, 1.5]", r"list\[int\]"),
    ],
)
def test_value_of_another_type_is_told_what_was_expected(tmp_path, run, runs, name, text, expected):
    write_notebook(tmp_path, "one")
    with pytest.raises(LabError, match=f"'{name}' takes .*{expected}.*found") as told:
        run("one", parameters={name: text})
    assert repr(text) in str(told.value)
    assert not runs.exists()


def test_text_becomes_the_parameters_type(tmp_path):
    write_notebook(tmp_path, "one")
    known = {"one": notebook_parameters(tmp_path / "notebooks" / "one.ipynb")}
    given = {"epochs": "2", "lr": "1", "shuffle": "No", "sizes": "[1, 2]", "title": "7"}
    values = plan_parameters(known, "student", given)["one"]
    assert values == {"epochs": 2, "lr": 1.0, "shuffle": False, "sizes": [1, 2], "title": "7"}
    assert type(values["lr"]) is float


@pytest.mark.parametrize("name", ["dataset", "seed", "output"])
def test_what_the_run_sets_itself_is_refused_as_a_parameter(tmp_path, run, name):
    write_notebook(tmp_path, "one")
    with pytest.raises(LabError, match="use --"):
        run("one", parameters={name: "1"})


def test_profile_that_asks_for_an_unknown_parameter_is_refused(tmp_path, run, monkeypatch):
    write_notebook(tmp_path, "one")
    monkeypatch.setitem(PROFILES, "long", {"one": {"epoch": 3}})
    with pytest.raises(LabError, match=r"'epoch' .*the profile long for one"):
        run("one", profile="long")


def test_unknown_profile_is_told_the_known_ones(tmp_path, run):
    write_notebook(tmp_path, "one")
    with pytest.raises(LabError, match="student, full"):
        run("one", profile="ful")


def test_missing_or_broken_notebook_is_named(tmp_path, run):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "two.ipynb").write_text("not JSON")
    for name in ("one", "two"):
        with pytest.raises(LabError, match=f"{name}.ipynb"):
            run(name)


def test_folder_that_is_no_report_is_never_touched(tmp_path, run, runs):
    write_notebook(tmp_path, "one", KEEP)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.txt").write_text("years of work")
    with pytest.raises(LabError, match=r"(?s)report exists and is not a report.*--out"):
        run("one")
    assert (tmp_path / "report" / "thesis.txt").read_text() == "years of work"
    assert not runs.exists()


def test_file_in_the_reports_place_is_refused(tmp_path, run):
    write_notebook(tmp_path, "one", KEEP)
    (tmp_path / "report").write_text("a file")
    with pytest.raises(LabError, match="is not a report"):
        run("one")
    assert (tmp_path / "report").read_text() == "a file"


def test_second_run_into_the_same_folder_is_refused(tmp_path, run, runs, last_report):
    write_notebook(tmp_path, "one", KEEP)
    holder = (
        "import sys; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path / ".report.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LabError, match=r"(?s)Another run is writing.*choose another folder"):
            run("one")
        other.communicate()
    assert not runs.exists()
    assert contents(tmp_path / "report") == last_report


def check_failure(tmp_path, runs, last_report, failure, name: str, cell: int) -> None:
    assert (failure.value.notebook, failure.value.cell) == (name, cell)
    assert f"{name} failed at In[{cell}]: " in str(failure.value)
    assert f"notebooks/{name}.ipynb" in str(failure.value)
    assert contents(tmp_path / "report") == last_report
    assert kept_notebook(runs, name)
    assert not kernels_of(psutil.Process())


def test_failing_cell_is_named_and_the_last_report_stays(tmp_path, run, runs, last_report):
    write_notebook(tmp_path, "one", KEEP)
    write_notebook(tmp_path, "two", KEEP, "first = 1\nraise ValueError('a\\n\\nbad digit')", "1")
    with pytest.raises(CourseFailed, match=r"In\[4\]: ValueError: a\n\nbad digit") as failure:
        run("one", "two", "one")
    check_failure(tmp_path, runs, last_report, failure, "two", 4)
    assert run.said[-1].startswith("two")
    outputs = [o for c in kept_notebook(runs, "two").cells for o in c.get("outputs", [])]
    assert outputs[-1].ename == "ValueError"


@pytest.mark.parametrize("ending", ["import sys; sys.exit(0)", "raise SystemExit"])
def test_ending_the_session_early_is_a_failure(tmp_path, run, runs, last_report, ending):
    write_notebook(tmp_path, "one", KEEP, ending, "1")
    with pytest.raises(CourseFailed, match="SystemExit") as failure:
        run("one")
    check_failure(tmp_path, runs, last_report, failure, "one", 4)


@pytest.mark.parametrize("rest", [[], ["1"]], ids=["last cell", "not the last cell"])
def test_quitting_is_a_failure(tmp_path, run, runs, last_report, rest):
    write_notebook(tmp_path, "one", KEEP, "quit()", *rest)
    with pytest.raises(CourseFailed, match="end the session") as failure:
        run("one")
    check_failure(tmp_path, runs, last_report, failure, "one", 4)


def test_dying_kernel_is_a_failure(tmp_path, run, runs, last_report):
    write_notebook(tmp_path, "one", KEEP, "import os; os._exit(1)", "1")
    with pytest.raises(CourseFailed, match="Kernel died") as failure:
        run("one")
    check_failure(tmp_path, runs, last_report, failure, "one", 4)


def test_error_that_a_cell_is_allowed_is_still_a_failure(tmp_path, run, runs, last_report):
    write_notebook(tmp_path, "one", KEEP, "1 / 0", "1")
    path = tmp_path / "notebooks" / "one.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-2].metadata.tags = ["raises-exception"]
    nbformat.write(notebook, path)
    with pytest.raises(CourseFailed, match="ZeroDivisionError") as failure:
        run("one")
    check_failure(tmp_path, runs, last_report, failure, "one", 4)


def test_failing_report_leaves_the_last_one(tmp_path, run, last_report):
    write_notebook(tmp_path, "one", KEEP)

    def broken(folder: Path) -> None:
        (folder / "report.html").write_text("half")
        raise LabError("the template is broken")

    with pytest.raises(LabError, match="template"):
        run("one", render=broken)
    assert contents(tmp_path / "report") == last_report


@pytest.fixture
def child(tmp_path, last_report):
    """Start a real process that runs notebooks; it is in their slow cell when this returns."""
    started: list[psutil.Popen] = []
    mark = tmp_path / "in the slow cell"
    write_notebook(
        tmp_path, "slow", KEEP, f"import time; open({str(mark)!r}, 'w'); time.sleep(120)"
    )

    def start() -> tuple[psutil.Popen, psutil.Process]:
        command = [sys.executable, "-c", CHILD, str(tmp_path), "slow"]
        started.append(psutil.Popen(command, stderr=subprocess.PIPE, text=True))
        wait_for(mark.exists)
        (kernel,) = kernels_of(started[-1])
        return started[-1], kernel

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_run_leaves_the_last_report_and_no_kernel(tmp_path, child, last_report, number):
    process, kernel = child()
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert "IPKernelApp" not in errors
    assert process.returncode == {signal.SIGINT: -signal.SIGINT, signal.SIGTERM: 143}[number]
    assert not kernel.is_running()
    assert contents(tmp_path / "report") == last_report
    assert not list(tmp_path.glob(".report.*[!k]"))


def test_killed_run_leaves_the_last_report_and_the_next_one_works(
    tmp_path, child, last_report, run, runs
):
    process, kernel = child()
    process.kill()
    process.wait()
    assert contents(tmp_path / "report") == last_report
    write_notebook(tmp_path, "one", KEEP)
    assert "metrics.json" in contents(run("one"))
    wait_for(lambda: not kernel.is_running(), 10)


def test_ctrl_c_while_a_kernel_starts_leaves_none_behind(tmp_path, last_report):
    write_notebook(tmp_path, "one", KEEP)
    command = [sys.executable, "-c", CHILD, str(tmp_path), "one", "one", "one", "one"]
    process = psutil.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: kernels_of(process))
    (kernel,) = kernels_of(process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert not kernel.is_running()
    assert contents(tmp_path / "report") == last_report


def test_report_lost_between_the_two_renames_comes_back(tmp_path, run, last_report):
    (tmp_path / "report").rename(tmp_path / ".report.old")
    (tmp_path / ".report.new").mkdir()
    write_notebook(tmp_path, "one", "raise ValueError")
    with pytest.raises(CourseFailed):
        run("one")
    assert contents(tmp_path / "report") == last_report
    assert not (tmp_path / ".report.old").exists()
    assert not (tmp_path / ".report.new").exists()


def test_ctrl_c_between_the_two_renames_waits_for_the_second(tmp_path, run, last_report):
    write_notebook(tmp_path, "one", KEEP)
    os_rename = Path.replace

    def slow_replace(self: Path, target: Path) -> Path:
        if target.name == ".report.old":
            signal.raise_signal(signal.SIGINT)
        return os_rename(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", slow_replace)
        with pytest.raises(KeyboardInterrupt):
            run("one")
    assert "manifest.json" in contents(tmp_path / "report")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_help_says_every_option_without_loading_papermill():
    code = (
        "import sys; sys.argv = ['mnist-lab', 'run', '--help']\n"
        "from mnist_lab.__main__ import main\n"
        "try: main()\nfinally: assert 'papermill' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for option in ("--profile", "--dataset", "--seed", "--jobs", "--out", "-p"):
        assert option in done.stdout


def test_mistake_is_said_plainly_with_status_2(tmp_path):
    done = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert done.exit_code == 2
    assert "no metrics.json and no provenance.json" in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("stop", "status"),
    [
        (LabError("wrong"), 2),
        (CourseFailed("failed", "one", 3), 1),
        (KeyboardInterrupt(), 130),
        (SystemExit(143), 143),
    ],
)
def test_exit_status_tells_what_stopped_the_run(monkeypatch, stop, status):
    def stopped(*_, **__):
        raise stop

    monkeypatch.setattr("mnist_lab.__main__.run_course", stopped)
    done = CliRunner().invoke(main, ["run"])
    assert done.exit_code == status
    assert len(done.stderr.splitlines()) == 1


def test_report_is_made_again_from_a_finished_run(tmp_path):
    for name in ("metrics.json", "provenance.json"):
        (tmp_path / name).write_text("{}")
    render_again(tmp_path, render)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert sorted(manifest) == ["metrics.json", "provenance.json", "report.html"]


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_give_only_parameters_that_the_notebooks_have(profile):
    known = {
        name: notebook_parameters(PROJECT / "notebooks" / f"{name}.ipynb") for name in NOTEBOOKS
    }
    assert set(PROFILES[profile]) <= set(NOTEBOOKS)
    assert set(plan_parameters(known, profile, {})) == set(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_assignment_of_the_parameters_cell_is_a_typed_parameter(name):
    path = PROJECT / "notebooks" / f"{name}.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    (source,) = (c.source for c in cells if "parameters" in c.metadata.get("tags", []))
    assigned = [line.split(":")[0] for line in source.splitlines() if "=" in line.split("#")[0]]
    assert list(notebook_parameters(path)) == assigned
    assert {"dataset", "seed", "output"} <= set(assigned)


def test_report_that_cannot_be_replaced_stays_and_the_new_results_are_kept(tmp_path, monkeypatch):
    report, results = tmp_path / "report", tmp_path / "results"
    for folder in (report, results):
        folder.mkdir()
        (folder / "name.txt").write_text(folder.name, encoding="utf-8")
    rename = Path.replace

    def refuse_the_new(self: Path, target: Path) -> Path:
        if self.name == ".report.new":
            raise PermissionError(13, "in use")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", refuse_the_new)
    with pytest.raises(LabError, match="cannot be replaced: in use") as error:
        replace_folder(report, results, nullcontext())
    assert "results" in str(error.value)
    assert (report / "name.txt").read_text(encoding="utf-8") == "report"
    assert (results / "name.txt").read_text(encoding="utf-8") == "results"
    assert {p.name for p in tmp_path.iterdir()} == {"report", "results"}

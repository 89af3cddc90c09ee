"""Tiny notebooks of the tests' own through real kernels, one failure mode each."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import mnist_lab as lab
from mnist_lab.course.door import plain_errors
from mnist_lab.course.execution import CourseFailed
from mnist_lab.course.pipeline import render_again, run_course
from mnist_lab.course.settings import NOTEBOOKS, PROFILES, notebook_settings, plan_settings
from mnist_lab.data import PROJECT
from mnist_lab.files import LabError

SETTINGS = """\
dataset: str = "auto"  # which digits
seed: int = 0  # of every random choice
output: str = ""  # where results are kept
epochs: int = 1  # 1 or more: passes over the data
lr: float = 0.1  # above 0 to 2: learning rate
shuffle: bool = True  # a new order each epoch
sizes: list[int] = [8, 16]  # 1 or more: what is compared
names: list[str] = []  # of them
title: str = "x"  # of the figure
"""
KEEP = """\
import mnist_lab.course.run
section = dict(dataset=dataset, seed=seed, epochs=epochs, title=title)
run = mnist_lab.course.run.open_run(output)
run.numbers(f"n{len(run.metrics) if (run.folder / 'metrics.json').exists() else 0}", **section)
"""


def write_notebook(folder: Path, name: str, *cells: str, settings: str = SETTINGS, **meta) -> None:
    """A notebook with a cell of settings (if any), then ``cells``; ``meta`` is of the first."""
    code = [new_code_cell(cell, metadata=meta if not n else {}) for n, cell in enumerate(cells)]
    if settings:
        code.insert(0, new_code_cell(settings, metadata={"tags": ["parameters"]}))
    notebook = new_notebook(cells=[new_markdown_cell("# Title"), *code])
    notebook.metadata.kernelspec = {"name": "python3", "language": "python", "display_name": "x"}
    notebook.metadata.language_info = {"name": "python"}
    (folder / "notebooks").mkdir(exist_ok=True)
    nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")


def render(folder: Path) -> None:
    (folder / "report.html").write_text((folder / "provenance.json").read_text())


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below ``folder``."""
    files = (p for p in folder.rglob("*") if p.is_file())
    digests = {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    return {p.relative_to(folder).as_posix(): digest for p, digest in digests.items()}


def kernels_of(process: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # others come and go
            found += [child] if "ipykernel_launcher" in child.cmdline() else []
    return found


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
        places = {"out": tmp_path / "report", "notebooks": tmp_path / "notebooks"}
        usual = {"dataset": "uci-digits", "names": names, "render": render, "echo": run.said.append}
        return run_course(**(usual | places | options))

    run.said = []
    return run


@pytest.fixture
def last_report(tmp_path) -> dict[str, str]:
    """The contents of a finished report that is in place."""
    (tmp_path / "report" / "notebooks").mkdir(parents=True)
    for name in ("report.html", "metrics.json", "provenance.json", "notebooks/one.ipynb"):
        (tmp_path / "report" / name).write_text(f"the last {name}")
    return contents(tmp_path / "report")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the report of three notebooks, and the lines that were said."""
    folder = tmp_path_factory.mktemp("finished {course}")
    write_notebook(folder, "one", KEEP, "print(output); print(__import__('sys').executable)", "")
    write_notebook(folder, "two", KEEP)
    write_notebook(folder, "bare", "1 + 1", settings="")
    (folder / "report").mkdir()
    for name in ("provenance.json", "stale.txt"):
        (folder / "report" / name).write_text("of the last report")
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
            given={"epochs": "3", "title": 'a "quoted" é'},
            notebooks=folder / "notebooks",
            names=("one", "two", "bare"),
            render=render,
            echo=said.append,
        )
    return report, said


def test_finished_report_replaces_the_last_one_lists_its_files_and_tells_of_each_notebook(finished):
    report, said = finished
    assert [line.split()[0] for line in said] == ["one", "one", "two", "two", "bare", "bare"]
    assert said[1].startswith("one done in ")
    files = contents(report)
    notebooks = [f"notebooks/{name}.ipynb" for name in ("bare", "one", "two")]
    kept = ["metrics.json", *notebooks, "provenance.json", "report.html"]
    assert sorted(files) == ["manifest.json", *kept]
    del files["manifest.json"]
    assert json.loads((report / "manifest.json").read_text()) == files
    left = {p.name for p in report.parent.iterdir()} - {".report.lock"}
    assert left == {"home", "notebooks", "report", "runs"}
    assert not list((report.parent / "runs").iterdir())


def test_settings_reach_every_notebook_that_has_them_and_the_provenance(finished):
    report, _ = finished
    passed = {"dataset": "uci-digits", "seed": 7, "epochs": 3, "title": 'a "quoted" é'}
    assert json.loads((report / "metrics.json").read_text("utf-8")) == {"n0": passed, "n1": passed}
    origin = json.loads((report / "provenance.json").read_text("utf-8"))
    others = {"lr": 0.1, "shuffle": True, "sizes": [8, 16], "names": []}
    assert origin["parameters"] == {"one": passed | others, "two": passed | others, "bare": {}}
    assert origin["dataset"]["name"] == "uci-digits"
    assert list(origin["seconds"]["notebooks"]) == ["one", "two", "bare"]


def test_kernel_is_this_interpreter_and_notebooks_hold_no_path_of_the_run(finished):
    report, _ = finished
    for path in [*(report / "notebooks").iterdir(), report / "provenance.json"]:
        text = path.read_text(encoding="utf-8")
        assert str(report.parent) not in text and "runs/" not in text
    notebook = nbformat.read(report / "notebooks" / "one.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert sys.executable in json.dumps(notebook)
    injected = next(c for c in notebook.cells if "injected-parameters" in c.metadata.tags)
    assert 'output = ""' in injected.source
    assert notebook.metadata.papermill.parameters.output == ""


def test_bar_counts_all_code_cells_and_a_failing_report_leaves_the_last_one(
    tmp_path, run, last_report, capfd
):
    def broken(folder: Path) -> None:
        (folder / "report.html").write_text("half")
        raise LabError("the template is broken")

    write_notebook(tmp_path, "one", "", "1")
    with pytest.raises(LabError, match="template"):
        run("one", progress=True, render=broken)
    assert contents(tmp_path / "report") == last_report
    errors = capfd.readouterr().err
    assert "3/3" in errors and "WARNING" not in errors, "the kernel speaks over the bar"
    assert run.said == []


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"epoch": "3"}, r"(?s)'epoch'.*'epochs'\?.*epochs, lr, names, shuffle, sizes, title"),
        ({"epochs": "1.5"}, "'epochs' takes a whole number, 1 or more; found '1.5'"),
        ({"lr": "fast"}, "'lr' takes a number, above 0 to 2; found 'fast'"),
        ({"lr": "nan"}, "a number, above 0 to 2; found 'nan'"),
        ({"lr": "0"}, "a number, above 0 to 2; found '0'"),
        ({"lr": "2.1"}, "above 0 to 2; found '2.1'"),
        ({"epochs": "0"}, "a whole number, 1 or more; found '0'"),
        ({"sizes": "[8, 0]"}, "1 or more; found"),
        ({"shuffle": "2"}, "true or false; found '2'"),
        ({"sizes": "[8"}, r"a list such as .*, 1 or more; found '\[8'"),
        ({"sizes": "[8, 1.5]"}, "a list such as"),
        ({"names": "[a]"}, r"""a list such as "\['a', 'b'\]"; found '\[a\]'"""),
        ({"dataset": "mnist"}, "use --dataset"),
        ({"seed": "1"}, "use --seed"),
        ({"output": "x"}, "use --out"),
    ],
)
def test_wrong_setting_is_answered_with_what_was_expected_and_nothing_runs(
    tmp_path, run, runs, last_report, given, complaint
):
    write_notebook(tmp_path, "one")
    with pytest.raises(LabError, match=complaint):
        run("one", given=given)
    assert not runs.exists() and contents(tmp_path / "report") == last_report


def test_wrong_setting_is_answered_before_pytorch_is_imported():
    code = (
        "import sys\nfrom mnist_lab.course.pipeline import run_course, LabError\n"
        "try: run_course(given={'epoch': '3'})\n"
        "except LabError: print(sorted({'torch', 'pandas', 'papermill'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_says_the_range_of_each_number_and_refuses_what_is_outside(name):
    settings = notebook_settings(PROJECT / "notebooks" / f"{name}.ipynb")
    defaults = {name: setting.default for name, setting in settings.items()}
    lab.check_parameters(defaults, name)
    for one, setting in settings.items():
        if setting.kind.removeprefix("list[").rstrip("]") in ("int", "float"):
            for wrong in (-1, "3", True, float("inf"), None):
                value = [wrong] if setting.kind.startswith("list") else wrong
                with pytest.raises(LabError, match=f"'{one}' takes .*, .*; found"):
                    lab.check_parameters(defaults | {one: value}, name)


def test_text_becomes_the_settings_type(tmp_path):
    write_notebook(tmp_path, "one")
    known = {"one": notebook_settings(tmp_path / "notebooks" / "one.ipynb")}
    given = {"epochs": "2", "lr": "1", "shuffle": "No", "sizes": "[1, 2]", "title": "7"}
    expected = {"epochs": 2, "lr": 1.0, "shuffle": False, "sizes": [1, 2], "title": "7"}
    expected |= {"dataset": "auto", "seed": 0, "output": "", "names": ["a", "é"]}
    for names in ("['a', 'é']", '["a", "é"]'):
        values = plan_settings(known, "student", given | {"names": names})["one"]
        assert values == expected and type(values["lr"]) is float


def test_unknown_profile_wrong_profile_and_missing_or_broken_notebook_are_named(
    tmp_path, run, monkeypatch
):
    write_notebook(tmp_path, "good")
    write_notebook(tmp_path, "three", settings="epochs: int = = 2")
    (tmp_path / "notebooks" / "two.ipynb").write_text("not JSON")
    monkeypatch.setitem(PROFILES, "long", {"good": {"epoch": 3}})
    for name, profile, said in [
        ("good", "ful", "student, full"),
        ("good", "long", r"'epoch' .*the profile long for good"),
        *((name, "student", f"{name}.ipynb") for name in ("one", "two", "three")),
    ]:
        with pytest.raises(LabError, match=said):
            run(name, profile=profile)


@pytest.mark.parametrize("file", ["report/thesis.txt", "report"])
def test_what_is_no_report_is_never_touched(tmp_path, run, runs, file):
    write_notebook(tmp_path, "one")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("years of work")
    with pytest.raises(LabError, match=r"(?s)report exists and is no report.*--out"):
        run("one")
    assert (tmp_path / file).read_text() == "years of work"
    assert not runs.exists()


def test_second_run_into_the_same_folder_is_refused(tmp_path, run, runs, last_report):
    write_notebook(tmp_path, "one")
    holder = (
        "import sys; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holder, str(tmp_path / ".report.lock")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LabError, match=r"(?s)Another run is writing.*choose another folder"):
            run("one")
        other.communicate()
    assert not runs.exists() and contents(tmp_path / "report") == last_report


@pytest.mark.parametrize(
    ("cells", "tags", "said"),
    [
        (["1", "raise ValueError('a\\n\\nbad digit')", "1"], [], r"In\[4\]: ValueError: a\n\nbad"),
        (["import sys; sys.exit(0)", "1"], [], r"In\[3\]: SystemExit"),
        (["quit()"], [], r"In\[3\]: a cell must not end the session"),
        (["import os; os._exit(1)", "1"], [], r"In\[3\]: Kernel died: .* exit status 1"),
        (
            ["import os; os.kill(os.getpid(), 9)"],
            [],
            r"Kernel died: .* SIGKILL.* memory(?s:.*)-p fr",
        ),
        (["x = bytearray(10**15)"], [], r"In\[3\]: MemoryError(?s:.*)--jobs 1"),
        (["1 / 0", "1"], ["raises-exception"], r"In\[3\]: ZeroDivisionError"),
        (["1", "1"], ["skip-execution"], "1 code cells did not run"),
    ],
    ids=["error", "exit", "quit", "kernel dies", "killed", "memory", "allowed error", "skipped"],
)
def test_what_stops_a_notebook_is_named_and_the_last_report_stays(
    tmp_path, run, runs, last_report, cells, tags, said
):
    write_notebook(tmp_path, "one", *cells, tags=tags)
    with pytest.raises(CourseFailed, match=f"one failed at .*{said}") as failure:
        run("one", "one")
    assert run.said == ["one …"]
    assert "one.ipynb" in str(failure.value) and "was not touched" in str(failure.value)
    (path,) = runs.glob("*/notebooks/one.ipynb")
    assert not list(runs.glob(".*"))
    assert nbformat.read(path, as_version=4).cells
    assert contents(tmp_path / "report") == last_report
    assert not kernels_of(psutil.Process())


def run_slow(folder: Path) -> None:
    """Run the notebook ``slow`` of the folder, as a process of its own whose errors are kept."""
    os.dup2(os.open(folder / "errors", os.O_CREAT | os.O_WRONLY), 2)
    os.environ["MNIST_LAB_RUNS"] = str(folder / "runs")
    places = {"out": folder / "report", "notebooks": folder / "notebooks"}
    with plain_errors():
        run_course(dataset="uci-digits", names=["slow"], render=render, echo=str, **places)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL", "SIGINT while it starts"])
def test_stopped_run_says_one_line_and_leaves_the_last_report_and_no_kernel(
    tmp_path, last_report, run, runs, name
):
    mark, number = tmp_path / "in the slow cell", getattr(signal, name.split()[0])
    slow = (
        f"import time; open({str(mark)!r}, 'w')\nfor n in range(6000): time.sleep(0.02); print(n)"
    )
    write_notebook(tmp_path, "slow", slow)
    server = multiprocessing.get_context("forkserver")  # imports what is heavy once for all four
    server.set_forkserver_preload(["pytest", "papermill", "torch", "sklearn.datasets"])
    process = server.Process(target=run_slow, args=[tmp_path], daemon=True)
    process.start()
    child = psutil.Process(process.pid)
    wait_for(lambda: kernels_of(child) and ("starts" in name or mark.exists()))
    (kernel,) = kernels_of(child)
    time.sleep(0.5 if mark.exists() else 0)
    child.send_signal(number)
    process.join(30)
    killed, said = name == "SIGKILL", "Stopped. Nothing is left half-written.\n"
    assert process.exitcode == {"SIGINT": 130, "SIGTERM": 143, "SIGKILL": -9}[name.split()[0]]
    assert (tmp_path / "errors").read_text() == ("" if killed else said)
    assert contents(tmp_path / "report") == last_report
    assert not list(tmp_path.glob(".report.*[!k]"))
    wait_for(lambda: not kernel.is_running(), 10)
    assert [path.name[0] for path in sorted(runs.iterdir())] == [".", "u"] * killed
    if killed:
        write_notebook(tmp_path, "one", "1")
        assert "manifest.json" in contents(run("one"))
        assert not list(runs.iterdir())


def test_a_stop_that_comes_when_the_report_is_being_put_in_place_changes_nothing(
    tmp_path, run, last_report, monkeypatch
):
    remove = shutil.rmtree

    def meanwhile(*given: object, **more: object) -> None:
        signal.raise_signal(signal.SIGINT)
        remove(*given, **more)

    monkeypatch.setattr(shutil, "rmtree", meanwhile)
    write_notebook(tmp_path, "one", "1")
    assert "manifest.json" in contents(run("one"))
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_a_full_disk_for_the_report_costs_no_result_and_one_for_runs_is_named(
    tmp_path, run, runs, disk, monkeypatch
):
    write_notebook(tmp_path, "one", "print('x' * 50_000)")
    with pytest.raises(
        LabError, match=r"No space left.*\n.*--out.*\n.* results are kept: "
    ) as full:
        run("one", out=disk / "report")
    (kept,) = runs.iterdir()
    assert str(kept) in str(full.value) and "manifest.json" in contents(kept)
    assert [path.name for path in disk.iterdir()] == [".report.lock"]
    monkeypatch.setenv("MNIST_LAB_RUNS", str(disk / "runs"))
    with pytest.raises(LabError, match=r"disk.*one\.ipynb .*: No space left.*\n.*MNIST_LAB_RUNS"):
        run("one")


def test_report_is_made_again_from_a_finished_run_only(tmp_path):
    with pytest.raises(LabError, match=r"metrics\.json can.t be read: No such file"):
        render_again(tmp_path, render)
    assert not list(tmp_path.iterdir())
    for name in ("metrics.json", "provenance.json"):
        (tmp_path / name).write_text("{}")
    render_again(tmp_path, render)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert sorted(manifest) == ["metrics.json", "provenance.json", "report.html"]


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_give_only_settings_that_the_notebooks_have(profile):
    known = {n: notebook_settings(PROJECT / "notebooks" / f"{n}.ipynb") for n in NOTEBOOKS}
    for dataset in ("mnist", "uci-digits"):
        plan = plan_settings(known, profile, {}, {"dataset": dataset})
        assert all({"dataset", "seed", "output"} <= set(plan[name]) for name in NOTEBOOKS)
    assert set(PROFILES[profile]) <= set(NOTEBOOKS)

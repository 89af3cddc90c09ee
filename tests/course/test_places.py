"""Folders that a run works in and ends in: full, read-only, without locks, left by killed runs."""

import errno
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mnist_lab.course import report
from mnist_lab.course.cli import main
from mnist_lab.course.pipeline import render_again
from mnist_lab.course.places import (
    alone,
    check_destination,
    recovered,
    replace_folder,
    replace_together,
    working_folder,
)
from mnist_lab.course.run import RunFolder, write_json
from mnist_lab.files import LabError, lock, replacing

NOW = datetime(2026, 1, 2, tzinfo=UTC)
FULL = "No space left"
LONG = "x" * 255


def command(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def contents(folder: Path) -> dict[str, str]:
    """The text of every file below ``folder``."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def make_run(folder: Path, text: str) -> dict[str, str]:
    """A finished run that never was, all of whose files hold ``text``; its contents."""
    (folder / "notebooks").mkdir(parents=True)
    for name in ("report.html", "metrics.json", "provenance.json", "notebooks/one.ipynb"):
        (folder / name).write_text(text)
    write_json(folder / "manifest.json", RunFolder(folder).digests())
    return contents(folder)


@pytest.fixture
def refusing(monkeypatch):
    """Have the system refuse one renaming: ``refusing(name)`` is the path it goes to."""

    def refuse(name: str) -> None:
        rename = os.replace

        def replace(source: object, target: object) -> None:
            if Path(target).name == name and Path(source).name != ".report.old":
                raise PermissionError(13, "in use", str(target))
            rename(source, target)

        monkeypatch.setattr(os, "replace", replace)

    return refuse


@pytest.mark.parametrize("place", [".report.old", "report"])
def test_a_report_that_cannot_be_replaced_stays_and_so_do_the_new_results(
    tmp_path, refusing, place
):
    last = make_run(tmp_path / "report", "{}")
    new = make_run(tmp_path / "results", "[]")
    refusing(place)
    with pytest.raises(LabError, match=r"report cannot be written: in use.*\n.*Close the programs"):
        replace_folder(tmp_path / "report", tmp_path / "results")
    assert contents(tmp_path / "report") == last and contents(tmp_path / "results") == new
    assert {path.name for path in tmp_path.iterdir()} == {"report", "results"}


def test_results_go_to_another_disk_or_if_it_is_full_leave_nothing_there(tmp_path, disk):
    last, big = make_run(disk / "report", "{}"), make_run(tmp_path / "big", "x" * 20_000)
    with pytest.raises(LabError, match=rf"report cannot be written: {FULL}(?s:.*)--out"):
        replace_folder(disk / "report", tmp_path / "big")
    assert contents(disk / "report") == last and contents(tmp_path / "big") == big
    assert [path.name for path in disk.iterdir()] == ["report"]
    new = make_run(tmp_path / "small", "[]")
    replace_folder(disk / "report", tmp_path / "small")
    assert contents(disk / "report") == new
    assert [path.name for path in disk.iterdir()] == ["report"]
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize(
    ("last", "new", "found"),
    [(".report.old", "", "last"), (".report.old", "half", "last"), ("report", "half", "last"),
     (".report.old", "whole", "new"), ("report", "whole", "new"), ("", "whole", "new")],
)  # fmt: skip
def test_what_a_killed_run_left_of_its_end_is_completed_or_undone(tmp_path, last, new, found):
    texts = {}
    if last:
        texts["last"] = make_run(tmp_path / last, "{}")
    if new:
        texts["new"] = make_run(tmp_path / ".report.new", "[]")
    if new == "half":
        (tmp_path / ".report.new" / "report.html").write_text("ha")
    with alone(tmp_path / "report"):
        assert contents(tmp_path / "report") == texts[found]
    assert {path.name for path in tmp_path.iterdir()} == {".report.lock", "report"}


@pytest.mark.parametrize("name", ["verify", "report"])
def test_a_report_lost_between_the_two_renames_is_found_by_those_who_read_it(tmp_path, name):
    last = make_run(tmp_path / ".mine.old", "{}")
    done = command(name, tmp_path / "mine")
    assert "metrics.json can't be read: No such file" not in done.output
    assert contents(tmp_path / "mine") == last
    assert command(name, tmp_path / "never").exit_code == 2
    assert {path.name for path in tmp_path.iterdir()} == {".mine.lock", "mine"}


def test_what_lies_beside_a_folder_of_somebody_elses_is_not_put_in_its_place(tmp_path):
    make_run(tmp_path / ".report.new", "[]")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.txt").write_text("years of work")
    with pytest.raises(LabError, match="is no report"):
        check_destination(tmp_path / "report")
    assert recovered(tmp_path / "report") == tmp_path / "report"
    assert contents(tmp_path / "report") == {"thesis.txt": "years of work"}


def test_folders_of_killed_runs_are_cleared_and_no_others(tmp_path):
    for name in ("killed", "runs", "failed", "whole"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").touch()
    for name in ("killed", "runs", "whole"):
        (tmp_path / f".{name}.running").touch()
    (tmp_path / "whole" / "manifest.json").touch()
    with lock(tmp_path / ".runs.running"), working_folder(tmp_path, "x", NOW) as working:
        left = {path.name for path in tmp_path.iterdir()} - {working.name}
    assert left == {"runs", "failed", "whole", ".runs.running", f".{working.name}.running"}


@pytest.mark.parametrize(("error", "stays"), [(KeyboardInterrupt, False), (ValueError, True)])
def test_a_working_folder_stays_after_an_error_and_goes_after_a_stop(tmp_path, error, stays):
    with pytest.raises(error), working_folder(tmp_path, "x", NOW) as working:
        raise error
    assert working.exists() == stays and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["report.html", "report.pdf"])
def test_files_are_replaced_together_or_not_at_all(tmp_path, refusing, name):
    texts = {"report.html": "last", "report.pdf": "last"}
    for file in texts:
        (tmp_path / file).write_text("last")
    (tmp_path / "work").mkdir()
    new = [tmp_path / "work" / file for file in texts]
    for path in new:
        path.write_text("new")
    refusing(name)
    with pytest.raises(
        LabError, match=rf"{name} cannot be written: in use.*\n.*Close the programs"
    ):
        replace_together(new, tmp_path)
    shutil.rmtree(tmp_path / "work")
    assert contents(tmp_path) == texts


def test_what_a_killed_report_left_is_cleared_and_not_listed(tmp_path):
    last = make_run(tmp_path / "mine", "{}")
    (tmp_path / "mine" / ".report-abc").mkdir()
    for left in (".report-abc/report.typ", ".0123abcd.tmp"):
        (tmp_path / "mine" / left).write_text("half")
    render_again(tmp_path / "mine", lambda folder: shutil.rmtree(folder / ".report-abc"))
    assert contents(tmp_path / "mine") == last


def test_a_page_in_use_is_named_and_neither_form_is_replaced(
    made_up_run, tmp_path, monkeypatch, refusing
):
    shutil.copytree(made_up_run.parent, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(report, "TEMPLATES", tmp_path / "templates")
    for name in ("report.html", "report.pdf"):
        (tmp_path / "run" / name).write_text("the last one")
    refusing("report.pdf")
    with pytest.raises(LabError, match=r"report\.pdf cannot be written: in use"):
        report.render(tmp_path / "run")
    for name in ("report.html", "report.pdf"):
        assert (tmp_path / "run" / name).read_text() == "the last one"
    assert not list((tmp_path / "run").glob(".*"))


def test_a_file_takes_any_name_and_the_place_of_files_only(tmp_path):
    with replacing(tmp_path / LONG) as new:
        new.write_text("here")
    assert contents(tmp_path) == {LONG: "here"}
    (tmp_path / "folder").mkdir()
    with pytest.raises(LabError, match="what is there is no file"), replacing(tmp_path / "folder"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {LONG, "folder"}


def start_run(out: Path) -> Result:
    return command("run", "--dataset", "uci-digits", "--out", out)


@pytest.mark.parametrize("place", ["--out", "MNIST_LAB_RUNS"])
def test_a_run_that_could_not_write_its_end_does_not_begin(tmp_path, monkeypatch, disk, place):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    out, runs = tmp_path / "report", tmp_path / "runs"
    monkeypatch.setenv("MNIST_LAB_RUNS", str(runs if place == "--out" else disk / "runs"))
    done = start_run(disk / "new" / "report" if place == "--out" else out)
    assert done.exit_code == 2 and not runs.exists()
    assert done.output.count("cannot be written: Read-only file system") == 1
    assert place in done.output


def test_a_run_on_a_read_only_disk_is_verified_and_that_its_report_cannot_be_made_is_said(disk):
    make_run(disk / "mine", "{}")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert "holds   manifest.json" in command("verify", disk / "mine").output
    done = command("report", disk / "mine")
    assert done.exit_code == 2 and "cannot be written: Read-only file system" in done.output


@pytest.mark.skipif(os.name != "posix", reason="Windows has another way to lock")
def test_a_disk_that_cannot_lock_is_named(tmp_path, monkeypatch):
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    done = start_run(tmp_path / "report")
    assert done.exit_code == 2
    assert "cannot be written: No locks available.\n  Use a disk that can lock" in done.output


@pytest.mark.parametrize(("out", "said"), [("/", "root of a disk"), (LONG, "name too long")])
def test_a_place_for_the_report_that_cannot_be_is_refused_in_words(tmp_path, out, said):
    done = start_run(tmp_path / out)
    assert done.exit_code == 2 and said in done.output and "Traceback" not in done.output

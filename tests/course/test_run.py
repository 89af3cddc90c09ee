"""A run folder: what is written there is what is read, and says where it came from."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from mnist_lab.course import run as run_module
from mnist_lab.course.run import RunFolder, open_run, provenance
from mnist_lab.files import LabError, replacing


def a_figure(title: str = "") -> Figure:
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, 1], [1, 0])
    figure.axes[0].set_title(title)
    return figure


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return open_run(tmp_path / "run")


def keep_one_of_each(run: RunFolder, name: str) -> None:
    run.figure(name, a_figure())
    run.table(name, pd.DataFrame({"größe": [1.5], "name": ["é"]}))
    run.numbers(name, accuracy=0.5)
    run.array(name, logits=np.zeros((2, 10), np.float32))


def test_results_land_where_the_report_looks(run):
    keep_one_of_each(run, "a_1")
    names = ["figures/a_1.png", "metrics.json", "predictions/a_1.npz", "tables/a_1.csv"]
    assert files(run.folder) == names
    assert (run.folder / "tables/a_1.csv").read_bytes() == "größe,name\n1.5,é\n".encode()
    with np.load(run.folder / "predictions" / "a_1.npz") as kept:
        assert kept["logits"].shape == (2, 10)
    assert run.metrics == {"a_1": {"accuracy": 0.5}}
    assert run.read_table("a_1")["name"].tolist() == ["é"]
    assert run.has_table("a_1") and not run.has_table("b")


def test_empty_output_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keep_one_of_each(open_run(""), "a")
    assert not list(tmp_path.iterdir())
    with pytest.raises(LabError, match="Nothing is kept"):
        _ = open_run("").metrics


def test_equal_figures_give_equal_white_bytes_at_150_dpi(run):
    for name in ("a", "b"):
        run.figure(name, a_figure())
    first, second = ((run.folder / "figures" / f"{name}.png").read_bytes() for name in "ab")
    assert first == second
    assert b"Software" not in first and b"tIME" not in first
    pixels = matplotlib.image.imread(run.folder / "figures" / "a.png")
    assert 200 < pixels.shape[1] < 400
    assert pixels[0, 0].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("name", ["", "A", "a b", "../a", "a.png", "é", "a-b", "a\n"])
def test_odd_names_are_refused_with_or_without_a_folder(run, name):
    for one in (run, RunFolder()):
        contents = {one.figure: [a_figure()], one.table: [pd.DataFrame()]}
        for keep, what in {**contents, one.numbers: [], one.array: []}.items():
            with pytest.raises(ValueError, match="a-z"):
                keep(name, *what)
    assert files(run.folder) == []


def test_numbers_become_plain_and_merge_by_section(run):
    run.numbers("a", x=1, numpy=np.float32(0.5), count=np.int64(3), flag=np.bool_(True))
    run.numbers("b", tensor=torch.tensor(0.25), rows=np.arange(3), nothing=None)
    run.numbers("a", x=4, interval=(np.float64(0.1), 0.2), nested={"k": torch.tensor(1)}, text="é")
    a = {"x": 4, "numpy": 0.5, "count": 3, "flag": True, "interval": [0.1, 0.2]}
    assert run.metrics == {
        "a": a | {"nested": {"k": 1}, "text": "é"},
        "b": {"tensor": 0.25, "rows": [0, 1, 2], "nothing": None},
    }


@pytest.mark.parametrize(
    "value",
    [float("nan"), np.float32("inf"), torch.tensor(float("nan")), [1.0, float("-inf")], object()],
    ids=["nan", "numpy inf", "tensor nan", "inside a list", "object"],
)
def test_numbers_refuse_what_is_no_result_and_name_it(run, value):
    run.numbers("final", accuracy=1)
    with pytest.raises(ValueError, match=r"final\.loss"):
        run.numbers("final", accuracy=2, loss=value)
    with pytest.raises(ValueError, match=r"final\.loss"):
        RunFolder().numbers("final", loss=value)
    assert run.metrics == {"final": {"accuracy": 1}}


def test_a_file_is_the_old_one_until_the_new_one_is_whole_and_failure_leaves_no_litter(
    run, tmp_path
):
    with pytest.raises(ValueError):
        run.figure("a", a_figure("$\\notatexcommand{$"))
    assert files(run.folder) == []
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and files(tmp_path) == ["a.txt"]
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent and path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe"], ids=["missing", "cut", "binary"])
def test_what_cannot_be_read_is_named(run, content):
    for name in ("metrics.json", "provenance.json", "manifest.json", "tables/a.csv"):
        if content is not None:
            (run.folder / "tables").mkdir(exist_ok=True)
            (run.folder / name).write_bytes(content if name[-1] == "n" else b"\xff\xfe")
        with pytest.raises(LabError, match=name):
            run.read_table("a") if name[-1] == "v" else run.read_json(name)


def test_provenance_says_how_to_repeat_the_run_and_nothing_private(uci_digits):
    started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    origin = provenance(uci_digits, started, {"01": 1.26, "02": 2.0}, profile="student", seed=3)
    assert origin["dataset"]["name"] == "uci-digits" and origin["dataset"]["digest"]
    assert (origin["profile"], origin["seed"]) == ("student", 3)
    assert origin["started"] == "2026-01-02T03:04:05+00:00"
    assert origin["seconds"] == {"total": 3.3, "notebooks": {"01": 1.3, "02": 2.0}}
    assert origin["versions"]["numpy"] == np.__version__
    assert all(origin["versions"].values())
    assert origin["machine"]["logical_cores"] == os.cpu_count()
    text = json.dumps(origin)
    for private in (str(Path.home()) + "/", str(Path.cwd()), platform.node(), "/tmp/"):
        assert private not in text


def test_another_projects_checkout_is_not_claimed(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    commit = ["-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "--allow-empty", "-m", "x"]
    subprocess.run(["git", "-C", str(tmp_path), *commit], check=True)
    (tmp_path / "copy").mkdir()
    for project, claimed in ((tmp_path, True), (tmp_path / "copy", False)):
        monkeypatch.setattr(run_module, "PROJECT", project)
        assert (run_module._git() is not None) == claimed


@pytest.mark.skipif(os.name != "posix", reason="needs a shell script for git")
@pytest.mark.parametrize("script", ["exit 1", "printf '\\377\\376'", "printf 'a\\000b\\nc'"])
def test_a_git_that_fails_or_prints_rubbish_costs_no_run(tmp_path, monkeypatch, script):
    (tmp_path / "git").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_module._git() is None

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

from mnist_lab.atomic import replacing
from mnist_lab.data import load_digits
from mnist_lab.run import Run, open_run, provenance

matplotlib.use("Agg")
from matplotlib.figure import Figure


def a_figure() -> Figure:
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, 1], [1, 0])
    return figure


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def run(tmp_path) -> Run:
    return open_run(tmp_path / "run")


def test_results_land_where_the_report_looks(run):
    run.figure("curve_1", a_figure())
    run.table("scores", pd.DataFrame({"digit": [0]}))
    run.numbers("final", accuracy=0.5)
    run.array("test", logits=np.zeros((2, 10), np.float32))
    assert files(run.folder) == [
        "figures/curve_1.png",
        "metrics.json",
        "predictions/test.npz",
        "tables/scores.csv",
    ]
    with np.load(run.folder / "predictions" / "test.npz") as kept:
        assert kept["logits"].shape == (2, 10)


def test_empty_output_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = open_run("")
    run.figure("a", a_figure())
    run.table("a", pd.DataFrame())
    run.numbers("a", b=1)
    run.array("a", b=np.zeros(1))
    assert run == Run(None)
    assert not list(tmp_path.iterdir())


def test_equal_figures_give_equal_bytes(run):
    run.figure("a", a_figure())
    run.figure("b", a_figure())
    first = (run.folder / "figures" / "a.png").read_bytes()
    assert first == (run.folder / "figures" / "b.png").read_bytes()
    assert b"Software" not in first
    assert b"tIME" not in first


def test_figure_is_white_at_150_dpi(run):
    run.figure("a", a_figure())
    pixels = matplotlib.image.imread(run.folder / "figures" / "a.png")
    assert 200 < pixels.shape[1] < 400
    assert pixels[0, 0].tolist() == [1, 1, 1, 1]


def test_table_has_unix_lines_and_utf8(run):
    run.table("t", pd.DataFrame({"größe": [1.5]}, index=["é"]), index=True)
    assert (run.folder / "tables" / "t.csv").read_bytes() == ",größe\né,1.5\n".encode()


@pytest.mark.parametrize("name", ["", "A", "a b", "../a", "a.png", "é", "a-b", "a\n"])
def test_odd_names_are_refused_with_or_without_a_folder(run, name):
    for one in (run, Run()):
        with pytest.raises(ValueError, match="a-z"):
            one.figure(name, a_figure())
        with pytest.raises(ValueError, match="a-z"):
            one.table(name, pd.DataFrame())
        with pytest.raises(ValueError, match="a-z"):
            one.numbers(name, a=1)
        with pytest.raises(ValueError, match="a-z"):
            one.array(name, a=np.zeros(1))
    assert files(run.folder) == []


def test_numbers_merge_by_section(run):
    run.numbers("a", x=1, y=2)
    run.numbers("b", x=3)
    run.numbers("a", y=4)
    assert json.loads((run.folder / "metrics.json").read_text()) == {
        "a": {"x": 1, "y": 4},
        "b": {"x": 3},
    }


def test_numbers_become_plain(run):
    run.numbers(
        "a",
        numpy=np.float32(0.5),
        count=np.int64(3),
        flag=np.bool_(True),
        tensor=torch.tensor(0.25),
        rows=np.arange(3),
        interval=(np.float64(0.1), 0.2),
        nested={"k": torch.tensor(1)},
        text="é",
        nothing=None,
    )
    assert json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))["a"] == {
        "numpy": 0.5,
        "count": 3,
        "flag": True,
        "tensor": 0.25,
        "rows": [0, 1, 2],
        "interval": [0.1, 0.2],
        "nested": {"k": 1},
        "text": "é",
        "nothing": None,
    }


@pytest.mark.parametrize(
    "value",
    [float("nan"), np.float32("inf"), torch.tensor(float("nan")), [1.0, float("-inf")], object()],
    ids=["nan", "numpy inf", "tensor nan", "inside a list", "object"],
)
def test_numbers_refuse_what_is_no_result_and_name_it(run, value):
    run.numbers("final", accuracy=1)
    before = (run.folder / "metrics.json").read_bytes()
    with pytest.raises(ValueError, match=r"final\.loss"):
        run.numbers("final", accuracy=2, loss=value)
    assert (run.folder / "metrics.json").read_bytes() == before


def test_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert files(tmp_path) == ["a.txt"]


def test_old_file_is_whole_until_the_new_one_is(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_failed_figure_leaves_no_litter(run):
    figure = a_figure()
    figure.axes[0].set_title("$\\notatexcommand{$")
    with pytest.raises(ValueError):
        run.figure("a", figure)
    assert files(run.folder) == []


@pytest.fixture(scope="module")
def origin() -> dict:
    return provenance(
        load_digits("uci-digits"),
        profile="student",
        seed=3,
        jobs=2,
        given={"epochs": "2"},
        parameters={"01": {"epochs": 2}},
        started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        seconds={"01": 1.26, "02": 2.0},
    )


def test_provenance_says_how_to_repeat_the_run(origin):
    assert origin["dataset"]["name"] == "uci-digits"
    assert origin["dataset"]["digest"]
    assert (origin["profile"], origin["seed"]) == ("student", 3)
    assert (origin["jobs"], origin["given"]) == (2, {"epochs": "2"})
    assert origin["parameters"] == {"01": {"epochs": 2}}
    assert origin["started"] == "2026-01-02T03:04:05+00:00"
    assert origin["seconds"] == {"total": 3.3, "notebooks": {"01": 1.3, "02": 2.0}}
    assert origin["versions"]["numpy"] == np.__version__
    assert all(origin["versions"].values())
    assert origin["machine"]["logical_cores"] == os.cpu_count()


def test_provenance_tells_nothing_private(origin):
    text = json.dumps(origin)
    for private in (str(Path.home()) + "/", str(Path.cwd()), os.uname().nodename, "/tmp/"):
        assert private not in text


def test_provenance_of_another_projects_checkout_is_not_claimed(tmp_path, monkeypatch):
    import subprocess

    from mnist_lab import data
    from mnist_lab.run import _git

    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    inside = tmp_path / "copy"
    inside.mkdir()
    monkeypatch.setattr(data, "PROJECT", inside)
    assert _git() is None

"""Fixtures that more than one test file uses."""

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from PIL import Image

from mnist_lab import data
from mnist_lab.course import report
from mnist_lab.course.run import open_run, write_json


def idx_bytes(array: np.ndarray) -> bytes:
    """The uint8 array as the content of an IDX file."""
    header = [0x00000800 + array.ndim, *array.shape]
    return np.array(header, dtype=">u4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small networks train faster on one thread than on several that share a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def uci_digits() -> data.Digits:
    """The bundled digits: 1,497 to train on, 300 to test on."""
    return data.load_digits("uci-digits")


@pytest.fixture(scope="session")
def few_digits(uci_digits) -> data.Digits:
    """The first 200 and 40 of them, for fits that take no time."""
    train = data.Images(uci_digits.train.images[:200], uci_digits.train.labels[:200])
    test = data.Images(uci_digits.test.images[:40], uci_digits.test.labels[:40])
    return dataclasses.replace(uci_digits, train=train, test=test)


@pytest.fixture
def mnist_root() -> Path:
    """The folder of the real MNIST files."""
    if not os.environ.get("MNIST_LAB_DATA"):
        pytest.skip("needs MNIST: set MNIST_LAB_DATA to the folder of its four files")
    return Path(os.environ["MNIST_LAB_DATA"]).absolute()


@pytest.fixture
def tiny_mnist(tmp_path, monkeypatch) -> Path:
    """A folder with 40 training and 20 test digits in IDX files, taken for MNIST in this test.

    The project folder and the expected digests are this test's own as well, and MNIST_LAB_DATA is
    unset.
    """
    rng = np.random.default_rng(0)
    folder = tmp_path / "tiny"
    folder.mkdir()
    for prefix, count in (("train", 40), ("t10k", 20)):
        images = rng.integers(0, 256, (count, 28, 28))
        for stem, array in (
            (f"{prefix}-images-idx3-ubyte", images),
            (f"{prefix}-labels-idx1-ubyte", np.arange(count) % 10),
        ):
            content = idx_bytes(array)
            (folder / stem).write_bytes(content)
            monkeypatch.setitem(data.MNIST_SHA256, stem, hashlib.sha256(content).hexdigest())
            monkeypatch.setitem(data.MNIST_BYTES, stem, len(content))
    monkeypatch.setattr(data, "PROJECT", tmp_path / "project")
    monkeypatch.delenv("MNIST_LAB_DATA", raising=False)
    return folder


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """Another disk, with room for 40 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only Linux's superuser may mount a disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture(scope="session")
def made_up_run(tmp_path_factory) -> Path:
    """A folder with the files of a run that never was, and ``templates/`` for its report."""
    run = open_run(tmp_path_factory.mktemp("made up") / "run")
    origin = {"started": "2026-01-02T03:04:05+00:00", "dataset": {"name": "uci-digits"}}
    write_json(run.folder / "provenance.json", origin)
    run.numbers("data", title="Nobody's digits")
    run.numbers("evaluation", accuracy=0.987654)
    wide = {f"column_{i}": [0.123456] for i in range(13)} | {"text": ["words " * 30]}
    run.table("wide", pd.DataFrame(wide))
    run.table("long", pd.DataFrame({"row": range(100), "name": "x"}))
    (run.folder / "figures").mkdir()
    for name, size in (("early", (300, 200)), ("later", (1200, 3000))):
        Image.new("RGB", size, "orange").save(run.folder / "figures" / f"{name}.png")
    templates = run.folder.parent / "templates"
    shutil.copytree(report.TEMPLATES, templates, ignore=shutil.ignore_patterns("*-*", "*.png"))
    shutil.copy(Path(__file__).with_name("made_up.md.j2"), templates / "template.md.j2")
    return run.folder


@pytest.fixture(scope="session")
def made_up_report(made_up_run) -> Path:
    """The folder of that run with its report rendered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "TEMPLATES", made_up_run.parent / "templates")
        report.render(made_up_run)
    return made_up_run


@pytest.fixture(scope="session")
def course(tmp_path_factory, worker_id) -> tuple[Path, str]:
    """The folder of a finished run of the whole course, and what the command printed."""
    home = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        home = home.parent  # which the processes of one session share
    out, printed = home / "course" / "uci-digits-student", home / "course" / "printed.txt"
    with FileLock(home / "course.lock"):
        if not printed.exists():
            out.parent.mkdir()
            printed.write_text(run_the_course(out), encoding="utf-8")
    return out, printed.read_text(encoding="utf-8")


def run_the_course(out: Path) -> str:
    """Run it on the bundled digits with little training; what the command printed."""
    command = [sys.executable, "-m", "mnist_lab", "run", "--dataset", "uci-digits", "--out", out]
    short = {"epochs": 1, "epochs_b": 1, "epochs_fast": 2, "cv_epochs": 1, "seeds": 2}
    short |= {"shifted_images": 50, "tsne_images": 150, "idea_seeds": 2, "fresh_seeds": 2}
    done = subprocess.run(
        [*command, *(word for name, value in short.items() for word in ("-p", name, str(value)))],
        env={**os.environ, "MNIST_LAB_RUNS": str(out.parent / "runs"), "OMP_NUM_THREADS": "1"},
        cwd=out.parent,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr == ""
    return done.stdout

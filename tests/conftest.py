"""Fixtures that more than one test file uses."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from mnist_lab import data, idx, report


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

    The project folder, the cache and the expected digests are this test's own as well, and
    MNIST_LAB_DATA is unset.
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
            monkeypatch.setitem(idx.MNIST_SHA256, stem, hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(data, "PROJECT", tmp_path / "project")
    monkeypatch.setenv("MNIST_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MNIST_LAB_DATA", raising=False)
    return folder


MADE_UP_REPORT = """\
---
title: "A made-up report"
subtitle: "Data: {{ data.title }}."
lang: en
keywords: [digits, "{{ data.title }}"]
---

> **A note.** The accuracy is {{ evaluation.accuracy|percent }}. See {{ ref("later") }},
> {{ ref("table:wide") }}, {{ ref("section:second", "Section") }} and {{ ref("section:origin") }}.

# Abstract (摘要) {.unnumbered}

Arrows 10→20, 3↔8, B′, ≤ and `code`.

# 1 First (数据预处理)

## 1.1 Figures

{{ figure("early", "A small figure with $x < 1$ and \\"quotes\\".") }}

$$\\text{accuracy} = \\frac{TP + TN}{TP + TN + FP + FN}, \\quad \\text{precision} =
\\frac{TP}{TP + FP}, \\quad \\text{recall} = \\frac{TP}{TP + FN}, \\quad F_1 = \\frac{2PR}{P + R}$$

# 2 Second {#second}

{{ figure("later", "A tall figure.") }}

{{ table("wide", "Fourteen columns and a long text.") }}

{{ table("long", "A hundred rows.") }}

# Appendix: origin {.unnumbered #origin}

{% call typed_table("typed", "A table typed by hand.") %}
| what | value |
|:---|:---|
| digest | `{{ "0123456789abcdef" * 8 }}` |
{% endcall %}
"""


@pytest.fixture(scope="session")
def made_up_run(tmp_path_factory) -> Path:
    """A folder with the files of a run that never was, and ``templates/`` for its report."""
    folder = tmp_path_factory.mktemp("made up") / "run"
    templates = folder.parent / "templates"
    for name in ("figures", "tables"):
        (folder / name).mkdir(parents=True)
    metrics = {"data": {"title": "Nobody's digits"}, "evaluation": {"accuracy": 0.987654}}
    origin = {"started": "2026-01-02T03:04:05+00:00", "dataset": {"name": "uci-digits"}}
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (folder / "provenance.json").write_text(json.dumps(origin), encoding="utf-8")
    for name, size in (("early", (300, 200)), ("later", (1200, 3000))):
        Image.new("RGB", size, "orange").save(folder / "figures" / f"{name}.png")
    wide = pd.DataFrame({f"column_{i}": [0.123456] for i in range(13)} | {"text": ["words " * 30]})
    wide.to_csv(folder / "tables" / "wide.csv", index=False)
    long = pd.DataFrame({"row": range(100), "name": "x"})
    long.to_csv(folder / "tables" / "long.csv", index=False)
    shutil.copytree(report.TEMPLATES, templates, ignore=shutil.ignore_patterns("*-*", "*.png"))
    (templates / "template.md.j2").write_text(MADE_UP_REPORT, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def made_up_report(made_up_run) -> Path:
    """The folder of that run with its report rendered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "TEMPLATES", made_up_run.parent / "templates")
        report.render(made_up_run)
    return made_up_run


SHORT = {
    "epochs": "1",
    "epochs_b": "1",
    "epochs_fast": "2",
    "cv_epochs": "1",
    "seeds": "2",
    "shifted_images": "50",
    "tsne_images": "150",
}


@pytest.fixture(scope="session")
def course(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a finished run, and what the command printed."""
    home = tmp_path_factory.mktemp("course")
    out = home / "uci-digits-student"
    command = [sys.executable, "-m", "mnist_lab", "run", "--dataset", "uci-digits"]
    short = [word for name, value in SHORT.items() for word in ("-p", name, value)]
    done = subprocess.run(
        [*command, "--out", str(out), *short],
        env={**os.environ, "MNIST_LAB_RUNS": str(home / "runs"), "OMP_NUM_THREADS": "1"},
        cwd=home,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr == ""
    return out, done.stdout

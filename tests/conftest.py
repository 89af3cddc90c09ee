"""Fixtures that more than one test file uses."""

import dataclasses
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_lab import data, idx


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

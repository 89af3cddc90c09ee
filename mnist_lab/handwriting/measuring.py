"""How well pictures are read, and what each step of the preparation is worth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from mnist_lab.evaluation import wilson_interval
from mnist_lab.files import LabError
from mnist_lab.handwriting.form import centred, fitted
from mnist_lab.handwriting.ink import find_ink
from mnist_lab.handwriting.pictures import PictureError, Source, open_picture
from mnist_lab.handwriting.reading import Network, as_reader, digit_image, read
from mnist_lab.handwriting.segments import find_digits, union

STEPS = (
    "grey, inverted, resized to 28×28",
    "inverted only where paper is light",
    "ink alone: paper and light removed",
    "cut out, scaled to fit 20×20",
    "centred by mass",
    "strokes joined, specks left out, width near MNIST's",
)


def read_labelled(folder: str | Path, network: Network = "reader") -> pd.DataFrame:
    """A row for each picture that ``labels.csv`` in the folder names: what is read, and if right.

    That file has the columns ``file`` and ``label``, with | between lines, and may have others,
    which are kept. New are ``read`` (empty if nothing could be), ``lines`` and ``lines_right``,
    ``confidence`` (of the least sure digit) and ``right``.
    """
    reader = as_reader(network)
    table = pd.read_csv(Path(folder) / "labels.csv", dtype=str)
    rows = []
    for name, label in zip(table["file"], table["label"], strict=True):
        wanted = label.split("|")
        try:
            reading = read(Path(folder) / name, reader)
        except LabError:
            rows.append(("", len(wanted), 0, float("nan"), False))
            continue
        least = min(digit.confidence for digit in reading.digits)
        same = [a == b for a, b in zip(reading.lines, wanted, strict=False)]
        whole = list(reading.lines) == wanted
        rows.append(("|".join(reading.lines), len(wanted), sum(same), least, whole))
    new = ["read", "lines", "lines_right", "confidence", "right"]
    return table.join(pd.DataFrame(rows, columns=new))


def share_right(readings: pd.DataFrame, by: Sequence[str] = ("kind", "medium")) -> pd.DataFrame:
    """Of each group of lines that ``read_labelled`` read: how many are right, with bounds."""
    counts = readings.groupby(list(by))[["lines_right", "lines"]].sum()
    return _with_bounds(
        counts.rename(columns={"lines_right": "right", "lines": "of"}).reset_index()
    )


def ladder(
    pictures: Sequence[Source], labels: Sequence[int], network: Network = "reader"
) -> pd.DataFrame:
    """One row per step of the preparation, each keeping those before it: how many are read right.

    Every picture shows one digit. ``gain`` is the share that a step adds.
    """
    reader, rows = as_reader(network), []
    opened = [open_picture(picture) for picture in pictures]
    for number, step in enumerate(STEPS):
        images = np.stack([prepared(picture, number) for picture in opened])
        answers = np.asarray(reader.answer(images)).argmax(axis=1)
        rows.append((step, int((answers == np.asarray(labels)).sum()), len(opened)))
    table = _with_bounds(pd.DataFrame(rows, columns=["step", "right", "of"]))
    return table.assign(gain=table["share"].diff())


def prepared(picture: np.ndarray, step: int) -> np.ndarray:
    """One digit's picture, uint8 [H, W, 3], as ``STEPS`` up to this one make it: uint8 [28, 28]."""
    grey = np.asarray(Image.fromarray(picture).convert("L"))
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if step == 0 or (step == 1 and np.median(border) > 127):
        return _stretched(255 - grey)
    if step == 1:
        return _stretched(grey)
    try:
        ink = find_ink(picture)
        darkness = np.where(ink.mask, ink.darkness, 0)
        if step == 2:
            return _stretched((255 * darkness).astype(np.uint8))
        if step < 5:
            rows, columns = (np.flatnonzero(ink.mask.any(axis=axis)) for axis in (1, 0))
            box = darkness[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            return centred(fitted(box), by_mass=step == 4)
        whole = union([piece for line in find_digits(ink) for piece in line])
        return digit_image(ink, whole)
    except PictureError:
        return np.zeros((28, 28), np.uint8)  # what is seen of a picture without ink


def _stretched(grey: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(grey).resize((28, 28), Image.Resampling.BILINEAR))


def _with_bounds(counts: pd.DataFrame) -> pd.DataFrame:
    """The counts with ``share`` and its 95 % Wilson bounds ``low`` and ``high``."""
    pairs = zip(counts["right"].tolist(), counts["of"].tolist(), strict=True)
    counts[["low", "high"]] = [wilson_interval(right, of) for right, of in pairs]
    counts.insert(len(counts.columns) - 2, "share", counts["right"] / counts["of"])
    return counts

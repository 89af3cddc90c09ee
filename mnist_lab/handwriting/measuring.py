"""How well labelled pictures are read."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mnist_lab.evaluation import wilson_interval
from mnist_lab.files import LabError
from mnist_lab.handwriting.reading import Network, as_reader, read


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
    """Of each group of lines that ``read_labelled`` read: how many are right.

    With their ``share`` and its 95 % Wilson bounds, ``low`` and ``high``.
    """
    counts = readings.groupby(list(by))[["lines_right", "lines"]].sum().reset_index()
    counts = counts.rename(columns={"lines_right": "right", "lines": "of"})
    pairs = zip(counts["right"].tolist(), counts["of"].tolist(), strict=True)
    bounds = [wilson_interval(right, of) for right, of in pairs]
    counts["share"] = counts["right"] / counts["of"]
    counts[["low", "high"]] = bounds
    return counts

"""Figures that compare trainings or networks: intervals, forests, curves, time against errors."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnist_lab.figures import style
from mnist_lab.figures.style import LOOKS, PALETTE, legend_below, log_axis, panels
from mnist_lab.study.statistics import Mean, pareto_front

VERDICTS = {"helps": (PALETTE[0], "D"), "hurts": (PALETTE[4], "s")}
UNDECIDED = ("0.5", "o")


def interval_plot(
    rows: dict[str, Mean],
    *,
    points: dict[str, list[float]],
    reference: float | None = None,
    xlabel: str,
    title: str,
) -> Figure:
    """One row per name: the mean with its interval, and the single values as small dots."""
    figure, (axes,) = panels(1, title, 0.6 + 0.55 * len(rows), xlabel=xlabel)
    if reference is not None:
        axes.axvline(reference, color="0.4", linestyle="--", linewidth=1)
    for y, (name, mean) in enumerate(rows.items()):
        axes.plot(points[name], [y + 0.18] * len(points[name]), "o", color="0.6", markersize=4)
        ends = np.clip([mean.low, mean.high], -100, 100)  # no percentage or difference is beyond
        axes.plot(ends, [y, y], color=PALETTE[0], linewidth=2.5)
        axes.plot(mean.mean, y, "D", color=PALETTE[0], markersize=7)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    return figure


def forest_plot(table: pd.DataFrame, *, xlabel: str, title: str) -> Figure:
    """Differences with their intervals, a row each, under the name of their family.

    Columns: ``family``, ``name``, ``difference``, ``low``, ``high`` in points, and ``verdict``:
    "helps", "hurts" or anything else. Differences and bounds that are NaN are left out. A few
    far beyond all others stand as arrows at the edge; every value is printed on the right.
    """
    lines = len(table) + table["family"].nunique()
    figure, (axes,) = panels(1, title, 1.0 + 0.21 * lines, xlabel=xlabel)
    reach = table[["difference", "low", "high"]].abs().max(axis=1).dropna()
    limit = min(reach.max(), 2.5 * reach.quantile(0.75)) if reach.any() else 1.0
    axes.axvline(0, color="black", linewidth=1)
    right = axes.get_yaxis_transform()
    heads: dict[int, str] = {}
    names: dict[int, str] = {}
    for family, part in table.groupby("family", sort=False):
        heads[len(heads) + len(names)] = str(family)
        columns = part[["name", "verdict", "low", "difference", "high"]]
        for name, verdict, low, mean, high in columns.to_numpy():
            y = len(heads) + len(names)
            names[y] = name
            colour, marker = VERDICTS.get(verdict, UNDECIDED)
            axes.plot([], [], marker, color=colour, label=verdict)
            if abs(mean) > limit:
                marker = "<" if mean < 0 else ">"
            axes.plot(np.clip([low, high], -limit, limit), [y, y], color=colour, linewidth=2)
            axes.plot(np.clip(mean, -limit, limit), y, marker, color=colour, markersize=5.5)
            words = f"{mean:+.2f} ({low:+.2f} to {high:+.2f})".replace("-", "−")
            words = words.replace(" (+nan to +nan)", "").replace("+nan", "no result")
            axes.text(1.01, y, words, transform=right, va="center", fontsize=8)
    axes.set_yticks(list(heads), heads.values(), fontsize=8.5, fontweight="bold")
    axes.set_yticks(list(names), names.values(), fontsize=8.5, minor=True)
    axes.tick_params(axis="y", which="both", length=0)
    axes.tick_params(axis="x", top=lines > 25, labeltop=lines > 25)
    axes.set(ylim=(lines - 0.4, -0.6), xlim=(-1.06 * limit, 1.06 * limit), axisbelow=True)
    axes.grid(color="0.93", which="both")
    axes.spines["left"].set_visible(False)
    legend_below(figure)
    return figure


def accuracy_under_shift(table: pd.DataFrame, *, title: str) -> Figure:
    """Accuracy as images differ more and more from the training images, one panel per kind.

    Columns: ``kind``, ``strength``, ``unit``, ``model``, and ``accuracy``, ``low`` and ``high`` as
    shares. Kinds, models and strengths keep their order.
    """
    figure, grid = panels(table["kind"].nunique(), title, 2.6, layout={"sharey": True})
    for axes, (kind, part) in zip(grid, table.groupby("kind", sort=False), strict=True):
        for look, (model, line) in zip(LOOKS, part.groupby("model", sort=False), strict=False):
            shares = 100 * line[["accuracy", "low", "high"]].to_numpy().T
            _line_with_band(axes, line["strength"], *shares, **look, label=model)
        if table["accuracy"].min() < 0.3:
            axes.axhline(10, color="0.5", linestyle=":", linewidth=1, label="guessing")
        axes.set(title=kind, xlabel=part["unit"].iloc[0] or "strength")
    figure.supylabel("accuracy (%)", fontsize=10)
    legend_below(figure)
    return figure


def response_curves(
    table: pd.DataFrame, *, log: list[str], baselines: dict[str, float], title: str
) -> Figure:
    """Errors in percent against a hyper-parameter: mean and band, a panel per hyper-parameter.

    Columns: ``parameter``, ``value``, and ``accuracy``, ``low`` and ``high`` as shares. Parameters
    in ``log`` get a logarithmic axis. A dotted line marks a parameter's value in ``baselines``.
    """
    figure, grid = panels(table["parameter"].nunique(), title, 2.6, layout={"sharey": True})
    for axes, (name, line) in zip(grid, table.groupby("parameter", sort=False), strict=True):
        line = _errors(line).sort_values("value")
        x = line["value"]
        _line_with_band(axes, x, line["y"], line["low"], line["high"], **LOOKS[0])
        axes.axvline(baselines[str(name)], color="0.3", linestyle=":", label="baseline")
        axes.set_xlabel(str(name))
        if name in log:
            log_axis(axes, "x", least=x[x > 0].min())
    figure.supylabel("errors (%)", fontsize=10)
    log_axis(grid[0], "y", least=0.1)
    legend_below(figure)
    return figure


def _line_with_band(axes: Axes, x: Any, y: Any, low: Any, high: Any, **look: Any) -> None:
    axes.plot(x, y, **look)
    axes.fill_between(x, low, high, color=look["color"], alpha=0.2, linewidth=0)


def _errors(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its errors in percent as ``y``, and ``low`` and ``high`` as their bounds."""
    shown = 100 - (100 * table[["accuracy", "low", "high"]]).clip(0, 100)
    return table.assign(y=shown["accuracy"], low=shown["high"], high=shown["low"])


def time_and_accuracy(
    table: pd.DataFrame, *, front: bool = False, path: bool = False, title: str
) -> Figure:
    """Errors in percent against seconds, both logarithmic, points with intervals and names.

    Columns: ``name`` (empty: no label), ``seconds``, and ``accuracy``, ``low`` and ``high`` as
    shares. ``front`` joins the points that no other beats in both time and accuracy (the Pareto
    front) and greys out the rest. ``path`` joins the points in the order of the rows. Rows without
    seconds or accuracy are left out.
    """
    table = table.rename(columns={"seconds": "x"}).dropna(subset=["x", "accuracy"])
    best = pareto_front(table["x"].tolist(), table["accuracy"].tolist()) | (not front)
    table = _errors(table)
    figure, (axes,) = panels(1, title, 4.9, xlabel="training time (s)", ylabel="errors (%)")
    for part, colour, layer in ((table[~best], "0.6", 2), (table[best], PALETTE[0], 3)):
        numbers = part[["x", "y", "low", "high"]].to_numpy().T
        style.points_with_bars(axes, *numbers, color=colour, marker="o", markersize=5, zorder=layer)
    if path:
        axes.plot(table["x"], table["y"], color="0.8", zorder=1)
    if front:
        edge = table[best].sort_values("x")
        words = "no other is both faster and more accurate"
        axes.step(edge["x"], edge["y"], where="post", color=PALETTE[0], lw=1, label=words)
        legend_below(figure)
    axes.margins(x=0.12, y=0.1)
    log_axis(axes, "x", least=table["x"].min())
    log_axis(axes, "y", least=0.1)
    style.label_points(figure, axes, table)
    return figure

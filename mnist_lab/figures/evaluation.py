"""Figures of how good a classifier is: confusions, recall, calibration, coverage."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mnist_lab.figures.style import LOOKS, PALETTE, legend_below, log_axis, panels, points_with_bars


def confusion_heatmap(confusion: np.ndarray, *, title: str) -> Figure:
    """Counts of true class (rows) against predicted class (columns), the diagonal muted.

    Colour shows the errors only, so that a thousand right answers do not drown nine wrong ones.
    """
    import seaborn as sns  # takes seconds to import, and no other figure needs it

    figure, (axes,) = panels(1, title, 5.9)
    errors = np.where(np.eye(10, dtype=bool), np.nan, confusion)
    words = np.where(confusion, confusion.astype(str), "")
    look = {"cmap": "Blues", "vmin": 0, "vmax": max(1, np.nanmax(errors)), "linewidths": 0.5}
    bar = {"label": "errors (images)", "shrink": 0.8}
    sns.heatmap(errors, ax=axes, annot=words, fmt="", square=True, cbar_kws=bar, **look)
    for digit, count in enumerate(confusion.diagonal()):
        axes.text(digit + 0.5, digit + 0.5, count, ha="center", va="center", color="0.45")
    axes.set(xlabel="predicted digit", ylabel="true digit")
    axes.tick_params(length=0, labelrotation=0)
    return figure


def recall_by_class(recall: np.ndarray, low: np.ndarray, high: np.ndarray, *, title: str) -> Figure:
    """Recall of each digit in percent with its interval."""
    recall, low, high = 100 * np.array([recall, low, high])
    figure, (axes,) = panels(1, title, 2.9, xlabel="digit", ylabel="recall (%)", xticks=range(10))
    points_with_bars(axes, range(10), recall, low, high, marker="D", color=PALETTE[0])
    axes.axhline(recall.mean(), color="0.4", ls="--", lw=1, label="mean of the ten")
    axes.legend(frameon=False, loc="lower left")
    return figure


def reliability_diagram(tables: dict[str, pd.DataFrame], *, title: str) -> Figure:
    """Accuracy against confidence, one panel per table of ``calibration.reliability``.

    Points lie on the diagonal where confidence can be believed, below it where the network is too
    sure. Bars below count the answers of each bin.
    """
    columns = min(3, len(tables))
    blocks = -(-len(tables) // columns)  # a row of accuracies and a lower one of counts
    layout = {"sharey": "row", "height_ratios": [3, 1] * blocks}
    figure, grid = panels(2 * blocks * columns, title, 1.95, columns, layout, xlim=(0, 102))
    for place, (name, table) in enumerate(tables.items()):
        above = place + place // columns * columns
        axes, counts = grid[above], grid[above + columns]
        bounds = ["confidence", "accuracy", "accuracy_low", "accuracy_high", "low", "high"]
        *points, left, right = 100 * table[bounds].to_numpy().T
        points_with_bars(axes, *points, **LOOKS[0])
        axes.plot([0, 100], [0, 100], color="0.4", linestyle="--", linewidth=1)
        axes.set(title=name, ylim=(-2, 103))
        axes.tick_params(labelbottom=False)
        counts.bar(left, table["count"], right - left, align="edge", color="0.65", ec="white")
        counts.set(xlabel="confidence (%)", yscale="log", ylim=(0.7, None))
        if place % columns == 0:
            axes.set_ylabel("accuracy (%)")
            counts.set_ylabel("answers")
    for axes in grid:
        axes.set_visible(axes.has_data())
    return figure


def coverage_plot(curves: dict[str, pd.DataFrame], *, target: float, title: str) -> Figure:
    """Error rate among the answers, on a logarithmic axis, against the share answered.

    One line per table of ``calibration.coverage_curve``. A dashed line marks the ``target``, an
    error rate that must not be exceeded.
    """
    figure, (axes,) = panels(1, title, 3.9, xlim=(0, 101), xlabel="share answered (%)")
    for look, (name, curve) in zip(LOOKS, curves.items(), strict=False):
        x, y = 100 * curve["coverage"], 100 * curve["error_rate"]
        axes.step(x, y, where="post", markevery=[-1], label=name, **look)
    axes.axhline(100 * target, color="black", linestyle="--", linewidth=1)
    axes.text(1, 100 * target, f"1 error in {1 / target:,.0f}", va="bottom")
    axes.set_ylabel("errors among the answers (%)")
    log_axis(axes, "y", least=100 * target)
    legend_below(figure)
    return figure

"""Figures of how good a classifier is: confusions, recall, calibration, coverage, shift."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from mnist_lab.style import (
    DIGITS,
    PALETTE,
    legend_below,
    looks,
    new_figure,
    open_frame,
    panels,
    plain,
    plain_log_ticks,
)


def confusion_heatmap(confusion: np.ndarray, *, title: str) -> Figure:
    """Counts of true class (rows) against predicted class (columns), the diagonal muted.

    Colour shows the errors only, so that a thousand right answers do not drown nine wrong ones.
    """
    import seaborn as sns  # takes seconds to import, and no other figure needs it

    figure = new_figure(6.4, title)
    axes = figure.subplots()
    errors = confusion.astype(float)
    np.fill_diagonal(errors, np.nan)
    top = max(1.0, float(np.nanmax(errors)))
    sns.heatmap(
        errors,
        ax=axes,
        cmap="Blues",
        vmin=0,
        vmax=top,
        square=True,
        linewidths=0.5,
        linecolor="white",
        cbar_kws={"label": "errors (images)", "shrink": 0.8},
    )
    for true in DIGITS:
        for predicted in DIGITS:
            count = int(confusion[true, predicted])
            if true == predicted:
                colour = "0.45"
            else:
                colour = "white" if count > 0.6 * top else "black" if count else "0.75"
            axes.text(
                predicted + 0.5,
                true + 0.5,
                str(count),
                ha="center",
                va="center",
                color=colour,
                size=9,
            )
    axes.set(xlabel="predicted digit", ylabel="true digit")
    axes.tick_params(length=0)
    axes.set_yticklabels(axes.get_yticklabels(), rotation=0)
    return figure


def recall_by_class(recall: np.ndarray, low: np.ndarray, high: np.ndarray, *, title: str) -> Figure:
    """Recall of each digit in percent with its interval."""
    figure = new_figure(3.4, title)
    axes = figure.subplots()
    centre = 100 * np.asarray(recall)
    below = np.clip(centre - 100 * np.asarray(low), 0, None)
    above = np.clip(100 * np.asarray(high) - centre, 0, None)
    axes.errorbar(DIGITS, centre, yerr=[below, above], fmt="D", capsize=4, color=PALETTE[0])
    axes.axhline(
        float(centre.mean()), color="0.4", linestyle="--", linewidth=1, label="mean of the ten"
    )
    axes.legend(frameon=False, loc="lower left")
    axes.set(xticks=list(DIGITS), xlabel="digit", ylabel="recall (%)")
    open_frame(axes)
    return figure


def reliability_diagram(tables: Mapping[str, pd.DataFrame], *, title: str) -> Figure:
    """Accuracy against confidence, one panel per table of ``calibration.reliability``.

    Points lie on the diagonal where confidence can be believed, below it where the network is too
    sure. Bars below count the answers of each bin.
    """
    columns = min(3, len(tables))
    rows = -(-len(tables) // columns)
    figure = new_figure(0.6 + (3.9 if columns == 3 else 4.6) * rows, title)
    grid = figure.add_gridspec(2 * rows, columns, height_ratios=[3, 1] * rows)
    most = max(table["count"].max() for table in tables.values())
    for place, (name, table) in enumerate(tables.items()):
        row, column = divmod(place, columns)
        axes = figure.add_subplot(grid[2 * row, column])
        counts = figure.add_subplot(grid[2 * row + 1, column], sharex=axes)
        axes.plot([0, 100], [0, 100], color="0.4", linestyle="--", linewidth=1)
        centre, low, high = (
            100 * table[part] for part in ("accuracy", "accuracy_low", "accuracy_high")
        )
        axes.errorbar(
            100 * table["confidence"],
            centre,
            yerr=[(centre - low).clip(0), (high - centre).clip(0)],
            fmt="o",
            color=PALETTE[0],
            capsize=2,
            markersize=4,
            elinewidth=1,
        )
        left, width = 100 * table["low"], 100 * (table["high"] - table["low"])
        counts.bar(left, table["count"], width=width, align="edge", color="0.65", edgecolor="white")
        axes.set(title=name, xlim=(0, 102), ylim=(-2, 103))
        axes.tick_params(labelbottom=False)
        counts.set(yscale="log", ylim=(0.7, 2 * most), xlabel="confidence (%)")
        plain_log_ticks(counts.yaxis)
        counts.yaxis.set_major_locator(LogLocator())
        if column == 0:
            axes.set_ylabel("accuracy (%)")
            counts.set_ylabel("answers")
        else:
            axes.tick_params(labelleft=False)
            counts.tick_params(labelleft=False)
        open_frame(axes)
        open_frame(counts)
    return figure


def coverage_plot(
    curves: Mapping[str, pd.DataFrame], *, target: float | None = None, title: str
) -> Figure:
    """Error rate among the answers, on a logarithmic axis, against the share answered.

    One line per table of ``calibration.coverage_curve``; where nothing is wrong yet it runs along
    the bottom. ``target`` draws a dashed line at an error rate that must not be exceeded.
    """
    figure = new_figure(4.4, title)
    axes = figure.subplots()
    rates = pd.concat([curve["error_rate"] for curve in curves.values()])
    smallest = float(rates[rates > 0].min()) if (rates > 0).any() else 1e-4
    bottom = min(smallest, target or 1) / 4
    sure = [curve["coverage"][curve["errors"] == 0].max() for curve in curves.values()]
    left = 0.9 * min([share for share in np.nan_to_num(sure) if share < 1], default=0.0)
    for (colour, marker), (name, curve) in zip(looks(), curves.items(), strict=False):
        axes.plot(
            100 * curve["coverage"],
            100 * curve["error_rate"].clip(bottom),
            color=colour,
            marker=marker,
            markevery=[-1],
            drawstyle="steps-post",
            label=name,
        )
    if target is not None:
        axes.axhline(100 * target, color="black", linestyle="--", linewidth=1)
        axes.annotate(
            f"1 error in {1 / target:,.0f}",
            (0.01, 100 * target),
            (0, 4),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )
    top = max(2 * float(rates.max()), 10 * bottom)
    axes.set(xlabel="share answered (%)", ylabel="errors among the answers (%)", yscale="log")
    axes.set(xlim=(100 * left, 100.5), ylim=(85 * bottom, 100 * top))
    plain_log_ticks(axes.yaxis)
    ticks = [tick for tick in axes.get_yticks() if 150 * bottom < tick < 100 * top]
    axes.set_yticks([100 * bottom, *ticks], ["none", *map(plain, ticks)])
    legend_below(figure)
    open_frame(axes)
    return figure


def accuracy_under_shift(table: pd.DataFrame, *, title: str) -> Figure:
    """Accuracy as images differ more and more from the training images, one panel per kind.

    Columns: ``kind``, ``strength``, ``unit``, ``model``, ``accuracy`` as a share; where there are
    ``low`` and ``high`` as well, they bound a band. Kinds and models keep their order.
    """
    kinds, models = table["kind"].unique(), table["model"].unique()
    lowest = 100 * table["accuracy"].min()
    rows = -(-len(kinds) // 3)
    figure = new_figure(1.0 + 2.5 * rows, title)
    for place, (axes, kind) in enumerate(zip(panels(figure, len(kinds)), kinds, strict=True)):
        panel = table[table["kind"] == kind]
        for (colour, marker), model in zip(looks(), models, strict=False):
            line = panel[panel["model"] == model].sort_values("strength")
            axes.plot(
                line["strength"],
                100 * line["accuracy"],
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.4,
                label=model,
            )
            if {"low", "high"} <= set(line):
                axes.fill_between(
                    line["strength"],
                    100 * line["low"],
                    100 * line["high"],
                    color=colour,
                    alpha=0.2,
                    linewidth=0,
                )
        if lowest < 30:
            axes.axhline(10, color="0.5", linestyle=":", linewidth=1, label="guessing")
        axes.set(title=kind, xlabel=panel["unit"].iloc[0] or "strength")
        axes.set_ylim(max(0, 1.05 * lowest - 5), 101)
        if panel["strength"].nunique() <= 3:
            axes.set_xticks(sorted(panel["strength"].unique()))
        if place % 3 == 0:
            axes.set_ylabel("accuracy (%)")
        else:
            axes.tick_params(labelleft=False)
        open_frame(axes)
    legend_below(figure)
    return figure

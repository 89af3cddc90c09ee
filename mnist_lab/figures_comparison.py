"""Figures that compare many trainings: intervals, forests, responses, time against accuracy."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnist_lab.evaluation import Mean, pareto_front
from mnist_lab.style import (
    PALETTE,
    label_points,
    legend_below,
    looks,
    new_figure,
    open_frame,
    panels,
    plain,
    plain_log_ticks,
)

VERDICTS = {"helps": (PALETTE[0], "D"), "hurts": (PALETTE[4], "s")}
UNDECIDED = ("0.5", "o")


def interval_plot(
    rows: Mapping[str, Mean],
    *,
    points: Mapping[str, Sequence[float]] | None = None,
    reference: float | None = None,
    xlabel: str,
    title: str,
) -> Figure:
    """One row per name: the mean with its interval, and the single values as small dots."""
    figure = new_figure(1.1 + 0.55 * len(rows), title)
    axes = figure.subplots()
    if reference is not None:
        axes.axvline(reference, color="0.4", linestyle="--", linewidth=1)
    for place, (name, summary) in enumerate(rows.items()):
        values = (points or {}).get(name, ())
        axes.plot(values, [place + 0.18] * len(values), "o", color="0.6", markersize=4)
        axes.plot([summary.low, summary.high], [place, place], color=PALETTE[0], linewidth=2.5)
        axes.plot(summary.mean, place, "D", color=PALETTE[0], markersize=7)
    axes.set(yticks=range(len(rows)), yticklabels=list(rows), xlabel=xlabel)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    open_frame(axes)
    return figure


def forest_plot(
    table: pd.DataFrame, *, xlabel: str = "difference from the baseline (points)", title: str
) -> Figure:
    """Differences with their intervals, a row each, under the name of their family.

    Columns: ``family``, ``name``, ``difference``, ``low``, ``high`` in points, and ``verdict``:
    "helps", "hurts" or anything else. Differences and bounds that are NaN are left out. A few
    far beyond all others stand as arrows at the edge; every value is printed on the right.
    """
    families = list(dict.fromkeys(table["family"]))
    lines = len(table) + len(families)
    figure = new_figure(1.5 + 0.21 * lines, title)
    axes = figure.subplots()
    reach = table[["difference", "low", "high"]].abs().max(axis=1)
    limit = float(min(reach.max(), 2.5 * reach.quantile(0.75))) or 1.0
    limit = limit if np.isfinite(limit) else 1.0
    axes.axvline(0, color="black", linewidth=1)
    ticks: list[tuple[float, str, str]] = []
    for family in families:
        ticks.append((len(ticks), family, "bold"))
        for row in table[table["family"] == family].itertuples():
            y = len(ticks)
            ticks.append((y, str(row.name), "normal"))
            colour, marker = VERDICTS.get(str(row.verdict), UNDECIDED)
            low, mean, high = np.clip(
                np.array([row.low, row.difference, row.high], dtype=float), -limit, limit
            )
            axes.plot([low, high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
            if mean != row.difference and not np.isnan(mean):
                marker = "<" if mean < 0 else ">"
            axes.plot(mean, y, marker, color=colour, markersize=5.5)
            axes.text(
                1.01,
                y,
                _in_words(row.difference, row.low, row.high),
                transform=axes.get_yaxis_transform(),
                va="center",
                fontsize=8,
            )
    axes.set_yticks([y for y, _, _ in ticks], [name for _, name, _ in ticks], fontsize=8.5)
    for label, (_, _, weight) in zip(axes.get_yticklabels(), ticks, strict=True):
        label.set_fontweight(weight)
    axes.set(ylim=(lines - 0.4, -0.6), xlim=(-1.06 * limit, 1.06 * limit), xlabel=xlabel)
    axes.tick_params(axis="y", length=0)
    tall = lines > 25
    axes.tick_params(axis="x", top=tall, labeltop=tall)
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    for verdict in sorted(set(table["verdict"]), key=[*VERDICTS, *table["verdict"]].index):
        colour, marker = VERDICTS.get(verdict, UNDECIDED)
        axes.plot([], [], marker, color=colour, label=verdict)
    above = 1 + (0.3 if tall else 0.0) / (0.21 * lines)
    axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, above))
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _in_words(mean: float, low: float, high: float) -> str:
    if np.isnan(mean):
        return "no result"
    if np.isnan(low) or np.isnan(high):
        return f"{mean:+.2f}".replace("-", "−")
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})".replace("-", "−")


def response_curves(
    table: pd.DataFrame,
    *,
    log: Collection[str] = (),
    baselines: Mapping[str, float] | None = None,
    error: bool = False,
    title: str,
) -> Figure:
    """Accuracy against a hyper-parameter: mean and band, one panel per hyper-parameter.

    Columns: ``parameter``, ``value``, and ``accuracy``, ``low`` and ``high`` as shares; a column
    ``curve`` names several lines of a panel. Parameters in ``log`` get a logarithmic axis, on which
    a value of 0 stands left of the least other. ``baselines`` gives the value of each parameter
    that a dotted line marks. ``error`` shows 100 % minus accuracy on a logarithmic axis instead.
    """
    parameters = table["parameter"].unique()
    shown = _percent(table, error).assign(curve=table.get("curve", "_one"))
    figure = new_figure(1.0 + 2.7 * -(-len(parameters) // 3), title)
    chosen = panels(figure, len(parameters), sharey=True)
    for place, (axes, parameter) in enumerate(zip(chosen, parameters, strict=True)):
        panel = shown[shown["parameter"] == parameter].sort_values("value")
        for (colour, marker), curve in zip(looks(), shown["curve"].unique(), strict=False):
            line = panel[panel["curve"] == curve]
            axes.plot(
                line["value"],
                line["accuracy"],
                color=colour,
                marker=marker,
                markersize=5,
                label=curve,
            )
            axes.fill_between(
                line["value"], line["low"], line["high"], color=colour, alpha=0.2, linewidth=0
            )
        values = panel["value"].tolist()
        if baselines and parameter in baselines:
            values.append(baselines[parameter])
            axes.axvline(values[-1], color="0.3", linestyle=":", linewidth=1.5, label="baseline")
        if parameter in log:
            _log_axis(axes, values)
        axes.set_xlabel(parameter)
        if error:
            axes.set_yscale("log")
            plain_log_ticks(axes.yaxis)
        if place % 3 == 0:
            axes.set_ylabel("errors (%)" if error else "accuracy (%)")
        open_frame(axes)
    legend_below(figure)
    return figure


def _percent(table: pd.DataFrame, error: bool) -> pd.DataFrame:
    """Accuracy and its bounds in percent; as errors, kept above 0 for a logarithmic axis."""
    shown = 100 * table[["accuracy", "low", "high"]]
    if error:
        shown = (100 - shown).rename(columns={"low": "high", "high": "low"})
        positive = shown["accuracy"][shown["accuracy"] > 0]
        shown = shown.clip(lower=positive.min() / 3 if len(positive) else 0.01)
    return table.assign(accuracy=shown["accuracy"], low=shown["low"], high=shown["high"])


def _log_axis(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic x axis through ``values``, 0 a short step left of the least other one."""
    positive = [value for value in values if value > 0]
    if len(positive) == len(values):
        axes.set_xscale("log")
        plain_log_ticks(axes.xaxis)
        return
    least, most = min(positive), max(positive)
    axes.set_xscale("symlog", linthresh=least, linscale=0.7)
    powers = 10.0 ** np.arange(np.ceil(np.log10(least)), np.floor(np.log10(most)) + 1)
    axes.set_xticks([0, *powers], [plain(value) for value in (0, *powers)], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlim(-0.2 * least, 1.5 * most)


def time_and_accuracy(
    table: pd.DataFrame,
    *,
    error: bool = False,
    front: bool = False,
    path: bool = False,
    xlabel: str = "training time (s)",
    title: str,
) -> Figure:
    """Accuracy against seconds on a logarithmic axis, points with intervals and names.

    Columns: ``name`` (empty: no label), ``seconds``, and ``accuracy``, ``low`` and ``high`` as
    shares. ``error`` shows 100 % minus accuracy on a logarithmic axis. ``front`` joins the points
    that no other beats in both time and accuracy (the Pareto front) and greys out the rest.
    ``path`` joins the points in the order of the rows. Rows without seconds or accuracy are left
    out.
    """
    table = table.dropna(subset=["seconds", "accuracy"]).reset_index(drop=True)
    figure = new_figure(5.4, title)
    axes = figure.subplots()
    shown = _percent(table, error)
    best = (
        pareto_front(table["seconds"].tolist(), table["accuracy"].tolist())
        if front
        else np.ones(len(table), dtype=bool)
    )
    for part, colour, layer in ((shown[~best], "0.6", 2), (shown[best], PALETTE[0], 3)):
        centre = part["accuracy"]
        axes.errorbar(
            part["seconds"],
            centre,
            yerr=[(centre - part["low"]).clip(0), (part["high"] - centre).clip(0)],
            fmt="o",
            color=colour,
            capsize=2,
            markersize=5,
            elinewidth=1,
            zorder=layer,
        )
    if path:
        axes.plot(shown["seconds"], shown["accuracy"], color="0.8", linewidth=1.5, zorder=1)
    if front:
        edge = shown[best].sort_values("seconds")
        axes.plot(
            edge["seconds"],
            edge["accuracy"],
            drawstyle="steps-post",
            color=PALETTE[0],
            linewidth=1,
            label="no other is both faster and more accurate",
        )
        legend_below(figure)
    axes.set_xscale("log")
    axes.set_yscale("log" if error else "linear")
    axes.set(xlabel=xlabel, ylabel="errors (%)" if error else "accuracy (%)")
    axes.margins(x=0.12, y=0.1)
    plain_log_ticks(axes.xaxis)
    if error:
        plain_log_ticks(axes.yaxis)
    open_frame(axes)
    label_points(figure, axes, shown.rename(columns={"seconds": "x", "accuracy": "y"}))
    return figure

"""What all figures have in common: their width, colours, frames and scales."""

import math
from collections.abc import Iterator
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

WIDTH = 9.0
PALETTE = (
    "#0173b2", "#de8f05", "#029e73", "#cc78bc", "#d55e00",
    "#ca9161", "#7a3b69", "#949494", "#8a7d00", "#56b4e9",
)  # fmt: skip
APART = (0, 1, 2, 4, 6, 9, 3, 7, 8, 5)  # the palette's order for lines that cross each other
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DIGITS = range(10)
AROUND = ((1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def new_figure(height: float, title: str) -> Figure:
    """An empty figure 9 inches wide under its title; height in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=13, fontweight="bold")
    return figure


def open_frame(axes: Axes) -> None:
    """Leave the frame's left and lower side only."""
    axes.spines[["top", "right"]].set_visible(False)


def looks() -> Iterator[tuple[str, str]]:
    """Colour and marker of the first, second, … of several things, told apart by either."""
    return zip(cycle(PALETTE[place] for place in APART), cycle(MARKERS), strict=False)


def panels(figure: Figure, count: int, *, sharey: bool = False) -> list[Axes]:
    """``count`` axes row by row, at most three side by side."""
    columns = min(3, count)
    rows = -(-count // columns)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=sharey).flatten().tolist()
    for axes in grid[count:]:
        axes.remove()
    return grid[:count]


def plain_log_ticks(axis: Axis) -> None:
    """Label a logarithmic axis 1, 2, 5, 10, …, or by powers of ten if it spans many."""
    low, high = axis.get_view_interval()
    steps: tuple[float, ...] = (1, 1.5, 2, 3, 4, 5, 7) if high < 8 * low else (1, 2, 5)
    if high > 2000 * low:
        steps = (1,)
    axis.set_major_locator(LogLocator(subs=steps, numticks=20))
    axis.set_minor_locator(NullLocator() if len(steps) > 1 else LogLocator(subs="auto"))
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_formatter(NullFormatter())


def plain(value: float, _: object = None) -> str:
    """0.05, 1, 2,000, but 10⁻⁶ as a power."""
    if value and abs(value) < 1e-3:
        factor, power = f"{value:.0e}".split("e")
        return ("" if factor == "1" else f"{factor}·") + "10" + str(int(power)).translate(RAISED)
    return f"{value:,.10g}"


def legend_below(figure: Figure) -> None:
    """One legend for all panels, each label once, as many side by side as fit."""
    named = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if named:
        lengths = [len(label) + 8 for label in named]
        rows = 1 if sum(lengths) <= 120 else -(-len(named) // max(1, 120 // max(lengths)))
        columns = -(-len(named) // rows)
        figure.legend(
            named.values(), named.keys(), frameon=False, loc="outside lower center", ncols=columns
        )


def label_points(figure: Figure, axes: Axes, points: pd.DataFrame) -> None:
    """Write a name beside each point, where it covers the least of points, bars and other names.

    Columns: ``x``, ``y``, ``low``, ``high`` (the ends of its bar) and ``name``, none if empty. Call
    it last: it fixes the figure's layout, on which the places depend.
    """
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    x, y, low, high = points[["x", "y", "low", "high"]].to_numpy(float).T
    places, bottoms, tops = (
        axes.transData.transform(np.stack([x, ends], axis=1)) for ends in (y, low, high)
    )
    taken = [Bbox([place - 4, place + 4]) for place in places]
    for bottom, top in zip(bottoms, tops, strict=True):
        if np.isfinite([bottom, top]).all():
            taken.append(Bbox([bottom - 2, top + 2]))
    frame = axes.get_window_extent(renderer)
    for name, point, place in zip(points["name"], zip(x, y, strict=True), places, strict=True):
        if not name:
            continue
        measured = axes.annotate(name, point, fontsize=8.5)
        size = np.array(measured.get_window_extent(renderer).size)
        measured.remove()
        least = math.inf
        for distance in (7, 16, 28, 42):
            for direction in np.array(AROUND):
                corner = direction * distance + (direction - 1) * size / 2
                box = Bbox([place + corner, place + corner + size])
                covered = size.prod() - _common(box, frame)
                covered += sum(_common(box, other) for other in taken)
                if 10 * covered + distance < least:
                    least = 10 * covered + distance
                    offset, chosen, far = corner * 72 / figure.dpi, box, distance > 10
        leader = {
            "arrowstyle": "-",
            "color": "0.35",
            "linestyle": ":",
            "shrinkA": 0,
            "shrinkB": 3,
        }
        axes.annotate(
            name,
            point,
            offset,
            textcoords="offset points",
            fontsize=8.5,
            arrowprops=leader if far else None,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        )
        taken.append(chosen)


def _common(one: Bbox, other: Bbox) -> float:
    """Area that two boxes share."""
    both = Bbox.intersection(one, other)
    return 0.0 if both is None else float(both.width * both.height)

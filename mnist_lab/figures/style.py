"""What all figures have in common: their width, colours, panels, scales and labels."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import SymmetricalLogLocator
from matplotlib.transforms import Bbox

WIDTH = 9.0  # inches
PALETTE = (  # seaborn's colour-blind palette, its two palest colours darkened
    "#0173b2", "#de8f05", "#029e73", "#cc78bc", "#d55e00",
    "#ca9161", "#7a3b69", "#949494", "#8a7d00", "#56b4e9",
)  # fmt: skip
LOOKS: list[dict[str, Any]] = 9 * [  # of the first, second, … line: colour or marker
    {"color": PALETTE[place], "marker": marker, "markersize": 4}
    for place, marker in zip((0, 1, 2, 4, 6, 9, 3, 7, 8, 5), "os^DvPX<>*", strict=True)
]
PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}  # behind words


def panels(
    count: int, title: str, height: float, columns: int = 3, layout: Any = None, **dress: Any
) -> tuple[Figure, list[Axes]]:
    """A titled figure of ``count`` axes, each set to ``dress``, in rows ``height`` inches high."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, 0.5 + height * rows), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=13, fontweight="bold")
    grid = figure.subplots(rows, columns, squeeze=False, **layout or {}).flatten().tolist()
    for axes in grid:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set(**dress)
    for axes in grid[count:]:
        axes.remove()
    return figure, grid[:count]


def points_with_bars(axes: Axes, x: Any, y: Any, low: Any, high: Any, **look: Any) -> None:
    """Draw points with error bars from ``low`` to ``high``, [N] each."""
    lengths = np.clip([y - low, high - y], 0, None)
    axes.errorbar(x, y, yerr=lengths, linestyle="", capsize=2, elinewidth=1, **look)


def log_axis(axes: Axes, name: str, least: float) -> None:
    """Make axis "x" or "y" logarithmic, but linear below ``least``; call it when all is drawn."""
    axis = getattr(axes, f"{name}axis")
    getattr(axes, f"set_{name}scale")("symlog", linthresh=least, linscale=0.5)
    axes.autoscale_view()
    steps = (1, 2, 5) if axis.get_view_interval()[1] < 400 * least else (1,)
    axis.set_major_locator(SymmetricalLogLocator(linthresh=least, base=10, subs=steps))
    axis.set_major_formatter(plain)


def plain(value: float, _: Any = None) -> str:
    """0.05, 1, 2,000, but 10⁻⁶ as a power."""
    if value == 0 or value >= 1e-3:
        return f"{value:,.10g}"
    factor, power = f"{value:.0e}".split("e-0")
    return f"{factor}·10⁻{'⁰¹²³⁴⁵⁶⁷⁸⁹'[int(power)]}".removeprefix("1·")


def legend_below(figure: Figure) -> None:
    """The first panel's legend for all panels, each label once, as many side by side as fit."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    columns = max(1, 120 // (8 + max(map(len, named))))
    legend = figure.legend(named.values(), named, loc="outside lower center", ncols=columns)
    legend.set_frame_on(False)


def label_points(figure: Figure, axes: Axes, points: pd.DataFrame) -> None:
    """Write each ``name`` beside its ``x``, ``y`` where it covers fewest points, bars and names.

    Bars run from ``low`` to ``high``. Call it last: the places depend on the layout, and fix it.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    points = points.fillna({"low": points["y"], "high": points["y"]})
    ends = points[["x", "low", "x", "high"]].to_numpy().reshape(-1, 2, 2)
    taken = [axes.transData.transform_bbox(Bbox(bar)).padded(4) for bar in ends]
    around = np.array([(x, y) for y in (1, -1, 0) for x in (1, -1, 0) if x or y])
    leader = {"arrowstyle": "-", "color": "0.35", "linestyle": ":", "shrinkB": 7}
    look: Any = {"textcoords": "offset points", "arrowprops": leader, "bbox": PAPER}
    for name, x, y in points.loc[points["name"] != "", ["name", "x", "y"]].to_numpy():
        label = axes.annotate(name, (x, y), (0, 0), fontsize=8.5, **look)
        size = np.array(Text.get_window_extent(label).size)  # of the words, without the leader
        place = axes.transData.transform((x, y))
        ways = [far * way + (way - 1) * size / 2 for far in (7, 16, 28, 42) for way in around]
        boxes = [Bbox([place + way, place + way + size]) for way in ways]
        inside = [box for box in boxes if axes.bbox.count_contains(box.get_points()) == 2]
        chosen = min(inside or boxes, key=lambda box: box.count_overlaps(taken))
        label.xyann = (chosen.p0 - place) * 72 / figure.dpi
        taken.append(chosen)

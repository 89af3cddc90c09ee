"""One function per figure: data in, ``Figure`` out. Nothing is saved and nothing is global.

Every title is passed in by whoever knows the finding. Colours are seaborn's colour-blind
palette, its two palest ones darkened. The figures of data and training are written here, those
of networks, evaluation and comparisons in rooms of their own; all are called as ``figures.name``.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from mnist_lab.figures_comparison import (
    forest_plot,
    interval_plot,
    response_curves,
    time_and_accuracy,
)
from mnist_lab.figures_evaluation import (
    accuracy_under_shift,
    confusion_heatmap,
    coverage_plot,
    recall_by_class,
    reliability_diagram,
)
from mnist_lab.figures_network import filters_and_maps, loss_slice, receptive_fields
from mnist_lab.style import (
    DIGITS,
    PALETTE,
    WIDTH,
    legend_below,
    new_figure,
    open_frame,
    panels,
    plain_log_ticks,
)
from mnist_lab.training import History

__all__ = [
    "accuracy_under_shift",
    "class_counts",
    "class_share_difference",
    "confusion_heatmap",
    "coverage_plot",
    "embeddings",
    "filters_and_maps",
    "forest_plot",
    "image_grid",
    "interval_plot",
    "loss_curves",
    "loss_slice",
    "pixel_histogram",
    "recall_by_class",
    "receptive_fields",
    "reliability_diagram",
    "response_curves",
    "time_and_accuracy",
    "validation_curves",
]


def class_counts(train: Sequence[int], test: Sequence[int], *, title: str) -> Figure:
    """Bars of the number of images of each digit: training images left, test images right."""
    figure = new_figure(3.6, title)
    parts = ((train, "training", PALETTE[0]), (test, "test", PALETTE[1]))
    for axes, (counts, name, colour) in zip(figure.subplots(1, 2), parts, strict=True):
        axes.bar(DIGITS, counts, color=colour)
        axes.axhline(
            float(np.mean(counts)),
            color="black",
            linewidth=1,
            linestyle="--",
            zorder=0,
            label="mean",
        )
        axes.set(
            xticks=list(DIGITS),
            xlabel="digit",
            ylabel=f"{name} images",
            ylim=(0, 1.2 * max(counts)),
        )
        on_white = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        words = {"ha": "center", "va": "bottom", "size": 7, "bbox": on_white}
        for digit, count in enumerate(counts):
            axes.text(digit, count + 0.015 * max(counts), f"{count:,}", **words)
        axes.legend(frameon=False, loc="upper right")
        open_frame(axes)
    return figure


def image_grid(
    images: Tensor,
    captions: Sequence[str] | None = None,
    *,
    columns: int = 10,
    row_labels: Sequence[str] | None = None,
    value_range: tuple[float, float] = (0, 255),
    title: str,
) -> Figure:
    """Grey images [N, H, W] row by row, black where the value is the range's smallest.

    ``captions`` stand above the images, ``row_labels`` beside the rows.
    """
    count, height, width = images.shape
    gap = max(1, width // 14)
    pixels_across = columns * (width + gap)
    label_share = 0.12 if row_labels else 0.0
    line = 0.17 * pixels_across / (WIDTH * (1 - label_share))
    texts = list(captions) if captions else [""] * count
    rows = range(0, count, columns)
    tops, top = [], 0
    for first in rows:
        lines = max(text.count("\n") + 1 if text else 0 for text in texts[first : first + columns])
        top += round(lines * line)
        tops.append(top)
        top += height + gap
    canvas = np.full((top, pixels_across), np.nan)
    for place in range(count):
        y, x = tops[place // columns], (place % columns) * (width + gap)
        canvas[y : y + height, x : x + width] = images[place].numpy()

    figure = new_figure(0.45 + top / pixels_across * WIDTH * (1 - label_share), title)
    axes = figure.subplots()
    colours = colormaps["gray"].with_extremes(bad="white")
    axes.imshow(canvas, cmap=colours, vmin=value_range[0], vmax=value_range[1])
    for place, text in enumerate(texts):
        middle = (place % columns) * (width + gap) + width / 2
        axes.text(
            middle, tops[place // columns] - gap / 2, text, ha="center", va="bottom", fontsize=9
        )
    axes.set_frame_on(False)
    axes.set(xticks=[], yticks=[])
    if row_labels:
        axes.set_yticks([y + height / 2 for y in tops], row_labels, fontsize=9)
        axes.tick_params(length=0)
    return figure


def pixel_histogram(counts: Sequence[int], *, title: str) -> Figure:
    """How often each of the 256 grey levels occurs, on a logarithmic axis."""
    figure = new_figure(3.2, title)
    axes = figure.subplots()
    axes.bar(range(256), counts, width=1.0, color=PALETTE[0])
    axes.set(xlabel="grey level (0 black … 255 white)", ylabel="pixels", yscale="log")
    axes.set_xlim(-2, 257)
    open_frame(axes)
    return figure


def embeddings(points: Mapping[str, np.ndarray], labels: Tensor, *, title: str) -> Figure:
    """Scatter plots side by side, one per method: points float [N, 2], drawn as their digit."""
    figure = new_figure(4.9, title)
    panels = figure.subplots(1, len(points), squeeze=False)[0]
    classes = labels.numpy()
    for axes, (method, places) in zip(panels, points.items(), strict=True):
        for digit in DIGITS:
            chosen = places[classes == digit]
            axes.scatter(
                chosen[:, 0],
                chosen[:, 1],
                s=16,
                marker=f"${digit}$",
                color=PALETTE[digit],
                linewidths=0.2,
            )
        axes.set(xticks=[], yticks=[], title=method)
        axes.set(xlabel="first coordinate (no unit)", ylabel="second coordinate (no unit)")
    return figure


def class_share_difference(shares: Mapping[str, np.ndarray], *, title: str) -> Figure:
    """Each digit's share of a set minus its share of the whole, in points, one bar per set."""
    figure = new_figure(3.2, title)
    axes = figure.subplots()
    width = 0.8 / len(shares)
    for place, (name, difference) in enumerate(shares.items()):
        at = np.arange(10) + (place - (len(shares) - 1) / 2) * width
        axes.bar(at, difference, width=width, label=name, color=PALETTE[place])
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xticks=list(DIGITS), xlabel="digit", ylabel="difference in share (points)")
    axes.legend(frameon=False)
    open_frame(axes)
    return figure


def loss_curves(
    histories: Mapping[str, History],
    *,
    floor: float | None = None,
    log: bool = False,
    title: str,
) -> Figure:
    """Training loss against the step number: every 100th step a thin line, epoch means thick.

    ``floor`` draws a dashed line below which the loss cannot go; ``log`` makes the axis of the
    loss logarithmic.
    """
    figure = new_figure(3.8, title)
    axes = figure.subplots()
    for colour, (name, history) in zip(cycle(PALETTE), histories.items(), strict=False):
        axes.plot(history.steps, history.step_losses, color=colour, linewidth=1.2, label=name)
        starts = np.arange(len(history.epoch_losses)) * history.steps_per_epoch
        ends = starts + history.steps_per_epoch
        axes.hlines(history.epoch_losses, starts, ends, color=colour, linewidth=4, alpha=0.5)
    if floor is not None:
        axes.axhline(floor, color="black", linestyle="--", linewidth=1, label=f"floor {floor:.4f}")
    axes.set(xlabel="step (one batch each)", ylabel="training loss (nats)")
    if log:
        axes.set_yscale("log")
        plain_log_ticks(axes.yaxis)
    else:
        axes.set_ylim(0, None)
    legend = "thin: every 100th step\nthick: mean of an epoch"
    figure.legend(frameon=False, title=legend, loc="outside right center")
    open_frame(axes)
    return figure


def validation_curves(histories: Mapping[str, History], *, title: str) -> Figure:
    """Training and validation loss after each epoch, a panel per training, best epoch marked.

    The best epoch has the least validation loss. The training loss is the mean *during* an epoch,
    so it lags by about half of one; where it is above every validation loss it is not shown.

    Raises:
        ValueError: if a training had no validation images.
    """
    without = [name for name, history in histories.items() if not history.validation_losses]
    if without:
        raise ValueError(f"expected validation losses, found none in {', '.join(without)}")
    figure = new_figure(0.8 + 3.1 * -(-len(histories) // 3), title)
    chosen = panels(figure, len(histories))
    for axes, (name, history) in zip(chosen, histories.items(), strict=True):
        epochs = np.arange(1, len(history.epoch_losses) + 1)
        best = int(np.argmin(history.validation_losses))
        axes.plot(
            epochs,
            history.epoch_losses,
            "s--",
            color=PALETTE[1],
            markersize=3,
            label="training, mean during the epoch",
        )
        axes.plot(
            epochs,
            history.validation_losses,
            "o-",
            color=PALETTE[0],
            markersize=4,
            label="validation, after the epoch",
        )
        axes.axvline(best + 1, color="0.4", linestyle=":", linewidth=1)
        axes.plot(
            best + 1,
            history.validation_losses[best],
            "*",
            color="black",
            markersize=11,
            label="best epoch",
        )
        top = max(history.validation_losses)
        bottom = min(*history.validation_losses, *history.epoch_losses)
        margin = 0.1 * (top - bottom) or 0.1 * top
        axes.set(title=f"{name}\nbest after epoch {best + 1}", xlabel="epoch", ylabel="loss (nats)")
        axes.set_ylim(bottom - margin, top + margin)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        open_frame(axes)
    legend_below(figure)
    return figure

"""Figures of the data."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from mnist_lab.figures.style import PALETTE, PAPER, WIDTH, panels


def class_counts(train: list[int], test: list[int], *, title: str) -> Figure:
    """Bars of the number of images of each digit: training images left, test images right."""
    figure, grid = panels(2, title, 3.1, xlabel="digit", xticks=range(10))
    for axes, colour, counts in zip(grid, PALETTE, (train, test), strict=False):
        bars = axes.bar(range(10), counts, color=colour)
        axes.bar_label(bars, fmt="{:,.0f}", size=7, padding=2, bbox=PAPER)
        axes.axhline(sum(counts) / 10, color="black", lw=1, ls="--", zorder=0, label="mean")
        axes.legend(frameon=False, loc="upper right")
        axes.set(ylabel="training images", ylim=(0, 1.2 * max(counts)))
    grid[1].set_ylabel("test images")
    return figure


def image_grid(
    images: Tensor,
    captions: Sequence[str] = (),
    *,
    columns: int = 10,
    row_labels: Sequence[str] = (),
    value_range: tuple[float, float] = (0, 255),
    title: str,
) -> Figure:
    """Grey images [N, H, W] row by row, black where the value is the range's smallest.

    ``captions`` stand above the images, ``row_labels`` beside the rows.
    """
    _, height, width = images.shape
    step = width + max(1, width // 14)
    starts = range(0, len(images), columns)
    texts = [captions[start : start + columns] for start in starts]
    lines = sum(max((len(text.splitlines()) for text in row), default=0) for row in texts)
    tile = WIDTH * (0.88 if row_labels else 0.98) / columns * height / step
    figure, rows = panels(len(starts), title, tile + 0.02 + 0.17 * lines / len(starts), columns=1)
    for row, (axes, start) in enumerate(zip(rows, starts, strict=True)):
        strip = np.full((height, columns * step), np.nan)  # NaN is drawn white
        for place, image in enumerate(images[start : start + columns].numpy()):
            strip[:, place * step :][:, :width] = image
        axes.imshow(strip, cmap="gray", vmin=value_range[0], vmax=value_range[1])
        axes.set_xticks(np.arange(len(texts[row])) * step + width / 2, texts[row])
        axes.set_yticks([height / 2][: len(row_labels)], row_labels[row : row + 1])
        axes.tick_params(length=0, labelsize=9, labeltop=True, labelbottom=False)
        axes.set_frame_on(False)
    return figure


def pixel_histogram(counts: list[int], *, title: str) -> Figure:
    """How often each of the 256 grey levels occurs, on a logarithmic axis."""
    figure, (axes,) = panels(1, title, 2.7, xlabel="grey level (0 black … 255 white)")
    axes.bar(range(256), counts, width=1.0, color=PALETTE[0])
    axes.set(ylabel="pixels", yscale="log", xlim=(-2, 257))
    return figure


def embeddings(points: dict[str, np.ndarray], labels: Tensor, *, title: str) -> Figure:
    """Scatter plots side by side, one per method: points float [N, 2], drawn as their digit."""
    figure, grid = panels(len(points), title, 4.6, xticks=[], yticks=[])
    for axes, (method, places) in zip(grid, points.items(), strict=True):
        axes.set(xlabel="first coordinate (no unit)", ylabel="second coordinate (no unit)")
        axes.set_title(method)
        for digit, colour in enumerate(PALETTE):
            x, y = places[labels.numpy() == digit].T
            axes.scatter(x, y, s=26, marker=f"${digit}$", color=colour, linewidths=0.2)
    return figure


def class_share_difference(shares: dict[str, np.ndarray], *, title: str) -> Figure:
    """Each digit's share of a set minus its share of the whole, in points, one bar per set."""
    figure, (axes,) = panels(1, title, 2.7)
    pd.DataFrame(shares).plot.bar(ax=axes, color=list(PALETTE), width=0.8, rot=0)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.legend(frameon=False)
    axes.set(xlabel="digit", ylabel="difference in share (points)")
    return figure

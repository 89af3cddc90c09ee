"""Figures of what goes on inside a network."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from mnist_lab.style import PALETTE, new_figure, open_frame


def receptive_fields(image: Tensor, fields: Mapping[str, int], *, title: str) -> Figure:
    """An image once per layer, with the window that one output of the layer depends on.

    Args:
        image: uint8 [H, W].
        fields: width of the window in pixels, by layer; drawn around the middle of the image.
        title: of the figure.
    """
    figure = new_figure(2.6, title)
    height, width = image.shape
    for axes, (layer, size) in zip(figure.subplots(1, len(fields)), fields.items(), strict=True):
        axes.imshow(image.numpy(), cmap="gray")
        corner = ((width - size) / 2 - 0.5, (height - size) / 2 - 0.5)
        axes.add_patch(
            Rectangle(corner, size, size, fill=False, edgecolor=PALETTE[4], linewidth=2.5)
        )
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel(f"{layer}: {size}×{size} pixels")
    return figure


def filters_and_maps(
    filters: Tensor, image: Tensor, maps: Mapping[str, Tensor], *, title: str
) -> Figure:
    """The filters of the first layer, an image, and the maps that layers make of it.

    Args:
        filters: float [C, k, k]; weights below 0 are drawn blue, above 0 red, 0 white.
        image: uint8 [H, W].
        maps: float [C, h, w] by layer, as many channels as filters are drawn; each row has one
            grey scale, from its least value, black, to its largest, white.
        title: of the figure.
    """
    count = len(filters)
    figure = new_figure(1.2 + 0.95 * (1 + len(maps)), title)
    grid = figure.subplots(1 + len(maps), count + 1, squeeze=False)
    bound = float(filters.abs().max())
    for axes in grid.flatten():
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, weights in zip(grid[0, 1:], filters, strict=True):
        axes.imshow(weights.numpy(), cmap="RdBu_r", vmin=-bound, vmax=bound)
    grid[0, 0].text(1, 0.5, "filters", ha="right", va="center", fontsize=10)
    grid[0, 0].set(xlim=(0, 1), ylim=(0, 1))
    for row, (layer, channels) in zip(grid[1:], maps.items(), strict=True):
        row[0].imshow(image.numpy(), cmap="gray")
        row[0].set_ylabel(layer, fontsize=10)
        low, high = float(channels.min()), float(channels.max())
        for axes, values in zip(row[1:], channels[:count], strict=True):
            axes.imshow(values.numpy(), cmap="gray", vmin=low, vmax=high)
    return figure


def loss_slice(
    places: Sequence[float], losses: Mapping[str, Sequence[float]], *, title: str
) -> Figure:
    """Loss along the straight line from the first weights (0) to the trained ones (1)."""
    figure = new_figure(3.6, title)
    axes = figure.subplots()
    for color, marker, (name, values) in zip(PALETTE, "os^D", losses.items(), strict=False):
        axes.plot(places, values, f"{marker}-", color=color, markersize=4, label=name)
    for place, name in ((0, "first weights"), (1, "trained weights")):
        axes.axvline(place, color="0.6", linestyle=":", zorder=0)
        axes.annotate(
            name,
            (place, 1),
            (4, -4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            color="0.35",
            fontsize=9,
        )
    axes.set(
        xlabel="place on the line from the first weights (0) to the trained weights (1)",
        ylabel="mean cross-entropy",
        ylim=(0, 1.1 * float(np.max(list(losses.values())))),
    )
    axes.legend(frameon=False, loc="lower left")
    open_frame(axes)
    return figure

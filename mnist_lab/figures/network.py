"""Figures of a network: how it learns and what it sees."""

from itertools import cycle

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from mnist_lab.figures.style import LOOKS, PALETTE, legend_below, log_axis, panels
from mnist_lab.training import History


def loss_curves(
    histories: dict[str, History], *, floor: float | None = None, log: bool = False, title: str
) -> Figure:
    """Training loss against the step number: every 100th step a thin line, epoch means thick.

    A ``floor`` is a dashed line below which the loss cannot go; ``log``: a logarithmic axis.
    """
    figure, (axes,) = panels(1, title, 3.3, ylabel="training loss (nats)")
    axes.set_xlabel("step (one batch each)")
    for colour, (name, history) in zip(cycle(PALETTE), histories.items(), strict=False):
        axes.plot(history.steps, history.step_losses, color=colour, linewidth=1.2, label=name)
        starts = np.arange(len(history.epoch_losses)) * history.steps_per_epoch
        ends = starts + history.steps_per_epoch
        axes.hlines(history.epoch_losses, starts, ends, color=colour, linewidth=4, alpha=0.5)
    if floor is not None:
        axes.axhline(floor, color="black", ls="--", lw=1, label=f"floor {floor:.4f}")
    if log:
        log_axis(axes, "y", least=axes.dataLim.minposy)
    else:
        axes.set_ylim(bottom=0)
    legend = "thin: every 100th step\nthick: mean of an epoch"
    figure.legend(frameon=False, title=legend, loc="outside right center")
    return figure


def validation_curves(histories: dict[str, History], *, title: str) -> Figure:
    """Training and validation loss after each epoch, a panel per training, best epoch marked.

    The best epoch has the least validation loss. The training loss is the mean *during* an epoch,
    so it lags by about half of one; where it is above every validation loss it is not shown.
    ``ValueError`` if a training had no validation images.
    """
    if without := [name for name, history in histories.items() if not history.validation_losses]:
        raise ValueError(f"expected validation losses, found none in {', '.join(without)}")
    figure, grid = panels(len(histories), title, 3.3, xlabel="epoch", ylabel="loss (nats)")
    for axes, (name, history) in zip(grid, histories.items(), strict=True):
        training, validation = history.epoch_losses, history.validation_losses
        epochs = range(1, len(training) + 1)
        best = int(np.argmin(validation))
        axes.plot(epochs, training, "--", **LOOKS[1], label="training, mean during the epoch")
        axes.plot(epochs, validation, **LOOKS[0], label="validation, after the epoch")
        axes.plot(best + 1, validation[best], "k*", markersize=11, label="best epoch")
        axes.axvline(best + 1, color="0.4", linestyle=":", linewidth=1)
        axes.set_title(f"{name}\nbest after epoch {best + 1}")
        axes.set_ylim(top=max(validation) + 0.1 * (max(validation) - min(*validation, *training)))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    legend_below(figure)
    return figure


def loss_slice(places: list[float], losses: dict[str, list[float]], *, title: str) -> Figure:
    """Loss along the straight line from the first weights (0) to the trained ones (1)."""
    figure, (axes,) = panels(1, title, 3.1, ylabel="mean cross-entropy (nats)")
    for look, (name, values) in zip(LOOKS, losses.items(), strict=False):
        axes.plot(places, values, **look, label=name)
    for place in (0, 1):
        axes.axvline(place, color="0.6", linestyle=":", zorder=0)
    axes.set_xlabel("place on the line from the first weights (0) to the trained weights (1)")
    axes.set_ylim(0, 1.1 * max(map(max, losses.values())))
    axes.legend(frameon=False, loc="lower left")
    return figure


def receptive_fields(image: Tensor, fields: dict[str, int], *, title: str) -> Figure:
    """A uint8 image [H, W] once per layer, with the window that one output depends on.

    ``fields`` gives its width in pixels by layer; its centre is the ink nearest to the middle.
    """
    figure, grid = panels(len(fields), title, 2.1, columns=len(fields), xticks=[], yticks=[])
    ink = np.argwhere(image.numpy() >= image.max().item() / 2)
    to_middle = np.linalg.norm(ink - (np.array(image.shape) - 1) / 2, axis=1)
    y, x = ink[to_middle.argmin()] - 0.5
    for axes, (layer, size) in zip(grid, fields.items(), strict=True):
        axes.imshow(image.numpy(), cmap="gray")
        corner = (x - size // 2, y - size // 2)
        axes.add_patch(Rectangle(corner, size, size, fill=False, color=PALETTE[4], linewidth=2.5))
        axes.set_xlabel(f"{layer}: {size}×{size} pixels")
    return figure


def filters_and_maps(
    filters: Tensor, image: Tensor, maps: dict[str, Tensor], *, title: str
) -> Figure:
    """The filters of the first layer [C, k, k], an image [H, W], and the maps layers make of it.

    Weights below 0 are blue, above 0 red. ``maps``, float [C, h, w] by layer, of which as many are
    drawn as there are filters, share one grey scale per layer, from the least value to the largest.
    """
    columns = len(filters) + 1
    bare = {"xticks": [], "yticks": [], "frame_on": False}
    figure, grid = panels(columns * (1 + len(maps)), title, 0.82, columns, **bare)
    bound = float(filters.abs().max())
    for axes, weights in zip(grid[1:columns], filters, strict=True):
        axes.imshow(weights.numpy(), cmap="RdBu_r", vmin=-bound, vmax=bound)
    grid[0].text(1, 0.5, "filters", ha="right", va="center")
    for row, (layer, channels) in enumerate(maps.items(), start=1):
        first, *others = grid[row * columns : (row + 1) * columns]
        first.imshow(image.numpy(), cmap="gray")
        first.set_ylabel(layer)
        low, high = channels.min().item(), channels.max().item()
        for axes, values in zip(others, channels, strict=False):
            axes.imshow(values.numpy(), cmap="gray", vmin=low, vmax=high)
    return figure

"""Figures of handwriting."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from mnist_lab.figures.style import PALETTE, PAPER, WIDTH, panels

BLUE, RED = PALETTE[0], PALETTE[4]


def reading_figure(picture: np.ndarray, digits: Sequence[Any], *, title: str) -> Figure:
    """A picture, uint8 [height, width, 3], with each of a reading's ``digits`` drawn over it.

    A sure digit stands above a solid box, another with its confidence above a dashed one. Below are
    the images that the network saw, in the same order.
    """
    height, width = picture.shape[:2]
    columns = min(20, max(10, len(digits)))
    strips = -(-len(digits) // columns)
    heights = [float(np.clip(0.95 * WIDTH * height / width, 1.5, 6.5))]
    heights += [0.95 * WIDTH / columns] * strips
    layout = {"height_ratios": heights}
    figure, (paper, *rows) = panels(1 + strips, title, sum(heights) / (1 + strips), 1, layout)
    paper.imshow(picture)
    for digit in digits:
        left, top, right, bottom = digit.box
        look: dict[str, Any] = {"color": BLUE if digit.sure else RED}
        line = "-" if digit.sure else "--"
        box = Rectangle((left, top), right - left, bottom - top, fill=False, ls=line, **look)
        paper.add_patch(box)
        said = f"{digit.digit}" if digit.sure else f"{digit.digit}? {100 * digit.confidence:.0f} %"
        paper.text((left + right) / 2, top, said, ha="center", va="bottom", bbox=PAPER, **look)
    for number, row in enumerate(rows):
        strip = np.full((28, 30 * columns), 255, np.uint8)
        for place, digit in enumerate(digits[number * columns :][:columns]):
            strip[:, 30 * place :][:, :28] = 255 - digit.image
        row.imshow(strip, cmap="gray", vmin=0, vmax=255)
    for axes in (paper, *rows):
        axes.set(xticks=[], yticks=[])
        axes.set_frame_on(False)
    return figure


def sheet_figure(picture: np.ndarray, page: Any, *, title: str) -> Figure:
    """A photographed sheet, uint8 [height, width, 3], and beside it the digits cut from it.

    ``page`` is what ``read_sheet`` found. Blue outlines mark the boxes with a digit, red ones those
    crossed out, grey ones the empty; the digits stand in the places of their boxes.
    """
    figure, (paper, cut) = panels(2, title, 4.4, xticks=[], yticks=[], frame_on=False)
    paper.imshow(picture)
    colours = dict.fromkeys(page.empty.tolist(), "0.6") | dict.fromkeys(page.crossed_out, RED)
    for place, outline in enumerate(page.outlines):
        paper.add_patch(Polygon(outline, fill=False, color=colours.get(place, BLUE), lw=0.8))
    grid = np.full((10, 30, 10, 30), 255, np.uint8)
    for place, image in zip(page.places, page.images, strict=True):
        grid[place // 10, 1:29, place % 10, 1:29] = 255 - image
    cut.imshow(grid.reshape(300, 300), cmap="gray", vmin=0, vmax=255)
    return figure

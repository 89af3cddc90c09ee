"""What is written in one box of a sheet: a digit, nothing, or a slip crossed out.

A box's window is the box with ``ROOM`` round it, ``SCALE`` pixels to a millimetre.
"""

import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize

from mnist_lab.handwriting import sheet

SCALE = 6  # pixels to a millimetre of the straightened page
ROOM = 1.5  # mm round a box in which strokes may run on
LEAST_INK = 0.11  # darkness of the faintest stroke, of a thin pencil; noise stays below 0.09
SMALLEST = 2.5  # mm of a digit in its longer direction: what is smaller is a speck
LINE_WOBBLE = 1.4  # mm by which a line drawn by hand from corner to corner may miss the diagonal
MOST_STROKES = 4.2  # side by side in a digit, on average; an 8 has 4 above each other
THICKEST_STROKE = 6.5  # mm


def written(window: np.ndarray) -> np.ndarray:
    """Which pixels of a window, its darkness from 0 to 1, are a digit's: bool, none if empty."""
    strongest = np.percentile(window, 99.5)
    mask = (window > 0.4 * strongest) & (strongest > LEAST_INK)
    parts, _ = ndimage.label(mask, np.ones((3, 3)))
    inset = round(SCALE * (ROOM + 0.5))
    sizes = np.bincount(parts.ravel())
    inside = np.bincount(parts[inset:-inset, inset:-inset].ravel(), minlength=len(sizes))
    kept = (inside >= 0.5 * sizes) & (sizes >= 0.3 * SCALE**2)
    kept[0] = False
    lengths = [np.ptp((parts == part).nonzero(), axis=1).max() for part in kept.nonzero()[0]]
    return kept[parts] & (max(lengths, default=0) >= SMALLEST * SCALE)


def is_crossed_out(ink: np.ndarray) -> bool:
    """Whether a box's ink, bool [H, W] of its window, is a slip crossed out and no digit.

    That is an X (or a straight line) from corner to corner, more strokes side by side than a digit
    has, or a patch blacked out. No network is asked: a data set without what a network cannot read
    would flatter every network.
    """
    # mm from each pixel to the middle of a stroke: a thick pen comes no nearer than a thin one
    off = ndimage.distance_transform_edt(~skeletonize(ink)) / SCALE
    along = (SCALE * (ROOM + sheet.BOX * np.linspace(0.04, 0.96, 50))).astype(int)
    lines = [(off[along, across] < LINE_WOBBLE).mean() for across in (along, along[::-1])]
    crossed = min(lines) > 0.7 or max(lines) > 0.95
    closed = ndimage.binary_closing(ink, np.ones((5, 5)))  # a scribble has gaps
    thickest = 2 * ndimage.distance_transform_edt(closed).max() / SCALE
    strokes = max(_strokes_across(ink), _strokes_across(ink.T))
    return bool(crossed or strokes > MOST_STROKES or thickest > THICKEST_STROKE)


def _strokes_across(ink: np.ndarray) -> float:
    """How many strokes a row crosses on average, of the middle half of the rows with ink."""
    rows = ink[ink.any(axis=1)]
    middle = rows[len(rows) // 4 : -len(rows) // 4]
    return float((np.diff(middle, axis=1, prepend=False) & middle).sum(axis=1).mean())

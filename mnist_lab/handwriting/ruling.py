"""Printed lines taken out of the ink: of ruled and squared paper."""

from itertools import pairwise

import numpy as np
from scipy import ndimage

from mnist_lab.handwriting.windows import windowed

PIECE = 1 / 25  # of the picture's longer side: what is straight and longer may be part of a line
ALONE = 0.95  # of the width that a single line spans, and
TOGETHER = 0.6  # that each spans of several
CUT_OFF = 0.2  # and any other beside those, as at a corner of the picture
WHOLE = 0.8  # of a line is dark
THICKEST = 0.01  # of the width
STEEPEST = 8  # degrees


def without_ruling(contrast: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The contrast, float32 [H, W], set to 0 where printed lines run; ``mask``: what is dark.

    Lines are known by being straight, thin, and longer than any digit. Ink that crosses a line is
    kept, and so is ink on it that is much darker than the line.
    """
    if min(mask.shape) < 100:
        return contrast
    lines = _lines(mask) | _lines(mask.T).T
    if not lines.any():
        return contrast
    dark = contrast > 1.5 * float(np.percentile(contrast[lines], 90))
    return np.where(lines & ~dark, 0, contrast)


def _lines(mask: np.ndarray) -> np.ndarray:
    """Which pixels are of lines alone that run nearly along the rows: bool [H, W]."""
    width = mask.shape[1]
    length = round(PIECE * max(mask.shape))
    step = max(1, width // 200)
    across = windowed(np.maximum, mask, 2 * step - 1, 1)[:, ::step]
    small = windowed(np.maximum, across, 2 * step - 1, 0)[::step]
    slopes = np.tan(np.deg2rad(range(-STEEPEST, STEEPEST + 1)))
    longest = [_runs(_sheared(small, s), 8 * length // step, axis=1).sum() for s in slopes]
    if not max(longest):
        return np.zeros_like(mask)
    slope = float(slopes[int(np.argmax(longest))])
    level = _sheared(mask, slope)
    pieces = level & _runs(windowed(np.maximum, level, 3, 0), length, axis=1)
    pieces &= ~_runs(level, round(THICKEST * max(mask.shape)) + 2, axis=0)
    linked = windowed(np.maximum, pieces, 3 * length, 1)  # over the ink that crosses
    labels, count = ndimage.label(linked, np.ones((3, 3)))
    boxes, across = ndimage.find_objects(labels), _runs(level, length, axis=0)
    lines = [
        _line(pieces[box] & (labels[box] == n), level[box] & (labels[box] == n), box[1])
        for n, box in enumerate(boxes, 1)
    ]
    spans = np.array([ends[1] - ends[0] if whole else 0 for ends, whole in lines])
    found = spans >= TOGETHER * width
    for i in np.flatnonzero(found):
        found[i] = not _is_a_boxs_side(across[boxes[i][0]], lines[i][0])
    if found.sum() < 2 and not (found & (spans >= ALONE * width)).any():
        return np.zeros_like(mask)
    thickness = np.bincount(labels[pieces], minlength=count + 1)[1:] / np.maximum(spans, 1)
    usual = float(np.median(thickness[found]))
    found |= (spans >= CUT_OFF * width) & (thickness <= 1.3 * usual)
    thick = _runs(level, 2 * round(usual) + 2, axis=0)  # ink across a line or along it
    printed = pieces & ~thick & np.concatenate([[False], found])[labels]
    edges = windowed(np.maximum, printed, 5, 0) & level & ~thick
    return _sheared(edges, -slope)


def _line(pieces: np.ndarray, ink: np.ndarray, columns: slice) -> tuple[tuple[int, int], bool]:
    """The first and last column of a line's pieces, and whether ink covers most of that."""
    ends = np.flatnonzero(pieces.any(axis=0))[[0, -1]]
    covered = ink[:, ends[0] : ends[1] + 1].any(axis=0).mean()
    return (columns.start + int(ends[0]), columns.start + int(ends[1]) + 1), covered > WHOLE


def _is_a_boxs_side(across: np.ndarray, ends: tuple[int, int]) -> bool:
    """Whether lines ``across`` it stand at both ends of a line, as the sides of a box do."""
    near = across.shape[1] // 100 + 2
    if ends[0] <= near or ends[1] >= across.shape[1] - near:
        return False  # it leaves the picture
    return all(across[:, end - near : end + near].any() for end in ends)


def _runs(mask: np.ndarray, length: int, axis: int) -> np.ndarray:
    """The pixels that belong to at least so many in a row along the axis."""
    eroded = windowed(np.minimum, mask, length, axis)
    return windowed(np.maximum, eroded, length, axis, ahead=True)


def _sheared(mask: np.ndarray, slope: float) -> np.ndarray:
    """The mask with column x moved up by ``slope * x``; what leaves it is lost."""
    height, width = mask.shape
    moves, moved = np.round(slope * np.arange(width)).astype(int), np.zeros_like(mask)
    changes = np.flatnonzero(np.diff(moves)) + 1
    for first, last in pairwise([0, *changes, width]):  # few columns move unlike those before
        up = int(moves[first])
        kept = mask[max(0, up) : max(0, height + min(0, up)), first:last]
        moved[max(0, -up) :, first:last][: len(kept)] = kept
    return moved

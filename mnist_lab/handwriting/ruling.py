"""Printed lines taken out of the ink: of ruled and squared paper."""

import numpy as np
from scipy import ndimage

PIECE = 1 / 25  # of the picture's width: what is straight and longer may be part of a line
ALONE = 0.95  # of the width that a single line spans, and
TOGETHER = 0.6  # that each spans of several
CUT_OFF = 0.2  # and any other beside those, as at a corner of the picture
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
    dark = contrast > 1.7 * float(np.median(contrast[lines]))
    return np.where(lines & ~dark, 0, contrast)


def _lines(mask: np.ndarray) -> np.ndarray:
    """Which pixels are of lines alone that run nearly along the rows: bool [H, W]."""
    width = mask.shape[1]
    length = round(PIECE * width)
    step = max(1, width // 400)
    small = ndimage.maximum_filter(mask, 2 * step - 1)[::step, ::step]
    slopes = np.tan(np.deg2rad(range(-STEEPEST, STEEPEST + 1)))
    longest = [_runs(_sheared(small, s), 3 * length // step, axis=1).sum() for s in slopes]
    slope = float(slopes[int(np.argmax(longest))])
    level = _sheared(mask, slope)
    pieces = level & _runs(ndimage.maximum_filter1d(level, 3, axis=0), length, axis=1)
    linked = ndimage.maximum_filter1d(pieces, length, axis=1)
    labels, count = ndimage.label(linked, np.ones((3, 3)))
    spans = np.array([box[1].stop - box[1].start for box in ndimage.find_objects(labels)])
    thickness = np.bincount(labels[pieces], minlength=count + 1)[1:] / spans
    found = spans >= TOGETHER * width
    if found.sum() < 2 and not (spans >= ALONE * width).any():
        return np.zeros_like(mask)
    usual = float(thickness[found].min())
    if usual > THICKEST * max(mask.shape):
        return np.zeros_like(mask)
    thick = _runs(level, 2 * round(usual) + 2, axis=0)  # ink across a line or along it
    found |= (spans >= CUT_OFF * width) & (thickness <= 1.3 * usual)
    lines = pieces & ~thick & np.concatenate([[False], found])[labels]
    edges = ndimage.maximum_filter1d(lines, 5, axis=0) & level & ~thick
    return _sheared(edges, -slope)


def _runs(mask: np.ndarray, length: int, axis: int) -> np.ndarray:
    """The pixels that belong to at least so many in a row along the axis."""
    eroded = ndimage.minimum_filter1d(mask, length, axis=axis, mode="nearest")
    origin = 0 if length % 2 else -1  # of an even window, so that what was eroded grows back
    return ndimage.maximum_filter1d(eroded, length, axis=axis, mode="nearest", origin=origin)


def _sheared(mask: np.ndarray, slope: float) -> np.ndarray:
    """The mask with column x moved up by ``slope * x``; what leaves it is lost."""
    height, width = mask.shape
    rows = np.arange(height)[:, None] + np.round(slope * np.arange(width)).astype(int)
    inside = (rows >= 0) & (rows < height)
    return np.take_along_axis(mask, rows.clip(0, height - 1), axis=0) & inside

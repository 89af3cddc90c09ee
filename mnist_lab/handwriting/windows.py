"""The largest and smallest values in windows of an image, some ten times as fast as scipy's."""

import numpy as np


def windowed(
    extreme: np.ufunc, image: np.ndarray, size: int, axis: int, ahead: bool = False
) -> np.ndarray:
    """``np.maximum`` or ``np.minimum`` of ``size`` pixels in a row: the one and those around it.

    Of an even number, the one without a counterpart lies before, or ``ahead``. Beyond its border
    the image is reflected. Windows are made of two smaller ones until they are large enough.
    """
    room = [(0, 0)] * image.ndim
    room[axis] = (size // 2, (size - 1) // 2)
    if ahead:
        room[axis] = room[axis][::-1]
    rows = np.moveaxis(np.pad(image, room, mode="symmetric"), axis, 0)
    covered = 1
    while covered < size:
        step = min(covered, size - covered)
        rows = extreme(rows[:-step], rows[step:])
        covered += step
    return np.moveaxis(rows, 0, axis)


def closing(image: np.ndarray, size: int) -> np.ndarray:
    """The image [H, W, ...] with what is dark and narrower than ``size`` pixels filled."""
    for extreme in (np.maximum, np.minimum):
        image = windowed(extreme, windowed(extreme, image, size, 0), size, 1)
    return image

"""One digit in the form in which MNIST's are: this is what makes a network able to read it."""

import numpy as np
from scipy import ndimage
from skimage.transform import resize

from mnist_lab.handwriting.ink import EDGE

SIZE, BOX = 28, 20  # pixels of the field, and of the square that the ink fills in one direction
FINE = 6  # steps in a pixel, for moving the edges of strokes
THINNEST, THICKEST = 1.6, 4.6  # pixels that strokes are made wide: few of MNIST's lie outside


def to_mnist_form(
    darkness: np.ndarray,
    mask: np.ndarray,
    thinnest: float = THINNEST,
    thickest: float = THICKEST,
) -> np.ndarray:
    """A digit as MNIST would show it: uint8 [28, 28], 0 is paper and 255 is ink.

    ``darkness`` float [H, W] is 0 on paper and 1 on ink, ``mask`` bool [H, W] says which pixels are
    the digit's. Its ink is scaled to fit 20×20, keeping its aspect ratio, with grey edges, and its
    centre of mass goes to the centre of the field (LeCun, Bottou, Bengio & Haffner 1998, section
    III.A). Strokes that are thinner or thicker than MNIST's are brought to its range.
    """
    ink = np.where(mask, darkness, 0).clip(0, 1).astype(np.float32)
    ink = ink[ndimage.find_objects((ink > 0).astype(int))[0]]
    dark, inside, width = _strokes(ink, BOX, room=1)
    wanted = min(max(width, thinnest), thickest)
    if wanted == width:
        return _centred(_fitted(ink, BOX))
    # The edges move outwards by half of what the strokes gain: the box has to hold both.
    room = round(FINE * wanted / 2) + 1
    dark, inside, width = _strokes(ink, BOX - (wanted - width), room)
    distance = np.where(dark, inside - 0.5, 0.5 - ndimage.distance_transform_edt(~dark))
    moved = (distance + FINE * (wanted - width) / 2 + 0.5).clip(0, 1)
    return _centred(_fitted(moved[ndimage.find_objects((moved > 0).astype(int))[0]], BOX))


def _fitted(ink: np.ndarray, longest: float = BOX) -> np.ndarray:
    """The ink resized so that its longer side is so many pixels."""
    scale = longest / max(ink.shape)
    size = tuple(max(1, round(side * scale)) for side in ink.shape)
    return ink if size == ink.shape else resize(ink, size, order=1, anti_aliasing=scale < 1)


def _strokes(ink: np.ndarray, longest: float, room: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Which fine pixels are dark, how deep in the ink they lie, and how wide strokes are.

    There are ``room`` fine pixels of paper on each side.
    """
    fine = np.pad(_fitted(ink, FINE * longest), room)
    dark = fine > EDGE * fine.max()
    inside = ndimage.distance_transform_edt(dark)
    # A stroke's pixels lie a quarter of its width inside its edge.
    return dark, inside, 4 * (float(inside[dark].mean()) - 0.5) / FINE


def _centred(small: np.ndarray) -> np.ndarray:
    """The ink in the field, its centre of mass in the middle, as nearly as whole pixels allow."""
    pixels = (255 * small / small.max()).round().astype(np.uint8)
    middle = np.array(ndimage.center_of_mass(pixels))
    before = np.floor(SIZE / 2 - middle + 0.5).astype(int).clip(0, SIZE - np.array(pixels.shape))
    field = np.zeros((SIZE, SIZE), np.uint8)
    field[before[0] :, before[1] :][: pixels.shape[0], : pixels.shape[1]] = pixels
    return field

"""One digit in the form in which MNIST's are: this is what makes a network able to read it."""

import numpy as np
from scipy import ndimage
from skimage.transform import resize

SIZE, BOX = 28, 20  # pixels of the field, and of the square that the ink fills in one direction
THINNEST, THICKEST = 2.2, 4.6  # strokes in MNIST, in pixels: nine tenths lie between


def to_mnist_form(darkness: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A digit as MNIST would show it: uint8 [28, 28], 0 is paper and 255 is ink.

    ``darkness`` float [H, W] is 0 on paper and 1 on ink, ``mask`` bool [H, W] says which pixels are
    the digit's. Its ink is scaled to fit 20×20, keeping its aspect ratio, with grey edges, and its
    centre of mass goes to the centre of the field (LeCun, Bottou, Bengio & Haffner 1998, section
    III.A). Strokes thinner or thicker than MNIST's are brought to its range.
    """
    ink = np.where(mask, darkness, 0).clip(0, 1).astype(np.float32)
    ink = ink[ndimage.find_objects((ink > 0).astype(int))[0]]
    small = _shrink(ink)
    return _centre(small)


def _shrink(ink: np.ndarray) -> np.ndarray:
    """The ink resized so that its longer side is 20 pixels."""
    height, width = ink.shape
    scale = BOX / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    if size == ink.shape:
        return ink
    return resize(ink, size, order=1, anti_aliasing=scale < 1, anti_aliasing_sigma=None)


def _centre(small: np.ndarray) -> np.ndarray:
    """The ink in the field, its centre of mass in the middle, as nearly as whole pixels allow."""
    pixels = (255 * small / small.max()).round().astype(np.uint8)
    before = np.floor(SIZE / 2 - np.array(ndimage.center_of_mass(pixels)) + 0.5).astype(int)
    before = before.clip(0, SIZE - np.array(pixels.shape))
    field = np.zeros((SIZE, SIZE), np.uint8)
    field[before[0] :, before[1] :][: pixels.shape[0], : pixels.shape[1]] = pixels
    return field

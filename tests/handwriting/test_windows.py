"""Windows give what scipy's filters give, sooner."""

import numpy as np
import pytest
from scipy import ndimage

from mnist_lab.handwriting.windows import closing, windowed


@pytest.mark.parametrize("shape", [(1, 9), (5, 3), (60, 47), (20, 30, 3)])
@pytest.mark.parametrize("size", [1, 2, 3, 8, 41])
def test_a_window_gives_the_largest_or_smallest_of_its_pixels(shape, size):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    for axis in (0, 1):
        largest = ndimage.maximum_filter1d(image, size, axis)
        assert (windowed(np.maximum, image, size, axis) == largest).all()
        smallest = ndimage.minimum_filter1d(image, size, axis, origin=0 if size % 2 else -1)
        assert (windowed(np.minimum, image, size, axis, ahead=True) == smallest).all()


@pytest.mark.parametrize("size", [3, 9, 41])
def test_a_closing_fills_what_is_narrower(size):
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype(np.uint8)
    assert (closing(image, size) == ndimage.grey_closing(image, (size, size, 1))).all()

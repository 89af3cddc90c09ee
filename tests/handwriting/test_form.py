"""A digit comes back in MNIST's form: proved on MNIST's own digits, drawn large on paper."""

import numpy as np
import paper
import pytest
from PIL import Image
from scipy import ndimage

from mnist_lab.handwriting.form import THICKEST, THINNEST, to_mnist_form
from mnist_lab.handwriting.network import load_network
from mnist_lab.handwriting.reading import read


def drawn_large(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image 4 to 12 times as large, somewhere on paper with grain and a fall of light."""
    size = int(28 * rng.uniform(4, 12))
    large = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)) / 255
    height, width = rng.integers(size, 2 * size, 2)
    top, left = rng.integers(0, height - size + 1), rng.integers(0, width - size + 1)
    strength = np.zeros((height, width))
    strength[top : top + size, left : left + size] = large
    page = np.linspace(250, 180, width)[None, :, None] * np.ones((height, 1, 3))
    return paper.noisy(paper.mix(page, strength, (40, 40, 60)), 3)


def close(found: np.ndarray, original: np.ndarray) -> float:
    """The share of ink that lies elsewhere, at the best of the moves by up to one pixel."""
    moved = [np.roll(found, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    away = min(abs(m.astype(float) - original).sum() for m in moved)
    return away / (2 * original.sum(dtype=float))


def test_mnists_own_digits_drawn_large_come_back_and_are_read_as_before(mnist_root):
    from mnist_lab.data import load_digits

    test, rng, reader = load_digits("mnist").test, np.random.default_rng(0), load_network("reader")
    chosen = rng.choice(len(test), 25, replace=False)
    images = test.images.numpy()[chosen]
    before = np.asarray(reader.answer(images)).argmax(axis=1)
    readings = [read(drawn_large(image, rng), reader) for image in images]
    same = [r.lines == (str(digit),) for r, digit in zip(readings, before, strict=True)]
    assert np.sum(same) >= 24
    distances = [close(r.digits[0].image, i) for r, i in zip(readings, images, strict=True)]
    assert np.median(distances) < 0.12 and np.quantile(distances, 0.9) < 0.2


def test_a_digit_that_has_mnists_form_comes_back_as_it_is(uci_digits):
    images = uci_digits.test.images.numpy()[:60]
    once = np.stack([to_mnist_form(image / 255, image > 0, THINNEST, 9) for image in images])
    assert np.quantile(abs(once.astype(int) - images).max(axis=(1, 2)), 0.8) <= 10


@pytest.mark.parametrize("shape", [(200, 60), (30, 90), (7, 3), (1, 1), (900, 900)])
def test_ink_fills_twenty_pixels_and_its_mass_lies_in_the_middle(shape):
    image = to_mnist_form(np.ones(shape), np.tri(*shape, dtype=bool))
    rows, columns = np.nonzero(image)
    assert image.shape == (28, 28) and image.dtype == np.uint8 and image.max() == 255
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    assert np.abs(np.array(ndimage.center_of_mass(image)) - 14).max() <= 0.6


@pytest.mark.parametrize(("width", "expected"), [(2, THINNEST), (60, 3), (150, THICKEST)])
def test_strokes_come_near_mnists_width(width, expected):
    ring = np.hypot(*(np.mgrid[-200:201, -200:201]))
    image = to_mnist_form(np.ones(ring.shape), abs(ring - 200 + width / 2) <= width / 2)
    across = image[14].astype(float)
    assert across[:14].sum() / 255 == pytest.approx(expected, abs=0.5)


def test_only_the_masked_ink_counts():
    darkness = np.ones((60, 60))
    mask = np.zeros((60, 60), bool)
    mask[10:50, 20:30] = True
    assert (to_mnist_form(darkness, mask) > 0).sum() <= 20 * 6

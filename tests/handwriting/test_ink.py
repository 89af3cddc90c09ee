"""Ink is found on any paper: its place, its shape, and nothing else."""

import numpy as np
import paper
import pytest

from mnist_lab.handwriting.ink import LONGEST, find_ink
from mnist_lab.handwriting.ruling import without_ruling


@pytest.fixture(scope="module")
def strokes():
    """How dark each pixel of a page with four rings and two bars is, float [H, W]."""
    y, x = np.mgrid[0:400, 0:700]
    shapes = [abs(np.hypot(y - 200, x - c) - 60) < 7 for c in (90, 250, 410, 570)]
    return np.any([*shapes, (abs(y - 60) < 6) & (abs(x - 350) < 60)], axis=0).astype(float)


def overlap(mask: np.ndarray, strokes: np.ndarray) -> float:
    """Pixels in both over pixels in either."""
    return float((mask & (strokes > 0)).sum() / (mask | (strokes > 0)).sum())


@pytest.mark.parametrize("ink", [(20, 20, 20), (200, 30, 40), (40, 60, 200), (140, 140, 140)])
@pytest.mark.parametrize("change", [lambda page: page, paper.shaded, paper.noisy])
def test_the_mask_is_the_strokes(strokes, ink, change):
    page = change(paper.mix(np.full((400, 700, 3), 240.0), strokes, ink))
    assert overlap(find_ink(page).mask, strokes) > 0.85


def test_light_ink_on_dark_paper_is_ink(strokes):
    page = paper.mix(np.full((400, 700, 3), 30.0), strokes, (230, 230, 220))
    assert overlap(find_ink(page).mask, strokes) > 0.9


def test_darkness_is_nothing_on_paper_and_one_on_ink_of_every_strength(strokes):
    x = np.mgrid[0:400, 0:700][1]
    faint = paper.mix(np.full((400, 700, 3), 240.0), strokes, (130, 130, 130))
    both = np.where((x < 330)[..., None], faint, paper.mix(faint * 1.0, strokes, (20, 20, 20)))
    ink = find_ink(both)
    assert ink.darkness.dtype == np.float32
    for half in (x < 300, x > 360):
        assert np.median(ink.darkness[half & (strokes > 0)]) > 0.95
        assert ink.darkness[half & (strokes == 0)].mean() < 0.03


def test_large_pictures_are_looked_at_smaller_and_thin_strokes_survive():
    page = np.full((3000, 4000, 3), 235, np.uint8)
    page[1000:2000, 2000:2006] = 60  # a line half a millimetre wide on a page
    ink = find_ink(page)
    assert max(ink.mask.shape) == LONGEST
    rows, columns = np.nonzero(ink.mask)
    scale = 4000 / LONGEST
    assert np.ptp(rows) * scale == pytest.approx(1000, abs=10)
    assert columns.mean() * scale == pytest.approx(2003, abs=5)


@pytest.mark.parametrize("tilt", [0.0, 0.04, -0.08])
@pytest.mark.parametrize("squares", [False, True])
def test_printed_lines_are_no_ink_and_what_crosses_them_is(strokes, tilt, squares):
    plain = paper.mix(np.full((400, 700, 3), 240.0), strokes, (30, 30, 40))
    page = paper.ruled(plain, step=80, squares=squares, tilt=tilt)
    found = find_ink(page).mask
    assert (found & (strokes > 0)).sum() > 0.9 * strokes.sum()
    assert (found & (strokes == 0)).sum() < 0.15 * strokes.sum()


def test_a_long_thin_digit_is_no_printed_line():
    contrast = np.zeros((300, 300), np.float32)
    contrast[30:270, 140:150] = 0.8
    assert (without_ruling(contrast, contrast > 0.1) == contrast).all()

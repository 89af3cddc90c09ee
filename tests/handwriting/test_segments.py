"""Ink becomes digits in the order in which they are read: joined, cut, and nothing else."""

import numpy as np
import paper
import pytest
from PIL import Image, ImageDraw

from mnist_lab.handwriting.ink import find_ink
from mnist_lab.handwriting.network import load_network
from mnist_lab.handwriting.reading import read
from mnist_lab.handwriting.segments import find_digits

READER = load_network("reader")


def strokes(*lines, size=(400, 300), width=14) -> np.ndarray:
    """Pen strokes on white paper, each a list of points (x, y)."""
    image = Image.new("RGB", size, paper.WHITE)
    for line in lines:
        ImageDraw.Draw(image).line(line, fill=paper.BLACK, width=width, joint="curve")
    return np.asarray(image)


def counts(page: np.ndarray) -> list[int]:
    return [len(line) for line in find_digits(find_ink(page))]


FIVE = [(150, 60), (140, 140), (190, 130), (220, 165), (190, 215), (135, 215)]
SEVEN = [(130, 60), (230, 60), (170, 230)]


@pytest.mark.parametrize(
    "parts",
    {
        "the bar of a 5": [FIVE, [(165, 50), (235, 45)]],
        "the cross of a 7": [SEVEN, [(150, 150), (175, 150)], [(195, 150), (225, 150)]],
        "a broken stroke": [[(130, 60), (230, 60), (205, 130)], [(197, 152), (170, 230)]],
        "a 4 in two strokes": [[(150, 60), (120, 150), (220, 150)], [(200, 90), (195, 230)]],
    }.items(),
    ids=lambda parts: parts[0],
)
def test_parts_of_one_digit_are_joined(parts):
    assert counts(strokes(*parts[1])) == [1]


def test_digits_side_by_side_stay_two():
    one, other = [(130, 60), (130, 230)], [(165, 62), (166, 228)]
    assert counts(strokes(one, other)) == [2]


def test_rows_are_read_from_the_top_and_digits_from_the_left(uci_digits):
    images = uci_digits.test.images.numpy()[:9]
    page = paper.write([images[:5], images[5:]])
    lines = find_digits(find_ink(page))
    assert [len(line) for line in lines] == [5, 4]
    assert max(p.top for p in lines[0]) < min(p.top for p in lines[1])
    for line in lines:
        assert [p.left for p in line] == sorted(p.left for p in line)


@pytest.mark.parametrize("degrees", [-30, -15, 15, 30])
def test_slanted_rows_are_rows(uci_digits, degrees):
    images = uci_digits.test.images.numpy()[:15]
    slope = float(np.tan(np.deg2rad(degrees)))
    page = paper.write([images[:5], images[5:10], images[10:]], slope=slope)
    assert counts(page) == [5, 5, 5]


@pytest.mark.parametrize("turn", [0, 4])
def test_boxes_printed_round_digits_are_left_out(uci_digits, turn):
    images = uci_digits.test.images.numpy()[:5]
    page = paper.write([images], size=80, gap=60)
    one_each = [(60 + 140 * n, 40, 140 + 140 * n, 175) for n in range(5)]
    in_a_row = [(50 + 140 * n, 40, 190 + 140 * n, 175) for n in range(5)]
    for boxes in (one_each, in_a_row):
        framed = Image.fromarray(paper.boxed(page, boxes))
        turned = framed.rotate(turn, Image.Resampling.BICUBIC, fillcolor=paper.WHITE)
        assert counts(np.asarray(turned)) == [5]


def test_digits_that_touch_are_cut(uci_digits):
    images, labels = uci_digits.test.images.numpy(), uci_digits.test.labels.numpy()
    answers = np.asarray(READER.answer(images))
    good = np.flatnonzero((answers.max(axis=1) > 0.99) & (answers.argmax(axis=1) == labels))
    right = 0
    for seed in range(4):
        chosen = np.random.default_rng(seed).choice(good, 2, replace=False)
        touching = strokes_touching(images[chosen])
        assert len(find_digits(find_ink(touching))[0]) == 1
        right += read(touching, READER).lines == ("".join(map(str, labels[chosen])),)
    assert right >= 2


def test_a_row_of_which_all_touch_is_cut_into_as_many_as_it_has():
    image = Image.new("RGB", (560, 240), paper.WHITE)
    for left in range(40, 440, 86):
        ImageDraw.Draw(image).ellipse([left, 60, left + 90, 190], outline=paper.BLACK, width=14)
    assert counts(np.asarray(image)) == [1]
    assert [len(line) for line in read(np.asarray(image), READER).lines] == [5]


def strokes_touching(pair: np.ndarray) -> np.ndarray:
    """Two digits pushed together until their ink overlaps by a hair."""
    shown = [image[:, image.any(axis=0)] for image in pair]
    for gap in range(4, -30, -2):
        left, right = (np.kron(image, np.ones((4, 4))) / 255 for image in shown)
        strength = np.zeros((180, left.shape[1] + right.shape[1] + 60))
        strength[34:146, 24 : 24 + left.shape[1]] = left
        at = 24 + left.shape[1] + gap
        strength[34:146, at : at + right.shape[1]] += right
        page = paper.mix(np.full((*strength.shape, 3), 240.0), (strength - 0.3) * 3, paper.BLACK)
        if counts(page) == [1]:
            return page
    raise AssertionError("these digits never touch")

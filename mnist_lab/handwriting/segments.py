"""Digits in the ink, line by line."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mnist_lab.handwriting.ink import Ink

SPECK = 0.2  # of the digits' height: what is smaller in both directions is no digit
STEEPEST = 30  # degrees that a row may rise or fall


@dataclass(frozen=True, eq=False)
class Piece:
    """A digit, or a part of one: where it is in the ink, and which pixels there are its own."""

    top: int
    left: int
    mask: np.ndarray  # bool [height, width]

    @property
    def height(self) -> int:
        return self.mask.shape[0]

    @property
    def width(self) -> int:
        return self.mask.shape[1]

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def area(self) -> int:
        return int(self.mask.sum())


def find_digits(ink: Ink) -> list[list[Piece]]:
    """The digits of each line, lines from top to bottom and digits from left to right."""
    pieces = _join(_without_frames(_components(ink.mask)))
    return _lines(pieces)


def _components(mask: np.ndarray) -> list[Piece]:
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    found = enumerate(ndimage.find_objects(labels), 1)
    return [Piece(box[0].start, box[1].start, labels[box] == number) for number, box in found]


def _digit_height(pieces: list[Piece]) -> float:
    """The height of a usual digit: of the pieces that hold most ink."""
    sizes = np.array([max(p.height, p.width) for p in pieces])
    areas = np.array([p.area for p in pieces])
    order = np.argsort(sizes)
    return float(sizes[order][np.searchsorted(areas[order].cumsum(), areas.sum() / 2)])


def _without_frames(pieces: list[Piece]) -> list[Piece]:
    return pieces


def _join(pieces: list[Piece]) -> list[Piece]:
    """Parts of one digit joined: they lie above each other, or hardly apart. Specks are left out."""
    usual = _digit_height(pieces)
    pieces = [p for p in pieces if max(p.height, p.width) >= SPECK * usual]
    joined = True
    while joined:
        joined = False
        for i, one in enumerate(pieces):
            for other in pieces[i + 1 :]:
                if _belong(one, other, usual):
                    pieces = [p for p in pieces if p is not one and p is not other]
                    pieces.append(_union(one, other))
                    joined = True
                    break
            if joined:
                break
    return [p for p in pieces if max(p.height, p.width) >= 0.35 * usual]


def _belong(one: Piece, other: Piece, usual: float) -> bool:
    across = min(one.right, other.right) - max(one.left, other.left)
    apart = max(one.top, other.top) - min(one.bottom, other.bottom)
    tall = max(one.bottom, other.bottom) - min(one.top, other.top)
    overlaps = across > 0.4 * min(one.width, other.width)
    return overlaps and apart < 0.25 * usual and tall < 1.5 * usual


def _union(one: Piece, other: Piece) -> Piece:
    top, left = min(one.top, other.top), min(one.left, other.left)
    height = max(one.bottom, other.bottom) - top
    mask = np.zeros((height, max(one.right, other.right) - left), bool)
    for p in (one, other):
        mask[p.top - top :, p.left - left :][: p.height, : p.width] |= p.mask
    return Piece(top, left, mask)


def _lines(pieces: list[Piece]) -> list[list[Piece]]:
    """The pieces in rows, which may be slanted."""
    usual = _digit_height(pieces)
    x = np.array([p.left + p.width / 2 for p in pieces])
    y = np.array([p.top + p.height / 2 for p in pieces])

    def flatness(angle: float) -> float:
        level = y * np.cos(np.deg2rad(angle)) - x * np.sin(np.deg2rad(angle))
        near = np.exp(-(((level[:, None] - level) / (0.35 * usual)) ** 2))
        return float(near.sum()) * (1 - 0.002 * abs(angle))

    angle = np.deg2rad(max(range(-STEEPEST, STEEPEST + 1), key=flatness))
    along, level = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    lines: list[list[int]] = []
    for i in np.argsort(along):
        ends = [abs(level[line[-1]] - level[i]) for line in lines]
        if ends and min(ends) < 0.7 * usual:
            lines[int(np.argmin(ends))].append(i)
        else:
            lines.append([i])
    lines.sort(key=lambda line: float(np.mean(level[line])))
    return [[pieces[i] for i in line] for line in lines]

"""Digits in the ink, line by line."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mnist_lab.handwriting.ink import Ink, NoInk

SMALLEST = 0.008  # of the picture's longer side: what is smaller is a speck
LEGIBLE = 9  # pixels, or a fifth of the picture: a lower digit can't be told from specks
SPECK = 0.15  # of the digits' height: what is smaller in both directions is no part of one
SHORTEST = 0.4  # of the digits' height: what is lower is no digit
OUTSIDE = 0.85  # of a side of the picture: what is dark along it is no paper
DOT = 0.5  # of its size: what has strokes wider than that is a dot
CREASE = 0.04  # of its length: what runs from side to side and is thinner is no stroke
STEEPEST = 30  # degrees that a row may rise or fall
ONLY_SPECKS = "No digit was found in the picture: there is nothing in it but specks."


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
    def size(self) -> int:
        return max(self.mask.shape)


def find_digits(ink: Ink) -> list[list[Piece]]:
    """The digits of each line, lines from top to bottom and digits from left to right.

    Strokes that touch or lie close together are one digit.

    Raises:
        NoInk: if there is nothing but specks.
    """
    return in_lines(find_pieces(ink))


def find_pieces(ink: Ink) -> list[Piece]:
    """The digits in any order, those that touch as one.

    Raises:
        NoInk: if there is nothing but specks.
    """
    least = SMALLEST * max(ink.mask.shape)
    found = pieces_of(ink.mask)
    pieces = [p for p in found if p.size > least and not _is_crease(p, ink.mask)]
    pieces = _written(pieces, ink.mask)
    drawn = _ink_of(p for p in pieces if _thickness(p.mask) < DOT * p.size)
    if drawn <= _ink_of(p for p in found if p.size <= least):
        raise NoInk(ONLY_SPECKS)
    pieces = _without_specks(pieces)
    pieces = _joined(pieces, _thickness(ink.mask))
    if usual_size(pieces) < min(LEGIBLE, max(ink.mask.shape) / 5):
        raise NoInk(ONLY_SPECKS)
    usual = usual_height(pieces)
    whole = [p for p in pieces if p.height >= _least_height(p, ink.mask, usual)]
    return whole or pieces


def _least_height(piece: Piece, mask: np.ndarray, usual: float) -> float:
    """How high a digit has to be: at the picture's edge, where other things are cut off, more."""
    ends = piece.top, piece.left, piece.bottom - mask.shape[0], piece.right - mask.shape[1]
    return (SHORTEST if all(ends) else 0.7) * usual


def pieces_of(mask: np.ndarray, top: int = 0, left: int = 0) -> list[Piece]:
    """The connected parts of a mask, whose own corner is at ``top`` and ``left``."""
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    boxes = enumerate(ndimage.find_objects(labels), 1)
    return [Piece(top + y.start, left + x.start, labels[y, x] == n) for n, (y, x) in boxes]


def _ink_of(pieces: Iterable[Piece]) -> int:
    return sum(int(p.mask.sum()) for p in pieces)


def union(pieces: list[Piece]) -> Piece:
    """Several pieces as one."""
    top, left = min(p.top for p in pieces), min(p.left for p in pieces)
    shape = max(p.bottom for p in pieces) - top, max(p.right for p in pieces) - left
    mask = np.zeros(shape, bool)
    for p in pieces:
        mask[p.top - top :, p.left - left :][: p.height, : p.width] |= p.mask
    return Piece(top, left, mask)


def usual_size(pieces: list[Piece]) -> float:
    """The size of a usual digit: half of the ink is in pieces of this size and below."""
    return _usual([p.size for p in pieces], pieces)


def usual_height(pieces: list[Piece]) -> float:
    """The height of a usual digit, be some of the pieces several digits that touch."""
    return _usual([p.height for p in pieces], pieces)


def _usual(sizes: list[int], pieces: list[Piece]) -> float:
    ink = np.array([p.mask.sum() for p in pieces])
    order = np.argsort(sizes)
    return float(np.array(sizes)[order][np.searchsorted(ink[order].cumsum(), ink.sum() / 2)])


def _is_crease(piece: Piece, mask: np.ndarray) -> bool:
    """Whether it is as thin as a fold in the paper, and runs over all of it.

    In a narrow strip of paper it may be a 1 that was cut out closely.
    """
    from_side_to_side = piece.height == mask.shape[0] or piece.width == mask.shape[1]
    strip = min(mask.shape) < 0.5 * max(mask.shape)
    return from_side_to_side and not strip and piece.mask.sum() < CREASE * piece.size**2


def _thickness(mask: np.ndarray) -> float:
    """How wide strokes are, in pixels: a stroke's pixels lie a quarter of that inside its edge."""
    step = max(1, max(mask.shape) // 500)  # finer costs only time
    mask = np.pad(mask[::step, ::step], 1)
    return max(1.0, 4 * step * (float(ndimage.distance_transform_edt(mask)[mask].mean()) - 0.5))


def _without_specks(pieces: list[Piece]) -> list[Piece]:
    usual = usual_size(pieces)
    return [p for p in pieces if p.size >= SPECK * usual]


def _written(pieces: list[Piece], mask: np.ndarray) -> list[Piece]:
    """The pieces without what reaches in from outside the paper, and without frames."""
    height, width = mask.shape
    # A side that is dark nearly from end to end shows the table, and what touches it is no ink.
    top, bottom, left, right = (
        ndimage.binary_closing(side, np.ones(len(side) // 10 + 1)).mean() > OUTSIDE
        for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    )

    def touches(p: Piece, top: bool, bottom: bool, left: bool, right: bool) -> bool:
        ends = (p.top == 0, p.bottom == height, p.left == 0, p.right == width)
        return any(a and b for a, b in zip(ends, (top, bottom, left, right), strict=True))

    pieces = [p for p in pieces if not touches(p, top, bottom, left, right)]
    inside = [p for p in pieces if not touches(p, True, True, True, True)]
    if sum(p.mask.sum() for p in inside) >= 0.05 * sum(p.mask.sum() for p in pieces) > 0:
        largest = 1.6 * usual_size(inside)
        pieces = [p for p in pieces if p.size < largest or p in inside]
    frames = [p for p in pieces if p.size > 1.1 * usual_size(pieces) or len(pieces) < 12]
    for frame in sorted(frames, key=lambda p: -p.size):
        pieces = _unframed(frame, pieces)
    return pieces


def _unframed(frame: Piece, pieces: list[Piece]) -> list[Piece]:
    """The pieces without this one, if it is a printed box or a row of boxes round others."""
    filled = ndimage.binary_fill_holes(frame.mask)
    area = filled.sum()
    if area < 2.5 * frame.mask.sum() or area < 0.88 * _least_rectangle(filled):
        return pieces
    margin = round(2 * _thickness(frame.mask) + 0.03 * min(frame.mask.shape))
    field = ndimage.distance_transform_edt(np.pad(filled, 1))[1:-1, 1:-1] > margin
    around = [p for p in pieces if p is frame or _within(p, frame)]
    ink = union(around).mask & field
    inner = []
    for p in pieces_of(ink, frame.top, frame.left):
        room = field[:, p.left - frame.left + p.width // 2].sum()
        if p.height < 0.95 * room or p.width > 0.5 * p.height:  # else it parts two boxes
            inner.append(p)
    if max((p.height for p in inner), default=0) < 0.25 * frame.height:
        return pieces
    return [p for p in pieces if p not in around] + inner


def _within(piece: Piece, frame: Piece) -> bool:
    across = frame.left <= piece.left and piece.right <= frame.right
    return across and frame.top <= piece.top and piece.bottom <= frame.bottom


def _least_rectangle(filled: np.ndarray) -> float:
    """Area of the smallest rectangle, however turned, that holds the mask."""
    outline = np.argwhere(filled & ~ndimage.binary_erosion(filled))
    angles = np.deg2rad(np.arange(0, 90, 2))
    turned = outline @ np.array([np.cos(angles), np.sin(angles)])
    across = outline @ np.array([-np.sin(angles), np.cos(angles)])
    return float(((np.ptp(turned, axis=0) + 1) * (np.ptp(across, axis=0) + 1)).min())


def _joined(pieces: list[Piece], thickness: float) -> list[Piece]:
    """Parts of one digit joined: broken strokes, the bar of a 5, the cross of a 7."""
    usual = usual_size(pieces)
    waiting, done = sorted(pieces, key=lambda p: p.size), []
    while waiting:
        one = waiting.pop(0)
        mates = [p for p in waiting if _belong(one, p, usual, thickness)]
        if not mates:
            done.append(one)
            continue
        nearest = min(mates, key=lambda p: _gap(one, p))
        waiting = [p for p in waiting if p is not nearest]
        waiting = sorted([*waiting, union([one, nearest])], key=lambda p: p.size)
        usual = max(usual, usual_size(waiting + done))
    return done


def _belong(one: Piece, other: Piece, usual: float, thickness: float) -> bool:
    """Whether the smaller ``one`` is a part of the same digit."""
    across = min(one.right, other.right) - max(one.left, other.left)
    apart = max(one.top, other.top) - min(one.bottom, other.bottom)
    if max(-across, apart) > 0.3 * usual:
        return False
    tall = max(one.bottom, other.bottom) - min(one.top, other.top)
    overlap = across / min(one.width, other.width)
    if overlap > 0.4 and apart < 0.25 * usual and tall < 1.7 * usual:
        return True
    small = one.size < 0.5 * usual
    return (overlap > 0.3 or small) and tall < 2.2 * usual and _gap(one, other) <= 1.5 * thickness


def _gap(one: Piece, other: Piece) -> float:
    """The least distance between the pixels of two pieces."""
    both = union([one, other])
    first, second = np.ones(both.mask.shape, bool), np.zeros(both.mask.shape, bool)
    y, x = one.top - both.top, one.left - both.left
    first[y : y + one.height, x : x + one.width] &= ~one.mask
    y, x = other.top - both.top, other.left - both.left
    second[y : y + other.height, x : x + other.width] |= other.mask
    return float(ndimage.distance_transform_edt(first)[second].min()) - 1


def in_lines(pieces: list[Piece]) -> list[list[Piece]]:
    """The pieces in rows, which may be slanted, from top to bottom and from left to right."""
    usual = usual_size(pieces)
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

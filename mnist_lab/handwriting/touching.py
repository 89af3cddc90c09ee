"""Digits that touch cut apart, where the network finds the parts more like digits."""

from collections.abc import Callable
from itertools import combinations, pairwise

import numpy as np
from scipy import ndimage
from skimage.graph import route_through_array

from mnist_lab.handwriting.segments import Piece, pieces_of, union, usual_height

Answer = Callable[[list[Piece]], np.ndarray]  # probabilities of the ten digits, [N, 10]
WIDE = 0.8  # times as wide as high: from here on a piece may be several digits
WIDEST = 1.15  # and from here on it is ever less likely to be one
CAUTION = 0.3  # what a cut has to gain: minus the logarithm of the mean confidence
NARROWEST = 0.12  # of the digits' height: how wide a part has to be
CUTS = 6  # places that are tried in a piece


def cut_touching(pieces: list[Piece], answer: Answer) -> list[Piece]:
    """The pieces, those cut that hold several digits of about the usual height.

    Every way to cut a wide piece at some of its thinnest places is tried, and the one taken whose
    parts the network is surest of (LeCun, Bottou, Bengio & Haffner 1998, section VII).
    """
    usual = usual_height(pieces)
    wide = [p for p in pieces if p.width > WIDE * max(p.height, 0.8 * usual)]
    if not wide:
        return pieces
    costs = _costs(wide, usual, answer)
    unsure = [p for p, cost in zip(wide, costs, strict=True) if cost > CAUTION]  # else none can win
    parts = {p: _parts(p, usual) for p in unsure}
    spans = {p: list(combinations(range(len(parts[p]) + 1), 2)) for p in unsure}
    joined = [union(parts[p][i:j]) for p in unsure for i, j in spans[p]]
    rest = iter(_costs(joined, usual, answer) if joined else [])
    cut = []
    for piece in pieces:
        if piece in parts:
            ways = {span: next(rest) for span in spans[piece]}
            cut += [union(parts[piece][i:j]) for i, j in _best(ways, len(parts[piece]))]
        else:
            cut.append(piece)
    return cut


def _best(costs: dict[tuple[int, int], float], count: int) -> list[tuple[int, int]]:
    """The parts from i to j that together cost least per digit: of all ways to join ``count``."""
    ways: dict[int, list[tuple[float, list[int]]]] = {0: [(0.0, [0])]}
    for j in range(1, count + 1):
        ways[j] = [(sum_ + costs[i, j], [*way, j]) for i in range(j) for sum_, way in ways[i]]
    best = min(
        ways[count], key=lambda way: way[0] / (len(way[1]) - 1) + CAUTION * (len(way[1]) > 2)
    )
    return list(pairwise(best[1]))


def _costs(groups: list[Piece], usual: float, answer: Answer) -> list[float]:
    """How unlike one digit each is: minus the logarithm of its confidence, and of its shape."""
    wide = [group.width / max(group.height, 0.6 * usual) for group in groups]
    shape = [
        6 * max(0.0, ratio - WIDEST) + 4 * (group.height < 0.5 * usual)
        for ratio, group in zip(wide, groups, strict=True)
    ]
    surety = np.log(np.maximum(answer(groups).max(axis=1), 1e-6))
    return (np.array(shape) - surety).tolist()


def _parts(piece: Piece, usual: float) -> list[Piece]:
    """What lies between the piece's thinnest places, from left to right."""
    least = max(2, round(NARROWEST * usual))
    column = ndimage.uniform_filter1d(piece.mask.sum(axis=0).astype(float), max(1, least // 2))
    inner = range(least, piece.width - least)
    low = [x for x in inner if column[x] == column[max(0, x - least) : x + least + 1].min()]
    cuts: list[int] = []
    for x in sorted(low, key=lambda x: column[x]):
        if len(cuts) < CUTS and all(abs(x - other) >= least for other in cuts):
            cuts.append(x)
    owner = np.zeros(piece.mask.shape, int)
    for x in cuts:
        owner += _right_of(piece.mask, x, round(0.25 * usual))
    parts = []
    for number in np.unique(owner[piece.mask]):
        found = pieces_of(piece.mask & (owner == number), piece.top, piece.left)
        parts.append(union(found))
    return sorted(parts, key=lambda p: p.left + p.width / 2)


def _right_of(mask: np.ndarray, x: int, reach: int) -> np.ndarray:
    """What lies right of a cut from top to bottom near column ``x``, through least ink."""
    left = max(0, x - reach)
    window = mask[:, left : x + reach + 1]
    away = abs(np.arange(window.shape[1]) - (x - left))
    costs = 1 + 30 * window + away / max(1, reach)
    costs = np.pad(costs, ((1, 1), (0, 0)), constant_values=1)
    path, _ = route_through_array(costs, (0, x - left), (len(costs) - 1, x - left))
    right = np.zeros(mask.shape, bool)
    last = dict(path)  # the path's last column in each row
    for row in range(mask.shape[0]):
        right[row, left + last[row + 1] :] = True
    return right

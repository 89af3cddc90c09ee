"""A picture read: the digits of its lines, and how sure each one is."""

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np

from mnist_lab.handwriting.form import to_mnist_form
from mnist_lab.handwriting.ink import LONGEST, Ink, NoInk, find_ink, resized
from mnist_lab.handwriting.pictures import Source, open_picture
from mnist_lab.handwriting.segments import Piece, find_pieces, in_lines
from mnist_lab.handwriting.touching import cut_touching
from mnist_lab.handwriting.windows import windowed
from mnist_lab.training import Fit, predict

ROUGH = 300, 480  # pixels of the longer side of pictures that large digits are looked for in
LARGE = 80  # pixels of height of such digits: four times what MNIST's have


class Answers(Protocol):
    """A network that says how probable each digit is, and from when on it may be believed."""

    def answer(self, images: np.ndarray) -> Any:
        """Probabilities, float64 [N, 10], for uint8 images [N, 28, 28]: a tensor or an array."""

    def threshold(self, allow: float) -> float:
        """The confidence from which on at most this share of answers is wrong."""


Network = str | Fit | Answers


@dataclass(frozen=True, eq=False)
class ReadDigit:
    """One digit of a picture."""

    probabilities: np.ndarray  # float64 [10]
    box: tuple[int, int, int, int]  # left, top, right, bottom in the picture's pixels
    image: np.ndarray  # uint8 [28, 28], what the network saw
    digit: int  # the most probable one
    confidence: float  # its probability
    sure: bool  # whether the confidence reaches the threshold


@dataclass(frozen=True, eq=False)
class Reading:
    """What is written in a picture."""

    lines: tuple[str, ...]  # the most probable digits, line by line from top to bottom
    text: str  # the same in one, with ? for each digit that is not sure
    digits: tuple[ReadDigit, ...]  # in the order of the lines


@dataclass(frozen=True, eq=False)
class _Trained:
    """A fit that reads: its confidence is not calibrated."""

    fit: Fit

    def answer(self, images: np.ndarray) -> np.ndarray:
        import torch

        from mnist_lab.evaluation import probabilities

        logits = predict(self.fit.model, torch.from_numpy(images), self.fit.recipe)
        return probabilities(logits).numpy()

    def threshold(self, allow: float) -> float:
        return 1 - allow


def read(image: Source, network: Network = "reader", allow: float = 0.01) -> Reading:
    """What is written in a picture: a file's path, its bytes, a Pillow image or an array.

    ``network`` is a kept network's name, or a fit. A digit is sure where the network's confidence
    is one at which it gives at most a share ``allow`` of wrong answers.

    Raises:
        PictureError: if it is no picture.
        NoInk: if nothing is written in it.
    """
    reader, picture = as_reader(network), open_picture(image)
    small = resized(picture, LONGEST) if max(picture.shape[:2]) > LONGEST else picture
    ink, pieces = _found(small)
    scale = picture.shape[1] / ink.mask.shape[1]

    @cache
    def image_of(piece: Piece) -> np.ndarray:
        return digit_image(ink, piece)

    def answer(pieces: list[Piece]) -> np.ndarray:
        return np.asarray(reader.answer(np.stack([image_of(piece) for piece in pieces])))

    lines = in_lines(cut_touching(pieces, answer))
    answers, least = iter(answer([p for line in lines for p in line])), reader.threshold(allow)
    read_lines = [
        [_digit(p, scale, image_of(p), next(answers), least) for p in line] for line in lines
    ]
    said = [["?" if not digit.sure else str(digit.digit) for digit in line] for line in read_lines]
    return Reading(
        lines=tuple("".join(str(digit.digit) for digit in line) for line in read_lines),
        text="\n".join("".join(line) for line in said),
        digits=tuple(digit for line in read_lines for digit in line),
    )


def _found(picture: np.ndarray) -> tuple[Ink, list[Piece]]:
    """The ink and its digits, looked for in small pictures first: large digits need no more."""
    for longest in ROUGH:
        if longest < max(picture.shape[:2]):
            with suppress(NoInk):
                ink = find_ink(picture, longest)
                pieces = find_pieces(ink)
                if min(piece.height for piece in pieces) >= LARGE:
                    return ink, pieces
    ink = find_ink(picture)
    return ink, find_pieces(ink)


def _digit(
    piece: Piece, scale: float, image: np.ndarray, probabilities: np.ndarray, least: float
) -> ReadDigit:
    left, top, right, bottom = piece.left, piece.top, piece.right, piece.bottom
    confidence = float(probabilities.max())
    return ReadDigit(
        probabilities=probabilities,
        box=(round(left * scale), round(top * scale), round(right * scale), round(bottom * scale)),
        image=image,
        digit=int(probabilities.argmax()),
        confidence=confidence,
        sure=confidence >= least,
    )


def as_reader(network: Network) -> Answers:
    if isinstance(network, str):
        from mnist_lab.handwriting.network import load_network

        return load_network(network)
    return _Trained(network) if isinstance(network, Fit) else network


def digit_image(ink: Ink, piece: Piece) -> np.ndarray:
    """The digit in MNIST's form, with the grey edges of its strokes."""
    edge = 2
    own = np.pad(piece.mask, edge)
    for axis in (0, 1):
        own = windowed(np.maximum, own, 2 * edge + 1, axis)
    top, left = max(0, piece.top - edge), max(0, piece.left - edge)
    dark = ink.darkness[top : piece.bottom + edge, left : piece.right + edge]
    own = own[top - piece.top + edge :, left - piece.left + edge :]
    return to_mnist_form(dark, own[: dark.shape[0], : dark.shape[1]])

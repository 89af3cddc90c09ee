"""Splits of the training digits, for judging by digits that were not learned from."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold, train_test_split

from mnist_lab.data import Digits


@dataclass(frozen=True, eq=False)
class Split:
    """Which training digits to learn from and which to judge by while choosing.

    Attributes:
        train, validation: int64 indices into ``digits.train``, ascending, without overlap.
        name: such as ``"stratified 80/20"`` or ``"fold 1 of 5"``.
    """

    train: torch.Tensor
    validation: torch.Tensor
    name: str

    @property
    def digest(self) -> str:
        """SHA-256 of both index arrays."""
        both = [part.numpy().astype("<i8").tobytes() for part in (self.train, self.validation)]
        return sha256(b"".join(sha256(part).digest() for part in both)).hexdigest()


def random_split(digits: Digits, validation_fraction: float = 0.2, seed: int = 0) -> Split:
    """Hold out a fraction of the training digits, drawn without regard to class.

    Raises:
        ValueError: if the fraction leaves either part empty, or the seed is not in [0, 2³²).
    """
    return _holdout("random", digits, validation_fraction, seed, stratify=None)


def stratified_split(digits: Digits, validation_fraction: float = 0.2, seed: int = 0) -> Split:
    """Hold out the same fraction of every class of the training digits.

    Raises:
        ValueError: as ``random_split``, and if a part can't hold a digit of every class.
    """
    labels = digits.train.labels.numpy()
    return _holdout("stratified", digits, validation_fraction, seed, stratify=labels)


def stratified_folds(digits: Digits, folds: int = 5, seed: int = 0) -> list[Split]:
    """Shuffled k-fold cross-validation with the classes in equal proportion in every fold.

    Raises:
        ValueError: if ``folds`` is not between 2 and the size of the smallest class, or the seed is
            not in [0, 2³²).
    """
    labels = digits.train.labels.numpy()
    smallest = int(np.unique(labels, return_counts=True)[1].min())
    if not isinstance(folds, int) or not 2 <= folds <= smallest:
        raise ValueError(
            f"folds must be a whole number from 2 to {smallest} (the size of the smallest class), "
            f"got {folds!r}"
        )
    splitter = StratifiedKFold(folds, shuffle=True, random_state=_checked_seed(seed))
    return [
        _split(f"fold {number} of {folds}", *parts)
        for number, parts in enumerate(splitter.split(labels, labels), start=1)
    ]


def _holdout(
    kind: str, digits: Digits, fraction: float, seed: int, stratify: np.ndarray | None
) -> Split:
    if not 0 < fraction < 1:
        raise ValueError(f"validation_fraction must lie between 0 and 1, got {fraction!r}")
    seed = _checked_seed(seed)
    rows = np.arange(len(digits.train))
    try:
        parts = train_test_split(rows, test_size=fraction, random_state=seed, stratify=stratify)
    except ValueError as error:
        raise ValueError(
            f"validation_fraction {fraction!r} is too uneven for {len(rows)} digits: {error}"
        ) from None
    return _split(f"{kind} {100 * (1 - fraction):g}/{100 * fraction:g}", *parts)


def _checked_seed(seed: int) -> int:
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to 2**32 - 1, got {seed!r}")
    return seed


def _split(name: str, train: np.ndarray, validation: np.ndarray) -> Split:
    return Split(torch.from_numpy(np.sort(train)), torch.from_numpy(np.sort(validation)), name)


def exact_duplicates(first: torch.Tensor, second: torch.Tensor | None = None) -> int:
    """How many images are equal, pixel for pixel, to another.

    Args:
        first: images [N, …].
        second: images [M, …] of the same shape and dtype, or None.

    Returns:
        The number of images of ``first`` that also occur in ``second``; with one set, the number
        that equal an earlier one of the same set.

    Raises:
        ValueError: if the images of the two sets differ in shape or dtype.
    """
    if second is None:
        return len(first) - len(set(_rows(first)))
    if (first.shape[1:], first.dtype) != (second.shape[1:], second.dtype):
        raise ValueError(
            f"images must agree in shape and dtype, got {first.dtype} {tuple(first.shape[1:])} "
            f"and {second.dtype} {tuple(second.shape[1:])}"
        )
    known = set(_rows(second))
    return sum(row in known for row in _rows(first))


def _rows(images: torch.Tensor) -> Iterator[bytes]:
    return (image.tobytes() for image in images.numpy())

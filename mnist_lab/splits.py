"""Splits of the training digits, for judging by digits that were not learned from."""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch

from mnist_lab.data import Digits


@dataclass(frozen=True, eq=False)
class Split:
    """Which training digits to learn from and which to judge by while choosing."""

    train: torch.Tensor  # int64 indices into ``digits.train``, ascending
    validation: torch.Tensor  # the same, without overlap
    name: str  # such as "stratified 80/20" or "fold 1 of 5"

    @property
    def digest(self) -> str:
        """SHA-256 of both index arrays."""
        both = [part.numpy().astype("<i8").tobytes() for part in (self.train, self.validation)]
        return sha256(b"".join(sha256(part).digest() for part in both)).hexdigest()


def random_split(digits: Digits, validation_fraction: float = 0.2, seed: int = 0) -> Split:
    """Hold out a fraction (between 0 and 1, else ValueError), drawn without regard to class."""
    return _holdout("random", digits, validation_fraction, seed)


def stratified_split(digits: Digits, validation_fraction: float = 0.2, seed: int = 0) -> Split:
    """Hold out the same fraction of every class; ValueError if a part can't hold them all."""
    return _holdout("stratified", digits, validation_fraction, seed)


def stratified_folds(digits: Digits, folds: int = 5, seed: int = 0) -> list[Split]:
    """Shuffled folds, each with all classes in proportion; ValueError if one is too small."""
    from sklearn.model_selection import StratifiedKFold

    labels = digits.train.labels.numpy()
    smallest = np.unique(labels, return_counts=True)[1].min()
    if folds > smallest:  # scikit-learn only warns
        raise ValueError(f"folds must not exceed the smallest class ({smallest}), found {folds!r}")
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    parts = splitter.split(labels, labels)  # it looks at the second argument, not at the images
    return [_split(f"fold {k} of {folds}", *part) for k, part in enumerate(parts, start=1)]


def _holdout(kind: str, digits: Digits, fraction: float, seed: int) -> Split:
    from sklearn.model_selection import train_test_split

    if not 0 < fraction < 1:  # scikit-learn takes 1 and more for a count
        raise ValueError(f"validation_fraction must lie between 0 and 1, found {fraction!r}")
    rows = np.arange(len(digits.train))
    stratify = digits.train.labels.numpy() if kind == "stratified" else None
    parts = train_test_split(rows, test_size=fraction, random_state=seed, stratify=stratify)
    return _split(f"{kind} {100 * (1 - fraction):g}/{100 * fraction:g}", *parts)


def _split(name: str, train: np.ndarray, validation: np.ndarray) -> Split:
    return Split(torch.from_numpy(np.sort(train)), torch.from_numpy(np.sort(validation)), name)

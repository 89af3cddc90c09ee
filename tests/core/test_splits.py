"""Splits of the training digits: complete, in proportion, and the same every time."""

import pytest
import torch

from mnist_lab import splits
from mnist_lab.data import Digits, Images


def small_digits(count: int) -> Digits:
    part = Images(torch.zeros(count, 28, 28, dtype=torch.uint8), torch.arange(count) % 10)
    return Digits(part, part, "mnist", "MNIST", "made by a test", {"part": "0"})


@pytest.mark.parametrize("make", [splits.random_split, splits.stratified_split])
def test_splits_cover_every_digit_once(make):
    split = make(small_digits(200), 0.15, seed=1)
    for part in (split.train, split.validation):
        assert part.dtype == torch.int64 and torch.equal(part, part.sort().values)
    together = torch.cat([split.train, split.validation])
    assert torch.equal(together.sort().values, torch.arange(200))
    assert len(split.validation) == 30 and "85/15" in split.name
    if make == splits.stratified_split:
        assert torch.bincount(split.validation % 10).tolist() == [3] * 10


def test_folds_cover_every_digit_once_in_validation():
    digits = small_digits(200)
    folds = splits.stratified_folds(digits, folds=4, seed=3)
    assert [fold.name for fold in folds] == [f"fold {i} of 4" for i in range(1, 5)]
    together = torch.cat([fold.validation for fold in folds])
    assert torch.equal(together.sort().values, torch.arange(200))
    for fold in folds:
        assert torch.bincount(digits.train.labels[fold.validation]).tolist() == [5] * 10
        assert not set(fold.train.tolist()) & set(fold.validation.tolist())


def test_digest_names_the_indices_which_are_the_same_on_every_machine(uci_digits):
    folds = splits.stratified_folds(uci_digits)
    made = [splits.random_split(uci_digits), splits.stratified_split(uci_digits, 0.1, seed=7)]
    digests = [split.digest[:8] for split in (*made, folds[4])]
    assert digests == ["cc6c2a0f", "b20939f8", "7b6a58bb"]
    train, validation = made[0].train, made[0].validation
    moved = splits.Split(train[:-1], torch.cat([train[-1:], validation]), made[0].name)
    assert moved.digest != made[0].digest


@pytest.mark.parametrize(
    ("make", "arguments", "expected"),
    [
        (splits.random_split, {"validation_fraction": 0.0}, "between 0 and 1, found 0"),
        (splits.stratified_split, {"validation_fraction": 20}, "between 0 and 1, found 20"),
        (splits.stratified_split, {"validation_fraction": 0.01}, "number of classes = 10"),
        (splits.stratified_folds, {"folds": 11}, r"the smallest class \(10\), found 11"),
    ],
)
def test_bad_split_arguments_say_what_was_expected(make, arguments, expected):
    with pytest.raises(ValueError, match=expected):
        make(small_digits(100), **arguments)

"""Varied copies of training digits."""

import dataclasses

import pytest
import torch

from mnist_lab.data import Digits, Images
from mnist_lab.handwriting.strokes import vary_strokes


@pytest.fixture(scope="module")
def varied(uci_digits):
    """The bundled digits and two varied copies of each."""
    return vary_strokes(uci_digits, copies=2, seed=1)


def only_copies(digits: Digits, train: Images) -> torch.Tensor:
    """One varied copy of each of these images."""
    given = dataclasses.replace(digits, train=train)
    return vary_strokes(given, copies=1).train.images[len(train) :]


def width_of(images: torch.Tensor) -> torch.Tensor:
    """Columns with ink, in pixels."""
    return (images > 80).any(1).sum(1)


def test_the_given_digits_come_first_and_copies_follow_in_their_order(uci_digits, varied):
    n = len(uci_digits.train)
    assert len(varied.train) == 3 * n and varied.train.images.dtype == torch.uint8
    assert torch.equal(varied.train.images[:n], uci_digits.train.images)
    assert torch.equal(varied.train.labels, uci_digits.train.labels.repeat(3))


def test_the_test_digits_stay_as_they_are(uci_digits, varied):
    assert varied.test is uci_digits.test


def test_the_seed_determines_the_copies(few_digits):
    one, again, other = (vary_strokes(few_digits, copies=1, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.train.images, again.train.images)
    assert not torch.equal(one.train.images, other.train.images)


def test_another_data_set_has_another_digest(few_digits):
    kinds = [few_digits, *(vary_strokes(few_digits, copies=k, seed=s) for k, s in ((1, 0), (1, 1)))]
    assert len({digits.digest for digits in kinds}) == 3
    assert len({digits.sha256["train-images-idx3-ubyte"] for digits in kinds}) == 3
    assert len({digits.sha256["t10k-images-idx3-ubyte"] for digits in kinds}) == 1


def test_without_copies_nothing_is_added(few_digits):
    assert vary_strokes(few_digits, copies=0).digest == few_digits.digest


def test_every_copy_has_ink_near_the_middle_and_none_at_the_border(uci_digits, varied):
    copies = varied.train.images[len(uci_digits.train) :].float()
    assert (copies.amax((1, 2)) > 100).all()
    axis = torch.arange(28) - 13.5
    mass = copies.sum((1, 2))
    for direction in (1, 2):
        centre = (copies.sum(direction) * axis).sum(1) / mass
        assert centre.abs().quantile(0.99) < 2
    inner = copies[:, 2:-2, 2:-2].sum((1, 2))
    assert ((mass - inner) / mass).median() < 0.01


def test_strokes_get_thinner_and_thicker(uci_digits, varied):
    n = len(uci_digits.train)
    ink = varied.train.images.float().mean((1, 2))
    given, copies = ink[:n], ink[n:]
    assert copies.quantile(0.05) < given.quantile(0.05)
    assert copies.std() > given.std()


def test_ones_get_flags_and_feet_and_sevens_bars(few_digits):
    straight = torch.zeros(300, 28, 28, dtype=torch.uint8)
    straight[:, 4:24, 13:15] = 255
    sevens = straight.clone()
    sevens[:, 4:6, 7:15] = 255
    for images, label, bare in ((straight, 1, 7), (sevens, 7, 12)):
        copies = only_copies(few_digits, Images(images, torch.full((300,), label)))
        assert 0.2 < (width_of(copies) > bare).float().mean() < 0.9


def test_blank_and_full_images_do_no_harm(few_digits):
    images = torch.stack([torch.zeros(28, 28), torch.full((28, 28), 255.0)]).to(torch.uint8)
    train = Images(images.repeat(150, 1, 1), torch.arange(300) % 10)
    assert only_copies(few_digits, train).shape == (300, 28, 28)

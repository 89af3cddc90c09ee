"""Graded changes of test images, against torchvision, SciPy and counts by hand."""

import numpy as np
import pytest
import torch
from scipy import ndimage

import mnist_lab as lab
from mnist_lab.study.shifts import SHIFTS, accuracy_under_shift, shifted

UNCHANGED = {kind: 1 if kind == "scaling" else 0 for kind in SHIFTS}


@pytest.fixture(scope="module")
def images(uci_digits) -> torch.Tensor:
    return uci_digits.test.images


def grey(level: int) -> torch.Tensor:
    return torch.full((100, 28, 28), level, dtype=torch.uint8)


@pytest.mark.parametrize("kind", SHIFTS)
def test_one_step_changes_nothing_every_other_every_image_the_same_way_each_time(images, kind):
    before, state, (_, strengths) = images.clone(), torch.get_rng_state(), SHIFTS[kind]
    assert list(strengths) == sorted(set(strengths)) and UNCHANGED[kind] in strengths
    for strength in strengths:
        changed = shifted(images, kind, strength)
        assert changed.shape == images.shape and changed.dtype == torch.uint8
        assert torch.equal(changed, shifted(images, kind, strength))
        same = (changed == images).all(2).all(1)
        assert same.all() if strength == UNCHANGED[kind] else not same.any()
        changed.zero_()
    assert torch.equal(images, before) and torch.equal(torch.get_rng_state(), state)


def test_images_turn_anticlockwise(images):
    assert torch.equal(shifted(images, "rotation", 90), torch.rot90(images, 1, (1, 2)))
    turned = ndimage.rotate(images.numpy().astype(float), 15, (1, 2), reshape=False, order=1)
    assert (shifted(images, "rotation", 15) - torch.tensor(turned)).abs().mean() < 2


def test_digits_move_by_the_pixels_asked_for_in_all_directions_along_a_line_of_their_own(images):
    inner = images[(images[:, 3:-3, 3:-3].sum((1, 2)) == images.sum((1, 2)))]
    none, one, three = (
        torch.tensor([ndimage.center_of_mass(image.numpy()) for image in moved])
        for moved in (shifted(inner, "translation", n) for n in (0, 1, 3))
    )
    one, three = one - none, three - none
    assert (three.norm(dim=1) - 3).abs().max() < 0.05 and (three - 3 * one).abs().max() < 0.1
    quadrants = (one > 0).int() @ torch.tensor([1, 2], dtype=torch.int32)
    assert quadrants.bincount(minlength=4).min() > len(inner) / 8
    assert shifted(grey(255), "translation", 100).max() == 0  # paper comes in


@pytest.mark.parametrize(("factor", "border"), [(0.5, 12), (0.75, 11), (1.25, 9), (2, 6)])
def test_scaling_changes_the_side_of_a_square_by_the_factor(factor, border):
    square, expected = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    square[:, 10:-10, 10:-10] = expected[:, border:-border, border:-border] = 255
    assert torch.equal(shifted(square, "scaling", factor) > 127, expected > 127)


def test_noise_has_the_standard_deviation_asked_for_and_more_is_the_same_enlarged():
    little, much = (shifted(grey(127), "noise", sd).double() - 127 for sd in (0.05, 0.1))
    assert much.std().item() == pytest.approx(25.5, rel=0.01) and much.mean().abs() < 0.5
    assert (much - 2 * little).abs().max() <= 2
    assert (shifted(grey(0), "noise", 0.5) == 0).double().mean() > 0.49  # it stops at paper
    assert not torch.equal(shifted(grey(127), "noise", 0.1, seed=1).double() - 127, much)


@pytest.mark.parametrize("sigma", [0.5, 1, 1.5, 3])
def test_images_are_blurred_as_by_scipy(images, sigma):
    levels = images.numpy().astype(float)
    expected = ndimage.gaussian_filter(levels, (0, sigma, sigma), mode="mirror", truncate=3)
    assert np.abs(shifted(images, "blur", sigma).numpy() - expected).max() < 1


def test_whole_steps_of_thickness_are_scipys_dilation_and_erosion(images):
    for pixels in (1, 2):
        size = (1, 2 * pixels + 1, 2 * pixels + 1)
        dilated = ndimage.grey_dilation(images.numpy(), size)
        eroded = ndimage.grey_erosion(images.numpy(), size)
        assert np.array_equal(shifted(images, "thickness", pixels), dilated)
        assert np.array_equal(shifted(images, "thickness", -pixels), eroded)
    none, half, one = (shifted(images, "thickness", pixels).int() for pixels in (0, 0.5, 1))
    assert (2 * half - (none + one)).abs().max() <= 1


def test_inversion_goes_straight_to_the_negative_through_an_even_grey(images):
    assert torch.equal(shifted(images, "inversion", 1), 255 - images)
    assert shifted(images, "inversion", 0.5).unique().numel() == 1
    expected = 0.75 * images + 0.25 * (255 - images)
    assert (shifted(images, "inversion", 0.25) - expected).abs().max() <= 0.5


@pytest.mark.parametrize("images", [torch.zeros(1, 28, 28), grey(0)[0], grey(0)[:, :8]])
def test_images_that_are_not_grey_levels_of_28_by_28_and_unknown_kinds_are_refused(images):
    with pytest.raises(ValueError, match=r"grey levels torch.uint8 \[N, 28, 28\], found torch"):
        shifted(images, "rotation", 0)
    with pytest.raises(ValueError, match=r"'tilt': expected one of rotation, translation, .*"):
        shifted(grey(0), "tilt", 1)


def test_accuracy_is_counted_at_every_step_with_its_wilson_interval():
    images, labels = grey(0)[:40], torch.arange(40) % 10

    def model(images: torch.Tensor) -> torch.Tensor:  # right on black images, else it answers 0
        return torch.eye(10)[labels * (images.amax((1, 2)) == 0)]

    table = accuracy_under_shift(model, images, labels, ["inversion", "blur"])
    assert list(table) == ["kind", "unit", "strength", "accuracy", "low", "high"]
    assert table["kind"].tolist() == ["inversion"] * 7 + ["blur"] * 6
    assert table["unit"].tolist() == ["share"] * 7 + ["sigma, pixels"] * 6
    assert table["strength"].tolist() == [*SHIFTS["inversion"][1], *SHIFTS["blur"][1]]
    right, wrong = ([n / 40, *lab.wilson_interval(n, 40)] for n in (40, 4))
    assert table.iloc[:, 3:].to_numpy().tolist() == [right] + [wrong] * 6 + [right] * 6

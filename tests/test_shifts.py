"""Graded changes of test images, against torchvision, SciPy and counts by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

import mnist_lab as lab
from mnist_lab import shifts
from mnist_lab.shifts import SHIFTS, Shift, accuracy_under_shift

every_shift = pytest.mark.parametrize("shift", SHIFTS, ids=lambda shift: shift.kind)


@pytest.fixture(scope="module")
def images(uci_digits) -> torch.Tensor:
    return uci_digits.test.images


@pytest.fixture(scope="module")
def inner_images(images) -> torch.Tensor:
    """Those with three empty pixels all around, so that nothing leaves within three."""
    rim = images.clone()
    rim[:, 3:-3, 3:-3] = 0
    return images[rim.amax((1, 2)) == 0]


def unchanged(shift: Shift) -> float:
    return 1 if shift.kind == "scaling" else 0


def even_grey(level: int, count: int = 100) -> torch.Tensor:
    return torch.full((count, 28, 28), level, dtype=torch.uint8)


def square(side: int) -> torch.Tensor:
    """One image with an inked square in its middle; ``side`` is even."""
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    image[:, 14 - side // 2 : 14 + side // 2, 14 - side // 2 : 14 + side // 2] = 255
    return image


def centres(images: torch.Tensor) -> torch.Tensor:
    """Centre of mass of each image's ink: float64 [N, 2], column and row."""
    ink, places = images.double(), torch.arange(28, dtype=torch.float64)
    columns, rows = (ink.sum(1) * places).sum(1), (ink.sum(2) * places).sum(1)
    return torch.stack([columns, rows], 1) / ink.sum((1, 2))[:, None]


def levels_apart(ours: torch.Tensor, expected: torch.Tensor | np.ndarray) -> int:
    return int((ours.int() - torch.as_tensor(expected).int()).abs().max())


@every_shift
def test_the_step_that_changes_nothing_gives_every_image_back_to_the_bit(images, shift):
    assert unchanged(shift) in shift.strengths
    assert torch.equal(shift.apply(images, unchanged(shift)), images)


@every_shift
def test_every_other_step_changes_every_image(images, shift):
    for strength in set(shift.strengths) - {unchanged(shift)}:
        assert (shift.apply(images, strength) != images).any(2).any(1).all()


@every_shift
def test_grey_levels_come_back_and_the_input_and_global_generator_stay(images, shift):
    before, state = images.clone(), torch.get_rng_state()
    for strength in shift.strengths:
        changed = shift.apply(images, strength)
        assert changed.shape == images.shape and changed.dtype == torch.uint8
        changed.zero_()
    assert torch.equal(images, before) and torch.equal(torch.get_rng_state(), state)


@every_shift
def test_a_step_taken_twice_gives_the_same_images(images, shift):
    first, again = (shift.apply(images, shift.strengths[-1]) for _ in range(2))
    assert torch.equal(first, again)


def test_the_catalogue_has_five_to_seven_rising_steps_of_each_kind():
    assert len({shift.kind for shift in SHIFTS}) == len(SHIFTS)
    for shift in SHIFTS:
        assert 5 <= len(shift.strengths) <= 7
        assert list(shift.strengths) == sorted(set(shift.strengths))


@pytest.mark.parametrize("degrees", [-90, -15, 15, 45])
def test_images_turn_as_torchvision_turns_them(images, degrees):
    expected = reference.rotate(images, degrees, InterpolationMode.BILINEAR)
    assert levels_apart(shifts.rotate(images, degrees), expected) <= 1


def test_a_positive_rotation_is_anticlockwise(images):
    assert torch.equal(shifts.rotate(images, 90), torch.rot90(images, 1, (1, 2)))


@pytest.mark.parametrize("pixels", [1, 2.5, 3])
def test_a_translation_moves_every_centre_of_mass_by_the_pixels_asked_for(inner_images, pixels):
    moved = centres(shifts.translate(inner_images, pixels)) - centres(inner_images)
    assert (moved.norm(dim=1) - pixels).abs().max() < 0.05


def test_digits_move_in_all_directions_and_further_along_the_same_line(inner_images):
    before = centres(inner_images)
    one, three = (centres(shifts.translate(inner_images, n)) - before for n in (1, 3))
    assert (three - 3 * one).abs().max() < 0.1
    quadrants = (one > 0).int() @ torch.tensor([1, 2], dtype=torch.int32)
    assert quadrants.bincount(minlength=4).min() > len(inner_images) / 8


def test_what_leaves_the_field_is_lost_and_paper_comes_in():
    assert shifts.translate(even_grey(255), 100).max() == 0


@pytest.mark.parametrize(("factor", "side"), [(0.5, 4), (0.75, 6), (1.25, 10), (2, 16)])
def test_scaling_changes_the_side_of_a_square_by_the_factor(factor, side):
    assert torch.equal(shifts.scale(square(8), factor) > 127, square(side) > 127)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.4])
def test_images_are_scaled_as_by_torchvision(images, factor):
    expected = reference.affine(
        images, 0, [0, 0], factor, [0, 0], interpolation=InterpolationMode.BILINEAR
    )
    assert levels_apart(shifts.scale(images, factor), expected) <= 1


@pytest.mark.parametrize("sd", [0.05, 0.1, 0.15])
def test_noise_has_the_standard_deviation_asked_for_and_no_bias(sd):
    noisy = shifts.add_noise(even_grey(127), sd).double()
    assert noisy.std().item() == pytest.approx(255 * sd, rel=0.01)
    assert noisy.mean().item() == pytest.approx(127, abs=0.5)


def test_more_noise_is_the_same_noise_enlarged():
    little, much = (shifts.add_noise(even_grey(127), sd).int() - 127 for sd in (0.05, 0.1))
    assert (much - 2 * little).abs().max() <= 2


def test_noise_stops_at_paper_and_at_full_ink():
    assert (shifts.add_noise(even_grey(0), 0.5) == 0).double().mean() == pytest.approx(
        0.5, abs=0.01
    )
    assert (shifts.add_noise(even_grey(255), 0.5) == 255).double().mean() > 0.49


@pytest.mark.parametrize("change", [shifts.translate, shifts.add_noise])
def test_a_seed_decides_what_is_drawn(images, change):
    assert torch.equal(change(images, 0.5, seed=3), change(images, 0.5, seed=3))
    assert not torch.equal(change(images, 0.5, seed=3), change(images, 0.5, seed=4))


@pytest.mark.parametrize("sigma", [0.5, 1, 1.5, 3])
def test_images_are_blurred_as_by_scipy(images, sigma):
    expected = ndimage.gaussian_filter(
        images.numpy().astype(float), (0, sigma, sigma), mode="mirror", truncate=3
    )
    assert levels_apart(shifts.blur(images, sigma), expected.round()) <= 1


@pytest.mark.parametrize("sigma", [0.5, 1, 2, 3])
def test_blur_spreads_the_ink_and_keeps_its_amount(sigma):
    blurred, sharp = shifts.blur(square(12), sigma), square(12)
    assert blurred.max() <= sharp.max() and (blurred > 0).sum() > (sharp > 0).sum()
    assert blurred.sum().item() == pytest.approx(sharp.sum().item(), rel=0.02)


def test_whole_steps_of_thickness_are_scipys_dilation_and_erosion(images):
    for pixels in (1, 2):
        size = (1, 2 * pixels + 1, 2 * pixels + 1)
        dilated = ndimage.grey_dilation(images.numpy(), size)
        eroded = ndimage.grey_erosion(images.numpy(), size)
        assert np.array_equal(shifts.thicken(images, pixels), dilated)
        assert np.array_equal(shifts.thicken(images, -pixels), eroded)


def test_a_stroke_grows_or_shrinks_on_every_side_by_the_pixels_asked_for():
    assert torch.equal(shifts.thicken(square(8), 2), square(12))
    assert torch.equal(shifts.thicken(square(8), -2), square(4))
    assert shifts.thicken(square(4), -2).max() == 0


def test_ink_never_shrinks_as_thickness_grows_and_half_a_step_lies_half_way(images):
    steps = [shifts.thicken(images, n / 4).int() for n in range(-8, 9)]
    for thinner, thicker in itertools.pairwise(steps):
        assert (thinner <= thicker).all()
        assert (thinner.sum((1, 2)) < thicker.sum((1, 2))).double().mean() > 0.99
    half, one, two = (steps[8 + n] for n in (6, 4, 8))
    assert (2 * half - (one + two)).abs().max() <= 1


def test_inversion_goes_straight_to_the_negative_through_an_even_grey(images):
    assert torch.equal(shifts.invert(images, 1), 255 - images)
    assert shifts.invert(images, 0.5).unique().numel() == 1
    expected = 0.75 * images.double() + 0.25 * (255 - images.double())
    assert (shifts.invert(images, 0.25).double() - expected).abs().max() <= 0.5


@every_shift
def test_images_that_are_not_grey_levels_are_refused(shift):
    with pytest.raises(TypeError, match=r"expected images of dtype torch.uint8, found torch.float"):
        shift.apply(torch.zeros(1, 28, 28), unchanged(shift))


@every_shift
@pytest.mark.parametrize("shape", [(28, 28), (5, 1, 28, 28), (5, 8, 8)])
def test_images_of_another_shape_are_refused(shift, shape):
    with pytest.raises(ValueError, match=r"expected images of shape \[N, 28, 28\], found \[\d"):
        shift.apply(torch.zeros(shape, dtype=torch.uint8), unchanged(shift))


@pytest.mark.parametrize(
    ("change", "strength", "message"),
    [
        (shifts.rotate, math.inf, "rotation is finite, in degrees, found inf"),
        (shifts.translate, -1, "translation is at least 0 pixels, found -1"),
        (shifts.scale, 0, "scaling factor is at least 0.5, found 0"),
        (shifts.add_noise, -0.1, "standard deviation is at least 0, found -0.1"),
        (shifts.blur, 10, r"sigma lies in \[0, 9\] pixels, found 10"),
        (shifts.thicken, -15, r"thickening lies in \[-14, 14\] pixels, found -15"),
        (shifts.invert, 1.1, r"inverted share lies in \[0, 1\], found 1.1"),
    ],
)
def test_a_strength_that_makes_no_sense_is_refused_by_name(images, change, strength, message):
    with pytest.raises(ValueError, match=message):
        change(images, strength)
    with pytest.raises(ValueError, match="found nan"):
        change(images, math.nan)


def test_a_shift_is_found_by_its_kind_and_an_unknown_one_is_named_with_those_there_are():
    assert shifts.find_shift("blur").apply is shifts.blur
    with pytest.raises(ValueError, match=r"'tilt': expected one of rotation, translation, .*"):
        shifts.find_shift("tilt")


def test_accuracy_is_counted_at_every_step_with_its_wilson_interval():
    labels = torch.arange(40) % 10
    images = torch.zeros(40, 28, 28, dtype=torch.uint8)
    images[torch.arange(40), 3, labels] = 255
    roll = Shift("roll", "columns", (0, 1), lambda images, n: images.roll(int(n), dims=2))
    fade = Shift(
        "fade", "zeros erased", (0, 4), lambda images, n: images * (labels >= n)[:, None, None]
    )
    table = accuracy_under_shift(lambda X: X[:, 3, :10].float(), images, labels, (roll, fade))
    assert list(table.columns) == ["kind", "unit", "strength", "accuracy", "low", "high"]
    assert table["kind"].tolist() == ["roll", "roll", "fade", "fade"]
    assert table["unit"].tolist() == ["columns"] * 2 + ["zeros erased"] * 2
    assert table["strength"].tolist() == [0, 1, 0, 4]
    # erased images get ten equal logits: 0 is answered, which is right for the zeros alone
    assert table["accuracy"].tolist() == [1, 0, 1, 28 / 40]
    bounds = [lab.wilson_interval(correct, 40) for correct in (40, 0, 40, 28)]
    assert list(zip(table["low"], table["high"], strict=True)) == bounds


def test_real_digits_are_recognised_best_unchanged_and_not_at_all_as_an_even_grey(uci_digits):
    train, test = uci_digits.train, uci_digits.test
    means = F.normalize(
        torch.stack(
            [train.images[train.labels == digit].float().mean(0) for digit in range(10)]
        ).flatten(1)
    )
    table = accuracy_under_shift(
        lambda images: images.flatten(1).float() @ means.T, test.images, test.labels
    )
    assert len(table) == sum(len(shift.strengths) for shift in SHIFTS)
    plain = [unchanged(shifts.find_shift(kind)) for kind in table["kind"]]
    as_they_are = table[table["strength"] == plain]
    assert len(as_they_are) == len(SHIFTS)
    assert as_they_are["accuracy"].nunique() == 1 and as_they_are["accuracy"].iloc[0] > 0.85
    grey = table[(table["kind"] == "inversion") & (table["strength"] == 0.5)]
    assert grey["accuracy"].item() in (test.labels.bincount().double() / len(test.labels)).tolist()


@pytest.mark.parametrize(("count", "labelled"), [(0, 0), (3, 2)])
def test_without_one_label_for_each_image_nothing_is_measured(count, labelled):
    with pytest.raises(ValueError, match=f"found {count} images and {labelled} labels"):
        accuracy_under_shift(lambda X: X, even_grey(0, count), torch.zeros(labelled).long())


def test_an_answer_that_is_not_ten_logits_an_image_is_refused_with_its_step():
    with pytest.raises(ValueError, match=r"\(3, 10\) from answer, found \(3,\) for rotation -45"):
        accuracy_under_shift(lambda X: X.sum((1, 2)), even_grey(0, 3), torch.zeros(3).long())

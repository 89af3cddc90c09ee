"""Normalisation and augmentation against torchvision's, image by image."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms import functional as reference

import mnist_lab as lab
from mnist_lab.transforms import (
    crop,
    rotation_matrices,
    scaling_matrices,
    shearing_matrices,
    warp,
)

GREYS = np.arange(256, dtype=np.uint8).reshape(16, 16)
ZERO, ONE = torch.zeros(1), torch.ones(1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images(uci_digits) -> torch.Tensor:
    return lab.to_unit_interval(uci_digits.train.images[:64])


def ramps(count: int, along_x: float = 0.3, along_y: float = 0.1) -> torch.Tensor:
    """Images whose value is linear in place, so that bilinear resampling is exact inside them.

    A unit of place is half an image, as in ``affine_grid``; see ``views``.
    """
    places = (2 * torch.arange(28) + 1) / 28 - 1
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    return (0.5 + along_x * columns + along_y * rows).expand(count, 1, 28, 28).contiguous()


def views(warped: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each warped ramp: its slopes along x and y in ``affine_grid``'s units, its centre."""
    middle = warped[:, 0, 12:16, 12:16].double()
    slope_x = (middle[:, :, -1] - middle[:, :, 0]).mean(1) / (3 * 2 / 28)
    slope_y = (middle[:, -1, :] - middle[:, 0, :]).mean(1) / (3 * 2 / 28)
    return slope_x, slope_y, middle.mean((1, 2))


def test_every_grey_level_becomes_what_torchvision_makes_of_it():
    ours = lab.to_unit_interval(torch.from_numpy(GREYS)[None])
    assert torch.equal(ours[0], reference.to_tensor(GREYS[:, :, None]))
    assert ours.shape == (1, 1, 16, 16) and ours.dtype == torch.float32


def test_images_that_are_not_grey_levels_are_refused():
    with pytest.raises(TypeError, match=r"expected .*uint8, found torch.float32"):
        lab.to_unit_interval(torch.zeros(1, 28, 28))


@pytest.mark.parametrize(("mean", "std"), [(0.1307, 0.3081), (0.5, 0.5), (0.0, 1.0)])
def test_normalised_images_equal_torchvisions_to_the_bit(mean, std):
    expected = reference.normalize(reference.to_tensor(GREYS[:, :, None]), [mean], [std])
    grey = torch.from_numpy(GREYS)[None]
    assert torch.equal(lab.normalise(lab.to_unit_interval(grey), mean, std)[0], expected)
    assert torch.equal(lab.prepare(grey, mean, std)[0], expected)


def test_preparing_leaves_the_grey_levels_alone():
    grey = torch.from_numpy(GREYS.copy())[None]
    lab.prepare(grey, 0.5, 0.5)
    assert torch.equal(grey[0], torch.from_numpy(GREYS))


@pytest.mark.parametrize("angle", [-170.0, -10.0, 3.5, 45.0, 90.0])
def test_a_positive_angle_turns_anticlockwise_as_torchvisions_does(images, angle):
    ours = warp(images, rotation_matrices(torch.full((len(images),), angle)))
    expected = reference.rotate(images, angle, InterpolationMode.BILINEAR)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def affine(image: torch.Tensor, **changes) -> torch.Tensor:
    """torchvision's, bilinear; its angle is clockwise, its shift and shear are [x, y]."""
    none = {"angle": 0, "translate": [0, 0], "scale": 1, "shear": [0, 0]}
    return v2.functional.affine(image, **none | changes, interpolation=InterpolationMode.BILINEAR)


@pytest.mark.parametrize("angle", [-50.0, -10.0, 3.5, 30.0])
def test_a_positive_shear_moves_the_top_to_the_right_as_torchvisions_does(images, angle):
    ours = warp(images, shearing_matrices(torch.full((len(images),), angle)))
    expected = affine(images, shear=[angle, 0])
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)
    dot = torch.zeros(1, 1, 28, 28)
    dot[..., 4, 14] = 1
    slanted = warp(dot, shearing_matrices(torch.tensor([10.0])))
    assert slanted[..., 15:].sum() > 0.9


@pytest.mark.parametrize("factor", [0.5, 0.93, 1.2, 2.0])
def test_a_smaller_window_enlarges_as_torchvisions_scale_does(images, factor):
    ours = warp(
        images, scaling_matrices(ONE / factor, ONE / factor, ZERO, ZERO).expand(len(images), 3, 3)
    )
    torch.testing.assert_close(ours, affine(images, scale=factor), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, -4), (-2, 5), (1.5, -0.25)])
def test_a_window_moved_one_way_moves_the_digit_the_other_way(images, right, down):
    ours = warp(
        images,
        scaling_matrices(ONE, ONE, -ONE * right / 14, -ONE * down / 14).expand(len(images), 3, 3),
    )
    torch.testing.assert_close(ours, affine(images, translate=[right, down]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [7, 14])
def test_a_view_of_another_size_is_torchvisions_resized_image(images, size):
    ours = warp(images, torch.eye(3).expand(len(images), 3, 3), size)
    expected = reference.resize(images, [size, size], antialias=False)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("border", [0, 1, 5])
def test_a_border_is_cut_off_as_by_torchvisions_center_crop(uci_digits, border):
    grey = uci_digits.train.images[:64]
    assert torch.equal(crop(grey, border), reference.center_crop(grey, [28 - 2 * border] * 2))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (lab.Augmentation(horizontal_flip=1), reference.hflip),
        (lab.Augmentation(vertical_flip=1), reference.vflip),
        (
            lab.Augmentation(horizontal_flip=1, vertical_flip=1),
            lambda images: reference.hflip(reference.vflip(images)),
        ),
    ],
    ids=["horizontal", "vertical", "both"],
)
def test_a_certain_flip_gives_torchvisions_grey_levels(uci_digits, how, expected):
    grey = uci_digits.train.images[:64]
    flipped = lab.augment(lab.to_unit_interval(grey), how, generator())
    assert torch.equal((flipped * 255).round().to(torch.uint8)[:, 0], expected(grey))


@pytest.mark.parametrize(
    ("top", "left", "height", "width"), [(0, 0, 28, 28), (2, 5, 20, 23), (6, 0, 14, 28)]
)
def test_a_window_is_enlarged_as_by_torchvisions_resized_crop(images, top, left, height, width):
    # torchvision cuts first, so along the window's rim it cannot see what lies just outside
    matrix = scaling_matrices(
        ONE * width / 28,
        ONE * height / 28,
        ONE * ((2 * left + width) / 28 - 1),
        ONE * ((2 * top + height) / 28 - 1),
    )
    ours = warp(images, matrix.expand(len(images), 3, 3))
    expected = reference.resized_crop(images, top, left, height, width, [28, 28], antialias=False)
    inside = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(ours[inside], expected[inside], atol=1e-5, rtol=0)


def test_a_window_shifted_by_half_the_image_shows_its_right_half_on_the_left(images):
    ours = warp(images[:1], scaling_matrices(ONE, ONE, ONE, ZERO))
    torch.testing.assert_close(ours[..., :14], images[:1, ..., 14:], atol=1e-5, rtol=0)
    assert ours[..., 14:].abs().max() == 0


def test_angles_are_drawn_over_the_whole_range_and_not_beyond():
    turned = lab.augment(ramps(500), lab.Augmentation(rotation=30), generator())
    along_x, along_y, _ = views(turned)
    # anticlockwise by a: the slope (0.3, 0.1) turns with the picture; rows run downwards
    angles = torch.atan2(torch.tensor(0.1), torch.tensor(0.3)) - torch.atan2(along_y, along_x)
    degrees = angles * 180 / math.pi
    assert degrees.abs().max() <= 30 + 1e-3
    assert degrees.min() < -27 and degrees.max() > 27
    assert abs(degrees.mean()) < 3


def test_crops_keep_their_share_of_the_area_and_their_ratio_and_lie_inside_the_image():
    how = lab.Augmentation(crop_scale=(0.5, 1.0), crop_ratio=(3 / 4, 4 / 3))
    along_x, along_y, centre = views(lab.augment(ramps(500), how, generator()))
    width, height = along_x / 0.3, along_y / 0.1
    area, ratio = width * height, width / height
    assert area.min() >= 0.5 - 1e-4 and area.max() <= 1 + 1e-4
    assert area.min() < 0.53 and area.max() > 0.95
    assert ratio.min() >= 3 / 4 - 1e-3 and ratio.max() <= 4 / 3 + 1e-3
    assert ratio.min() < 0.8 and ratio.max() > 1.25
    assert max(width.max(), height.max()) <= 1 + 1e-4
    reach = 0.3 * (1 - width) + 0.1 * (1 - height)
    assert ((centre - 0.5).abs() <= reach + 1e-4).all()


def test_a_crop_that_keeps_nearly_all_never_keeps_less_than_asked_whatever_its_ratio():
    how = lab.Augmentation(crop_scale=(0.9, 1.0), crop_ratio=(3 / 4, 4 / 3))
    along_x, along_y, _ = views(lab.augment(ramps(500), how, generator()))
    assert (along_x / 0.3 * along_y / 0.1).min() >= 0.9 - 1e-4


def test_a_ratio_without_a_crop_changes_nothing(images):
    how = lab.Augmentation(crop_ratio=(3 / 4, 4 / 3))
    torch.testing.assert_close(lab.augment(images, how, generator()), images, atol=1e-5, rtol=0)


def test_sizes_are_drawn_over_the_whole_range_and_alike_along_both_axes():
    along_x, along_y, centre = views(
        lab.augment(ramps(500), lab.Augmentation(scale=0.2), generator())
    )
    factors = 0.3 / along_x
    assert factors.min() >= 0.8 - 1e-4 and factors.max() <= 1.2 + 1e-4
    assert factors.min() < 0.81 and factors.max() > 1.19
    torch.testing.assert_close(0.1 / along_y, factors, atol=1e-3, rtol=0)
    torch.testing.assert_close(centre, torch.full_like(centre, 0.5), atol=1e-5, rtol=0)


def test_shears_are_drawn_over_the_whole_range_and_keep_the_rows():
    slanted = lab.augment(ramps(500), lab.Augmentation(shear=20), generator())
    along_x, along_y, _ = views(slanted)
    degrees = torch.atan((along_y - 0.1) / 0.3) * 180 / math.pi
    assert degrees.abs().max() <= 20 + 1e-3
    assert degrees.min() < -19 and degrees.max() > 19
    torch.testing.assert_close(along_x, torch.full_like(along_x, 0.3), atol=1e-5, rtol=0)


def test_shifts_stay_within_their_share_of_the_width(uci_digits):
    dots = torch.zeros(500, 1, 28, 28)
    dots[:, 0, 14, 14] = 1
    shifted = lab.augment(dots, lab.Augmentation(shift=0.25), generator())
    places = torch.arange(28, dtype=torch.float32)
    for axis in (2, 3):
        moved = (shifted.sum(5 - axis) * places[None, None]).sum((1, 2)) - 14
        assert moved.abs().max() <= 7 + 1e-3
        assert moved.min() < -6 and moved.max() > 6


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_flips_happen_as_often_as_asked(probability):
    how = lab.Augmentation(horizontal_flip=probability, rotation=1e-6)
    along_x, _, _ = views(lab.augment(ramps(1000), how, generator()))
    share = (along_x < 0).double().mean()
    assert share == pytest.approx(probability, abs=0.05 if 0 < probability < 1 else 0)


@pytest.mark.parametrize(
    "how",
    [
        lab.Augmentation(rotation=20),
        lab.Augmentation(shift=0.1),
        lab.Augmentation(scale=0.1),
        lab.Augmentation(shear=10),
        lab.Augmentation(crop_scale=(0.5, 1.0)),
    ],
    ids=["rotation", "shift", "scale", "shear", "crop"],
)
def test_every_image_gets_its_own_draw(images, how):
    copies = images[:1].repeat(20, 1, 1, 1)
    changed = lab.augment(copies, how, generator())
    assert len({image.numpy().tobytes() for image in changed}) == 20


ALL = lab.Augmentation(
    rotation=10,
    shift=0.05,
    scale=0.1,
    shear=10,
    horizontal_flip=0.5,
    vertical_flip=0.5,
    crop_scale=(0.8, 1.0),
    crop_ratio=(0.75, 4 / 3),
)


@dataclass(frozen=True)
class Drawn:
    """What ``augment`` draws for each image: the same draws in the same order.

    The window has a width and height and a centre, in units of half an image.
    """

    rotation: list[float]
    shear: list[float]
    mirrored: list[bool]
    upside_down: list[bool]
    window: list[tuple[float, float, float, float]]

    @staticmethod
    def of(how: lab.Augmentation, count: int, source: torch.Generator) -> "Drawn":
        def draw(low: float, high: float) -> torch.Tensor:
            return torch.rand(count, generator=source).double() * (high - low) + low

        rotation = draw(-how.rotation, how.rotation)
        shear = draw(-how.shear, how.shear)
        mirrored = draw(0, 1) < how.horizontal_flip
        upside_down = draw(0, 1) < how.vertical_flip
        factor = draw(1 - how.scale, 1 + how.scale)
        area = draw(*how.crop_scale)
        ratio = draw(*(math.log(bound) for bound in how.crop_ratio)).exp().clamp(area, 1 / area)
        width, height = (area * ratio).sqrt(), (area / ratio).sqrt()
        x = draw(-1, 1) * (1 - width) + 2 * draw(-how.shift, how.shift) * width / factor
        y = draw(-1, 1) * (1 - height) + 2 * draw(-how.shift, how.shift) * height / factor
        window = torch.stack([width / factor, height / factor, x, y], dim=1)
        return Drawn(*(d.tolist() for d in (rotation, shear, mirrored, upside_down, window)))


@pytest.mark.parametrize("slant", [{"rotation": 15}, {"shear": 15}], ids=["turned", "slanted"])
def test_a_whole_draw_equals_torchvisions_affine_with_the_drawn_values(images, slant):
    # torchvision shears before it turns and we after: only one of them at a time is one call
    how = lab.Augmentation(**slant, shift=0.1, scale=0.1, horizontal_flip=0.5, vertical_flip=0.5)
    drawn = Drawn.of(how, len(images), generator(3))
    ours = lab.augment(images, how, generator(3))
    for i, (width, _, x, y) in enumerate(drawn.window):
        mirror_x, mirror_y = (-1) ** drawn.mirrored[i], (-1) ** drawn.upside_down[i]
        expected = affine(
            images[i],
            angle=-drawn.rotation[i],
            translate=[-14 * mirror_x * x / width, -14 * mirror_y * y / width],
            scale=1 / width,
            shear=[drawn.shear[i], 0],
        )
        expected = reference.hflip(expected) if drawn.mirrored[i] else expected
        expected = reference.vflip(expected) if drawn.upside_down[i] else expected
        torch.testing.assert_close(ours[i], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("slopes", [(0.4, 0.0), (0.0, 0.4)], ids=["along x", "along y"])
def test_all_changes_together_equal_torchvisions_one_after_another(slopes):
    # several resamplings are exact on ramps, away from the rim; perspective can cut any window
    count = 60
    drawn = Drawn.of(ALL, count, generator(4))
    ours = lab.augment(ramps(count, *slopes), ALL, generator(4))
    for i, (width, height, x, y) in enumerate(drawn.window):
        image = reference.rotate(
            ramps(1, *slopes)[0], drawn.rotation[i], InterpolationMode.BILINEAR
        )
        image = affine(image, shear=[drawn.shear[i], 0])
        image = reference.hflip(image) if drawn.mirrored[i] else image
        image = reference.vflip(image) if drawn.upside_down[i] else image
        seen = [width, 0, 14 * (1 - width + x), 0, height, 14 * (1 - height + y), 0, 0]
        image = v2.functional.perspective(image, None, None, coefficients=seen)
        middle = (..., slice(10, 18), slice(10, 18))
        torch.testing.assert_close(ours[i][middle], image[middle], atol=1e-4, rtol=0)


@pytest.mark.parametrize("border", [1, 4])
def test_augmenting_with_a_border_is_augmenting_and_then_cutting_it_off(images, border):
    ours = lab.augment(images, ALL, generator(), border)
    expected = crop(lab.augment(images, ALL, generator()), border)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


def test_a_generator_decides_all_draws(images):
    first = lab.augment(images, ALL, generator(1))
    assert torch.equal(first, lab.augment(images, ALL, generator(1)))
    assert not torch.equal(first, lab.augment(images, ALL, generator(2)))


def test_augmenting_leaves_its_input_and_the_global_generator_alone(images):
    before, state = images.clone(), torch.get_rng_state()
    lab.augment(images, ALL, generator())
    assert torch.equal(images, before) and torch.equal(torch.get_rng_state(), state)


def test_rotation_comes_first_then_the_flip_then_the_crop(images):
    how = lab.Augmentation(rotation=20, horizontal_flip=1)
    ours = lab.augment(ramps(100), how, generator())
    plain = lab.augment(ramps(100), lab.Augmentation(rotation=20), generator())
    torch.testing.assert_close(
        ours[..., 8:20, 8:20], reference.hflip(plain)[..., 8:20, 8:20], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("border", [0, 3])
def test_augmenting_by_nothing_gives_the_very_same_pixels(images, border):
    same = lab.augment(images, lab.Augmentation(), generator(), border)
    assert torch.equal(same, crop(images, border))


def test_augmented_images_stay_grey_levels(images):
    changed = lab.augment(images, ALL, generator())
    assert changed.min() >= 0 and changed.max() <= 1 + 1e-6
    assert changed.shape == images.shape and changed.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("rotation", value) for value in (-1, math.nan, math.inf)),
        *(("shift", value) for value in (-0.1, math.nan)),
        *(("scale", value) for value in (-0.1, 1, math.nan)),
        *(("shear", value) for value in (-1, 90, math.nan)),
        *(("horizontal_flip", value) for value in (-0.1, 1.1, math.nan)),
        *(("vertical_flip", value) for value in (-0.1, 1.1, math.nan)),
        *(("crop_scale", value) for value in ((0, 1), (0.9, 0.8), (0.8, 1.1), (math.nan, 1))),
        *(("crop_ratio", value) for value in ((0, 1), (2, 1), (1, math.inf), (1, math.nan))),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        lab.Augmentation(**{name: value})


def test_the_reports_augmentation_has_the_bounds_of_torchvisions_transforms():
    crop, turn = v2.RandomResizedCrop(28, scale=(0.8, 1.0)), v2.RandomRotation(10)
    how = lab.REPORT_B.augmentation
    assert (how.crop_scale, how.crop_ratio) == (tuple(crop.scale), tuple(crop.ratio))
    assert turn.degrees == [-how.rotation, how.rotation]
    assert how.horizontal_flip == v2.RandomHorizontalFlip().p

"""Normalisation and augmentation against torchvision's, image by image."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms import functional as reference

import mnist_lab as lab
from mnist_lab.transforms import crop

GREYS = np.arange(256, dtype=np.uint8).reshape(16, 16)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images(uci_digits) -> torch.Tensor:
    return lab.to_unit_interval(uci_digits.train.images[:64])


def ramps(count: int, along_x: float = 0.3, along_y: float = 0.1) -> torch.Tensor:
    """Images whose value is linear in place, so that bilinear resampling is exact inside them.

    A unit of place is half an image; see ``views``.
    """
    places = (2 * torch.arange(28) + 1) / 28 - 1
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    return (0.5 + along_x * columns + along_y * rows).expand(count, 1, 28, 28).contiguous()


def views(**how: float | tuple[float, float]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of 500 ramps so augmented: their slopes along x and y and the value at their centre."""
    changed = lab.augment(ramps(500), lab.Augmentation(**how), generator())
    middle = changed[:, 0, 12:16, 12:16].double()
    slope_x = (middle[:, :, -1] - middle[:, :, 0]).mean(1) / (3 * 2 / 28)
    slope_y = (middle[:, -1, :] - middle[:, 0, :]).mean(1) / (3 * 2 / 28)
    return slope_x, slope_y, middle.mean((1, 2))


@pytest.mark.parametrize(("mean", "std"), [(0.1307, 0.3081), (0.5, 0.5), (0.0, 1.0)])
def test_every_grey_level_becomes_what_torchvision_makes_of_it_to_the_bit(mean, std):
    unit, grey = reference.to_tensor(GREYS[:, :, None]), torch.from_numpy(GREYS.copy())[None]
    expected = reference.normalize(unit, [mean], [std])
    assert torch.equal(lab.to_unit_interval(grey)[0], unit)
    assert torch.equal(lab.normalise(lab.to_unit_interval(grey), mean, std)[0], expected)
    assert torch.equal(lab.prepare(grey, mean, std)[0], expected)
    assert torch.equal(grey[0], torch.from_numpy(GREYS))
    assert (expected.shape, expected.dtype) == ((1, 16, 16), torch.float32)


def test_images_that_are_not_grey_levels_are_refused():
    with pytest.raises(TypeError, match=r"expected .*uint8, found torch.float32"):
        lab.to_unit_interval(torch.zeros(1, 28, 28))


@pytest.mark.parametrize("border", [0, 1, 5])
def test_a_border_is_cut_off_as_by_torchvisions_center_crop(uci_digits, border):
    grey = uci_digits.train.images[:64]
    assert torch.equal(crop(grey, border), reference.center_crop(grey, [28 - 2 * border] * 2))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"horizontal_flip": 1}, reference.hflip),
        ({"vertical_flip": 1}, reference.vflip),
        ({"horizontal_flip": 1, "vertical_flip": 1}, lambda grey: grey.flip(1, 2)),
    ],
    ids=["left and right", "top and bottom", "both"],
)
def test_a_certain_flip_gives_torchvisions_grey_levels(uci_digits, how, expected):
    grey = uci_digits.train.images[:64]
    flipped = lab.augment(lab.to_unit_interval(grey), lab.Augmentation(**how), generator())
    assert torch.equal((flipped * 255).round().to(torch.uint8)[:, 0], expected(grey))


def test_angles_are_drawn_over_the_whole_range_and_not_beyond():
    along_x, along_y, _ = views(rotation=30)
    # anticlockwise by a: the slope (0.3, 0.1) turns with the picture; rows run downwards
    degrees = (math.atan2(0.1, 0.3) - torch.atan2(along_y, along_x)) * 180 / math.pi
    assert -30 - 1e-3 <= degrees.min() < -27 and 27 < degrees.max() <= 30 + 1e-3
    assert abs(degrees.mean()) < 3


@pytest.mark.parametrize("smallest", [0.5, 0.9])
def test_crops_keep_their_share_of_the_area_and_their_ratio_inside_the_image(smallest):
    along_x, along_y, centre = views(crop_scale=(smallest, 1.0), crop_ratio=(3 / 4, 4 / 3))
    width, height = along_x / 0.3, along_y / 0.1
    area, ratio = width * height, width / height
    assert smallest - 1e-4 <= area.min() < smallest + 0.03 and 0.95 < area.max() <= 1 + 1e-4
    assert ratio.min() >= 3 / 4 - 1e-3 and ratio.max() <= 4 / 3 + 1e-3
    if smallest == 0.5:  # a larger crop of a strong ratio would not fit
        assert ratio.min() < 0.8 and ratio.max() > 1.25
    assert max(width.max(), height.max()) <= 1 + 1e-4
    assert ((centre - 0.5).abs() <= 0.3 * (1 - width) + 0.1 * (1 - height) + 1e-4).all()


def test_a_ratio_without_a_crop_changes_nothing(images):
    how = lab.Augmentation(crop_ratio=(3 / 4, 4 / 3))
    torch.testing.assert_close(lab.augment(images, how, generator()), images, atol=1e-5, rtol=0)


def test_sizes_are_drawn_over_the_whole_range_and_alike_along_both_axes():
    along_x, along_y, centre = views(scale=0.2)
    factors = 0.3 / along_x
    assert 0.8 - 1e-4 <= factors.min() < 0.81 and 1.19 < factors.max() <= 1.2 + 1e-4
    torch.testing.assert_close(0.1 / along_y, factors, atol=1e-3, rtol=0)
    torch.testing.assert_close(centre, torch.full_like(centre, 0.5), atol=1e-5, rtol=0)


def test_shears_are_drawn_over_the_whole_range_and_keep_the_rows():
    along_x, along_y, _ = views(shear=20)
    degrees = torch.atan((along_y - 0.1) / 0.3) * 180 / math.pi
    assert -20 - 1e-3 <= degrees.min() < -19 and 19 < degrees.max() <= 20 + 1e-3
    torch.testing.assert_close(along_x, torch.full_like(along_x, 0.3), atol=1e-5, rtol=0)


def test_translations_stay_within_their_share_of_the_width():
    dots = torch.zeros(500, 1, 28, 28)
    dots[:, 0, 14, 14] = 1
    moved = lab.augment(dots, lab.Augmentation(translation=0.25), generator())
    for axis in (2, 3):
        distance = (moved.sum(5 - axis) * torch.arange(28.0)).sum((1, 2)) - 14
        assert distance.abs().max() <= 7 + 1e-3
        assert distance.min() < -6 and distance.max() > 6


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_flips_happen_as_often_as_asked(probability):
    share = (views(horizontal_flip=probability, rotation=1e-6)[0] < 0).double().mean()
    assert share == pytest.approx(probability, abs=0.06 if 0 < probability < 1 else 0)


ALL = lab.Augmentation(10, 0.05, 0.1, 10, 0.5, 0.5, (0.8, 1.0), (0.75, 4 / 3))


def drawn(how: lab.Augmentation, count: int, source: torch.Generator) -> zip:
    """What ``augment`` draws for each image, the same in the same order.

    Angles of rotation and shear, whether it is mirrored and upside down, and the window that is
    seen: its width, height and centre, in units of half an image.
    """

    def draw(low: float, high: float) -> torch.Tensor:
        return torch.rand(count, generator=source).double() * (high - low) + low

    rotation, shear = draw(-how.rotation, how.rotation), draw(-how.shear, how.shear)
    mirrored, upside_down = draw(0, 1) < how.horizontal_flip, draw(0, 1) < how.vertical_flip
    factor, area = draw(1 - how.scale, 1 + how.scale), draw(*how.crop_scale)
    ratio = draw(*(math.log(bound) for bound in how.crop_ratio)).exp().clamp(area, 1 / area)
    sizes, centres = [(area * ratio).sqrt(), (area / ratio).sqrt()], []
    for size in sizes:
        inside, moved = draw(-1, 1), draw(-how.translation, how.translation)
        centres.append(inside * (1 - size) + 2 * moved * size / factor)
    window = torch.stack([sizes[0] / factor, sizes[1] / factor, *centres], dim=1)
    return zip(*(d.tolist() for d in (rotation, shear, mirrored, upside_down, window)), strict=True)


def affine(image: torch.Tensor, **changes) -> torch.Tensor:
    """torchvision's, bilinear; its angle is clockwise, its translation and shear are [x, y]."""
    none = {"angle": 0, "translate": [0, 0], "scale": 1, "shear": [0, 0]}
    return v2.functional.affine(image, **none | changes, interpolation=InterpolationMode.BILINEAR)


@pytest.mark.parametrize("slant", [{"rotation": 15}, {"shear": 15}], ids=["turned", "slanted"])
def test_a_whole_draw_equals_torchvisions_affine_with_the_drawn_values(images, slant):
    # torchvision shears before it turns and we after: only one of them at a time is one call
    how = lab.Augmentation(
        **slant, translation=0.1, scale=0.1, horizontal_flip=0.5, vertical_flip=0.5
    )
    ours = lab.augment(images, how, generator(3))
    for i, draw in enumerate(drawn(how, len(images), generator(3))):
        rotation, shear, mirrored, upside_down, (width, _, x, y) = draw
        expected = affine(
            images[i],
            angle=-rotation,
            translate=[-14 * (-1) ** mirrored * x / width, -14 * (-1) ** upside_down * y / width],
            scale=1 / width,
            shear=[shear, 0],
        )
        expected = reference.hflip(expected) if mirrored else expected
        expected = reference.vflip(expected) if upside_down else expected
        torch.testing.assert_close(ours[i], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("slopes", [(0.4, 0.0), (0.0, 0.4)], ids=["along x", "along y"])
def test_all_changes_together_equal_torchvisions_one_after_another(slopes):
    # several resamplings are exact on ramps, away from the rim; perspective can cut any window
    ours = lab.augment(ramps(60, *slopes), ALL, generator(4))
    for i, draw in enumerate(drawn(ALL, 60, generator(4))):
        rotation, shear, mirrored, upside_down, (width, height, x, y) = draw
        image = reference.rotate(ramps(1, *slopes)[0], rotation, InterpolationMode.BILINEAR)
        image = affine(image, shear=[shear, 0])
        image = reference.hflip(image) if mirrored else image
        image = reference.vflip(image) if upside_down else image
        seen = [width, 0, 14 * (1 - width + x), 0, height, 14 * (1 - height + y), 0, 0]
        image = v2.functional.perspective(image, None, None, coefficients=seen)
        middle = (..., slice(10, 18), slice(10, 18))
        torch.testing.assert_close(ours[i][middle], image[middle], atol=1e-4, rtol=0)


@pytest.mark.parametrize("border", [1, 4])
def test_augmenting_with_a_border_is_augmenting_and_then_cutting_it_off(images, border):
    ours = lab.augment(images, ALL, generator(), border)
    expected = crop(lab.augment(images, ALL, generator()), border)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)
    same = lab.augment(images, lab.Augmentation(), generator(), border)
    assert torch.equal(same, crop(images, border))


def test_a_generator_draws_for_every_image_anew_and_touches_nothing_else(images):
    before, state = images.clone(), torch.get_rng_state()
    first = lab.augment(images, ALL, generator(1))
    alike = lab.augment(images[:1].repeat(20, 1, 1, 1), ALL, generator())
    assert len({image.numpy().tobytes() for image in alike}) == 20
    assert torch.equal(first, lab.augment(images, ALL, generator(1)))
    assert not torch.equal(first, lab.augment(images, ALL, generator(2)))
    assert torch.equal(images, before) and torch.equal(torch.get_rng_state(), state)
    assert first.min() >= 0 and first.max() <= 1 + 1e-6
    assert first.shape == images.shape and first.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "rotation": (-1, math.nan, math.inf),
        "translation": (-0.1, math.nan),
        "scale": (-0.1, 1, math.nan),
        "shear": (-1, 90, math.nan),
        "horizontal_flip": (-0.1, 1.1, math.nan),
        "vertical_flip": (-0.1, 1.1, math.nan),
        "crop_scale": ((0, 1), (0.9, 0.8), (0.8, 1.1), (math.nan, 1)),
        "crop_ratio": ((0, 1), (2, 1), (1, math.inf), (1, math.nan)),
    }.items(),
)
def test_a_change_that_makes_no_sense_is_refused_by_name(name, values):
    for value in values:
        with pytest.raises(ValueError, match=f"^{name} must be "):
            lab.Augmentation(**{name: value})

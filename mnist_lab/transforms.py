"""Normalisation and augmentation of whole batches, on the device that they are on.

A ``DataLoader`` over MNIST spends most of its time on handling images one by one in Python.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_lab.limits import BELOW_1, PROBABILITY, Limit, at_least, check_settings, setting

SHARES = Limit(
    lambda pair: len(pair) == 2 and 0 < pair[0] <= pair[1] <= 1,
    "(smallest, largest) with 0 < smallest <= largest <= 1",
)
RATIOS = Limit(
    lambda pair: len(pair) == 2 and 0 < pair[0] <= pair[1] < math.inf,
    "(smallest, largest) with 0 < smallest <= largest",
)
ACUTE = Limit(lambda angle: 0 <= angle < 90, "in [0, 90) degrees")


@dataclass(frozen=True)
class Augmentation:
    """Random changes made to every training image, each image drawing its own."""

    rotation: float = setting(0.0, at_least(0))  # largest angle in degrees, to either side
    # Largest move along each axis, as a share of the image's width.
    translation: float = setting(0.0, at_least(0))
    scale: float = setting(0.0, BELOW_1)  # largest change of size: by 1 - scale to 1 + scale
    shear: float = setting(0.0, ACUTE)  # largest angle of slant in degrees, to either side
    horizontal_flip: float = setting(0.0, PROBABILITY)  # of mirroring left and right
    vertical_flip: float = setting(0.0, PROBABILITY)  # of mirroring top and bottom
    # Smallest and largest share of the area that a crop keeps before it is enlarged to full size,
    # and ratio of that crop's width to its height.
    crop_scale: tuple[float, float] = setting((1.0, 1.0), SHARES)
    crop_ratio: tuple[float, float] = setting((1.0, 1.0), RATIOS)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            plain = tuple(map(float, value)) if field.name.startswith("crop") else float(value)
            object.__setattr__(self, field.name, plain)
        check_settings(self)


def to_unit_interval(images: Tensor) -> Tensor:
    """Grey levels uint8 [N, H, W] as float32 [N, 1, H, W] in [0, 1], as torchvision's ``ToTensor``.

    Raises:
        TypeError: if the images are not uint8, for then dividing by 255 would be wrong.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"expected images of dtype torch.uint8, found {images.dtype}")
    return images.unsqueeze(1).to(torch.float32).div_(255)


def normalise(images: Tensor, mean: float, std: float) -> Tensor:
    """``(images - mean) / std`` in place, as torchvision's ``Normalize`` with one channel."""
    return images.sub_(mean).div_(std)


def prepare(images: Tensor, mean: float, std: float) -> Tensor:
    """What a network sees of a batch: uint8 [N, H, W] to normalised float32 [N, 1, H, W]."""
    return normalise(to_unit_interval(images), mean, std)


def crop(images: Tensor, border: int) -> Tensor:
    """The images [..., H, W] without their outer ``border`` pixels on each side (a view)."""
    height, width = images.shape[-2:]
    return images[..., border : height - border, border : width - border]


def translated(images: Tensor, border: int, pixels: int) -> Iterator[Tensor]:
    """The images [N, H, W] moved by every whole number of pixels up to ``pixels``, then cropped."""
    height, width = images.shape[1:]
    padded = F.pad(images, [pixels] * 4)
    for top in range(2 * pixels + 1):
        for left in range(2 * pixels + 1):
            yield crop(padded[:, top : top + height, left : left + width], border)


def augment(
    images: Tensor, augmentation: Augmentation, generator: torch.Generator, border: int = 0
) -> Tensor:
    """Every image changed by its own random draw: turned, slanted, flipped, resized and moved.

    float32 [N, 1, H, H] in [0, 1], where 0 is black, to the same less ``border`` pixels on each
    side. The changes of an image are multiplied into one matrix, so that it is resampled only once
    (bilinear). An ``augmentation`` that changes nothing gives the same pixels.
    """
    if augmentation == Augmentation():
        return crop(images, border).clone()
    n, device, size = len(images), images.device, images.shape[-1]
    # A uniform number in [0, 1) per image for each of its changes, all drawn at once: a small copy
    # to a GPU for each would make it wait each time.
    u = torch.rand(11, n, generator=generator).to(device)
    u_angle, u_slant, u_flip_x, u_flip_y, u_size, u_area, u_ratio, *u_place = u

    def between(low: float, high: float, u: Tensor) -> Tensor:
        return u * (high - low) + low

    angle = between(-augmentation.rotation, augmentation.rotation, u_angle) * (math.pi / 180)
    slant = between(-augmentation.shear, augmentation.shear, u_slant) * (math.pi / 180)
    flip_x = torch.where(u_flip_x < augmentation.horizontal_flip, -1.0, 1.0)
    flip_y = torch.where(u_flip_y < augmentation.vertical_flip, -1.0, 1.0)
    resize = between(1 - augmentation.scale, 1 + augmentation.scale, u_size)
    area = between(*augmentation.crop_scale, u_area)
    low, high = map(math.log, augmentation.crop_ratio)
    ratio = between(low, high, u_ratio).exp().clamp(area, 1 / area)  # such a crop fits

    # The output shows a window of the image, enlarged. Width and height are shares of the image's:
    # a crop that keeps 0.64 of the area is a window of 0.8 × 0.8, and to make the image 1.1 times
    # as large is to look through a window 1.1 times as small.
    width, height = (area * ratio).sqrt() / resize, (area / ratio).sqrt() / resize
    # The window's centre: anywhere that the crop leaves room for, then moved. Times ``resize``,
    # width and height are the crop's again. Coordinates run from -1 to 1 across an image, so a move
    # by its whole width is one by 2.
    u_crop_x, u_move_x, u_crop_y, u_move_y = u_place
    room_x, room_y, move = 1 - width * resize, 1 - height * resize, augmentation.translation
    x = between(-1, 1, u_crop_x) * room_x + 2 * between(-move, move, u_move_x) * width
    y = between(-1, 1, u_crop_y) * room_y + 2 * between(-move, move, u_move_y) * height

    # ``affine_grid`` asks where each pixel of the output comes from: the inverse of each change.
    # The product works from right to left: the output's corner (1, 1) becomes the corner of the
    # window, (x + width, y + height), which is then mirrored, slanted and turned to where it lies.
    zero, one = torch.zeros(n, device=device), torch.ones(n, device=device)
    rotation = _matrices(angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero)
    shear = _matrices(one, slant.tan(), zero, zero, one, zero)
    flips = _matrices(flip_x, zero, zero, zero, flip_y, zero)
    inside = (size - 2 * border) / size  # the share of the width that is left without the border
    window = _matrices(inside * width, zero, x, zero, inside * height, y)
    matrices = (rotation @ shear @ flips @ window)[:, :2]
    grid = F.affine_grid(matrices, [n, 1, *[size - 2 * border] * 2], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _matrices(*two_rows: Tensor) -> Tensor:
    """float32 [N, 3, 3] from the six entries [N] of the upper two rows; the third is 0 0 1."""
    zero, one = torch.zeros_like(two_rows[0]), torch.ones_like(two_rows[0])
    return torch.stack([*two_rows, zero, zero, one], dim=1).reshape(-1, 3, 3)

"""Normalisation and per-image augmentation, on whole batches on the device they lie on.

Image by image, in Python, is where most of the time of a ``DataLoader`` over MNIST goes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_lab.limits import BELOW_1, PROBABILITY, Limit, at_least, check

CROP: Limit = (lambda share: 0 < share[0] <= share[1] <= 1, "0 < smallest <= largest <= 1")
RATIO: Limit = (lambda ratio: 0 < ratio[0] <= ratio[1] < math.inf, "0 < smallest <= largest")
ACUTE: Limit = (lambda angle: 0 <= angle < 90, "in [0, 90) degrees")


@dataclass(frozen=True)
class Augmentation:
    """Random changes made to every training image, each image drawing its own."""

    rotation: float = 0.0  # largest angle in degrees, to either side
    translation: float = 0.0  # largest move along each axis, as a share of the image's width
    scale: float = 0.0  # largest change of size: a factor in [1 - scale, 1 + scale]
    shear: float = 0.0  # largest angle of slant in degrees, to either side
    horizontal_flip: float = 0.0  # probability of mirroring left and right
    vertical_flip: float = 0.0  # probability of mirroring top and bottom
    # smallest and largest share of the area that a crop keeps before it is enlarged to full size
    crop_scale: tuple[float, float] = (1.0, 1.0)
    crop_ratio: tuple[float, float] = (1.0, 1.0)  # of that crop's width to its height

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            plain = tuple(map(float, value)) if field.name.startswith("crop") else float(value)
            object.__setattr__(self, field.name, plain)
        check(vars(self), rotation=at_least(0), translation=at_least(0), scale=BELOW_1)
        check(vars(self), shear=ACUTE, horizontal_flip=PROBABILITY, vertical_flip=PROBABILITY)
        check(vars(self), crop_scale=CROP, crop_ratio=RATIO)


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
    """The images [N, H, W] moved by every step of up to so many ``pixels``, then cropped."""
    height, width = images.shape[1:]
    padded = F.pad(images, [pixels] * 4)
    for top in range(2 * pixels + 1):
        for left in range(2 * pixels + 1):
            yield crop(padded[:, top : top + height, left : left + width], border)


def augment(
    images: Tensor, how: Augmentation, generator: torch.Generator, border: int = 0
) -> Tensor:
    """Every image changed by its own random draw: turned, slanted, flipped, resized and moved.

    float32 [N, 1, H, H] in [0, 1], where 0 is black, to the same less ``border`` pixels on each
    side. The changes of an image are multiplied into one matrix, so that it is resampled only once
    (bilinear); the very pixels come back when ``how`` changes nothing.
    """
    if how == Augmentation():
        return crop(images, border).clone()
    n, device, size = len(images), images.device, images.shape[-1]
    # All at once: a small copy to a GPU for each would make it wait each time.
    uniform = iter(torch.rand(11, n, generator=generator).to(device))

    def draw(low: float, high: float) -> Tensor:
        return next(uniform) * (high - low) + low

    angle = draw(-how.rotation, how.rotation) * (math.pi / 180)
    slant = draw(-how.shear, how.shear) * (math.pi / 180)
    mirror_x = 1 - 2 * (draw(0, 1) < how.horizontal_flip).float()
    mirror_y = 1 - 2 * (draw(0, 1) < how.vertical_flip).float()
    resize = draw(1 - how.scale, 1 + how.scale)
    area = draw(*how.crop_scale)
    ratio = draw(math.log(how.crop_ratio[0]), math.log(how.crop_ratio[1])).exp()
    ratio = ratio.clamp(area, 1 / area)  # a window of this area that is no larger than the image
    width, height = (area * ratio).sqrt() / resize, (area / ratio).sqrt() / resize
    moved = how.translation
    x = draw(-1, 1) * (1 - width * resize) + 2 * draw(-moved, moved) * width
    y = draw(-1, 1) * (1 - height * resize) + 2 * draw(-moved, moved) * height
    inside = (size - 2 * border) / size
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    # ``affine_grid`` asks where each pixel of the output comes from: the inverse of each change.
    turn = _matrices(angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero)
    shear = _matrices(one, slant.tan(), zero, zero, one, zero)
    flips = _matrices(mirror_x, zero, zero, zero, mirror_y, zero)
    window = _matrices(inside * width, zero, x, zero, inside * height, y)
    matrices = (turn @ shear @ flips @ window)[:, :2]
    grid = F.affine_grid(matrices, [n, 1, *[size - 2 * border] * 2], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _matrices(*two_rows: Tensor) -> Tensor:
    """float32 [N, 3, 3] from the six entries [N] of the upper two rows; the third is 0 0 1."""
    zero, one = torch.zeros_like(two_rows[0]), torch.ones_like(two_rows[0])
    return torch.stack([*two_rows, zero, zero, one], dim=1).reshape(-1, 3, 3)

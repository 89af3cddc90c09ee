"""Normalisation and per-image augmentation, on whole batches of tensors.

A batch is transformed in one go on the device it lies on. Nothing is done image by image in
Python, which is where most of the time of a ``DataLoader`` over MNIST goes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Augmentation:
    """Random changes made to every training image, each image drawing its own.

    Attributes:
        rotation: largest angle in degrees, drawn from [-rotation, rotation].
        shift: largest shift as a share of the image's width, along each axis.
        scale: largest change of size: the factor is drawn from [1 - scale, 1 + scale].
        shear: largest angle of slant in degrees, drawn from [-shear, shear].
        horizontal_flip: probability of mirroring left and right.
        vertical_flip: probability of mirroring top and bottom.
        crop_scale: smallest and largest share of the area that a random crop keeps before it is
            enlarged to the full size again; (1.0, 1.0) crops nothing.
        crop_ratio: smallest and largest width-to-height ratio of that crop.
    """

    rotation: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    crop_scale: tuple[float, float] = (1.0, 1.0)
    crop_ratio: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("rotation", "shift", "scale", "shear", "horizontal_flip", "vertical_flip"):
            object.__setattr__(self, name, float(getattr(self, name)))
        for name in ("crop_scale", "crop_ratio"):
            low, high = getattr(self, name)
            object.__setattr__(self, name, (float(low), float(high)))
        for name in ("horizontal_flip", "vertical_flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability in [0, 1], found {getattr(self, name)}")
        if not (0 <= self.rotation < math.inf and 0 <= self.shift < math.inf):
            raise ValueError(
                f"rotation and shift are at least 0, found {self.rotation} and {self.shift}"
            )
        if not 0 <= self.scale < 1:
            raise ValueError(f"scale is a share in [0, 1), found {self.scale}")
        if not 0 <= self.shear < 90:
            raise ValueError(f"shear is an angle in [0, 90) degrees, found {self.shear}")
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_scale is 0 < smallest <= largest <= 1, found {self.crop_scale}")
        low, high = self.crop_ratio
        if not 0 < low <= high < math.inf:
            raise ValueError(f"crop_ratio is 0 < smallest <= largest, found {self.crop_ratio}")


def to_unit_interval(images: Tensor) -> Tensor:
    """Grey levels 0…255 as float32 in [0, 1] with a channel axis, as torchvision's ``ToTensor``.

    Args:
        images: uint8 [N, H, W].

    Returns:
        float32 [N, 1, H, W], equal to the bit to what ``ToTensor`` gives for each image.

    Raises:
        TypeError: if the images are not uint8, for then dividing by 255 would be wrong.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"expected images of dtype torch.uint8, found {images.dtype}")
    return images.unsqueeze(1).to(torch.float32).div_(255)


def normalise(images: Tensor, mean: float, std: float) -> Tensor:
    """``(images - mean) / std`` in place, as torchvision's ``Normalize`` with one channel.

    ``images`` is float32 [N, 1, H, W] in [0, 1]; it is changed and returned.
    """
    return images.sub_(mean).div_(std)


def rotation_matrices(degrees: Tensor) -> Tensor:
    """Matrices float32 [N, 3, 3] that turn an image anticlockwise, in ``affine_grid``'s units.

    ``affine_grid`` asks where each output pixel comes from, so this is the inverse of the turn.
    """
    radians = degrees * (math.pi / 180)
    matrices = torch.eye(3, device=degrees.device).repeat(len(degrees), 1, 1)
    matrices[:, 0, 0] = matrices[:, 1, 1] = radians.cos()
    matrices[:, 0, 1] = -radians.sin()
    matrices[:, 1, 0] = radians.sin()
    return matrices


def scaling_matrices(x: Tensor, y: Tensor, shift_x: Tensor, shift_y: Tensor) -> Tensor:
    """Matrices float32 [N, 3, 3] whose output looks at a window of the input image.

    The window is ``x`` by ``y`` times the image's size and its centre lies at (``shift_x``,
    ``shift_y``), where -1 and 1 are the image's borders. A negative ``x`` mirrors left and right.
    """
    matrices = torch.eye(3, device=x.device).repeat(len(x), 1, 1)
    matrices[:, 0, 0], matrices[:, 1, 1] = x, y
    matrices[:, 0, 2], matrices[:, 1, 2] = shift_x, shift_y
    return matrices


def shearing_matrices(degrees: Tensor) -> Tensor:
    """Matrices float32 [N, 3, 3] that slant an image, in ``affine_grid``'s units.

    Rows above the middle move to the right for a positive angle, rows below it to the left.
    """
    matrices = torch.eye(3, device=degrees.device).repeat(len(degrees), 1, 1)
    matrices[:, 0, 1] = (degrees * (math.pi / 180)).tan()
    return matrices


def warp(images: Tensor, matrices: Tensor, size: int | None = None) -> Tensor:
    """Each image seen through its own matrix, bilinear, black where the view leaves the image.

    Args:
        images: float32 [N, 1, H, W] in [0, 1].
        matrices: float32 [N, 3, 3] from output to input places, in ``affine_grid``'s units.
        size: width and height of the output; the input's without it.

    Returns:
        float32 [N, 1, H, W], or [N, 1, size, size].
    """
    shape = [len(images), 1, size or images.shape[2], size or images.shape[3]]
    grid = F.affine_grid(matrices[:, :2], shape, align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def crop(images: Tensor, border: int) -> Tensor:
    """The images [..., H, W] without their outer ``border`` pixels on each side (a view)."""
    height, width = images.shape[-2:]
    return images[..., border : height - border, border : width - border]


def augment(
    images: Tensor, how: Augmentation, generator: torch.Generator, border: int = 0
) -> Tensor:
    """Every image changed by its own random draw: turned, slanted, flipped, resized and shifted.

    All changes of an image are multiplied into one matrix, so that it is resampled only once.

    Args:
        images: float32 [N, 1, H, H] in [0, 1], before normalisation (black is 0).
        how: what to draw from.
        generator: where the draws come from.
        border: pixels then cut off on each side.

    Returns:
        float32 [N, 1, H - 2 border, H - 2 border]; the very pixels when ``how`` changes nothing.
    """
    if how == Augmentation():
        return crop(images, border).clone()
    n, device, size = len(images), images.device, images.shape[-1]
    # All at once: a small copy to a GPU for each would make it wait each time.
    uniform = iter(torch.rand(11, n, generator=generator).to(device))

    def draw(low: float, high: float) -> Tensor:
        return next(uniform) * (high - low) + low

    turn = rotation_matrices(draw(-how.rotation, how.rotation))
    slant = shearing_matrices(draw(-how.shear, how.shear))
    mirror_x = 1 - 2 * (draw(0, 1) < how.horizontal_flip).float()
    mirror_y = 1 - 2 * (draw(0, 1) < how.vertical_flip).float()
    resize = draw(1 - how.scale, 1 + how.scale)
    area = draw(*how.crop_scale)
    ratio = draw(math.log(how.crop_ratio[0]), math.log(how.crop_ratio[1])).exp()
    ratio = ratio.clamp(area, 1 / area)  # a window of this area that is no larger than the image
    width, height = (area * ratio).sqrt(), (area / ratio).sqrt()
    width, height = width / resize, height / resize
    centre_x = draw(-1, 1) * (1 - width * resize) + 2 * draw(-how.shift, how.shift) * width
    centre_y = draw(-1, 1) * (1 - height * resize) + 2 * draw(-how.shift, how.shift) * height
    inside = (size - 2 * border) / size
    view = scaling_matrices(inside * width, inside * height, centre_x, centre_y)
    flips = scaling_matrices(mirror_x, mirror_y, *torch.zeros(2, n, device=device))
    return warp(images, turn @ slant @ flips @ view, size - 2 * border)


def prepare(images: Tensor, mean: float, std: float) -> Tensor:
    """What a network sees of a batch: uint8 [N, H, W] to normalised float32 [N, 1, H, W]."""
    return normalise(to_unit_interval(images), mean, std)

"""Test images changed in graded steps, to measure what a classifier loses when they differ.

Every function takes grey levels uint8 [N, 28, 28] and one strength and gives new uint8
[N, 28, 28], rounded and clamped; its input stays as it is. At strength 0 (a factor of 1 for
:func:`scale`) the images come back equal to the bit. The same images in the same order always give
the same result. A wrong dtype raises ``TypeError``, a wrong shape or strength ``ValueError``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur

from mnist_lab.evaluation import wilson_interval
from mnist_lab.models import CLASSES
from mnist_lab.shapes import IMAGE_SIZE
from mnist_lab.transforms import rotation_matrices, scaling_matrices, warp


def rotate(images: Tensor, degrees: float) -> Tensor:
    """Every image turned anticlockwise about the centre of its field, bilinear."""
    levels = _levels(images)
    _require(math.isfinite(degrees), "a rotation is finite, in degrees", degrees)
    return _grey(warp(levels, rotation_matrices(_each(images, degrees))))


def translate(images: Tensor, pixels: float, seed: int = 0) -> Tensor:
    """Every image moved by ``pixels`` in a direction of its own, bilinear.

    The directions are drawn from the whole circle and depend on ``seed`` alone, so that a larger
    step moves each digit further along the same line. What leaves the field is lost: MNIST's
    digits, 20 pixels long, leave a margin of about 4.
    """
    levels = _levels(images)
    _require(0 <= pixels < math.inf, "a translation is at least 0 pixels", pixels)
    turns = torch.rand(len(images), generator=_generator(seed)).to(images.device)
    angles = 2 * math.pi * turns
    step = -2 * pixels / IMAGE_SIZE  # the window moves against the digit; the field is 2 units wide
    one = torch.ones_like(angles)
    return _grey(warp(levels, scaling_matrices(one, one, step * angles.cos(), step * angles.sin())))


def scale(images: Tensor, factor: float) -> Tensor:
    """Every image enlarged ``factor`` times about the centre of its field, bilinear.

    Below 0.5 single pixels would fall between the samples, so that is the smallest factor.
    At 1.4 a digit 20 pixels long is as long as the field.
    """
    levels = _levels(images)
    _require(0.5 <= factor < math.inf, "a scaling factor is at least 0.5", factor)
    window, zero = _each(images, 1 / factor), _each(images, 0)
    return _grey(warp(levels, scaling_matrices(window, window, zero, zero)))


def add_noise(images: Tensor, sd: float, seed: int = 0) -> Tensor:
    """Gaussian noise of standard deviation ``255 * sd`` added to every pixel, then clamped.

    The draws depend on ``seed`` alone: a larger ``sd`` enlarges the same noise. Clamping cuts off
    its darker half on black paper, so the spread that is left there is smaller.
    """
    levels = _levels(images)
    _require(0 <= sd < math.inf, "the noise's standard deviation is at least 0", sd)
    noise = torch.randn(levels.shape, generator=_generator(seed)).to(images.device)
    return _grey(levels + 255 * sd * noise)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur by torchvision, its standard deviation ``sigma`` in pixels, up to 9.

    The kernel reaches 3 sigma; beyond its border an image is continued by its reflection.
    """
    levels = _levels(images)
    _require(0 <= sigma <= 9, "the blur's sigma lies in [0, 9] pixels", sigma)
    if sigma == 0:
        return images.clone()
    size = 2 * math.ceil(3 * sigma) + 1
    as_channels = levels.transpose(0, 1)  # of one image: several times faster on a CPU
    blurred = gaussian_blur(as_channels, [size, size], [float(sigma)] * 2)
    return _grey(blurred.transpose(0, 1))


def thicken(images: Tensor, pixels: float) -> Tensor:
    """Strokes grown by ``pixels`` on every side, or thinned where ``pixels`` is negative.

    Whole steps are grey-scale dilation or erosion by a square (Soille 2003, ch. 3), which is
    max-pooling of the ink or of the paper; what lies between two of them is a blend of both. A
    stroke no wider than twice the thinning disappears.
    """
    levels = _levels(images)
    limit = IMAGE_SIZE // 2
    _require(abs(pixels) <= limit, f"thickening lies in [-{limit}, {limit}] pixels", pixels)
    whole = math.floor(abs(pixels))
    grown = _dilate(levels if pixels >= 0 else 255 - levels, whole)
    if part := abs(pixels) - whole:
        grown = torch.lerp(grown, _dilate(grown, 1), part)
    return _grey(grown if pixels >= 0 else 255 - grown)


def invert(images: Tensor, share: float) -> Tensor:
    """Every grey level ``x`` moved by ``share`` of the way to ``255 - x``.

    At 0.5 all images are the same even grey, with nothing left to read; at 1 they are negatives.
    """
    levels = _levels(images)
    _require(0 <= share <= 1, "the inverted share lies in [0, 1]", share)
    return _grey((1 - share) * levels + share * (255 - levels))


@dataclass(frozen=True)
class Shift:
    """One kind of change and the steps it is measured at.

    Attributes:
        kind: its name.
        unit: what a strength counts.
        strengths: in rising order, the one that changes nothing among them.
        apply: gives the changed images for uint8 images [N, 28, 28] and a strength.
    """

    kind: str
    unit: str
    strengths: tuple[float, ...]
    apply: Callable[[Tensor, float], Tensor]


SHIFTS: tuple[Shift, ...] = (
    Shift("rotation", "degrees", (-45, -30, -15, 0, 15, 30, 45), rotate),
    Shift("translation", "pixels", (0, 1, 2, 3, 4, 6, 8), translate),
    Shift("scaling", "factor", (0.5, 0.6, 0.8, 1, 1.2, 1.4), scale),
    Shift("noise", "sd / 255", (0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8), add_noise),
    Shift("blur", "sigma, pixels", (0, 0.5, 1, 1.5, 2, 3), blur),
    Shift("thickness", "pixels per side", (-1, -0.5, 0, 0.5, 1, 1.5, 2), thicken),
    Shift("inversion", "share", (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1), invert),
)


def find_shift(kind: str, shifts: Sequence[Shift] = SHIFTS) -> Shift:
    """The shift called ``kind``.

    Raises:
        ValueError: if none is; the message names those there are.
    """
    for shift in shifts:
        if shift.kind == kind:
            return shift
    known = ", ".join(shift.kind for shift in shifts)
    raise ValueError(f"no shift is called {kind!r}: expected one of {known}")


def accuracy_under_shift(
    answer: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    shifts: Sequence[Shift] = SHIFTS,
) -> pd.DataFrame:
    """How many digits are still recognised at every step of every shift.

    Args:
        answer: gives logits [N, 10] for uint8 images [N, 28, 28].
        images: uint8 [N, 28, 28].
        labels: int64 [N].
        shifts: what to measure.

    Returns:
        One row per step: ``kind``, ``unit``, ``strength``, ``accuracy`` and its 95 % Wilson
        interval ``low`` to ``high``. All steps share the same digits, so the interval says how
        well one accuracy is known, not how well a difference between two is.

    Raises:
        ValueError: if there are no images, not one label for each, or ``answer`` gives anything
            but ten logits for each.
    """
    if len(images) != len(labels) or len(images) == 0:
        raise ValueError(
            f"expected as many labels as images, and some: found {len(images)} images and "
            f"{len(labels)} labels"
        )
    rows = []
    for shift in shifts:
        for strength in shift.strengths:
            logits = answer(shift.apply(images, strength))
            if logits.shape != (len(images), CLASSES):
                raise ValueError(
                    f"expected logits of shape ({len(images)}, {CLASSES}) from answer, found "
                    f"{tuple(logits.shape)} for {shift.kind} {strength:g}"
                )
            correct = int((logits.argmax(1).cpu() == labels.cpu()).sum())
            low, high = wilson_interval(correct, len(labels))
            share = correct / len(labels)
            rows.append((shift.kind, shift.unit, float(strength), share, low, high))
    return pd.DataFrame(rows, columns=["kind", "unit", "strength", "accuracy", "low", "high"])


def mean_over_steps(table: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy over the steps that change the images, one row per kind, a column per model.

    Args:
        table: rows of ``accuracy_under_shift`` with a column ``model``; the order is kept.
    """
    unchanged = table["kind"].map({"scaling": 1.0}).fillna(0.0)
    changed = table[table["strength"] != unchanged]
    means = changed.pivot_table("accuracy", "kind", "model", sort=False).reset_index()
    return means.rename_axis(columns=None)


def _levels(images: Tensor) -> Tensor:
    """Grey levels as a new float32 [N, 1, 28, 28], still 0 to 255, so that halves stay exact."""
    if images.dtype != torch.uint8:
        raise TypeError(f"expected images of dtype torch.uint8, found {images.dtype}")
    if images.ndim != 3 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        raise ValueError(
            f"expected images of shape [N, {IMAGE_SIZE}, {IMAGE_SIZE}], found {list(images.shape)}"
        )
    return images.unsqueeze(1).float()


def _grey(levels: Tensor) -> Tensor:
    """Back from :func:`_levels`: uint8 [N, 28, 28]."""
    return levels.round().clamp(0, 255).to(torch.uint8).squeeze(1)


def _dilate(levels: Tensor, pixels: int) -> Tensor:
    """The lightest level within a square that reaches ``pixels`` to every side."""
    for _ in range(pixels):
        levels = F.max_pool2d(levels, 3, stride=1, padding=1)
    return levels


def _each(images: Tensor, value: float) -> Tensor:
    return torch.full((len(images),), float(value), device=images.device)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _require(holds: bool, what: str, found: float) -> None:
    if not holds:
        raise ValueError(f"{what}, found {found}")

"""Test images changed in graded steps, to measure what a classifier loses when they differ."""

import math
from collections.abc import Callable, Iterable

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as change

from mnist_lab.evaluation import accuracy, wilson_interval

# Each kind of change with the unit of its strength and the steps it is measured at.
SHIFTS: dict[str, tuple[str, tuple[float, ...]]] = {
    "rotation": ("degrees", (-45, -30, -15, 0, 15, 30, 45)),
    "translation": ("pixels", (0, 1, 2, 3, 4, 6, 8)),
    "scaling": ("factor", (0.5, 0.6, 0.8, 1, 1.2, 1.4)),
    "noise": ("sd / 255", (0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8)),
    "blur": ("sigma, pixels", (0, 0.5, 1, 1.5, 2, 3)),
    "thickness": ("pixels per side", (-1, -0.5, 0, 0.5, 1, 1.5, 2)),
    "inversion": ("share", (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1)),
}


def shifted(images: Tensor, kind: str, strength: float, seed: int = 0) -> Tensor:
    """Grey levels uint8 [N, 28, 28] changed by one kind of ``SHIFTS``; others are a ``ValueError``.

    What is random depends on ``seed`` alone: a larger step goes further in the same direction.
    """
    if images.dtype != torch.uint8 or images.shape != (len(images), 28, 28):
        found = f"{images.dtype} {list(images.shape)}"
        raise ValueError(f"expected grey levels torch.uint8 [N, 28, 28], found {found}")
    levels, draws = images.float(), torch.Generator().manual_seed(seed)
    match kind:
        case "rotation":  # anticlockwise
            levels = change.rotate(levels, strength, InterpolationMode.BILINEAR)
        case "translation":  # each image in a direction of its own
            angles = 2 * math.pi * torch.rand(len(images), generator=draws)
            view = torch.eye(2, 3).repeat(len(images), 1, 1)  # where pixels come from
            view[:, :, 2] = -2 * strength / 28 * torch.stack([angles.cos(), angles.sin()], 1)
            grid = F.affine_grid(view, [len(images), 1, 28, 28], align_corners=False)
            levels = F.grid_sample(levels[:, None], grid, align_corners=False)[:, 0]
        case "scaling":
            levels = change.affine(levels, 0, [0, 0], strength, [0, 0], InterpolationMode.BILINEAR)
        case "noise":
            levels = levels + 255 * strength * torch.randn(images.shape, generator=draws)
        case "blur":
            size = 2 * math.ceil(3 * strength) + 1  # 1 if there is none: the image itself
            levels = change.gaussian_blur(levels, [size, size], [strength or 1.0])
        case "thickness":
            levels = _thicker(levels, strength)
        case "inversion":  # at 0.5 all levels are the same grey
            levels = (1 - strength) * levels + strength * (255 - levels)
        case _:
            raise ValueError(f"no shift is called {kind!r}: expected one of {', '.join(SHIFTS)}")
    return levels.round().clamp(0, 255).to(torch.uint8)


def _thicker(levels: Tensor, pixels: float) -> Tensor:
    """Whole steps dilate ink, or paper, by a square (Soille 2003, ch. 3), others are a blend."""
    if pixels < 0:
        return 255 - _thicker(255 - levels, -pixels)
    thinner = thicker = levels
    for _ in range(math.ceil(pixels)):
        thinner, thicker = thicker, F.max_pool2d(thicker, 3, stride=1, padding=1)
    return torch.lerp(thicker, thinner, math.ceil(pixels) - pixels)


def accuracy_under_shift(
    model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, kinds: Iterable[str] = SHIFTS
) -> pd.DataFrame:
    """Accuracy of ``model``, from images to logits, at every step, with its 95 % Wilson interval.

    The interval says nothing of differences between steps: all share their digits.
    """
    rows = []
    for kind in kinds:
        unit, strengths = SHIFTS[kind]
        for strength in strengths:
            share = accuracy(labels, model(shifted(images, kind, strength)))
            bounds = wilson_interval(round(share * len(labels)), len(labels))
            rows.append((kind, unit, float(strength), share, *bounds))
    return pd.DataFrame(rows, columns=["kind", "unit", "strength", "accuracy", "low", "high"])


def mean_over_steps(table: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy over steps that change the images: a row per kind, a column per ``model``."""
    changed = table[table["strength"] != (table["kind"] == "scaling")]  # 1 for scaling, else 0
    means = changed.pivot_table("accuracy", "kind", "model", sort=False)
    return means.reset_index().rename_axis(columns=None)

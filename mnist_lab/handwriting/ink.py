"""The ink in a picture: paper, light and shadow taken away."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_otsu

from mnist_lab.handwriting.pictures import PictureError

LONGEST = 1600  # pixels of the longer side that ink is looked for in: more costs only time
NOISE = 6.0  # standard deviations of the paper that are not yet ink


class NoInk(PictureError):
    """A picture in which nothing is written."""


@dataclass(frozen=True, eq=False)
class Ink:
    """What is written in a picture, in its pixels or in larger ones."""

    darkness: np.ndarray  # float32 [H, W]: 0 is paper, 1 is ink
    mask: np.ndarray  # bool [H, W]: at least half as dark as the ink around
    scale: float  # pixels of the picture that one of these is wide


def find_ink(picture: np.ndarray) -> Ink:
    """The ink in a picture, uint8 [height, width, 3], whatever its colour and the light.

    Raises:
        NoInk: if nothing stands out from the paper.
    """
    scale = max(1.0, max(picture.shape[:2]) / LONGEST)
    if scale > 1:
        height, width = (round(side / scale) for side in picture.shape[:2])
        small = Image.fromarray(picture).resize((width, height), Image.Resampling.BOX)
        picture = np.asarray(small)
    contrast = _contrast(picture.astype(np.float32))
    noise = 1.4826 * float(np.median(abs(contrast - np.median(contrast))))
    floor = max(NOISE * noise, 0.04)
    if not (contrast > floor).any():
        raise NoInk("No ink was found in the picture: it looks like empty paper.")
    darkness, mask = _whole_strokes(contrast, floor)
    return Ink(darkness, mask, scale)


def _contrast(picture: np.ndarray) -> np.ndarray:
    """How much each pixel differs from the paper there, float32 [H, W], as a share of its light."""
    paper = _paper(picture)
    below, above = paper - picture, picture - paper
    # Ink is what deviates: its few pixels lie far on one side of the paper's many.
    if (above.max(axis=2).clip(0) ** 3).sum() > (below.max(axis=2).clip(0) ** 3).sum():
        below, paper = above, 255 - paper
    return (below / np.maximum(paper.max(axis=2, keepdims=True), 32)).max(axis=2).clip(0, 1)


def _paper(picture: np.ndarray) -> np.ndarray:
    """The colour of the paper at each pixel, float32 [H, W, 3]."""
    height, width = picture.shape[:2]
    step = max(1, round(max(height, width) / 160))
    small = np.asarray(
        Image.fromarray(picture.astype(np.uint8)).resize(
            (max(1, width // step), max(1, height // step)), Image.Resampling.BOX
        )
    )
    grey = small.mean(axis=2)
    level = threshold_otsu(grey) if grey.min() < grey.max() else 0
    dark, light = grey[grey <= level], grey[grey > level]
    many = light if light.size >= dark.size else dark
    if light.size and dark.size and many.std() < 0.1 * (light.mean() - dark.mean()):
        colour = np.median(small[(grey > level) == (many is light)], axis=0)
        return np.broadcast_to(colour.astype(np.float32), picture.shape)
    window = max(3, min(small.shape[:2]) // 2)
    local = [ndimage.median_filter(small[..., c], window, mode="nearest") for c in range(3)]
    channels = [
        np.asarray(Image.fromarray(channel).resize((width, height), Image.Resampling.BICUBIC))
        for channel in local
    ]
    return np.stack(channels, axis=2).astype(np.float32)


def _whole_strokes(contrast: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Darkness and mask: each connected stroke is measured by its own ink."""
    labels, count = ndimage.label(contrast > floor, np.ones((3, 3)))
    order = np.argsort(labels, axis=None)
    values, starts = (
        contrast.ravel()[order],
        np.searchsorted(labels.ravel()[order], range(count + 2)),
    )
    levels = np.ones(count + 1, np.float32)
    for number in range(1, count + 1):
        own = values[starts[number] : starts[number + 1]]
        levels[number] = np.percentile(own, 85)
    strongest = np.repeat(levels[1:], np.diff(starts)[1:])
    typical = np.percentile(strongest, 75)
    levels[1:][levels[1:] < 0.3 * typical] = np.inf
    darkness = np.where(labels > 0, contrast / levels[labels], 0).clip(0, 1).astype(np.float32)
    return darkness, darkness > 0.5

"""The ink in a picture: paper, light and shadow taken away."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from mnist_lab.handwriting.pictures import PictureError
from mnist_lab.handwriting.ruling import without_ruling
from mnist_lab.handwriting.windows import closing

LONGEST = 1600  # pixels of the longer side that ink is looked for in: more costs only time
COARSE = 128, 320  # least and most pixels of it in which light and paper are measured
NOISE = 3.0  # standard deviations of the paper: what is fainter is never ink
CERTAIN = 1.8  # times that: a stroke is so dark in most places
FAINTEST = 0.04  # share of the paper's light that ink must take away at least
FAINT = 0.3  # of the usual ink: a stroke fainter than that is none
EDGE = 0.35  # of its ink's darkness: from here on a pixel belongs to a stroke


class NoInk(PictureError):
    """A picture in which nothing is written."""


@dataclass(frozen=True, eq=False)
class Ink:
    """What is written in a picture, in its pixels or in larger ones."""

    darkness: np.ndarray  # float32 [H, W]: 0 is paper, 1 is ink
    mask: np.ndarray  # bool [H, W]: the strokes


def find_ink(picture: np.ndarray, longest: int = LONGEST) -> Ink:
    """The ink in a picture, uint8 [height, width, 3], whatever its colour and the light.

    A picture whose longer side has more than ``longest`` pixels is made smaller first.

    Raises:
        NoInk: if nothing stands out from the paper.
    """
    small = picture
    if max(picture.shape[:2]) > longest:
        small = resized(picture, longest)
    blur = min(1.0, max(small.shape[:2]) / 1200)  # grain, not strokes
    contrast = ndimage.gaussian_filter(_contrast(small), blur if blur > 0.25 else 0)
    contrast -= np.median(contrast)
    floor = np.maximum(NOISE * _noise(contrast), FAINTEST)
    darkness = _darkness(without_ruling(contrast, contrast > floor), floor)
    if not (darkness > EDGE).any():
        raise NoInk("No ink was found in the picture: it looks like empty paper.")
    return Ink(darkness, darkness > EDGE)


def resized(picture: np.ndarray, longest: int) -> np.ndarray:
    """The picture with a longer side of so many pixels, each the mean of those it covers."""
    height, width = picture.shape[:2]
    factor = longest / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    how = Image.Resampling.BOX if factor < 1 else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(picture).resize(size, how))


def _contrast(picture: np.ndarray) -> np.ndarray:
    """What each pixel lacks of the paper's light there, float32 [H, W], as a share of it.

    Of the three colours that counts which lacks most: no ink is pale in all of them.
    """
    coarse = resized(picture, min(max(*picture.shape[:2], COARSE[0]), COARSE[1]))
    dark_ink, reach = _strokes(coarse)
    if not dark_ink:
        picture, coarse = 255 - picture, 255 - coarse
    paper = Image.fromarray(closing(coarse, reach)).filter(ImageFilter.GaussianBlur(reach / 4))
    height, width = picture.shape[:2]
    light = np.asarray(paper.resize((width, height), Image.Resampling.BILINEAR))
    lacking = light.astype(np.int16) - picture
    return (_largest(lacking) / np.maximum(_largest(light), 32)).astype(np.float32)


def _largest(colours: np.ndarray) -> np.ndarray:
    """The largest of three colours, [H, W] of [H, W, 3]: much faster than ``max(axis=2)``."""
    return np.maximum(np.maximum(colours[..., 0], colours[..., 1]), colours[..., 2])


def _noise(contrast: np.ndarray) -> np.ndarray:
    """Standard deviation of the paper's own texture around each pixel, float32 [H, W].

    It is that of the whole paper, or of differences between pixels four apart where they are
    larger: ink and its edges leave their median alone.
    """
    height, width = contrast.shape
    block = max(64, max(height, width) // 10)
    change = abs(np.diff(contrast[:, ::4], axis=1, append=contrast[:, -1:])).repeat(4, axis=1)
    rows, columns = max(1, height // block), max(1, width // block)
    parts = [np.array_split(part, columns, axis=1) for part in np.array_split(change, rows)]
    deviation = np.array([[np.median(block) for block in row] for row in parts], np.float32)
    deviation = np.asarray(
        Image.fromarray(deviation * (1.4826 / 2**0.5)).resize(
            (width, height), Image.Resampling.BILINEAR
        )
    )
    return np.maximum(deviation, 1.4826 * float(np.median(abs(contrast))))


def _strokes(coarse: np.ndarray) -> tuple[bool, int]:
    """Whether ink is darker than its paper, and a width in pixels that no stroke reaches.

    A closing fills what is narrower than its window with the paper around it. Windows are widened
    until the edges, sharp at strokes and soft at shadows, stand out no more than before. Strokes
    are narrower than the paper between them: of dark and light, ink is what is filled first.
    """
    sizes = [3, 5]
    while sizes[-1] < min(coarse.shape[:2]) / 2:
        sizes.append(2 * round(0.7 * sizes[-1]) + 1)
    images = coarse.min(axis=2), 255 - coarse.max(axis=2)
    smooth = (ndimage.gaussian_gradient_magnitude(i.astype(np.float32), 1.0) for i in images)
    edges = [slopes**2 for slopes in smooth]

    def filled(size: int) -> np.ndarray:
        """How strong the edges are in what a window fills of dark and of light strokes."""
        pairs = zip(images, edges, strict=True)
        return np.array([(edge * (closing(i, size) - i)).sum(dtype=float) for i, edge in pairs])

    least, found, last = 0.1 * filled(sizes[-1]).max(), filled(sizes[0]), len(sizes) - 1
    at = 0
    while at < last:
        wider = filled(sizes[at + 1])
        if ((wider <= 1.2 * found) & (found >= least)).any():
            break
        found, at = wider, at + 1
    low, middle, high = np.percentile(coarse.mean(axis=2), [1, 50, 99])
    dark, light = found * (middle - low + 1, high - middle + 1)
    return dark >= light, sizes[min(at + 4, last)]


def _darkness(contrast: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """The contrast as a share of that of the stroke's own ink, float32 [H, W] in [0, 1].

    A pencil's line and a marker's next to it are both ink; a shade far fainter than both is none.
    """
    labels, count = ndimage.label(contrast > floor, np.ones((3, 3)))
    if count == 0:
        return np.zeros_like(contrast)
    where = np.flatnonzero(labels)
    values, owners = contrast.ravel()[where], labels.ravel()[where]
    order = np.lexsort((values, owners))
    sizes = np.bincount(owners, minlength=count + 1)
    at = sizes.cumsum() - 1 - (0.15 * sizes).astype(int)  # the 85th percentile of each
    levels = values[order][at.clip(0)]
    usual = float(np.median(np.repeat(levels[1:], sizes[1:])))
    floors = np.bincount(owners, floor.ravel()[where], count + 1) / np.maximum(sizes, 1)
    levels[levels < np.maximum(FAINT * usual, CERTAIN * floors)] = np.inf
    levels[0] = np.inf
    return (contrast / levels[labels]).clip(0, 1).astype(np.float32)

"""Strokes that MNIST lacks: varied copies of training digits, as other pens and hands draw them.

MNIST was written on forms in the United States. Elsewhere a 1 has a flag and a foot and a 7 a bar;
a marker is thicker, a mouse thinner and more angular, and a program that finds digits in a picture
cuts, centres and breaks them a little differently.
"""

import dataclasses
import math
from collections.abc import Callable
from hashlib import sha256

import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_lab.data import Digits, Images
from mnist_lab.transforms import to_unit_interval

FINE = 56  # pixels across the grid that strokes are changed on
FINE_BOX = 50  # pixels of the digit's longer side there; MNIST's own is 20 of 28
STROKES = (3.0, 10.0)  # thinnest and thickest stroke that morphology makes, in fine pixels
AT_ONCE = 1000  # images in memory on the fine grid
AXIS = (torch.arange(FINE) + 0.5) * (2 / FINE) - 1  # the fine pixels' centres, from -1 to 1

Draw = Callable[[float, float], Tensor]  # uniform numbers between two bounds, float32 [n]


def vary_strokes(digits: Digits, *, copies: int = 3, seed: int = 0) -> Digits:
    """The digits with varied copies of all training images after them; the test digits unchanged.

    Training image ``i`` of ``n`` has its copies at ``i + n``, ``i + 2 n``, …: each with strokes,
    proportions and placing of its own, drawn by the ``seed``.
    """
    generator = torch.Generator().manual_seed(seed)
    images, labels = digits.train.images, digits.train.labels
    varied = [images]
    for _ in range(copies):
        pairs = zip(images.split(AT_ONCE), labels.split(AT_ONCE), strict=True)
        varied += [_vary(*pair, generator) for pair in pairs]
    train = Images(torch.cat(varied), labels.repeat(copies + 1))
    parts = {"train-images-idx3-ubyte": train.images, "train-labels-idx1-ubyte": train.labels}
    digests = {name: sha256(part.numpy().tobytes()).hexdigest() for name, part in parts.items()}
    return dataclasses.replace(
        digits,
        train=train,
        title=f"{digits.title} with varied strokes",
        source=f"{digits.source} {copies} varied copies of each training image, by seed {seed}.",
        sha256=digits.sha256 | digests,
    )


def _vary(images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """One varied copy of each image: uint8 [n, 28, 28] from the same."""
    n = len(images)

    def draw(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    ink = _add_strokes(to_unit_interval(images), labels, draw)
    ink = _deform(ink, draw, torch.randn(n, 2, 7, 7, generator=generator))
    ink = _sharpen(ink, draw(1, 3))
    thinner, thicker = (((bound - _thickness(ink)) / 2).trunc() for bound in STROKES)
    steps = draw(-2.5, 2.5).round().clamp(thinner.clamp(max=0), thicker.clamp(min=0))
    ink = _change_thickness(ink, steps)
    ink = _break(ink, draw, generator)
    ink = _place(ink, draw)
    kind = draw(0, 1)
    ink = torch.where(_each(kind < 0.1), (ink > 0.5).float(), ink)  # drawn without soft edges
    ink = torch.where(_each(kind > 0.8), _blur(ink), ink)
    ink = ink * _each(torch.where(draw(0, 1) < 0.2, draw(0.6, 1), torch.tensor(1.0)))
    return (255 * ink.squeeze(1)).round().to(torch.uint8)


def _add_strokes(ink: Tensor, labels: Tensor, draw: Draw) -> Tensor:
    """Some 1s get a flag and a foot, some 7s a bar and a tick; some 4s are drawn anew, closed."""
    left, _, top, bottom = _box(ink)
    height, thickness = bottom - top, _thickness(ink)
    head, foot = _mean_column(ink, top + 1), _mean_column(ink, bottom - 2)
    stem = _mean_column(ink, top + 0.55 * height)

    # A 1: down to the left from its top, and a bar below it.
    flagged = (labels == 1) & (draw(0, 1) < 0.5)
    length, angle = draw(0.2, 0.45) * height, draw(35, 65) * (math.pi / 180)
    end = (head - length * angle.cos(), top + 1 + length * angle.sin())
    ink = _add_segment(ink, flagged, thickness, head, top + 1, *end)
    footed = (labels == 1) & (draw(0, 1) < torch.where(flagged, 0.4, 0.1))
    reach, tilt = draw(0.15, 0.35) * height, draw(-1, 1)
    ends = (foot - reach, bottom - 1 + tilt, foot + reach, bottom - 1 - tilt)
    ink = _add_segment(ink, footed, thickness, *ends)

    # A 7: a bar across its stem, and a tick down from the left end of its roof.
    reach, y, tilt = draw(0.15, 0.32) * height, top + draw(0.45, 0.6) * height, draw(-1.5, 1.5)
    barred = (labels == 7) & (draw(0, 1) < 0.3)
    ink = _add_segment(ink, barred, thickness, stem - reach, y + tilt, stem + reach, y - tilt)
    tick = draw(0.1, 0.25) * height
    ticked = (labels == 7) & (draw(0, 1) < 0.15)
    ink = _add_segment(ink, ticked, thickness, left + 1, top + 1, left + 1, top + 1 + tick)

    # A 4 whose arm meets its stem at the top.
    closed = (labels == 4) & (draw(0, 1) < 0.15)
    ink = torch.where(_each(closed), 0.0, ink)
    x, bar, y = draw(14, 19), draw(14, 19), draw(-1, 1)
    ink = _add_segment(ink, closed, thickness, x, y + 5, draw(5, 8), bar)
    ink = _add_segment(ink, closed, thickness, draw(5, 8), bar, draw(18, 23), bar + y)
    return _add_segment(ink, closed, thickness, x, y + 5, x - draw(-1, 3), draw(21, 24))


def _deform(ink: Tensor, draw: Draw, noise: Tensor) -> Tensor:
    """Slanted, stretched and elastically distorted on the fine grid, where it fills ``FINE_BOX``.

    Each point moves by smooth random ``noise`` (Simard, Steinkraus & Platt 2003).
    """
    left, right, top, bottom = _box(ink)
    slant, stretch = (draw(-12, 12) * (math.pi / 180)).tan(), draw(-0.18, 0.18).exp()
    width, height = right - left, bottom - top
    across, down = (width + slant.abs() * height) * stretch, height / stretch
    zoom = FINE_BOX / torch.maximum(across, down)  # fine pixels per pixel
    x, y = (left + right) / 28 - 1, (top + bottom) / 28 - 1
    a, d = FINE / 28 / (stretch * zoom), FINE / 28 * stretch / zoom
    moves = _smooth(noise) * _each(draw(0, 0.05))
    u, v = _each(x) + moves[:, :1] + _each(a) * AXIS, _each(y) + moves[:, 1:]
    down = _each(d) * AXIS[:, None]
    return _sample(ink, u - _each(slant) * down, v + down)


def _change_thickness(ink: Tensor, steps: Tensor) -> Tensor:
    """Strokes wider (or, below 0, thinner) by so many fine pixels on each side, by morphology."""
    changed = ink.clone()
    for step in (1, 2):
        thicker, thinner = steps >= step, steps <= -step
        changed[thicker] = _dilate(changed[thicker])
        before = changed[thinner]
        eroded = -_dilate(-before)
        # What an erosion loses for good, the thinnest strokes, stays as it was.
        changed[thinner] = torch.maximum(eroded, before - _dilate(eroded))
    return changed


def _break(ink: Tensor, draw: Draw, generator: torch.Generator) -> Tensor:
    """Some strokes are interrupted: a small disc on the ink becomes paper."""
    broken, radius = draw(0, 1) < 0.1, draw(2, 4)
    if not broken.any():
        return ink
    points = torch.multinomial(ink[broken].flatten(1) + 1e-6, 1, generator=generator)
    x, y = _each(points % FINE), _each(points // FINE)
    pixel = torch.arange(FINE)
    distance = ((pixel - x) ** 2 + (pixel[:, None] - y) ** 2).sqrt()
    paper = (distance - _each(radius[broken])).clamp(0, 1)
    return ink.index_put((broken,), ink[broken] * paper)


def _place(ink: Tensor, draw: Draw) -> Tensor:
    """In MNIST's field [n, 1, 28, 28], the longer side 20 pixels, the centre of mass in the middle.

    Both are only nearly so, as where a program found the digit in a picture.
    """
    left, right, top, bottom = _box(ink)
    longer = torch.maximum(right - left, bottom - top).clamp(min=1)
    zoom = 20 * draw(0.85, 1.08) / longer  # pixels per fine pixel
    mass = ink.sum((1, 2, 3)).clamp(min=1e-3)
    x, y = (ink.sum((1, 2)) * AXIS).sum(1) / mass, (ink.sum((1, 3)) * AXIS).sum(1) / mass
    scale = 28 / FINE / zoom
    x, y = x + scale * draw(-1.5, 1.5) / 14, y + scale * draw(-1.5, 1.5) / 14
    u, v = _each(x) + _each(scale) * AXIS, _each(y) + _each(scale) * AXIS[:, None]
    placed = F.avg_pool2d(_sample(ink, u, v), FINE // 28)
    return placed / placed.amax((1, 2, 3), keepdim=True).clamp(min=0.1)


def _sample(ink: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """The ink where each fine pixel comes from: ``u`` across and ``v`` down, -1 to 1."""
    grid = torch.stack(torch.broadcast_tensors(u, v), dim=4)[:, 0]
    return F.grid_sample(ink, grid, align_corners=False)


def _smooth(noise: Tensor) -> Tensor:
    """A field of independent numbers [n, 2, K, K] spread over the fine grid by a Gaussian."""
    knots = torch.linspace(-1, 1, noise.shape[-1])
    weights = torch.exp(-(((AXIS[:, None] - knots) / (knots[1] - knots[0])) ** 2))
    weights = weights / weights.square().sum(1, keepdim=True).sqrt()  # the variance stays 1
    return weights @ noise @ weights.T


def _each(values: Tensor) -> Tensor:
    """One value [n] per image, for images [n, 1, H, W]."""
    return values.view(-1, 1, 1, 1)


def _box(ink: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Left, right, top and bottom edges of the ink in pixels, [n] each."""
    size, dark = ink.shape[-1], ink > 0.3
    edges = []
    for lines in (dark.any(2)[:, 0], dark.any(3)[:, 0]):
        lines = lines.float()
        edges += [lines.argmax(1).float(), size - lines.flip(1).argmax(1).float()]
    return edges[0], edges[1], edges[2], edges[3]


def _thickness(ink: Tensor) -> Tensor:
    """Mean width of the strokes in pixels, [n]: their area by half the length of their outline."""
    across, down = ink.diff(dim=3)[:, :, 1:], ink.diff(dim=2)[..., 1:]
    outline = (across**2 + down**2).sqrt().sum((1, 2, 3))
    return 2 * ink.sum((1, 2, 3)) / outline.clamp(min=1e-3)


def _mean_column(ink: Tensor, rows: Tensor) -> Tensor:
    """Where the ink of one row of each image is, on average: the column, [n]."""
    line = ink[torch.arange(len(ink)), 0, rows.long().clamp(0, ink.shape[2] - 1)] + 1e-6
    return (line * torch.arange(ink.shape[3])).sum(1) / line.sum(1)


def _add_segment(ink: Tensor, chosen: Tensor, thickness: Tensor, *ends: Tensor) -> Tensor:
    """The images, the chosen ones [n] with a straight stroke from x0, y0 to x1, y1, [n] each."""
    x0, y0, x1, y1, wide = (_each(values[chosen]) for values in (*ends, thickness))
    x, y = torch.arange(28), torch.arange(28)[:, None]
    along_x, along_y = x1 - x0, y1 - y0
    square = (along_x**2 + along_y**2).clamp(min=1e-3)
    share = (((x - x0) * along_x + (y - y0) * along_y) / square).clamp(0, 1)
    distance = ((x0 + share * along_x - x) ** 2 + (y0 + share * along_y - y) ** 2).sqrt()
    stroke = (wide / 2 + 0.5 - distance).clamp(0, 1)  # round, soft ends
    return ink.index_put((chosen,), torch.maximum(ink[chosen], stroke))


def _dilate(ink: Tensor) -> Tensor:
    """The largest value of each 3×3 pixels: across, then down."""
    wide = ink.clone()
    torch.maximum(wide[..., 1:], ink[..., :-1], out=wide[..., 1:])
    torch.maximum(wide[..., :-1], ink[..., 1:], out=wide[..., :-1])
    high = wide.clone()
    torch.maximum(high[..., 1:, :], wide[..., :-1, :], out=high[..., 1:, :])
    torch.maximum(high[..., :-1, :], wide[..., 1:, :], out=high[..., :-1, :])
    return high


def _sharpen(ink: Tensor, gain: Tensor) -> Tensor:
    return ((ink - 0.5) * _each(gain) + 0.5).clamp(0, 1)


def _blur(ink: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(ink, [1] * 4), 3, stride=1) * 0.6 + ink * 0.4

"""Digits drawn on paper by the tests themselves, and what light, phones and printers do to it."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

WHITE, BLACK = (243, 241, 236), (35, 35, 45)


def write(
    rows: Sequence[np.ndarray],
    *,
    size: int = 64,
    gap: int = 32,
    slope: float = 0.0,
    paper: tuple[int, int, int] = WHITE,
    ink: tuple[int, int, int] = BLACK,
    seed: int = 0,
) -> np.ndarray:
    """A page, uint8 [H, W, 3], with rows of digits, each uint8 [N, 28, 28], ``size`` pixels high.

    Rows fall by ``slope`` pixels per pixel. Digits are moved at random by a few pixels.
    """
    rng = np.random.default_rng(seed)
    across, longest = size + gap, max(map(len, rows))
    width = across * longest + 2 * gap
    height = int(len(rows) * 1.9 * size + 2 * gap + abs(slope) * width)
    strength = np.zeros((height, width))
    for number, row in enumerate(rows):
        for place, digit in enumerate(row):
            box = Image.fromarray(digit).getbbox()
            cut = Image.fromarray(digit).crop(box)
            shape = round(cut.width * size / 20), round(cut.height * size / 20)
            soft = np.asarray(cut.resize(shape, Image.Resampling.BICUBIC)) / 255
            large = ((soft - 0.4) * size / 15 + 0.5).clip(0, 1)  # edges as sharp as a pen's
            x = gap + place * across + (size - shape[0]) // 2 + rng.integers(-5, 6)
            y = gap + number * 1.9 * size + (size - shape[1]) / 2 + rng.integers(-5, 6)
            y = int(y + slope * x + max(0, -slope * width))
            strength[y : y + shape[1], x : x + shape[0]] += large
    return mix(np.broadcast_to(np.array(paper, float), (height, width, 3)), strength, ink)


def mix(page: np.ndarray, strength: np.ndarray, ink: Sequence[int]) -> np.ndarray:
    """The page with ink on it where ``strength`` [H, W] is above 0."""
    share = strength.clip(0, 1)[..., None]
    return (page * (1 - share) + np.array(ink, float) * share).round().astype(np.uint8)


def shaded(page: np.ndarray) -> np.ndarray:
    """Light that falls to two fifths across the page, and a soft shadow over half of it."""
    height, width = page.shape[:2]
    light = np.linspace(1, 0.4, width)[None] * np.ones((height, 1))
    edge = (np.arange(height)[:, None] - 0.5 * height - 0.2 * np.arange(width)) / 30
    return (page * (light * (1 - 0.45 / (1 + np.exp(-edge))))[..., None]).astype(np.uint8)


def noisy(page: np.ndarray, deviation: float = 8.0, seed: int = 0) -> np.ndarray:
    """A camera's noise, then JPEG at quality 40."""
    noise = np.random.default_rng(seed).normal(0, deviation, page.shape)
    file = io.BytesIO()
    Image.fromarray((page + noise).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=40)
    return np.asarray(Image.open(file).convert("RGB"))


def ruled(page: np.ndarray, *, step: int = 70, squares: bool = False, tilt: float = 0.0):
    """Printed lines, and lines across them, falling by ``tilt`` pixels per pixel."""
    image = Image.fromarray(page)
    draw, (width, height) = ImageDraw.Draw(image), image.size
    blue = (150, 175, 220)
    for y in range(step // 2 - height, 2 * height, step):
        draw.line([0, y, width, y + tilt * width], fill=blue, width=2)
    for x in range(step // 2 - width, 2 * width, step) if squares else ():
        draw.line([x, 0, x - tilt * height, height], fill=blue, width=2)
    return np.minimum(page, np.asarray(image))  # ink covers the lines


def speckled(page: np.ndarray, seed: int = 0) -> np.ndarray:
    """Fifty specks and three hairs."""
    rng, image = np.random.default_rng(seed), Image.fromarray(page)
    draw, (width, height) = ImageDraw.Draw(image), image.size
    for _ in range(50):
        x, y, r = rng.integers(width), rng.integers(height), rng.integers(1, 3)
        draw.ellipse([x, y, x + r, y + r], fill=(90, 80, 70))
    return np.asarray(image)


def on_table(page: np.ndarray) -> np.ndarray:
    """The page on a dark table, of which a photograph shows two sides."""
    return np.pad(page, ((0, 40), (60, 0), (0, 0)), constant_values=40)


def boxed(page: np.ndarray, boxes: Sequence[tuple[int, int, int, int]]) -> np.ndarray:
    """The page with a printed frame along each box: left, top, right, bottom."""
    image = Image.fromarray(page)
    for box in boxes:
        ImageDraw.Draw(image).rectangle(box, outline=(60, 60, 60), width=3)
    return np.asarray(image)


def folded(page: np.ndarray) -> np.ndarray:
    """The page with a dark crease from its top to its bottom."""
    image = Image.fromarray(page)
    ImageDraw.Draw(image).line([370, 0, 400, image.height], fill=(150, 150, 150), width=4)
    return noisy(np.asarray(image), 3)


def dotted(page: np.ndarray, radius: int) -> np.ndarray:
    """The page with one round dot of ink in its middle."""
    y, x = np.ogrid[: page.shape[0], : page.shape[1]]
    distance = np.hypot(y - page.shape[0] // 2, x - page.shape[1] // 2)
    return mix(page, (radius + 0.5 - distance).clip(0, 1), BLACK)

"""A photograph of a sheet back to labelled digits in MNIST's form."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.transform import ProjectiveTransform, warp

from mnist_lab.handwriting import sheet
from mnist_lab.handwriting.form import to_mnist_form
from mnist_lab.handwriting.pictures import PictureError, Source, open_picture
from mnist_lab.handwriting.sheet_box import ROOM, SCALE, is_crossed_out, written

SEARCHED = 2000  # pixels of the longer side of the picture in which the marks are looked for
MARGIN = 5.0  # mm of the straightened page round the boxes
REACH = 3.0  # mm by which a page that does not lie flat may move a box


class NoSheet(PictureError):
    """A picture in which no sheet can be read."""


@dataclass(frozen=True, eq=False)
class SheetPage:
    """The digits that were found on one photographed sheet."""

    number: int  # the sheet's, and its writer's
    images: np.ndarray  # uint8 [N, 28, 28], as MNIST's
    labels: np.ndarray  # int64 [N], the digits asked for
    places: np.ndarray  # int64 [N], the box, 0 to 99 row by row
    empty: np.ndarray  # int64, the boxes with nothing in them
    crossed_out: np.ndarray  # int64, the boxes that were crossed or scribbled out
    outlines: np.ndarray  # float [100, 4, 2], x and y of the boxes' corners in the picture's pixels


def read_sheet(source: Source) -> SheetPage:
    """The digits on the photograph of a sheet, however it was held.

    Works in the red channel, in which the orange boxes vanish and black, blue and grey ink is dark.

    Raises:
        NoSheet: if the four corner marks are not found, or the number's checksum is wrong.
        PictureError: if it is no picture.
    """
    picture = open_picture(source)
    red, blue = picture[..., 0], picture[..., 2]
    marks = find_marks(red)
    if len(marks) < 4:
        raise NoSheet(
            f"expected a sheet's four corner marks, found {len(marks)}. Photograph the whole page "
            "from near, flat, sharp and evenly lit."
        )
    for corners in _as_corners(marks):
        to_photo = ProjectiveTransform.from_estimate(sheet.MARKS, corners)
        if to_photo and (number := _read_number(red, to_photo)):
            in_red, in_blue = (_darkness(_straighten(grey, to_photo)) for grey in (red, blue))
            corners = _find_boxes(in_blue)
            sides = sheet.BOX * np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
            on_page = (corners / SCALE + sheet.GRID - MARGIN)[:, None] + sides
            outlines = to_photo(on_page.reshape(-1, 2)).reshape(100, 4, 2)
            return _read_boxes(in_red, corners, number, outlines)
    raise NoSheet(
        "found four corner marks, but the black squares between them are no sheet's number. "
        "Photograph the page sharply, with nothing on the squares at its top."
    )


def find_marks(grey: np.ndarray) -> np.ndarray:
    """Centres of what looks like a corner mark, a dark ring round one or two dark spots: [N, 3].

    ``grey`` is uint8 [H, W]; a row is x, y in its pixels and the number of spots.
    """
    factor = max(1, round(max(grey.shape) / SEARCHED))
    small = np.asarray(Image.fromarray(grey).reduce(factor), np.float32)
    around = ndimage.uniform_filter(small, max(small.shape) // 12)
    parts, _ = ndimage.label(small < 0.7 * around, np.ones((3, 3)))
    found = []
    for label, place in enumerate(ndimage.find_objects(parts), start=1):
        height, width = (side.stop - side.start for side in place)
        if min(height, width) < 10 or max(height, width) > max(small.shape) / 6:
            continue
        ring = parts[place] == label
        whole = ndimage.binary_fill_holes(ring)
        hole = whole & ~ring
        if not 0.25 < hole.sum() / whole.sum() < 0.65 or whole.sum() < 0.4 * whole.size:
            continue
        spots, _ = ndimage.label(hole & (parts[place] > 0))
        areas = np.bincount(spots[spots > 0])[1:] / hole.sum()
        if 0.08 < areas.sum() < 0.5 and (count := (areas > 0.03).sum()) in (1, 2):
            down, right = ndimage.center_of_mass(whole)
            x, y = place[1].start + right, place[0].start + down
            found.append([(x + 0.5) * factor - 0.5, (y + 0.5) * factor - 0.5, count])
    return np.array(found).reshape(-1, 3)


def _as_corners(marks: np.ndarray) -> Iterator[np.ndarray]:
    """The ways in which four of the marks may be the page's corners, the likeliest first."""

    def area(four: np.ndarray) -> float:
        (x, y), (next_x, next_y) = four[:, :2].T, np.roll(four[:, :2], -1, axis=0).T
        return float(abs(x @ next_y - y @ next_x))

    sets = []
    for chosen in itertools.combinations(marks[:12], 4):
        four = np.array(chosen)
        angles = np.arctan2(*(four[:, :2] - four[:, :2].mean(axis=0)).T[::-1])
        sets.append(four[np.argsort(angles)])
    for four in sorted(sets, key=area, reverse=True):
        turned = [np.roll(four, turn, axis=0) for turn in range(4)]
        turned.sort(key=lambda four: four[0, 2] != 2)  # the page's first mark has two spots
        yield from (four[:, :2] for four in turned)


def _read_number(grey: np.ndarray, to_photo: ProjectiveTransform) -> int | None:
    """The number printed between the upper marks, None if it does not check."""

    def brightness(points: np.ndarray) -> np.ndarray:
        spread = np.mgrid[-0.8:0.8:5j, -0.8:0.8:5j].reshape(2, 25).T
        places = to_photo((points[:, None] + spread).reshape(-1, 2))[:, ::-1].T
        return ndimage.map_coordinates(grey, places, order=1, output=float).reshape(-1, 25).mean(1)

    black = brightness(sheet.MARKS - [sheet.MARK * 5 / 12, 0])
    aside = np.array([0, 4.2])  # mm above and below the cells is blank paper
    for moved in (0, 1.2, -1.2, 2.4, -2.4):  # mm, on a page that does not lie flat
        cells = sheet.code_cells() + np.array([0, moved])
        paper = (brightness(cells - aside) + brightness(cells + aside)) / 2
        level = (paper.mean() + black.mean()) / 2 / max(paper.mean(), 1)
        if number := sheet.number_of(brightness(cells) < level * paper):
            return number
    return None


def _straighten(grey: np.ndarray, to_photo: ProjectiveTransform) -> np.ndarray:
    """The part of the page with the boxes, float32 [H, W], ``SCALE`` pixels to a millimetre."""
    margin = np.array(sheet.GRID) - MARGIN
    size = sheet.box_corners()[-1] + sheet.BOX + MARGIN - margin
    to_page = ProjectiveTransform(
        np.array([[1 / SCALE, 0, margin[0]], [0, 1 / SCALE, margin[1]], [0, 0, 1]])
    )
    width, height = (SCALE * size).round().astype(int)
    page = warp(grey.astype(np.float32), to_page + to_photo, output_shape=(height, width), order=1)
    return ndimage.gaussian_filter(page.astype(np.float32), 0.8)


def _darkness(page: np.ndarray) -> np.ndarray:
    """How much darker than the paper round it each pixel is: 0 paper, 1 black."""
    cell = SCALE
    height, width = (side // cell for side in page.shape)
    tiles = page[: height * cell, : width * cell].reshape(height, cell, width, cell)
    paper = ndimage.grey_closing(np.percentile(tiles, 80, axis=(1, 3)), size=(9, 9), mode="nearest")
    paper = ndimage.gaussian_filter(paper, 1)
    picture = Image.fromarray(paper.astype(np.float32))
    whole = np.asarray(picture.resize(page.shape[::-1], Image.Resampling.BILINEAR))
    return (1 - page / whole.clip(1)).clip(0, 1)


def _find_boxes(darkness: np.ndarray) -> np.ndarray:
    """Upper left corners of the boxes, int64 [100, 2], in pixels of the straightened page.

    Their lines are looked for near the places where they lie on a flat page; ``darkness`` is of the
    blue channel, in which they show. Each box moves as its neighbours do.
    """
    expected = (SCALE * (sheet.box_corners() - sheet.GRID + MARGIN)).round().astype(int)
    box, reach = round(SCALE * sheet.BOX), round(SCALE * REACH)
    moved = np.zeros((100, 2))
    for place, (x, y) in enumerate(expected):
        around = darkness[y - reach : y + box + reach + 1, x - reach : x + box + reach + 1]
        for axis in (0, 1):
            across = (around, around.T)[axis][2 * reach : -2 * reach]
            profile = np.percentile(across, 30, axis=0)  # a line is in all rows, ink in few
            both = np.minimum(profile[: 2 * reach + 1], profile[-2 * reach - 1 :])
            moved[place, axis] = both.argmax() - reach
    moved = ndimage.median_filter(moved.reshape(10, 10, 2), (3, 3, 1), mode="nearest")
    return expected + moved.reshape(100, 2).astype(int)


def _read_boxes(
    darkness: np.ndarray, corners: np.ndarray, number: int, outlines: np.ndarray
) -> SheetPage:
    """What is written in the boxes with these upper left corners, int64 [100, 2] in pixels."""
    side = round(SCALE * (sheet.BOX + 2 * ROOM))
    starts = corners - round(SCALE * ROOM)
    windows = np.stack([darkness[y : y + side, x : x + side] for x, y in starts])
    frame = np.percentile(windows, 60, axis=0)  # what most boxes share round their edge is printed
    inner = round(SCALE * (ROOM + 1))
    frame[inner:-inner, inner:-inner] = 0
    windows = (windows - frame).clip(0, 1)
    labels = sheet.digits_asked(number).flatten()
    images, places, empty, crossed_out = [], [], [], []
    for place, window in enumerate(windows):
        ink = written(window)
        if not ink.any():
            empty.append(place)
        elif is_crossed_out(ink):
            crossed_out.append(place)
        else:
            images.append(to_mnist_form(window / np.percentile(window[ink], 75), ink))
            places.append(place)
    return SheetPage(
        number,
        np.array(images, np.uint8).reshape(-1, 28, 28),
        labels[places],
        np.array(places, int),
        np.array(empty, int),
        np.array(crossed_out, int),
        outlines,
    )

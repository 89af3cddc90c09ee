"""The sheet: printed, written on, photographed, and read back as a data set."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageDraw
from pypdf import PdfReader
from scipy import ndimage
from skimage.morphology import skeletonize
from skimage.transform import ProjectiveTransform, warp

from mnist_lab.data import DamagedFile, load_digits
from mnist_lab.figures.handwriting import sheet_figure
from mnist_lab.files import LabError
from mnist_lab.handwriting import sheet
from mnist_lab.handwriting.form import to_mnist_form
from mnist_lab.handwriting.sheet_reading import NoSheet, read_sheet
from mnist_lab.handwriting.sheet_set import read_sheets

PHONE = (1600, 1200)  # 2 megapixels
EMPTY, CROSSED = (3, 50, 99), (17, 60)


def pen_stroke(image: np.ndarray, height: float, pen: float, scale: float) -> np.ndarray:
    """A digit drawn by a pen ``pen`` mm wide, float [H, W], 0 to 1."""
    size = [max(1, round(side * height * scale / 20)) for side in image.shape[::-1]]
    large = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC), float) / 255
    line = skeletonize(ndimage.gaussian_filter(large, 2) > 0.35)
    return (pen * scale / 2 - ndimage.distance_transform_edt(~line) + 0.5).clip(0, 1)


def written(number, digits, folder, seed=0, pen=0.8, empty=EMPTY, crossed=CROSSED):
    """A page filled by hand: the picture, float [H, W, 3], and each box's stroke."""
    sheet.write_sheet(folder / "blank.png", number)
    page = np.asarray(Image.open(folder / "blank.png").convert("RGB"), float)
    scale, rng = page.shape[1] / sheet.PAGE[0], np.random.default_rng(seed)
    lines = Image.new("L", page.shape[1::-1])
    ink, strokes = np.zeros(page.shape[:2]), {}
    asked = sheet.digits_asked(number).flatten()
    for place, (corner, digit) in enumerate(zip(sheet.box_corners(), asked, strict=True)):
        if place in crossed:
            (left, top), (right, bottom) = scale * (corner + 1), scale * (corner + sheet.BOX - 1)
            for ends in ((left, top, right, bottom), (left, bottom, right, top)):
                ImageDraw.Draw(lines).line(ends, 255, round(pen * scale))
        if place in empty:
            continue
        image = digits.images[rng.choice(np.flatnonzero(digits.labels == digit))].numpy()
        strokes[place] = pen_stroke(image, rng.uniform(7, 11), pen, scale)
        height, width = strokes[place].shape
        middle = scale * (corner + sheet.BOX / 2 + rng.uniform(-1, 1, 2))
        x, y = (middle - (width / 2, height / 2)).astype(int)
        ink[y : y + height, x : x + width] = strokes[place]
    ink = 0.9 * np.maximum(ink, np.asarray(lines) / 255)[..., None]
    return page * (1 - ink) + np.array([20, 25, 70]) * ink, strokes


def photographed(page, path, tilt, towards, turned, size=PHONE, seed=0):
    """A JPEG of the page on a table: in perspective (degrees), shaded, blurred, noisy."""
    tilt, towards, turned = np.radians([tilt, towards, turned])
    axis = np.array([np.cos(towards), np.sin(towards), 0])
    cross = np.cross(np.eye(3), axis)
    lean = np.eye(3) + np.sin(tilt) * cross + (1 - np.cos(tilt)) * cross @ cross
    spin = np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)], [0, 0]])
    scale = page.shape[1] / sheet.PAGE[0]
    corners = np.array([(0, 0), (210, 0), (210, 297), (0, 297)], float)
    placed = (corners - (105, 148.5)) @ (lean @ spin).T
    seen = placed[:, :2] / (placed[:, 2:] + 420)  # from 42 cm
    low, high = seen.min(axis=0), seen.max(axis=0)
    seen = (seen - (low + high) / 2) * (0.9 * np.array(size) / (high - low)).min()
    to_page = ProjectiveTransform.from_estimate(seen + np.array(size) / 2, scale * corners)
    rng = np.random.default_rng(seed)
    table = np.array([110, 80, 60]) + rng.normal(0, 12, (*size[::-1], 1))
    outside = np.full((*size[::-1], 3), -1.0)
    for channel in range(3):
        view = warp(page[..., channel], to_page, output_shape=size[::-1], order=1, cval=-1)
        outside[..., channel] = view
    picture = np.where(outside[..., :1] < 0, table, outside)
    picture *= np.linspace(0.95, 0.5, size[0])[:, None] * np.array([1, 0.97, 0.9])
    picture = ndimage.gaussian_filter(picture, (0.8, 0.8, 0)) + rng.normal(0, 3, table.shape)
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path, quality=80)
    return path


@pytest.fixture(scope="module")
def pages(tmp_path_factory, uci_digits):
    """Filled pages of writers 5 and 7, and a second page of writer 7."""
    folder = tmp_path_factory.mktemp("pages")
    copies = {"five": (5, 0), "seven": (7, 1), "again": (7, 2)}
    return {
        name: written(number, uci_digits.train, folder, seed)
        for name, (number, seed) in copies.items()
    }


@pytest.fixture(scope="module")
def photos(tmp_path_factory, pages):
    """Their photographs: of one page two; and one of a table without a page."""
    folder = tmp_path_factory.mktemp("photos")
    views = {"five": (35, 20, 185), "seven": (35, 110, 4), "again": (20, 200, 95)}
    for name, view in views.items():
        photographed(pages[name][0], folder / f"{name}.jpg", *view)
    photographed(pages["seven"][0], folder / "twin.jpg", 30, 300, 265, seed=1)
    table = np.random.default_rng(0).integers(60, 160, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(table).save(folder / "table.jpg")
    return folder


@pytest.fixture(scope="module")
def class_set(photos, tmp_path_factory):
    """The data set of those photographs, and what was said."""
    said: list[str] = []
    out = tmp_path_factory.mktemp("data") / "my-class"
    names = ("seven", "five", "table", "twin", "again")
    counts = read_sheets([photos / f"{name}.jpg" for name in names], out, said.append)
    return out, said, counts


def is_whole(cut: np.ndarray, drawn: np.ndarray) -> bool:
    """Whether a cut digit has all ink of the drawn one, nothing else, and lies in the centre."""

    def near(image: np.ndarray, distance: float) -> np.ndarray:
        return ndimage.distance_transform_edt(image < 80) <= distance

    whole = (drawn * near(cut, 1.5)).sum() / drawn.sum() >= 0.95
    clean = (cut * near(drawn, 2.5)).sum() / cut.sum() >= 0.95
    return (
        whole and clean and bool(np.abs(np.subtract(ndimage.center_of_mass(cut), 13.5)).max() < 1.1)
    )


def test_every_sheet_asks_for_ten_of_each_digit_in_its_own_order_forever():
    assert sheet.digits_asked(1)[0].tolist() == [1, 0, 6, 6, 3, 0, 9, 1, 2, 0]
    assert np.bincount(sheet.digits_asked(9999).flatten()).tolist() == [10] * 10
    assert (sheet.digits_asked(1) != sheet.digits_asked(2)).any()


def test_no_misread_square_changes_the_number():
    for number in (1, 77, 9999):
        code = sheet.code_of(number)
        assert sheet.number_of(code) == number
        for flipped in np.eye(32, dtype=bool):
            assert sheet.number_of(code ^ flipped) is None


def test_the_page_is_one_of_a4_that_says_its_number(tmp_path):
    sheet.write_sheet(tmp_path / "sheet.pdf", 321)
    (page,) = PdfReader(tmp_path / "sheet.pdf").pages
    assert [round(float(side) * 25.4 / 72) for side in page.mediabox[2:]] == [210, 297]
    assert "Sheet 321" in page.extract_text()
    with pytest.raises(LabError, match="1 to 9999, not 0"):
        sheet.write_sheet(tmp_path / "sheet.pdf", 0)


def test_tilted_and_turned_photos_give_every_digit_whole(pages, photos):
    right = total = 0
    for name in ("five", "seven", "again"):
        page, strokes = read_sheet(photos / f"{name}.jpg"), pages[name][1]
        assert page.empty.tolist() == list(EMPTY) and page.crossed_out.tolist() == list(CROSSED)
        asked = sheet.digits_asked(page.number).flatten()
        np.testing.assert_array_equal(page.labels, asked[page.places])
        for place, cut in zip(page.places.tolist(), page.images, strict=True):
            right += is_whole(cut, to_mnist_form(strokes[place], strokes[place] > 0.3))
        total += len(strokes) - len(CROSSED)
    assert total == 3 * 95 and right >= 0.99 * total


def test_a_page_of_twelve_megapixels_in_grey_and_pencil_is_read(tmp_path, uci_digits):
    page, strokes = written(12, uci_digits.train, tmp_path, pen=0.5, crossed=())
    pencil = page.mean(axis=2, keepdims=True).repeat(3, axis=2).clip(110, None)
    photo = photographed(pencil, tmp_path / "large.jpg", 35, 250, 350, size=(4000, 3000))
    assert set(read_sheet(photo).places.tolist()) == set(strokes)


def test_covered_marks_and_covered_numbers_are_refused(pages, tmp_path):
    for place, complaint in (((195, 282), "four corner marks, found 3"), ((105, 15), "number")):
        page = pages["five"][0].copy()
        x, y = (np.array(place) * page.shape[1] / 210).astype(int)
        page[y - 60 : y + 60, x - 60 : x + 60] = (200, 160, 130)  # a thumb
        photo = photographed(page, tmp_path / "thumb.jpg", 10, 0, 0)
        with pytest.raises(NoSheet, match=complaint):
            read_sheet(photo)


def test_a_set_has_every_page_once_with_its_writer(class_set):
    out, said, counts = class_set
    assert counts == (4, 1)
    table = pd.read_csv(out / "digits.csv")
    assert table.groupby("writer").size().to_dict() == {5: 95, 7: 190}
    assert set(table["photo"]) >= {"five.jpg", "again.jpg"} and len(set(table["photo"])) == 3
    told = "\n".join(said)
    assert "sheet 5, 95 digits; left out: 3 empty (row 1 box 4" in told
    assert "2 crossed out" in told and "table.jpg: refused" in told and "the same page as" in told


def test_load_digits_opens_a_set_and_keeps_writers_apart(class_set):
    out, _, _ = class_set
    digits = load_digits(root=out)
    table = pd.read_csv(out / "digits.csv")
    assert (len(digits.train), len(digits.test)) == (190, 95)
    assert digits.train.images.shape == (190, 28, 28) and digits.train.images.dtype == torch.uint8
    assert digits.test.labels.tolist() == table.loc[table["writer"] == 5, "label"].tolist()


def test_an_altered_set_is_never_used(class_set, tmp_path):
    for path in class_set[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    content = bytearray((tmp_path / "labels-idx1-ubyte").read_bytes())
    content[-1] ^= 1
    (tmp_path / "labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(DamagedFile, match="labels-idx1-ubyte is not as it was made"):
        load_digits(root=tmp_path)


def test_nothing_is_written_over_others_files_or_without_a_page(photos, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(LabError, match="holds other files"):
        read_sheets([photos / "five.jpg"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    command = [sys.executable, "-m", "mnist_lab", "sheet", "--out", tmp_path / "set", "--read"]
    done = subprocess.run([*command, photos / "table.jpg"], capture_output=True, encoding="utf-8")
    assert done.returncode == 2 and "table.jpg" in done.stdout and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_figure_shows_the_page_and_its_digits(photos):
    photo = photos / "five.jpg"
    figure = sheet_figure(np.asarray(Image.open(photo)), read_sheet(photo), title="A page")
    paper, cut = figure.axes
    assert len(paper.patches) == 100 and len(cut.images) == 1

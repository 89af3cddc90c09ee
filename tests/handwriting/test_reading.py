"""Digits on paper are read as well as the digits themselves, whatever paper and light are like."""

import json
import os
from pathlib import Path

import numpy as np
import paper
import pytest
from click.testing import CliRunner
from PIL import Image

import mnist_lab as lab
from mnist_lab.course.cli import main
from mnist_lab.figures import reading_figure
from mnist_lab.handwriting.ink import NoInk
from mnist_lab.handwriting.measuring import read_labelled, share_right
from mnist_lab.handwriting.network import load_network
from mnist_lab.handwriting.pictures import PictureError

READER = load_network("reader")
WAYS = {
    "clean": {},
    "light on dark": {"paper": (25, 30, 28), "ink": (220, 225, 215)},
    "blue ink": {"ink": (60, 70, 190)},
    "red on yellow": {"paper": (250, 235, 150), "ink": (200, 30, 30)},
    "pencil": {"ink": (165, 165, 165)},
    "small": {"size": 30, "gap": 16},
    "rising": {"slope": -0.5},
    "falling": {"slope": 0.55},
}
CHANGES = {
    "shaded": paper.shaded,
    "noisy": paper.noisy,
    "shaded and noisy": lambda page: paper.noisy(paper.shaded(page)),
    "ruled": paper.ruled,
    "ruled, tilted": lambda page: paper.ruled(page, tilt=0.05),
    "squared": lambda page: paper.ruled(page, step=60, squares=True),
    "specks": paper.speckled,
    "dark table": paper.on_table,
}


@pytest.fixture(scope="module")
def known(uci_digits):
    """Images and labels of digits that the network is sure of and right about."""
    images, labels = uci_digits.test.images.numpy(), uci_digits.test.labels.numpy()
    answers = np.asarray(READER.answer(images))
    good = (answers.max(axis=1) > 0.99) & (answers.argmax(axis=1) == labels)
    return images[good], labels[good]


def pages(known, **how):
    """Two pages with two rows of six digits each, and the lines they should be read as."""
    images, labels = known
    for seed in range(2):
        chosen = np.random.default_rng(seed).integers(0, len(labels), (2, 6))
        lines = tuple("".join(map(str, labels[row])) for row in chosen)
        yield paper.write([images[row] for row in chosen], seed=seed, **how), lines


def lines_right(read_pages):
    return sum(
        line in reading.lines and len(reading.lines) == 2
        for reading, lines in read_pages
        for line in lines
    )


@pytest.mark.parametrize("way", WAYS)
def test_rows_are_read_in_any_ink_and_slant(known, way):
    assert lines_right((lab.read(p, READER), s) for p, s in pages(known, **WAYS[way])) >= 3


@pytest.mark.parametrize("change", CHANGES)
def test_rows_are_read_on_any_paper_and_in_any_light(known, change):
    change = CHANGES[change]
    assert lines_right((lab.read(change(p), READER), s) for p, s in pages(known)) >= 3


def test_what_is_read_says_where_and_how_sure(known):
    page, lines = next(pages(known))
    reading = lab.read(page, READER, allow=0.01)
    assert reading.lines == lines
    assert reading.text == "\n".join(lines)
    for digit in reading.digits:
        assert digit.probabilities.shape == (10,)
        assert digit.probabilities.sum() == pytest.approx(1)
        assert digit.confidence == digit.probabilities.max() == digit.probabilities[digit.digit]
        assert digit.image.shape == (28, 28) and digit.image.dtype == np.uint8
        left, top, right, bottom = digit.box
        assert page[top:bottom, left:right].min() < 60 and 58 <= bottom - top <= 70
    boxes = [digit.box for digit in reading.digits]
    assert boxes[:6] == sorted(boxes[:6]) and boxes[6:] == sorted(boxes[6:])


def test_boxes_of_a_large_photograph_are_in_its_own_pixels(known):
    page, lines = next(pages(known, size=300, gap=150))
    reading = lab.read(page, READER)
    assert reading.lines == lines
    left, top, right, bottom = reading.digits[0].box
    assert page[top:bottom, left:right].min() < 60 and 280 <= bottom - top <= 320


def test_a_digit_below_the_threshold_is_said_as_a_question_mark(known):
    page, lines = next(pages(known))
    reading = lab.read(page, READER, allow=0.0)
    least = READER.threshold(0.0)
    said = ["?" if digit.confidence < least else str(digit.digit) for digit in reading.digits]
    assert reading.text.replace("\n", "") == "".join(said)
    assert reading.lines == lines


def test_a_trained_network_reads_too(few_digits, known):
    fit = lab.fit(lab.REPORT_A.but(epochs=1), few_digits, echo=None)
    page, lines = next(pages(known))
    assert [len(line) for line in lab.read(page, fit).lines] == [len(line) for line in lines]


@pytest.mark.parametrize(
    "page",
    {
        "white": np.full((300, 400, 3), 255, np.uint8),
        "grain": paper.noisy(np.full((600, 800, 3), 200, np.uint8)),
        "shaded": paper.shaded(np.full((600, 800, 3), 240, np.uint8)),
        "ruled": paper.ruled(np.full((600, 800, 3), 240, np.uint8)),
        "specks": paper.speckled(np.full((600, 800, 3), 240, np.uint8)),
        "table": paper.on_table(np.full((600, 800, 3), 240, np.uint8)),
        "squared": paper.noisy(
            paper.ruled(np.full((600, 800, 3), 235, np.uint8), step=45, squares=True, tilt=0.05)
        ),
        "folded": paper.folded(np.full((600, 800, 3), 235, np.uint8)),
        "dot": paper.dotted(np.full((400, 400, 3), 235, np.uint8), 7),
        "small dot": paper.dotted(np.full((28, 28, 3), 235, np.uint8), 1),
        "blot": paper.dotted(np.full((1200, 1600, 3), 235, np.uint8), 60),
        "pixel": np.zeros((1, 1, 3), np.uint8),
        "a line of pixels": np.zeros((1, 900, 3), np.uint8),
    }.items(),
    ids=lambda page: page[0],
)
def test_empty_paper_is_no_digit(page):
    with pytest.raises(NoInk, match=r"No (ink|digit) was found"):
        lab.read(page[1], READER)


@pytest.fixture
def folder(known, tmp_path):
    """Two pictures, one of nothing, and what they show."""
    page, lines = next(pages(known))
    Image.fromarray(page).save(tmp_path / "page.png")
    Image.fromarray(np.full((90, 90, 3), 255, np.uint8)).save(tmp_path / "empty.png")
    rows = [f"page.png,{'|'.join(lines)},page", "empty.png,7,single"]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,kind", *rows]))
    return tmp_path, lines


def test_a_labelled_folder_is_measured_and_its_failures_named(folder):
    readings = read_labelled(folder[0], READER)
    assert readings["right"].tolist() == [True, False]
    assert readings["read"].tolist() == ["|".join(folder[1]), ""]
    shares = share_right(readings, ["kind"]).set_index("kind")
    assert shares.loc["page", ["right", "of"]].tolist() == [2, 2]
    assert shares.loc["single", ["right", "of"]].tolist() == [0, 1]
    assert (shares["low"] <= shares["share"]).all() and (shares["share"] <= shares["high"]).all()


def test_the_command_reads_a_line_per_picture_and_fails_if_it_cannot(folder):
    where, lines = folder
    arguments = ["read", str(where / "page.png"), str(where / "empty.png"), str(where)]
    result = CliRunner().invoke(main, arguments)
    said = result.stdout.splitlines()
    assert result.exit_code == 2
    assert said[0].endswith("page.png: " + " / ".join(lines))
    assert "No ink was found" in said[1] and "is a folder" in said[2]


def test_the_command_reports_another_number_of_digits_and_draws(folder):
    where, lines = folder
    out = where / "out.png"
    page = str(where / "page.png")
    result = CliRunner().invoke(main, ["read", page, "--digits", "11", "--picture", str(out)])
    assert result.exit_code == 1
    assert "expected 11 digits, found 12" in result.stdout
    assert Image.open(out).width > 900
    result = CliRunner().invoke(main, ["read", page, "--digits", "12", "--json"])
    (found,) = json.loads(result.stdout)
    assert result.exit_code == 0 and found["lines"] == list(lines)


def test_the_figure_draws_every_digit_and_doubt(known):
    page, lines = next(pages(known))
    figure = reading_figure(page, lab.read(page, READER, allow=0.0).digits, title="Read")
    assert len(figure.axes[0].patches) == len(figure.axes[0].texts) == len("".join(lines))
    figure.draw_without_rendering()


def test_other_peoples_pictures_are_read():
    folder = os.environ.get("MNIST_LAB_HANDWRITING")
    if not folder:
        pytest.skip("needs pictures: set MNIST_LAB_HANDWRITING to a folder with labels.csv")
    readings = read_labelled(Path(folder), READER)
    shares = share_right(readings.assign(row=readings["kind"] != "single"), ["row"])
    shares = shares.set_index("row")["share"]
    failing = readings.loc[~readings["right"], ["file", "label", "read"]].to_string()
    assert shares[False] >= 0.98 and shares[True] >= 0.9, failing


def test_what_is_no_picture_is_refused_by_name():
    with pytest.raises(PictureError, match=r"nowhere\.png is not there"):
        lab.read("nowhere.png")


def test_a_1_that_was_cut_out_closely_is_no_fold():
    strip = np.full((100, 24, 3), 240, np.uint8)
    strip[:, 11:14] = 30
    assert lab.read(strip).lines == ("1",)


@pytest.mark.parametrize("words", [["read", "a.png", "--picture"], ["sheet", "--out"]])
def test_an_ending_that_no_picture_has_is_refused_before_anything_is_done(words, tmp_path):
    result = CliRunner().invoke(main, [*words, str(tmp_path / "new" / "out.txt")])
    assert result.exit_code == 2 and "must end in .p" in result.output
    assert not (tmp_path / "new").exists()

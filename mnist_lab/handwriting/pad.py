"""A pad to draw digits on in a notebook: the network reads along, stroke by stroke."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets
from PIL import Image, ImageDraw

from mnist_lab.handwriting.ink import NoInk
from mnist_lab.handwriting.reading import Network, ReadDigit, Reading, as_reader, read

SIDE, PEN = 280, 18  # pixels: the pad's side, and the width of its pen

Strokes = Sequence[Sequence[Sequence[float]]]  # each a sequence of points [x, y], in pixels


class Pad(anywidget.AnyWidget):
    """A square to draw on with mouse, pen or finger, for JupyterLab, VS Code and Colab.

    The page sends the strokes as they are drawn. What is read in them is computed here, by
    ``mnist_lab.read``, and goes back: the digits, each with its ten probabilities and the 28×28
    image that the network sees.
    """

    _esm = Path(__file__).with_suffix(".js")
    side = traitlets.Int(SIDE).tag(sync=True)
    pen = traitlets.Int(PEN).tag(sync=True)
    strokes: traitlets.List = traitlets.List().tag(sync=True)  # set by the page
    answer: traitlets.Dict = traitlets.Dict().tag(sync=True)  # shown by the page

    def __init__(self, network: Network = "reader", allow: float = 0.01) -> None:
        super().__init__()
        self.network, self.allow = as_reader(network), allow
        self.reading: Reading | None = None  # of what is drawn; None if that is nothing
        self.observe(self._read, "strokes")

    @property
    def picture(self) -> Image.Image:
        """What is drawn on the pad."""
        return draw(self.strokes)

    def _read(self, _: object) -> None:
        try:
            self.reading = read(self.picture, self.network, self.allow)
        except NoInk:
            self.reading = None
        digits = self.reading.digits if self.reading else ()
        self.answer = {"digits": [_answer(digit) for digit in digits]}


def draw(strokes: Strokes) -> Image.Image:
    """The strokes as the pad shows them: grey, ``SIDE`` × ``SIDE`` pixels, black on white."""
    fine = 3  # drawn larger and shrunk, for soft edges
    image = Image.new("L", (fine * SIDE, fine * SIDE), "white")
    pen = ImageDraw.Draw(image)
    for stroke in strokes:
        points = [(fine * x, fine * y) for x, y in stroke]
        pen.line(points, "black", fine * PEN, joint="curve")
        for end in (points[0], points[-1]):
            pen.circle(end, fine * PEN / 2, "black")
    return image.reduce(fine)


def _answer(digit: ReadDigit) -> dict[str, object]:
    """What the page shows of a digit, in JSON's types."""
    png = io.BytesIO()
    Image.fromarray(digit.image).save(png, "png")
    return {
        "digit": digit.digit,
        "sure": digit.sure,
        "probabilities": [float(p) for p in digit.probabilities],
        "image": "data:image/png;base64," + base64.b64encode(png.getvalue()).decode(),
    }

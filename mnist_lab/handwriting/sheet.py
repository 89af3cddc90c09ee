"""A page to print and write on: a hundred boxes, each asking for one digit.

Lengths are millimetres from the upper left corner of an A4 page. ``sheet.typ`` draws the page by
the numbers of this file and ``sheet_reading`` finds its way on a photograph by the same ones.
"""

import binascii
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from mnist_lab.files import PROJECT, LabError, replacing

LAYOUT = 1  # goes into the checksum: a page of another layout is not misread as one of this
PAGE = (210.0, 297.0)
MARKS = np.array([(15, 15), (195, 15), (195, 282), (15, 282)], float)  # centres; the first differs
MARK = 12.0  # side of a corner mark: a black ring 2 wide, and inside one square or two bars
BOX = 14.0  # inner side of a box
PITCH = (17.4, 20.0)  # from one box to the next: to the right, down
GRID = (19.7, 67.0)  # upper left corner of the first box
CODE_BITS = 32  # 16 of the number and 16 of its checksum, black for 1
CODE_STEP = 4.2
CODE_START = (PAGE[0] / 2 - CODE_STEP * (CODE_BITS - 1) / 2, 15.0)  # centre of the first cell
LARGEST_NUMBER = 9999
DRAWING = Path(__file__).with_name("sheet.typ")


@dataclass(frozen=True)
class Layout:
    """What ``sheet.typ`` draws of one sheet."""

    number: int
    marks: list[list[float]]
    mark: float
    cells: list[list[float]]  # centres of the black cells of the code
    boxes: list[list[float]]  # upper left corner, row by row
    box: float
    digits: list[int]
    chinese_font: str | None


def digits_asked(number: int) -> np.ndarray:
    """The digits that sheet ``number`` asks for, int64 [10, 10]: ten of each, shuffled by it.

    Shuffled by a hash, which is the same for every version of every library, forever.
    """
    places = sorted(range(100), key=lambda place: sha256(f"{number} {place}".encode()).digest())
    return (np.argsort(places) % 10).reshape(10, 10)


def code_of(number: int) -> np.ndarray:
    """The sheet's number and its checksum (CRC-16 of the CCITT) as bits, bool [32]."""
    content = number.to_bytes(2, "big")
    content += binascii.crc_hqx(content, LAYOUT).to_bytes(2, "big")
    return np.unpackbits(np.frombuffer(content, np.uint8)).astype(bool)


def number_of(code: np.ndarray) -> int | None:
    """The sheet's number of these bits, bool [32], or None if their checksum is wrong."""
    content = np.packbits(code).tobytes()
    number = int.from_bytes(content[:2], "big")
    fits = 1 <= number <= LARGEST_NUMBER and np.array_equal(code_of(number), code)
    return number if fits else None


def code_cells() -> np.ndarray:
    """Centres of the cells of the code, float [32, 2]."""
    right = CODE_START[0] + CODE_STEP * np.arange(CODE_BITS)
    return np.stack([right, np.full(CODE_BITS, CODE_START[1])], axis=1)


def box_corners() -> np.ndarray:
    """Upper left corners of the boxes, row by row, float [100, 2]."""
    down, right = np.mgrid[:10, :10].reshape(2, 100)
    return np.stack([GRID[0] + PITCH[0] * right, GRID[1] + PITCH[1] * down], axis=1)


def write_sheet(path: str | Path, number: int = 1) -> None:
    """Write sheet ``number`` (1 to 9999), which is also its writer's number, as a PDF of one page.

    A name that ends in .png gives a picture at 200 dots per inch instead. The instructions are in
    English and, where this machine has a Chinese font, in Chinese.

    Raises:
        LabError: if the number is another, or Typst fails. A file of that name is then as it was.
    """
    import typst

    if not 1 <= number <= LARGEST_NUMBER:
        raise LabError(f"a sheet's number is 1 to {LARGEST_NUMBER}, not {number}.")
    layout = Layout(
        number=number,
        marks=MARKS.tolist(),
        mark=MARK,
        cells=code_cells()[code_of(number)].tolist(),
        boxes=box_corners().tolist(),
        box=BOX,
        digits=digits_asked(number).flatten().tolist(),
        chinese_font=_first_font(typst.Fonts().families()),
    )
    inputs = {"layout": json.dumps(asdict(layout))}
    png = Path(path).suffix.lower() == ".png"
    with replacing(Path(path)) as new:
        try:
            typst.compile(
                DRAWING, new, format="png" if png else "pdf", ppi=200.0, sys_inputs=inputs
            )
        except (RuntimeError, OSError) as error:
            raise LabError(f"Typst could not make the sheet: {error}") from error


def _first_font(here: Sequence[str]) -> str | None:
    """The first of the report's Chinese fonts that this machine has."""
    fonts = PROJECT / "report" / "chinese_fonts.txt"
    wanted = fonts.read_text(encoding="utf-8").splitlines() if fonts.exists() else []
    return next((font for font in wanted if font in set(here)), None)

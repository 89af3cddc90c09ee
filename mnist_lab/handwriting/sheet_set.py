"""Photographed sheets to a data set on disk that ``load_digits`` opens."""

import csv
import shutil
import uuid
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from mnist_lab.data import OWN_FILES, OWN_SUMS
from mnist_lab.files import LabError, display_path, writing
from mnist_lab.handwriting.pictures import PictureError
from mnist_lab.handwriting.sheet_reading import SheetPage, read_sheet

SAME_PAGE = 0.8  # mean correlation of digits in the same boxes from which two photos show one page


def read_sheets(
    photos: Sequence[Path], out: Path, echo: Callable[[str], None] = print
) -> tuple[int, int]:
    """Read photographed sheets into the data set ``out``: how many were read and were refused.

    Says what was found on each. A page photographed twice counts once, by the photo with more
    digits; another filled copy of a sheet adds to its writer. The folder is put in place whole, if
    a digit was read at all; it replaces an older data set of this kind.

    Raises:
        LabError: if ``out`` is there and is no such data set, or cannot be written.
    """
    _require_ours(out)
    pages: dict[Path, SheetPage] = {}
    refused = 0
    for photo in photos:
        try:
            page = read_sheet(photo)
        except PictureError as error:
            refused += 1
            echo(f"{display_path(photo)}: refused: {error}")
            continue
        echo(f"{display_path(photo)}: {describe(page)}")
        twin = next((other for other in pages if _same_page(page, pages[other])), None)
        if twin:
            better = photo if len(page.labels) > len(pages[twin].labels) else twin
            echo(f"  the same page as {display_path(twin)}: {display_path(better)} is kept.")
            page = page if better == photo else pages.pop(twin)
            pages.pop(twin, None)
            photo = better
        pages[photo] = page
    if digits := sum(len(page.labels) for page in pages.values()):
        with writing(out):
            _write(out, pages)
        writers = len({page.number for page in pages.values()})
        echo(
            f"Wrote {digits:,} digits by {writers} writer{'s' * (writers > 1)} "
            f"to {display_path(out)}: "
            f'open them by lab.load_digits(root="{out.as_posix()}").'
        )
    else:
        echo("No digit was found, so nothing was written.")
    return len(photos) - refused, refused


def describe(page: SheetPage) -> str:
    """A sentence on what was found on a page."""

    def boxes(places: np.ndarray) -> str:
        named = [f"row {place // 10 + 1} box {place % 10 + 1}" for place in places]
        return f" ({', '.join(named)})" if 0 < len(named) <= 5 else ""

    return (
        f"sheet {page.number}, {len(page.labels)} digits; left out: {len(page.empty)} empty"
        f"{boxes(page.empty)}, {len(page.crossed_out)} crossed out{boxes(page.crossed_out)}."
    )


def _same_page(page: SheetPage, other: SheetPage) -> bool:
    """Whether two photos show one page: the digits in the same boxes look alike."""
    if page.number != other.number:
        return False
    _, mine, theirs = np.intersect1d(page.places, other.places, return_indices=True)
    alike = [
        np.corrcoef(a.ravel(), b.ravel())[0, 1]
        for a, b in zip(page.images[mine], other.images[theirs], strict=True)
    ]
    return bool(alike) and float(np.mean(alike)) > SAME_PAGE


def _write(out: Path, pages: dict[Path, SheetPage]) -> None:
    """The files of the data set, put in place by a rename of their folder."""
    order = sorted(pages.items(), key=lambda item: item[1].number)
    images = np.concatenate([page.images for _, page in order])
    labels = np.concatenate([page.labels for _, page in order]).astype(np.uint8)
    rows = [
        (page.number, photo.name, place // 10 + 1, place % 10 + 1, label)
        for photo, page in order
        for place, label in zip(page.places.tolist(), page.labels.tolist(), strict=True)
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex[:8]
    new, old = (out.with_name(f".{out.name}.{mark}.{end}") for end in ("tmp", "old"))
    new.mkdir()
    try:
        for name, array in zip(OWN_FILES[:2], (images, labels), strict=True):
            header = np.array([0x00000800 + array.ndim, *array.shape], ">u4")
            (new / name).write_bytes(header.tobytes() + array.tobytes())
        with (new / OWN_FILES[2]).open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("writer", "photo", "row", "box", "label"))
            table.writerows(rows)
        sums = [f"{sha256((new / name).read_bytes()).hexdigest()}  {name}\n" for name in OWN_FILES]
        (new / OWN_SUMS).write_text("".join(sums), encoding="utf-8", newline="\n")
        if out.exists():
            out.rename(old)
        new.rename(out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _require_ours(out: Path) -> None:
    """LabError if something else stands where the data set is to go."""
    if not out.exists():
        return
    others = sorted({path.name for path in out.iterdir()} - {*OWN_FILES, OWN_SUMS})
    if others:
        raise LabError(
            f"{display_path(out)} holds other files ({others[0]}): expected a new folder, or a "
            "data set made from sheets, which is replaced. Name another folder."
        )

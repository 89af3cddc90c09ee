"""A picture from wherever it is, as the eye sees it."""

import io
import re
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from mnist_lab.files import LabError, display_path

Source = str | Path | bytes | Image.Image | np.ndarray
MOST_PIXELS = 50_000_000


class PictureError(LabError):
    """What was given is no picture, or one that can't be read."""


def open_picture(source: Source) -> np.ndarray:
    """The picture, uint8 [height, width, 3]: upright (EXIF), transparency on white.

    ``source`` is a file's path, its bytes, a Pillow image, or an array [height, width] or
    [height, width, 1, 3 or 4] of uint8, uint16, bool, or floats in [0, 1]. Of an animation it is
    the first image.

    Raises:
        PictureError: for an address on the web, a folder, a file that is missing, empty or no
            picture, and for more than 50 megapixels.
    """
    if isinstance(source, Image.Image):
        return _as_rgb(source, "the image")
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), "the bytes given")
    if isinstance(source, str | Path):
        if re.match(r"[a-z][a-z0-9+.-]+:/", str(source), re.IGNORECASE):
            raise PictureError(
                f"{source} is an address: expected a file. Save the picture, then name its file."
            )
        path = Path(source).expanduser()
        if path.exists() and not path.is_file():
            what = (
                "a folder: name its files, such as folder/*.jpg"
                if path.is_dir()
                else "a device: name a file"
            )
            raise PictureError(f"{display_path(path)} is {what}.")
        try:
            with path.open("rb") as file:
                return _decode(file, display_path(path))
        except (FileNotFoundError, NotADirectoryError):
            raise PictureError(f"{display_path(path)} is not there: expected a picture.") from None
        except (PermissionError, ValueError) as error:
            raise PictureError(f"{display_path(path)} can't be opened: {error}") from None
    return _as_rgb(_from_array(np.asarray(source)), "the array")


def _decode(file: IO[bytes], name: str) -> np.ndarray:
    expected = "expected a picture: PNG, JPEG, BMP, GIF, TIFF, WebP"
    try:
        import pillow_heif  # optional: phones' HEIC files

        pillow_heif.register_heif_opener()
    except ImportError:
        expected += " or, after `pip install pillow-heif`, HEIC"
    if not file.read(1):
        raise PictureError(f"{name}: {expected}, found nothing in it.")
    file.seek(0)
    try:
        with Image.open(file) as image:
            return _as_rgb(image, name)
    except UnidentifiedImageError:
        raise PictureError(f"{name}: {expected}, found something else.") from None
    except Image.DecompressionBombError as error:
        raise PictureError(f"{name} is too large: {error}") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise PictureError(f"{name}: {expected}, found one that is damaged: {error}") from None


def _as_rgb(image: Image.Image, name: str) -> np.ndarray:
    width, height = image.size
    if not 0 < width * height <= MOST_PIXELS:
        raise PictureError(
            f"{name} is {width:,} × {height:,} pixels: expected some, and at most "
            f"{MOST_PIXELS // 1_000_000} million. Make it smaller, then try again."
        )
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = _from_array(np.asarray(image))
    if image.has_transparency_data:
        on_white = Image.new("RGBA", image.size, "white")
        on_white.alpha_composite(image.convert("RGBA"))
        image = on_white
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _from_array(array: np.ndarray) -> Image.Image:
    """An array as a Pillow image, 16 bits and floats scaled to 8 bits."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    colours = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or colours not in (1, 3, 4) or array.dtype.kind not in "buif":
        raise PictureError(
            "expected an array [height, width] or [height, width, 3 or 4] of numbers, found "
            f"{array.dtype} {list(array.shape)}"
        )
    if array.dtype != np.uint8:
        values = np.nan_to_num(array.astype(np.float64))
        largest = values.max(initial=0)
        if array.dtype.kind == "b" or (array.dtype.kind == "f" and largest <= 1):
            values = values * 255
        elif largest > 255:
            values = values / 257  # of 16 bits
        array = values.round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(array)

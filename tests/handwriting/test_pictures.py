"""Whatever a picture is stored as, it is opened as the eye sees it; what is none is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from mnist_lab.handwriting.pictures import PictureError, open_picture

PICTURE = np.zeros((20, 30, 3), np.uint8)
PICTURE[:10] = (255, 255, 255)
PICTURE[12:, :7] = (200, 40, 40)


def stored(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WebP", "AVIF"])
def test_every_kind_of_file_gives_the_same_picture(kind, tmp_path):
    path = tmp_path / "picture.any"
    path.write_bytes(stored(Image.fromarray(PICTURE), kind))
    found = open_picture(path)
    assert found.shape == PICTURE.shape and found.dtype == np.uint8
    assert abs(found.astype(int) - PICTURE).mean() < 12
    assert (open_picture(str(path)) == found).all()
    assert (open_picture(path.read_bytes()) == found).all()


def test_a_phones_rotation_is_undone():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    turned = stored(Image.fromarray(np.rot90(PICTURE)), "PNG", exif=exif)
    assert (open_picture(turned) == PICTURE).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_what_is_transparent_is_white(mode):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((1, 2), (10, 10, 10, 255))
    found = open_picture(image.convert(mode))
    assert (found[0, 0] == 255).all() and (found[2, 1] <= 10).all()


def test_a_palettes_transparent_colour_is_white():
    image = Image.fromarray(PICTURE).quantize(4)
    dark = image.getpixel((20, 15))
    found = open_picture(stored(image, "PNG", transparency=dark))
    assert (found[15, 20] == 255).all() and (found[15, 2] == PICTURE[15, 2]).all()


def test_sixteen_bits_are_scaled_to_eight():
    grey = np.array([[0, 257 * 100], [257 * 200, 65535]], np.uint16)
    expected = [[0, 100], [200, 255]]
    assert open_picture(stored(Image.fromarray(grey), "PNG"))[..., 0].tolist() == expected
    assert open_picture(stored(Image.fromarray(grey), "TIFF"))[..., 1].tolist() == expected
    assert open_picture(grey)[..., 2].tolist() == expected


def test_a_printers_colours_are_converted():
    found = open_picture(stored(Image.fromarray(PICTURE).convert("CMYK"), "TIFF"))
    assert abs(found.astype(int) - PICTURE).max() < 40


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 3), (5, 6, 4)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, bool])
def test_arrays_are_pictures(shape, kind):
    largest = 255 if kind is np.uint8 else 1
    assert (open_picture(np.full(shape, largest, kind)) == 255).all()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("https://example.org/a.png", "is an address"),
        ("missing.png", "is not there"),
        (b"", "nothing in it"),
        (b"no picture at all", "something else"),
        (stored(Image.fromarray(PICTURE), "PNG")[:60], "damaged"),
        (stored(Image.fromarray(PICTURE), "JPEG")[:300], "damaged|something else"),
        (np.zeros((4, 4, 2)), "expected an array"),
        (np.zeros((4, 4, 3), complex), "expected an array"),
        (np.zeros((0, 4), np.uint8), "expected some"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(source, said):
    with pytest.raises(PictureError, match=said):
        open_picture(source)


def test_folders_and_huge_pictures_are_refused(tmp_path):
    with pytest.raises(PictureError, match="is a folder"):
        open_picture(tmp_path)
    with pytest.raises(PictureError, match="at most 50 million"):
        open_picture(stored(Image.new("1", (8000, 8000)), "PNG"))


def test_fifty_megapixels_are_opened():
    assert open_picture(stored(Image.new("1", (8000, 6250)), "PNG")).shape == (6250, 8000, 3)

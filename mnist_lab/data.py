"""Where digits come from: files found, fetched or bundled, checked before use."""

import gzip
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from textwrap import indent

import numpy as np
import torch

from mnist_lab.files import MAX_BYTES, PROJECT, LabError, display_path, writing

DATASETS = ("auto", "mnist", "uci-digits")
MNIST_SHA256 = {  # of the decompressed bytes; the gzip header differs between copies
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MNIST_BYTES = dict(zip(MNIST_SHA256, (47_040_016, 60_008, 7_840_016, 10_008), strict=True))
ALL_GOOD = "All four are good: MNIST is used."
OWN_FILES = ("images-idx3-ubyte", "labels-idx1-ubyte", "digits.csv")  # of photographed sheets
OWN_SUMS = "SHA256SUMS"
BANNER = """\
NOT MNIST: its four files were not all found here and no mirror could supply them.
This uses the 1,797 real handwritten digits (UCI, 8×8) bundled with scikit-learn instead.
For MNIST, run `python -m mnist_lab data --fetch` with a network, or set MNIST_LAB_DATA
to a folder that holds its four files."""


class UnknownDataset(LabError, ValueError):
    """A dataset name that is none of ``DATASETS``."""


class DamagedFile(LabError):
    """A file that is there but is not what its name says: cut off, altered, unreadable."""


class MissingData(LabError):
    """Digits that were asked for and could not be found or fetched."""


@dataclass(frozen=True, eq=False)
class Images:
    """Digits with their labels."""

    images: torch.Tensor  # uint8 [N, 28, 28], 0 is paper and 255 is ink
    labels: torch.Tensor  # int64 [N], 0 to 9

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Digits:
    """A dataset: what to train on, what to test on, and where it came from."""

    train: Images
    test: Images
    name: str  # "mnist", "uci-digits" or "own-digits"
    title: str  # "MNIST" or "UCI digits"
    source: str  # one sentence on where they came from
    sha256: dict[str, str]  # by MNIST's file name: of the file, or of the UCI digits' tensor

    @cached_property
    def digest(self) -> str:
        """The one SHA-256 that identifies these images and labels, in this order."""
        digests = sorted(_tensor_digests(self.train, self.test).items())
        return sha256("".join(f"{part} {one}\n" for part, one in digests).encode()).hexdigest()


def load_digits(
    name: str = "auto",
    root: str | Path | None = None,
    *,
    mirrors: Sequence[str] | None = None,
    progress: bool = False,
) -> Digits:
    """MNIST ("auto") where it can be had, else (with a banner) the bundled UCI digits.

    MNIST is looked for in ``root`` or, without it, in the folder that ``MNIST_LAB_DATA`` names or,
    without that too, in the project's ``data/``, into which missing files are fetched. They may be
    raw or .gz, in the folder itself or in ``MNIST/raw`` below it.

    A ``root`` that `python -m mnist_lab sheet` made gives its own digits: to test on, those of each
    writer whose number ends in 0 or 5, the others to train on; all to test on if one has none.

    Raises:
        MissingData: if a folder that was named lacks a file, or "mnist" can't be fetched.
        DamagedFile: if a file is not what its name says.
        LabError: if what is fetched cannot be written.
    """
    if name not in DATASETS:
        raise UnknownDataset(f"no dataset {name!r}: expected one of {', '.join(DATASETS)}.")
    if name == "uci-digits":
        return _load_uci_digits()
    folder, named_by = _data_folder(root)
    if name == "auto" and root and (folder / OWN_SUMS).exists():
        return _load_own_digits(folder)
    if len(_locate(folder)) < 4:
        if named_by:
            raise MissingData("\n".join(describe_data(root)))
        try:
            fetch_mnist(folder, mirrors, progress)
        except MissingData:
            if name == "mnist":
                raise
            print(BANNER)
            return _load_uci_digits()
    arrays = [torch.from_numpy(read_idx(path)) for path in _locate(folder).values()]
    train, test = Images(arrays[0], arrays[1].long()), Images(arrays[2], arrays[3].long())
    where = f"the folder named by {named_by}" if named_by else "the project's data folder"
    source = f"MNIST (LeCun, Cortes and Burges), its four files read from {where}."
    return Digits(train, test, "mnist", "MNIST", source, dict(MNIST_SHA256))


def fetch_mnist(
    root: str | Path | None = None, mirrors: Sequence[str] | None = None, progress: bool = False
) -> Path:
    """Fetch the files that a folder lacks, or holds damaged. Returns its ``MNIST/raw``.

    ``mirrors`` are base addresses, torchvision's by default. MissingData says what was tried.
    """
    from torchvision.datasets import MNIST

    from mnist_lab.download import NoMirror, fetch_files

    root, _ = _data_folder(root)
    folder = root / "MNIST" / "raw"
    needed = {stem: MNIST_SHA256[stem] for stem in _faults(_locate(root))}
    try:
        with writing(folder, "set MNIST_LAB_DATA to a folder that holds MNIST's four files"):
            fetch_files(needed, folder, MNIST.mirrors if mirrors is None else mirrors, progress)
    except NoMirror as error:
        raise MissingData(
            f"MNIST could not be fetched into {display_path(folder)}:\n{indent(str(error), '  ')}\n"
            "  By hand: place these there, raw or .gz, or set MNIST_LAB_DATA to a folder that\n"
            f"  holds all four: {', '.join(needed)}."
        ) from None
    return folder


def describe_data(root: str | Path | None = None) -> list[str]:
    """Lines that say where MNIST is looked for, what is there, and whether each file is good."""
    folder, named_by = _data_folder(root)
    why = f"named by {named_by}" if named_by else "the project's own"
    if not os.access(folder, os.X_OK):
        why += ", no folder that can be opened"
    found = _locate(folder)
    faults = _faults(found)
    states = {stem: f"good: {display_path(path)}" for stem, path in found.items()} | faults
    hint = "A folder that you name has to hold all four. The project's own is filled by a download."
    return [
        f"MNIST is looked for, raw or .gz, in {display_path(folder)} ({why}) and its MNIST/raw:",
        *(f"  {stem}  {states[stem]}" for stem in MNIST_SHA256),
        hint if faults else ALL_GOOD,
    ]


def read_idx(path: str | Path) -> np.ndarray:
    """Images [N, rows, columns] or labels [N], uint8, of an IDX file (MNIST's format), raw or .gz.

    Raises:
        DamagedFile: if it is not a whole IDX file, or has the name but not the bytes of MNIST's.
    """
    path = Path(path)
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            content = bytearray(file.read(MAX_BYTES + 1))  # writable, as PyTorch wants its memory
    except (OSError, EOFError, zlib.error) as error:
        found = getattr(error, "strerror", None) or str(error)
        raise _damaged(path, "a file that can be read", found) from None
    name, digest = path.name.removesuffix(".gz"), sha256(content).hexdigest()
    if name in MNIST_SHA256 and digest != MNIST_SHA256[name]:
        stems = {own: stem for stem, own in MNIST_SHA256.items()}
        verdict = "truncated" if len(content) < MNIST_BYTES[name] else "altered"
        if digest in stems:
            verdict = f"mislabelled: it is {stems[digest]}"
        elif content[:2] == b"\x1f\x8b":
            verdict = "gzip data: its name should end in .gz"
        expected = f"{MNIST_BYTES[name]:,} bytes with SHA-256 {MNIST_SHA256[name][:8]}…"
        found = f"{len(content):,} bytes with SHA-256 {digest[:8]}… ({verdict})"
        raise _damaged(path, expected, found)
    # An IDX file: 0, 0, the type (8 is uint8), how many dimensions, the length of each, the bytes.
    try:
        dims = {b"\0\0\x08\x03": 3, b"\0\0\x08\x01": 1}[bytes(content[:4])]
        shape = np.frombuffer(content, ">u4", count=dims, offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dims).reshape(shape)
    except (KeyError, ValueError):
        found = f"{len(content):,} bytes that begin with 0x{content[:16].hex()}"
        raise _damaged(path, "as many images or labels as an IDX header says", found) from None


def _damaged(path: Path, expected: str, found: str) -> DamagedFile:
    return DamagedFile(
        f"{display_path(path)} can't be used:\n  expected {expected}, found {found}.\n"
        "  Place a good copy there, or delete it and run `python -m mnist_lab data --fetch`."
    )


def _data_folder(root: str | Path | None) -> tuple[Path, str]:
    """The folder to look in, and who named it (empty: nobody, it is the project's own)."""
    named = root or os.environ.get("MNIST_LAB_DATA")
    named_by = "the argument root" if root else "MNIST_LAB_DATA" if named else ""
    return Path(named or PROJECT / "data").expanduser(), named_by


def _locate(root: Path) -> dict[str, Path]:
    """Which of the four files are below ``root``, in MNIST's order, the first form of each."""
    found = {}
    for stem in MNIST_SHA256:
        forms = [root / below / (stem + end) for below in ("MNIST/raw", "") for end in ("", ".gz")]
        # A folder of that name is reported, but does not hide a file in another form.
        if there := [*filter(os.path.isfile, forms), *filter(os.path.isdir, forms)]:
            found[stem] = there[0]
    return found


def _faults(found: dict[str, Path]) -> dict[str, str]:
    """What is wrong with each of the four files that is not good."""
    faults = {}
    for stem in MNIST_SHA256:
        try:
            read_idx(found[stem])
        except KeyError:
            faults[stem] = "missing"
        except DamagedFile as error:
            faults[stem] = f"damaged: {error}"
    return faults


def _load_own_digits(folder: Path) -> Digits:
    """The digits of photographed sheets. No writer is in both parts, as in MNIST."""
    import pandas as pd

    sums = dict(line.split()[::-1] for line in (folder / OWN_SUMS).read_text().splitlines())
    for path in (folder / name for name in OWN_FILES):
        if sha256(path.read_bytes()).hexdigest() != sums.get(path.name):
            raise DamagedFile(
                f"{display_path(path)} is not as it was made: expected its SHA-256 in {OWN_SUMS}.\n"
                "  Read the photographed sheets again."
            )
    images, labels = (torch.from_numpy(read_idx(folder / name)) for name in OWN_FILES[:2])
    writers = torch.tensor(pd.read_csv(folder / OWN_FILES[2])["writer"])
    tested = writers % 5 == 0
    tested |= tested.all() | ~tested.any()
    train, test = (Images(images[rows], labels[rows].long()) for rows in (~tested, tested))
    source = f"{len(labels):,} digits of photographed sheets, writers: {len(writers.unique())}."
    return Digits(train, test, "own-digits", f"Own digits ({folder.name})", source, sums)


def _load_uci_digits() -> Digits:
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    bunch = datasets.load_digits()
    images = torch.from_numpy(np.stack([_place_like_mnist(image) for image in bunch.images]))
    labels = torch.from_numpy(bunch.target).long()
    rows = np.arange(len(labels))
    parts = train_test_split(rows, test_size=300, stratify=labels, random_state=0)
    train, test = (Images(images[np.sort(part)], labels[np.sort(part)]) for part in parts)
    source = (
        "UCI handwritten digits (Alpaydin and Kaynak), the 1,797 bundled with scikit-learn, "
        "enlarged from 8×8 and placed in 28×28 as MNIST places its own."
    )
    return Digits(train, test, "uci-digits", "UCI digits", source, _tensor_digests(train, test))


def _tensor_digests(train: Images, test: Images) -> dict[str, str]:
    """SHA-256 of the numbers of the four parts, by MNIST's file name."""
    tensors = (train.images, train.labels, test.images, test.labels)
    digests = [sha256(tensor.numpy().tobytes()).hexdigest() for tensor in tensors]
    return dict(zip(MNIST_SHA256, digests, strict=True))


def _place_like_mnist(image: np.ndarray) -> np.ndarray:
    """An 8×8 digit (0 to 16) as MNIST would show it, uint8 [28, 28].

    The ink is scaled to fit 20×20, keeping its aspect ratio, and its centre of mass goes to the
    centre of the field (LeCun, Bottou, Bengio & Haffner 1998, section III.A).
    """
    from scipy import ndimage

    def nearest(x: np.ndarray) -> np.ndarray:
        """Halves go up, with a hair's breadth of slack so that every machine's floats agree."""
        return np.floor(x + 0.5 + 1e-6).astype(int)

    ink = image[ndimage.find_objects((image > 0).astype(int))[0]]  # cut to its bounding box
    size = nearest(20 * np.array(ink.shape) / max(ink.shape))
    enlarged = ndimage.zoom(ink, size / ink.shape, order=1, mode="nearest", grid_mode=True)
    pixels = nearest(enlarged * (255 / 16)).astype(np.uint8)
    # Rows above and columns to the left, so that the centre of mass comes to (14, 14).
    before = nearest(14 - np.array(ndimage.center_of_mass(pixels)))
    return np.pad(pixels, np.stack([before, 28 - before - size], axis=1))

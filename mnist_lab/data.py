"""Where digits come from: files found, fetched or bundled, checked before use."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from mnist_lab.atomic import shown
from mnist_lab.download import DownloadFailed, fetch_files
from mnist_lab.errors import LabError
from mnist_lab.idx import MNIST_SHA256, MissingData, file_fault, first_fault, read_mnist_file

PROJECT: Path = Path(__file__).resolve().parent.parent
NAMES = ("auto", "mnist", "uci-digits")

BANNER = """\
NOT MNIST: none of its files were found here and no mirror could supply them.
This uses the 1,797 real handwritten digits (UCI, 8×8) bundled with scikit-learn instead.
For MNIST, run `python -m mnist_lab data --fetch` with a network, or set MNIST_LAB_DATA
to a folder that holds its four files."""


class UnknownDataset(LabError, ValueError):
    """A dataset name that is none of ``NAMES``."""


@dataclass(frozen=True, eq=False)
class Images:
    """Digits with their labels.

    Attributes:
        images: uint8 [N, 28, 28], 0 is paper and 255 is ink.
        labels: int64 [N], 0 to 9.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Digits:
    """A dataset: what to train on, what to test on, and where it came from.

    Attributes:
        train, test: the digits.
        name: ``"mnist"`` or ``"uci-digits"``.
        title: the name for people, ``"MNIST"`` or ``"UCI digits"``.
        source: one sentence on where these digits came from.
        sha256: digest of each of the four parts by MNIST's file name: the decompressed file, or for
            the UCI digits the bytes of the tensor.
    """

    train: Images
    test: Images
    name: str
    title: str
    source: str
    sha256: dict[str, str]

    @cached_property
    def digest(self) -> str:
        """The one SHA-256 that identifies these images and labels, in this order."""
        tensors = (self.train.images, self.train.labels, self.test.images, self.test.labels)
        digests = zip(MNIST_SHA256, map(tensor_digest, tensors), strict=True)
        lines = [f"{part} {digest}\n" for part, digest in sorted(digests)]
        return sha256("".join(lines).encode()).hexdigest()


def tensor_digest(tensor: torch.Tensor) -> str:
    """SHA-256 of a CPU tensor's numbers."""
    return sha256(tensor.numpy().tobytes()).hexdigest()


def load_digits(
    name: str = "auto",
    root: str | Path | None = None,
    *,
    mirrors: Sequence[str] | None = None,
    progress: bool = False,
) -> Digits:
    """The digits, checked: MNIST where it can be had, else (with a banner) the bundled UCI digits.

    MNIST is looked for in ``root``, else in the folder named by the environment variable
    ``MNIST_LAB_DATA``, else in the project's ``data/``; raw or .gz, flat or in ``MNIST/raw`` below.
    A folder that was named has to hold all four files. Otherwise what is missing is fetched into
    ``data/MNIST/raw``.

    Args:
        name: ``"auto"``, ``"mnist"`` (nothing else will do) or ``"uci-digits"`` (no search).
        root: the folder to look in.
        mirrors: base addresses to fetch from; torchvision's by default.
        progress: show a bar per download on stderr.

    Raises:
        UnknownDataset: if ``name`` is none of these.
        MissingData: if a named folder lacks a file, or MNIST is forced and can't be had.
        DamagedFile: if a file is there but is not what its name says. It is never used.
    """
    if name not in NAMES:
        raise UnknownDataset(f"no dataset is called {name!r}: expected one of {', '.join(NAMES)}.")
    if name == "uci-digits":
        return _load_uci_digits()
    folder, named_by = _data_folder(root)
    if not named_by and len(_locate(folder)) < len(MNIST_SHA256):
        try:
            fetch_mnist(folder, mirrors, progress)
        except MissingData:
            if name == "mnist":
                raise
            print(BANNER)
            return _load_uci_digits()
    return _load_mnist(folder, named_by)


def fetch_mnist(
    root: str | Path, mirrors: Sequence[str] | None = None, progress: bool = False
) -> Path:
    """Fetch the MNIST files that ``root`` lacks, or holds damaged, into ``root/MNIST/raw``.

    Returns:
        That folder. Every file in it that this put there has been checked.

    Raises:
        MissingData: if a file can't be had; the message says what was tried and what else to do.
    """
    if mirrors is None:
        from torchvision.datasets import MNIST

        mirrors = MNIST.mirrors
    root = Path(root).expanduser()
    folder = root / "MNIST" / "raw"
    found = _locate(root)
    needed = {
        stem: digest
        for stem, digest in MNIST_SHA256.items()
        if stem not in found or file_fault(stem, found[stem], _cache_folder())
    }
    try:
        fetch_files(needed, folder, mirrors, progress)
    except (DownloadFailed, OSError) as error:
        tried = str(error) if isinstance(error, DownloadFailed) else f"{error.strerror}"
        raise MissingData(
            f"MNIST could not be fetched into {shown(folder)}:\n"
            + "".join(f"  {line}\n" for line in tried.splitlines())
            + "  By hand: place these there, raw or .gz, or set MNIST_LAB_DATA to a folder that\n"
            f"  holds all four: {', '.join(needed)}."
        ) from None
    return folder


def describe_data(root: str | Path | None = None) -> list[str]:
    """Lines that say where MNIST is looked for, what is there, and whether each file is good."""
    folder, named_by = _data_folder(root)
    why = f"named by {named_by}" if named_by else "the project's own"
    lines = [f"Looking in {shown(folder)} ({why}) and in MNIST/raw below it."]
    found: dict[str, Path] = {}
    try:
        found = _locate(folder)
    except MissingData as error:
        lines += str(error).splitlines()
    good = 0
    for stem in MNIST_SHA256:
        if stem not in found:
            lines.append(f"  {stem}  missing")
            continue
        path = found[stem]
        trouble = file_fault(stem, path, _cache_folder())
        good += trouble is None
        form = "gz" if path.suffix == ".gz" else "raw"
        lines.append(f"  {stem}  {form}, {'damaged' if trouble else 'good'}: {shown(path)}")
        lines += [f"    {line}" for line in str(trouble or "").splitlines()]
    if good == len(MNIST_SHA256):
        lines.append("All four are good: MNIST is used.")
    elif found and len(found) == len(MNIST_SHA256):
        lines.append("Damaged files are never used: nothing is loaded until they are replaced.")
    elif named_by:
        lines.append(f"A folder named by {named_by} has to hold all four: nothing else is tried.")
    else:
        lines.append(
            "Without all four, what is missing is fetched; with no mirror in reach, the 1,797 UCI "
            "digits bundled with scikit-learn are used."
        )
    return lines


def _load_mnist(folder: Path, named_by: str) -> Digits:
    found = _locate(folder)
    if missing := [stem for stem in MNIST_SHA256 if stem not in found]:
        raise MissingData(
            f"{shown(folder)} (named by {named_by}) does not hold MNIST:\n"
            f"  expected its four files, raw or .gz, there or in MNIST/raw below,\n"
            f"  found {len(found)} of them; missing: {', '.join(missing)}.\n"
            "  Place them there, or name no folder and let them be fetched."
        )
    files = [read_mnist_file(stem, found[stem], _cache_folder()) for stem in MNIST_SHA256]
    if fault := first_fault(files):
        raise fault
    train_images, train_labels, test_images, test_labels = (
        torch.from_numpy(file.array) for file in files
    )
    where = f"the folder named by {named_by}" if named_by else "the project's data folder"
    return Digits(
        Images(train_images, train_labels.long()),
        Images(test_images, test_labels.long()),
        name="mnist",
        title="MNIST",
        source=f"MNIST (LeCun, Cortes and Burges), its four files read from {where}.",
        sha256={file.name: file.sha256 for file in files},
    )


def _data_folder(root: str | Path | None) -> tuple[Path, str]:
    """The folder to look in, and who named it (empty: nobody, it is the project's own)."""
    if root is not None:
        return Path(root).expanduser(), "the argument root"
    if named := os.environ.get("MNIST_LAB_DATA"):
        return Path(named).expanduser(), "MNIST_LAB_DATA"
    return PROJECT / "data", ""


def _cache_folder() -> Path:
    return Path(os.environ.get("MNIST_LAB_CACHE") or PROJECT / "data" / "cache")


def _locate(root: Path) -> dict[str, Path]:
    """Which of the four files are below ``root``, the first of its forms for each."""
    found: dict[str, Path] = {}
    for folder in (root / "MNIST" / "raw", root):
        try:
            names = {entry.name for entry in folder.iterdir()}
        except FileNotFoundError:
            continue
        except OSError as error:
            raise MissingData(
                f"{shown(folder)} can't be searched for MNIST:\n"
                f"  expected a folder that can be read, found: {error.strerror}.\n"
                "  Make it readable, or name another folder."
            ) from None
        for stem in MNIST_SHA256:
            for name in (stem, f"{stem}.gz"):
                if name in names:
                    found.setdefault(stem, folder / name)
    return found


def _load_uci_digits() -> Digits:
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    bunch = datasets.load_digits()
    images = torch.stack([_place_like_mnist(image) for image in bunch.images])
    labels = torch.from_numpy(bunch.target).long()
    rows = train_test_split(
        np.arange(len(labels)), test_size=300, stratify=bunch.target, random_state=0
    )
    train, test = (Images(images[np.sort(part)], labels[np.sort(part)]) for part in rows)
    tensors = (train.images, train.labels, test.images, test.labels)
    return Digits(
        train,
        test,
        name="uci-digits",
        title="UCI digits",
        source="UCI handwritten digits (Alpaydin and Kaynak), the 1,797 bundled with scikit-learn, "
        "enlarged from 8×8 and placed in 28×28 as MNIST places its own.",
        sha256={
            part: tensor_digest(tensor) for part, tensor in zip(MNIST_SHA256, tensors, strict=True)
        },
    )


def _place_like_mnist(image: np.ndarray) -> torch.Tensor:
    """An 8×8 digit (0 to 16) as MNIST would show it, uint8 [28, 28].

    The ink is scaled to fit 20×20, keeping its aspect ratio, and its centre of mass goes to the
    centre of the field (LeCun, Bottou, Bengio & Haffner 1998, section III.A).
    """
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    ink = torch.from_numpy(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]).double()
    size = [max(1, _nearest(20 * side / max(ink.shape))) for side in ink.shape]
    enlarged = torch.nn.functional.interpolate(ink[None, None], size=size, mode="bilinear")[0, 0]
    pixels = np.floor(enlarged.numpy() * (255 / 16) + 0.5 + 1e-6).clip(0, 255).astype(np.uint8)
    top, left = (
        min(max(_nearest(14 - centre), 0), 28 - side)
        for centre, side in zip(ndimage.center_of_mass(pixels), size, strict=True)
    )
    field = torch.zeros(28, 28, dtype=torch.uint8)
    field[top : top + size[0], left : left + size[1]] = torch.from_numpy(pixels)
    return field


def _nearest(x: float) -> int:
    """Round half up, with a hair's breadth of slack so that every machine's floats agree."""
    return math.floor(x + 0.5 + 1e-6)

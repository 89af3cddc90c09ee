"""MNIST's IDX files: read, and checked against what their names promise."""

import math
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from mnist_lab.atomic import replacing, shown
from mnist_lab.download import BadGzip, gunzip
from mnist_lab.errors import LabError

MNIST_SHA256 = {  # of the decompressed bytes; the gzip header differs between copies
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
TITLES = {
    "train-images-idx3-ubyte": "the MNIST training images",
    "train-labels-idx1-ubyte": "the MNIST training labels",
    "t10k-images-idx3-ubyte": "the MNIST test images",
    "t10k-labels-idx1-ubyte": "the MNIST test labels",
}


class DamagedFile(LabError):
    """A file that is there but is not what its name says: cut off, altered, unreadable."""


class MissingData(LabError):
    """Digits that were asked for and could not be found or fetched."""


@dataclass(frozen=True, eq=False)
class MnistFile:
    """One of MNIST's four files as it was found.

    Attributes:
        name: which of the four, a key of ``MNIST_SHA256``.
        path: where it lies, raw or .gz.
        array: its content, uint8; [N, 28, 28] for images, [N] for labels.
        sha256: digest of its decompressed bytes.
    """

    name: str
    path: Path
    array: np.ndarray
    sha256: str

    @property
    def fault(self) -> DamagedFile | None:
        """What is wrong if these are not MNIST's own bytes."""
        expected = MNIST_SHA256[self.name]
        if self.sha256 == expected:
            return None
        verdict = f"mislabelled: {TITLES[whose]}" if (whose := self.really) else "altered"
        return _damaged(
            self.path, f"SHA-256 {expected[:8]}…", f"SHA-256 {self.sha256[:8]}… ({verdict})"
        )

    @property
    def really(self) -> str | None:
        """The name that its bytes have in MNIST, if they have one."""
        return {digest: name for name, digest in MNIST_SHA256.items()}.get(self.sha256)


def read_idx(path: str | Path) -> np.ndarray:
    """The array in an IDX file (LeCun's format for MNIST), raw or, if it ends in .gz, compressed.

    Returns:
        uint8, writable; [N, rows, columns] for images, [N] for labels.

    Raises:
        MissingData: if there is no such file.
        DamagedFile: if it can't be read, is cut off or corrupted, has the wrong magic number for
            its name, or more or fewer bytes than its header promises.
    """
    return _parse(_read_bytes(Path(path)), Path(path))


def read_mnist_file(name: str, path: Path, cache: Path) -> MnistFile:
    """One of MNIST's files; a .gz is decompressed once and then taken from the folder ``cache``.

    Only a copy with MNIST's own digest is ever cached or taken from the cache.

    Raises:
        MissingData, DamagedFile: as ``read_idx``. Another digest is no error: ask for ``fault``.
    """
    cached = None
    if path.suffix == ".gz":
        with suppress(OSError):
            facts = path.stat()
            key = f"{path.resolve()}\n{facts.st_size}\n{facts.st_mtime_ns}"
            cached = cache / sha256(key.encode()).hexdigest()[:16] / name
            content = bytearray(cached.read_bytes())
            if (digest := sha256(content).hexdigest()) == MNIST_SHA256[name]:
                return MnistFile(name, path, _parse(content, cached), digest)
    content = _read_bytes(path)
    file = MnistFile(name, path, _parse(content, path), sha256(content).hexdigest())
    if cached and not file.fault:
        # A read-only disk costs the next load a second, no more.
        with suppress(OSError), replacing(cached) as temporary:
            temporary.write_bytes(content)
    return file


def file_fault(name: str, path: Path, cache: Path) -> LabError | None:
    """What is wrong with one of MNIST's files, taken by itself."""
    try:
        return read_mnist_file(name, path, cache).fault
    except LabError as error:
        return error


def first_fault(files: Sequence[MnistFile]) -> DamagedFile | None:
    """The most telling thing wrong with files that are each well formed.

    ``files`` are images and labels in turn, each pair of the same digits.
    """
    faults = {file.name: fault for file in files if (fault := file.fault)}
    for file in files:
        if file.name in faults and file.really:
            return faults[file.name]
    for images, labels in zip(files[::2], files[1::2], strict=True):
        bad, good = (images, labels) if images.name in faults else (labels, images)
        if len(bad.array) != len(good.array):
            wanted = f"{len(good.array):,} items, as in {good.path.name}"
            return _damaged(bad.path, wanted, f"{len(bad.array):,} items")
    return next(iter(faults.values()), None)


def _read_bytes(path: Path) -> bytearray:
    try:
        content = path.read_bytes()
        return bytearray(gunzip(content) if path.suffix == ".gz" else content)
    except FileNotFoundError:
        raise MissingData(
            f"{shown(path)} is missing:\n  expected an IDX file, found no such file.\n"
            "  Place it there, or run `python -m mnist_lab data --fetch`."
        ) from None
    except OSError as error:
        raise _damaged(path, "a file that can be read", f"{error.strerror}") from None
    except BadGzip as error:
        raise _damaged(path, "one complete gzip file", str(error)) from None


def _parse(content: bytearray, path: Path) -> np.ndarray:
    magic = content[:4].hex()
    dims = {"00000803": 3, "00000801": 1}.get(magic)
    named = next((f"0000080{n}" for n in "13" if f"idx{n}" in path.name), None)
    if dims is None or (named and named != magic):
        wanted = f"0x{named}" if named else "0x00000803 (images) or 0x00000801 (labels)"
        found = f"0x{magic}" if content else "an empty file"
        if content[:2] == b"\x1f\x8b":
            found += " (gzip data: its name should end in .gz)"
        raise _damaged(path, f"the IDX magic number {wanted}", found)
    header = 4 + 4 * dims
    if len(content) < header:
        raise _damaged(path, f"a header of {header} bytes", f"{len(content)} bytes (truncated)")
    shape = struct.unpack_from(f">{dims}I", content, offset=4)
    size = header + math.prod(shape)
    if len(content) != size:
        raise _damaged(
            path,
            f"{size:,} bytes (its header says {' × '.join(f'{n:,}' for n in shape)} values)",
            f"{len(content):,} bytes ({'truncated' if len(content) < size else 'too long'})",
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def _damaged(path: Path, expected: str, found: str) -> DamagedFile:
    what = TITLES.get(path.name.removesuffix(".gz"), "a usable IDX file")
    return DamagedFile(
        f"{shown(path)} is not {what}:\n  expected {expected}, found {found}.\n"
        "  Place a good copy there, or delete it and run `python -m mnist_lab data --fetch`."
    )

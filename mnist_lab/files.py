"""Errors that a user can put right, and files put in place whole."""

import errno
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

PROJECT: Path = Path(__file__).resolve().parent.parent  # holds mnist_lab/, notebooks/, data/
MAX_BYTES = 47_040_016  # bytes of MNIST's training images; more than that is never read
ANOTHER_RUNS = "set MNIST_LAB_RUNS to another folder"
ADVICE = {  # by what the system says of a place
    errno.ENOSPC: "Make room there",
    errno.EDQUOT: "Make room there",
    errno.EACCES: "Close the programs that use it",
    errno.ENAMETOOLONG: "Shorten its name",
    errno.ENOLCK: "Use a disk that can lock files, such as this computer's own",
}


class LabError(Exception):
    """Something a user can put right: says what was expected, what was found and what to do."""

    exit_status = 2


class Busy(LabError):
    """A lock is held by another process."""


@contextmanager
def writing(path: Path, otherwise: str = "choose another place") -> Iterator[None]:
    """An error of the system in the block becomes a ``LabError`` about ``path``.

    ``otherwise`` is what can be done about any of them, as half a sentence.
    """
    try:
        yield
    except OSError as error:
        advice = ADVICE.get(error.errno or 0)
        what_to_do = f"{advice}, or {otherwise}" if advice else otherwise[0].upper() + otherwise[1:]
        raise LabError(
            f"{display_path(path)} cannot be written: {error.strerror or error}.\n"
            f"  {what_to_do}, then run again."
        ) from error


@contextmanager
def replacing(path: Path, otherwise: str = "choose another place") -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends without an error.

    Whoever reads ``path`` meanwhile, or after a crash, finds the old file or the new one, whole.

    Raises:
        LabError: as ``writing``, and if what is at ``path`` is no file.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}.tmp")
    with writing(path, otherwise):
        path.parent.mkdir(parents=True, exist_ok=True)
        require_file(path)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def require_file(path: Path) -> None:
    """Raise ``OSError`` if there is something at ``path`` that is no file."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "what is there is no file")


def lock(
    path: Path, timeout: float = -1, otherwise: str = "choose another place"
) -> AbstractContextManager[object]:
    """Hold the lock ``path`` for a block; the system opens it even if this process is killed.

    Raises:
        Busy: if another process holds it for ``timeout`` seconds; -1 waits as long as it takes.
        LabError: as ``writing``.
    """
    from filelock import FileLock, Timeout

    with writing(path, otherwise):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return FileLock(path).acquire(timeout=timeout)
        except Timeout:
            raise Busy(f"{display_path(path)} is held by another process.") from None
        except NotImplementedError as error:
            raise OSError(errno.ENOLCK, str(error)) from error


def display_path(path: Path) -> str:
    """The path for a message: relative where it lies below the working directory."""
    path, here = path.absolute(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)

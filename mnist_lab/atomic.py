"""Files and report folders put in place whole: a reader finds the old one or the new one."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mnist_lab.errors import LabError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends without an error.

    Whoever reads ``path`` meanwhile, or after a crash, finds the old file or the new one, whole.

    Raises:
        OSError: if the folder can't be made or written; no temporary file is left behind then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock beside ``folder``; the system lets go of it even if we are killed.

    Raises:
        LabError: if another process holds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise LabError(
            f"Another run is writing {shown(folder)}.\n"
            "  Wait until it ends, or choose another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


def recover_folder(folder: Path) -> None:
    """Undo what a ``replace_folder`` that was killed halfway left behind."""
    new, old = _beside(folder)
    if old.exists() and not folder.exists():
        old.replace(folder)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)


def replace_folder(folder: Path, by: Path, held: AbstractContextManager[None]) -> None:
    """Move the folder ``by`` to ``folder``; what stood there goes.

    ``held`` is entered around the two renames, to keep signals from coming between them.

    Raises:
        LabError: if ``folder`` cannot be renamed, as on Windows when a program has a file of it
            open. ``folder`` and ``by`` are then as they were.
    """
    new, old = _beside(folder)
    # They may lie on two disks; the renames must not cross from one to the other.
    shutil.move(by, new)
    with held:
        try:
            if folder.exists():
                folder.replace(old)
            new.replace(folder)
        except OSError as error:
            if old.exists() and not folder.exists():
                old.replace(folder)
            shutil.move(new, by)
            raise LabError(
                f"{shown(folder)} cannot be replaced: {error.strerror}.\n"
                "  Close the programs that use its files, then run again.\n"
                f"  The new results are kept: {shown(by)}"
            ) from error
    shutil.rmtree(old, ignore_errors=True)


def shown(path: Path) -> str:
    """The path for a message: relative where it lies below the working directory."""
    path, here = path.absolute(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _beside(folder: Path) -> tuple[Path, Path]:
    """Where the new folder waits before it is at ``folder``, and the last one goes after."""
    return folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")

"""The folder that a run works in, the one that its report ends in, and the way between them."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from mnist_lab.course.run import RunFolder
from mnist_lab.files import ANOTHER_RUNS, Busy, LabError, display_path, lock, writing

ANOTHER_OUT = "give another folder with --out"


def check_destination(folder: Path) -> None:
    """LabError if a report can't be put at ``folder``, or something else is there."""
    if os.path.ismount(folder):
        raise LabError(f"{folder} is the root of a disk: give a folder on it with --out.")
    with writing(folder, ANOTHER_OUT):
        empty = folder.is_dir() and not any(folder.iterdir())
        if folder.exists() and not empty and not (folder / "provenance.json").is_file():
            raise LabError(
                f"{display_path(folder)} exists and is no report of this course (no "
                "provenance.json).\n"
                "  It was left alone: give another folder with --out, or move it away."
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder.parent).close()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock beside ``folder``, and first mend what a killed ``replace_folder`` left.

    Raises:
        LabError: if another process holds it, or the system refuses.
    """
    try:
        held = lock(folder.with_name(f".{folder.name}.lock"), 0)
    except Busy:
        raise LabError(
            f"Another run is writing {display_path(folder)}.\n"
            "  Wait until it ends, or choose another folder."
        ) from None
    with held:
        with writing(folder):
            _recover(folder)
        yield


def recovered(folder: Path) -> Path:
    """``folder``, after a report that was lost between two renames is put back there."""
    folder = folder.resolve()
    if not folder.exists() and any(beside.exists() for beside in _beside(folder)):
        with alone(folder):
            pass
    return folder


@contextmanager
def working_folder(runs: Path, title: str, started: datetime) -> Iterator[Path]:
    """A new folder in ``runs``, with a lock held for the block; gone if the block is stopped.

    What a killed run left is cleared: its lock is there, and nobody holds it. After an error the
    folder stays without a lock.
    """
    for mark in runs.glob(".*.running"):
        with suppress(LabError, OSError):  # it runs, or belongs to another user
            with lock(mark, 0):
                left = mark.with_name(mark.stem[1:])
                if not (left / "manifest.json").exists():  # else its results are complete
                    shutil.rmtree(left, ignore_errors=True)
            mark.unlink()
    folder = runs / f"{title}-{started:%Y%m%d-%H%M%S}-{os.getpid()}"
    mark = runs / f".{folder.name}.running"
    try:
        with lock(mark, otherwise=ANOTHER_RUNS):
            try:
                with writing(folder, ANOTHER_RUNS):
                    (folder / "notebooks").mkdir(parents=True)
                yield folder
            except (KeyboardInterrupt, SystemExit):
                shutil.rmtree(folder, ignore_errors=True)
                raise
    finally:
        mark.unlink(missing_ok=True)


def replace_folder(folder: Path, by: Path) -> None:
    """Move the folder ``by`` to ``folder``; what stood there goes.

    If that cannot be done, as on Windows when a program has a file of it open, or on a full disk,
    both are as they were.
    """
    new, old = _beside(folder)
    try:
        with writing(folder, ANOTHER_OUT):
            try:
                by.replace(new)
            except OSError:  # it is on another disk, from which nothing can be renamed
                for name, file in RunFolder(by).files().items():
                    (new / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, new / name)
            _swap(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.replace(folder)
        if by.exists():
            shutil.rmtree(new, ignore_errors=True)
        else:
            new.replace(by)
        raise
    for left in (by, old):
        shutil.rmtree(left, ignore_errors=True)


def replace_together(files: Sequence[Path], folder: Path) -> None:
    """Move files into ``folder``, over those of the same names: all or, after an error, none."""
    last = {file: file.with_name(f"last-{file.name}") for file in files}
    for file in files:
        if (folder / file.name).exists():
            shutil.copyfile(folder / file.name, last[file])
    try:
        for file in files:
            with writing(folder / file.name):
                file.replace(folder / file.name)
    except BaseException:
        for file in files:
            if last[file].exists() and not file.exists():
                last[file].replace(folder / file.name)
        raise


def _recover(folder: Path) -> None:
    """Bring a ``replace_folder`` that was killed halfway to its end or, failing that, undo it."""
    new, old = _beside(folder)
    if old.exists() and not folder.exists():
        old.replace(folder)
    if _is_whole(new):
        _swap(folder)
    for left in (new, old):
        if left.exists():
            shutil.rmtree(left)


def _swap(folder: Path) -> None:
    new, old = _beside(folder)
    if folder.exists():
        folder.replace(old)
    new.replace(folder)


def _beside(folder: Path) -> tuple[Path, Path]:
    """Where the new folder waits before it is at ``folder``, and the last one goes after."""
    return folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")


def _is_whole(folder: Path) -> bool:
    """Whether the files of a run are those that its manifest lists."""
    try:
        return RunFolder(folder).digests() == RunFolder(folder).manifest
    except (LabError, OSError):
        return False

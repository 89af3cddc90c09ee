"""Errors that a user can put right, and files put in place whole."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT: Path = Path(__file__).resolve().parent.parent  # holds mnist_lab/, notebooks/, data/
MAX_BYTES = 47_040_016  # bytes of MNIST's training images; more than that is never read


class LabError(Exception):
    """Something a user can put right: says what was expected, what was found and what to do."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends without an error.

    Whoever reads ``path`` meanwhile, or after a crash, finds the old file or the new one, whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def display_path(path: Path) -> str:
    """The path for a message: relative where it lies below the working directory."""
    path, here = path.absolute(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)

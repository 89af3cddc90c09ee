"""The one door through which errors and stops reach the user: words and an exit status."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from mnist_lab.course.stops import stops_raise
from mnist_lab.files import LabError, display_path


@contextmanager
def plain_errors() -> Iterator[None]:
    """Say what a user can put right in words and by the exit status, never by a traceback."""
    with stops_raise():
        try:
            yield
        except LabError as error:
            click.echo(str(error), err=True)
            sys.exit(error.exit_status)
        except BrokenPipeError:
            raise  # nobody reads on: click ends quietly
        except OSError as error:
            where = f"{display_path(Path(str(error.filename)))}: " if error.filename else ""
            click.echo(where + " ".join(str(error.strerror or error).split()), err=True)
            sys.exit(2)
        except (KeyboardInterrupt, SystemExit) as stop:
            click.echo("Stopped. Nothing is left half-written.", err=True)
            sys.exit(130 if isinstance(stop, KeyboardInterrupt) else stop.code)


class Door(click.Group):
    """Commands that all answer an error or a stop as ``plain_errors`` does."""

    def make_context(self, *given: Any, **more: Any) -> click.Context:
        with plain_errors():
            return super().make_context(*given, **more)

    def invoke(self, context: click.Context) -> Any:
        with plain_errors():
            return super().invoke(context)

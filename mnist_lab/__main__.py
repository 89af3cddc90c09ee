"""The command line: ``python -m mnist_lab`` or ``mnist-lab``."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mnist_lab.atomic import replacing, shown
from mnist_lab.errors import LabError
from mnist_lab.parameters import PROFILES
from mnist_lab.pipeline import CourseFailed, render_again, run_course

if TYPE_CHECKING:
    from mnist_lab.recompute import Check

MOST_PROBLEMS = 5
DATASETS = ("auto", "mnist", "uci-digits")  # data.NAMES, which takes seconds to import


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Say what a user can put right in words and by the exit status, never by a traceback."""
    try:
        yield
    except LabError as error:
        click.echo(str(error), err=True)
        sys.exit(1 if isinstance(error, CourseFailed) else 2)
    except (KeyboardInterrupt, SystemExit) as stop:
        click.echo("Stopped. Nothing is left half-written.", err=True)
        sys.exit(130 if isinstance(stop, KeyboardInterrupt) else stop.code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A course on handwritten-digit recognition: run its notebooks, get the report."""


@main.command()
@click.option("--profile", type=click.Choice(list(PROFILES)), default="student", show_default=True)
@click.option(
    "--dataset",
    type=click.Choice(DATASETS),
    default="auto",
    show_default=True,
    help="auto takes MNIST where it can be had, else the bundled UCI digits.",
)
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that train at the same time.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="The report's folder.  [default: report/<dataset>-<profile>]",
)
@click.option(
    "--dask",
    "scheduler",
    default="",
    metavar="ADDRESS",
    help="Scheduler of a Dask cluster that trains instead, such as tcp://127.0.0.1:8786.",
)
@click.option(
    "-p",
    "--parameter",
    "parameters",
    type=(str, str),
    multiple=True,
    metavar="NAME VALUE",
    help="A value for a parameter of the notebooks; may be given several times.",
)
def run(
    profile: str,
    dataset: str,
    seed: int,
    jobs: int,
    out: Path | None,
    scheduler: str,
    parameters: tuple[tuple[str, str], ...],
) -> None:
    """Run the five notebooks in order and make the report."""
    with _plain_errors():
        folder = run_course(
            profile,
            dataset,
            seed,
            jobs,
            out,
            dict(parameters),
            scheduler=scheduler,
            echo=click.echo,
            progress=sys.stderr.isatty(),
        )
        _say_where(folder)


@main.command()
@click.option("--fetch", is_flag=True, help="Download MNIST where it is missing.")
@click.option("--root", type=click.Path(file_okay=False, path_type=Path), help="Where to look.")
def data(fetch: bool, root: Path | None) -> None:
    """Say which digits are found, and where."""
    with _plain_errors():
        from mnist_lab.data import PROJECT, describe_data, fetch_mnist

        if fetch:
            named = root or os.environ.get("MNIST_LAB_DATA") or PROJECT / "data"
            fetch_mnist(named, progress=sys.stderr.isatty())
        for line in describe_data(root):
            click.echo(line)


@main.command()
@click.option(
    "--quick",
    is_flag=True,
    help="One repeat each, fewer images, and STRONG and ACCURATE only if named by --only.",
)
@click.option(
    "--only",
    type=click.Choice(["epochs", "fast", "strong", "accurate", "inference"]),
    multiple=True,
    help="Measure this part; may be given several times.  [default: all]",
)
@click.option(
    "--dataset",
    type=click.Choice(DATASETS),
    default="auto",
    show_default=True,
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, …")
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, writable=True, allow_dash=True),
    metavar="FILE",
    help="Keep every measurement there as JSON; - is the standard output.",
)
def bench(
    quick: bool, only: tuple[str, ...], dataset: str, device: str, json_file: str | None
) -> None:
    """Measure how fast this machine trains and answers.

    \b
    epochs     an epoch of Report A's DataLoader loop against ours
    fast       seconds to 99 %: PyTorch's own example, train_mnist_fast, FAST
    strong     seconds and accuracy of STRONG over three seeds
    accurate   the same of ACCURATE: the longest part by far
    inference  images answered per second by each network

    Keep the machine idle meanwhile. The table goes to the standard output (to the standard error
    with --json -), a line per training to the standard error.
    """
    with _plain_errors():
        to_stdout = json_file == "-"
        path = Path(json_file) if json_file and not to_stdout else None
        if path:
            _check_writable(path, "--json")
        from mnist_lab.bench import Bench, measure
        from mnist_lab.data import load_digits

        with redirect_stdout(sys.stderr):
            digits = load_digits(dataset, progress=sys.stderr.isatty())

        def keep(so_far: Bench) -> None:
            if path:
                with replacing(path) as temporary:
                    temporary.write_text(so_far.to_json() + "\n", encoding="utf-8", newline="\n")

        result = measure(
            digits,
            quick=quick,
            only=only,
            device=device,
            say=lambda text: click.echo(text, err=to_stdout),
            progress=lambda line: click.echo(line, err=True),
            keep=keep,
        )
        if to_stdout:
            click.echo(result.to_json())


@main.command()
@click.option(
    "--seeds", type=click.IntRange(min=2), help="Seeds of each trial.  [default: 3; 2 of STRONG]"
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that train at the same time.",
)
@click.option(
    "--dataset",
    type=click.Choice(["mnist", "uci-digits"]),
    default="mnist",
    show_default=True,
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The CSV file to write; the course's own is mnist_lab/search.csv.",
)
def search(seeds: int | None, jobs: int, dataset: str, out: Path) -> None:
    """Measure again what was tried for FAST and STRONG.

    Every trial is judged by a sixth of the training images, never by the test images. Fits are kept
    in the store: an interrupted search goes on where it stopped.
    """
    with _plain_errors():
        _check_writable(out, "--out")
        from mnist_lab.data import load_digits
        from mnist_lab.search import search as search_all
        from mnist_lab.store import open_store

        digits = load_digits(dataset, progress=sys.stderr.isatty())
        table = search_all(open_store(), digits, seeds, jobs=jobs, echo=click.echo)
        with replacing(out) as temporary:
            table.round(6).to_csv(temporary, index=False, lineterminator="\n")
        click.echo(f"Wrote {shown(out)}")


def _check_writable(path: Path, option: str) -> None:
    """Find out whether a file can be written before measuring for an hour what goes into it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise LabError(
            f"{shown(path)} cannot be written: {error.strerror}.\n  Name another file for {option}."
        ) from error


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def report(folder: Path) -> None:
    """Make the report of a finished run once more, from the files the run left in DIR."""
    with _plain_errors():
        render_again(folder)
        _say_where(folder)


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--retrain",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Also train N of its ideas again, chosen at random: minutes each.",
)
def verify(folder: Path, retrain: int) -> None:
    """Check the finished run in DIR against itself.

    Scores, intervals and tests are computed again from the stored predictions and trainings, the
    digest of every file is compared with the manifest, and the page's words with the numbers. The
    exit status is 0 only if everything holds.
    """
    with _plain_errors():
        from mnist_lab import verify as verification

        checks = verification.verify(folder)
        for check in checks:
            _say_check(check)
        if retrain:
            again = verification.retrain(folder, retrain, echo=click.echo)
            for check in again:
                _say_check(check)
            checks += again
    differing = sum(bool(check.problems) for check in checks)
    if differing:
        click.echo(f"{differing} of {len(checks)} checks do not hold.")
        sys.exit(1)
    click.echo(f"All {len(checks)} checks hold.")


def _say_check(check: Check) -> None:
    click.echo(f"{'DIFFERS' if check.problems else 'holds':<8}{check.what}")
    for problem in check.problems[:MOST_PROBLEMS]:
        click.echo(f"          {problem}")
    if len(check.problems) > MOST_PROBLEMS:
        click.echo(f"          … and {len(check.problems) - MOST_PROBLEMS} more")


def _say_where(folder: Path) -> None:
    from mnist_lab.report import headline

    click.echo(f"Report: {shown(folder / 'report.html')} and report.pdf beside it")
    for line in headline(json.loads((folder / "metrics.json").read_text(encoding="utf-8"))):
        click.echo(line)


if __name__ == "__main__":
    main(prog_name="python -m mnist_lab")

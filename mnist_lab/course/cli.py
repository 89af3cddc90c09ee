"""The command line. Commands import what they need: help and refusals wait for nothing heavy."""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click

from mnist_lab.course.door import Door
from mnist_lab.course.settings import PROFILES
from mnist_lab.course.stops import stops_ignored
from mnist_lab.files import PROJECT, display_path, replacing, require_file

DATASETS = ["auto", "mnist", "uci-digits"]
PARTS = ["startup", "epochs", "fast", "strong", "accurate", "inference"]
FOLDER = click.Path(file_okay=False, path_type=Path)
STANDARD_OUTPUT = Path("-")


def _writable(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """The path, if it can be written: found out before an hour is spent on what goes into it."""
    if path and path != STANDARD_OUTPUT:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=path.parent).close()
            require_file(path)
        except OSError as error:
            raise click.BadParameter(f"{path} cannot be written: {error.strerror}.") from error
    return path


def _named(*endings: str) -> Callable[[click.Context, click.Parameter, Path | None], Path | None]:
    """``_writable`` for a path whose name ends in one of these."""

    def check(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
        if path:
            _require_ending(path, *endings)
        return _writable(context, option, path)

    return check


def _require_ending(path: Path, *endings: str) -> None:
    if path.suffix.lower() not in endings:
        raise click.BadParameter(f"{path} must end in {', '.join(endings)}.")


FILE = click.Path(dir_okay=False, path_type=Path)
dataset_option = click.option(
    "--dataset", type=click.Choice(DATASETS), default="auto", help="auto: MNIST, else UCI digits."
)
jobs_option = click.option(
    "--jobs", type=click.IntRange(min=1), default=1, help="Processes that train at the same time."
)


@click.group(
    cls=Door, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
def main() -> None:
    """A course on handwritten-digit recognition: run its notebooks, get the report."""


@main.command()
@click.option("--profile", type=click.Choice(list(PROFILES)), default="student")
@dataset_option
@click.option("--seed", type=click.IntRange(0, 2**31), default=0)
@jobs_option
@click.option("--out", type=FOLDER, help="Of the report.  [default: report/<dataset>-<profile>]")
@click.option("--dask", "scheduler", help="A Dask scheduler to train by: tcp://127.0.0.1:8786.")
@click.option(
    "-p", "--parameter", "given", type=(str, str), multiple=True, metavar="NAME VALUE",
    help="A value for a setting of the notebooks; may be given several times.",
)  # fmt: skip
def run(given: tuple[tuple[str, str], ...], scheduler: str | None, **options: Any) -> None:
    """Run the notebooks in order and make the report."""
    from mnist_lab.course.pipeline import run_course

    options |= {"scheduler": scheduler or "", "progress": sys.stderr.isatty()}
    folder = run_course(given=dict(given), echo=click.echo, **options)
    with stops_ignored():
        _say_where(folder)


@main.command()
@click.option("--fetch", is_flag=True, help="Download MNIST where it is missing.")
@click.option("--root", type=FOLDER, help="Where to look.")
@click.pass_context
def data(context: click.Context, fetch: bool, root: Path | None) -> None:
    """Say which digits are found, and where. The exit status is 0 only if MNIST is whole."""
    from mnist_lab.data import ALL_GOOD, describe_data, fetch_mnist

    if fetch:
        folder = root or os.environ.get("MNIST_LAB_DATA") or PROJECT / "data"
        fetch_mnist(folder, progress=sys.stderr.isatty())
    lines = describe_data(root)
    click.echo("\n".join(lines))
    context.exit(0 if lines[-1] == ALL_GOOD else 1)


@main.command()
@click.option("--quick", is_flag=True, help="One repeat, fewer images, no STRONG and ACCURATE.")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Only this part; repeatable.")
@dataset_option
@click.option("--device", default="auto", help="auto, cpu, cuda, …")
@click.option("--json", "file", type=FILE, callback=_writable, help="Keep it there; - prints it.")
def bench(quick: bool, only: tuple[str, ...], dataset: str, device: str, file: Path | None) -> None:
    """Measure how fast this machine trains and answers.

    \b
    startup    seconds of imports and of the command line's quick answers
    epochs     an epoch of Report A's DataLoader loop against ours
    fast       seconds to 99 %: PyTorch's own example, train_mnist_fast, FAST
    strong     seconds and accuracy of STRONG over three seeds
    accurate   the same of ACCURATE: the longest part by far
    inference  images answered per second by each network

    Keep the machine idle meanwhile. Tables go to the standard output (to the standard error with
    --json -), a line per training to the standard error.
    """
    from mnist_lab.course.bench import as_text, measure
    from mnist_lab.course.run import write_json
    from mnist_lab.data import load_digits
    from mnist_lab.devices import pick_device

    pick_device(device)
    with redirect_stdout(sys.stderr):
        digits = load_digits(dataset, progress=sys.stderr.isatty())
    measured = {}
    for name, found in measure(digits, quick, only, device, lambda s: click.echo(s, err=True)):
        click.echo(as_text(name, found) + "\n", err=file == STANDARD_OUTPUT)
        measured[name] = found
        if file and file != STANDARD_OUTPUT:
            write_json(file, measured)
    if file == STANDARD_OUTPUT:
        click.echo(json.dumps(measured, indent=2, ensure_ascii=False))


@main.command()
@click.option("--seeds", type=click.IntRange(min=2), help="Of a trial.  [default: 3; STRONG's 2]")
@jobs_option
@click.option("--dataset", type=click.Choice(DATASETS[1:]), default="mnist")
@click.option("--out", type=FILE, callback=_writable, required=True, help="CSV file.")
def search(seeds: int | None, jobs: int, dataset: str, out: Path) -> None:
    """Measure again what was tried for FAST and STRONG.

    Every trial is judged by a sixth of the training images, never by the test images. Fits are kept
    in the store: an interrupted search goes on where it stopped. Ours: mnist_lab/study/search.csv.
    """
    from mnist_lab.data import load_digits
    from mnist_lab.study.search import search as search_again
    from mnist_lab.study.store import open_store

    digits = load_digits(dataset, progress=sys.stderr.isatty())
    table = search_again(open_store(), digits, seeds, jobs=jobs, echo=click.echo)
    with replacing(out) as new:
        table.round(6).to_csv(new, index=False, lineterminator="\n")
    click.echo(f"Wrote {display_path(out)}")


@main.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
def report(folder: Path) -> None:
    """Make the report of a finished run once more, from the files the run left in DIR."""
    from mnist_lab.course.pipeline import render_again

    render_again(folder)
    _say_where(folder)


@main.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--retrain", type=click.IntRange(min=0), default=0, help="Ideas to train again.")
@click.pass_context
def verify(context: click.Context, folder: Path, retrain: int) -> None:
    """Check the finished run in DIR against itself.

    Scores, intervals and tests are computed again from the stored predictions and trainings, the
    digest of every file is compared with the manifest, and the page's words with the numbers. The
    exit status is 0 only if everything holds. --retrain chooses at random: minutes for each idea.
    """
    from mnist_lab.course import verify as verification
    from mnist_lab.course.places import recovered

    checks = verification.verify(recovered(folder))
    checks += verification.retrain(folder, retrain, echo=click.echo) if retrain else []
    for check in checks:
        click.echo(f"{'DIFFERS' if check.problems else 'holds':<8}{_printable(check.what)}")
        more = len(check.problems) - 5
        for line in (*check.problems[:5], *[f"… and {more} more"] * (more > 0)):
            click.echo(f"          {_printable(line)}")
    if differing := sum(bool(check.problems) for check in checks):
        click.echo(f"{differing} of {len(checks)} checks do not hold.")
        context.exit(1)
    click.echo(f"All {len(checks)} checks hold.")


@main.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="PDF; or data folder.")
@click.option("--writer", type=click.IntRange(1, 9999), default=1, help="Printed as its number.")
@click.option("--read", "reads", is_flag=True, help="Read photographs of filled sheets.")
@click.argument("photos", metavar="[PHOTO]...", nargs=-1, type=FILE)
@click.pass_context
def sheet(
    context: click.Context, photos: tuple[Path, ...], reads: bool, writer: int, out: Path
) -> None:
    """Print a page that asks for a hundred digits; read photographs of it.

    \b
    sheet --out sheet.pdf --writer 7             a page to print; each writer has an own number
    sheet --read a.jpg b.jpg --out data/my-class the digits on photographs, as a data set

    A set is opened by lab.load_digits(root="data/my-class"). A photograph in which no sheet can be
    read is named and left out, and the exit status is then 2.
    """
    if reads != bool(photos):
        raise click.UsageError("photographs and --read belong together: --read PHOTO… --out DIR")
    if not reads:
        from mnist_lab.handwriting.sheet import write_sheet

        _require_ending(out, ".pdf", ".png")
        write_sheet(out, writer)
        click.echo(f"Wrote {display_path(out)}: print it at any size, in colour or grey.")
        return
    from mnist_lab.handwriting.sheet_set import read_sheets

    _, refused = read_sheets(photos, out, click.echo)
    context.exit(2 if refused else 0)


@main.command()
@click.argument("pictures", metavar="PICTURE...", nargs=-1, required=True, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print everything that is known, as JSON.")
@click.option(
    "--picture", "out", type=FILE, callback=_named(".png", ".jpg", ".pdf", ".svg"),
    help="Draw what is read there.",
)  # fmt: skip
@click.option("--digits", "expected", type=click.IntRange(min=1), help="How many to expect.")
@click.option(
    "--error-rate", "allow", type=click.FloatRange(0, 1), default=0.001, show_default=True,
    help="Share of wrong digits to allow; others are ?.",
)  # fmt: skip
@click.option("--network", default="reader", help="The kept network that reads.")
@click.pass_context
def read(
    context: click.Context,
    pictures: tuple[str, ...],
    as_json: bool,
    out: Path | None,
    **options: Any,
) -> None:
    """Read the handwritten digits in pictures.

    A line for each: its name and what it says, with / between lines and ? for a digit that is not
    sure, then which those are. The exit status is 2 if a picture could not be read, 1 if another
    number of digits was found than --digits says. With several pictures, --picture OUT.png makes
    OUT-1.png, OUT-2.png and so on.
    """
    from mnist_lab.course.reading import read_pictures

    context.exit(read_pictures(pictures, as_json=as_json, out=out, echo=click.echo, **options))


def _printable(line: str) -> str:
    """One line without control characters, whatever a file that is told of holds."""
    return "".join(c if c.isprintable() else "�" for c in line)


def _say_where(folder: Path) -> None:
    from mnist_lab.course.report import headline

    click.echo(f"Report: {display_path(folder / 'report.html')} and report.pdf beside it")
    click.echo("\n".join(headline(folder)))

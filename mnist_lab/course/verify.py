"""A finished run checked against itself: its files, its tables and numbers, its page."""

import base64
import io
import itertools
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from mnist_lab.course import report, reproduce
from mnist_lab.course.run import RunFolder
from mnist_lab.data import load_digits
from mnist_lab.files import LabError, display_path
from mnist_lab.recipes import REPORT_A
from mnist_lab.splits import stratified_split
from mnist_lab.study import experiments
from mnist_lab.study.ideas import CATALOGUE
from mnist_lab.training import fit

ROUNDING = 1.5e-6  # tables hold six decimals
NOTHING = ("", "None", "nan")
DATA = r'"data:image/png;base64,([^"]*)"'


@dataclass(frozen=True)
class Check:
    """One thing that was checked: what it is, and what differs, a line each."""

    what: str
    problems: tuple[str, ...] = ()


def verify(folder: Path) -> list[Check]:
    """A finished run against itself; LabError if ``folder`` is none.

    First files against the manifest, then tables and numbers against predictions and trainings,
    then the page against numbers and tables.
    """
    run = RunFolder(folder)
    run.files()  # links and devices are refused before any is opened
    return [check_files(folder, run.manifest), *check_results(run), check_page(folder)]


def check_files(folder: Path, manifest: dict[str, str]) -> Check:
    """Digest of every file against the manifest; missing and unlisted files are named."""
    found = RunFolder(folder).digests()
    problems = [f"{name} is missing" for name in manifest if name not in found]
    problems += [f"{name} is not in the manifest" for name in found if name not in manifest]
    problems += [
        f"{name} is not the file that the manifest lists (SHA-256 differs)"
        for name, digest in manifest.items()
        if found.get(name, digest) != digest
    ]
    return Check(f"manifest.json: SHA-256 of {len(manifest)} files", tuple(problems))


def check_results(run: RunFolder) -> list[Check]:
    """Every table and number that other files of the run determine, computed again."""
    metrics, count = run.metrics, 0
    checks: list[Check] = []
    problems: list[str] = []
    for part in reproduce.PARTS:
        try:
            results = part(run)
            checks += [_check_table(run, *table) for table in results.tables.items()]
            found, where = metrics[results.section], f"metrics.json, {results.section}"
            problems += _differing(
                (f"{where}.{name}", found.get(name, "nothing"), expected)
                for name, expected in results.numbers.items()
            )
            count += len(results.numbers)
        except Exception as error:  # a file may hold anything: each has errors of its own
            said = str(error) if isinstance(error, LabError) else repr(error)
            problem = f"a file lacks something or holds something else: {said}"
            checks.append(Check(str(part.__doc__), (problem,)))
    total = sum(map(len, metrics.values()))
    what = f"metrics.json: {count} of {total} values; the others come from images or the clock"
    return [*checks, Check(what, tuple(problems))]


def _check_table(run: RunFolder, name: str, expected: pd.DataFrame) -> Check:
    """The columns of ``expected`` against those of ``tables/<name>.csv``."""
    found, file = run.read_table(name), f"tables/{name}.csv"
    what = f"{file}: {len(expected.columns)} columns of {len(expected)} rows"
    if len(found) != len(expected):
        return Check(what, (f"{file} has {len(found)} rows, expected {len(expected)}",))
    if missing := [str(column) for column in expected if str(column) not in found]:
        return Check(what, (f"{file} lacks {', '.join(missing)}",))
    problems = _differing(
        (f"{file}, row {row}, {column}", *cells)
        for column in expected
        for row, cells in enumerate(zip(found[str(column)], expected[column], strict=True), 1)
    )
    return Check(what, tuple(problems))


def _differing(values: Iterable[tuple[str, Any, Any]]) -> list[str]:
    """A line for each value that was found at some place and is not the expected one."""
    return [
        f"{where}: {found}, computed again {expected}"
        for where, found, expected in values
        if not _equal(found, expected)
    ]


def _equal(found: Any, expected: Any) -> bool:
    """Equal, numbers up to rounding; nothing, NaN and an empty text are the same."""
    if isinstance(found, Real) and isinstance(expected, Real) and not math.isnan(expected):
        return math.isclose(found, expected, rel_tol=ROUNDING, abs_tol=ROUNDING)
    ours, theirs = str(found), str(expected)
    return ours == theirs or (ours in NOTHING and theirs in NOTHING)


def check_page(folder: Path) -> Check:
    """``report.html`` against the page that the run's numbers, tables and figures make.

    Its words, its markup and the pixels of its figures, so that nothing else is shown instead.
    """
    what = "report.html: its text and figures against metrics.json, the tables and figures/"
    try:
        here, again = (folder / "report.html").read_text(encoding="utf-8"), report.page(folder)
        found, expected = _page_parts(here), _page_parts(again)
    except (OSError, UnicodeDecodeError, LabError) as error:
        return Check(what, (f"report.html: {error}",))
    problems = []
    for number, (ours, theirs) in enumerate(itertools.zip_longest(found, expected, fillvalue="")):
        if ours != theirs:
            before = " ".join([part for part in found[:number] if not part.startswith("<")][-6:])
            differs = f"'{ours[:80]}', expected '{theirs[:80]}'"
            problems.append(f"report.html after '{before}': {differs}")
    figures = itertools.zip_longest(re.findall(DATA, here), re.findall(DATA, again), fillvalue="")
    problems += [
        f"report.html: figure {number} is not the one in figures/"
        for number, (ours, theirs) in enumerate(figures, 1)
        if ours != theirs and _pixels(ours) != _pixels(theirs)  # zlib may pack pixels differently
    ]
    return Check(what, tuple(problems))


def _pixels(data: str) -> bytes:
    """The pixels of a PNG in base64, none if it is anything else."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(data)), formats=["PNG"]) as image:
            return image.convert("RGB").tobytes() if image.width * image.height < 10**8 else b""
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return b""


def _page_parts(html: str) -> list[str]:
    """The tags and words of a page in order, without the content of its figures."""
    return re.findall(r"<[^>]*>|[^<\s]+", re.sub(r'"data:[^"]*"', '""', html))


def retrain(
    folder: Path, count: int, *, seed: int | None = None, echo: Callable[[str], None] = print
) -> list[Check]:
    """Train ``count`` of the run's ideas again, chosen at random, and compare their accuracy.

    Threads and processors change the last digits, and those grow while training, so even with its
    own seed a training need not come out equal: it holds if its best epoch lies within four
    standard deviations from seed to seed, of the idea or of the baseline, whichever is more.
    ``seed`` is that of the choice. LabError if the run's digits are not here.
    """
    run = RunFolder(folder)
    kept, digits = run.provenance["dataset"], load_digits(run.provenance["dataset"]["name"])
    if digits.digest != kept["digest"]:
        raise LabError(
            f"The digits found here are not those of the run in {display_path(folder)}:\n"
            f"  expected digest {kept['digest'][:16]}…, found {digits.digest[:16]}…"
        )
    used = run.provenance["parameters"]["05_optimization"]
    split = stratified_split(digits, 1 / 6, used["seed"])
    short = REPORT_A.but(epochs=used["epochs"], train_fraction=used["train_fraction"])
    planned = experiments.plan(CATALOGUE, short, used["long_epochs"])
    recipes = {idea.name: recipe for idea, recipe, _ in planned}
    trainings = run.read_table("optimisation_trainings")
    done = trainings[trainings["failed"].isna() & trainings["name"].isin(recipes)]
    spread = done.groupby("name")["validation"].std()
    problem = "tables/optimisation_trainings.csv: this accuracy was not reached again"
    chosen, checks = done.sample(min(count, len(done)), random_state=seed), []
    for name, again, before in chosen[["name", "seed", "validation"]].itertuples(index=False):
        recipe = recipes[name].but(seed=int(again))
        reached = max(fit(recipe, digits, split=split, echo=echo).history.validation_accuracies)
        allowed = 4 * max(spread[name], spread[experiments.BASELINE])
        what = (
            f"{name}, seed {again}, trained again: validation accuracy {reached:.4f}, "
            f"in the run {before:.4f}, allowed difference {allowed:.4f}"
        )
        checks.append(Check(what, (problem,) if abs(reached - before) > allowed else ()))
    return checks

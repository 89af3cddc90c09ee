"""A finished run checked: what its files allow is computed again from them, without training.

Scores, intervals and tests come from the stored predictions; comparisons of ideas from the table of
trainings; the page's words from the numbers and tables.
"""

import hashlib
import itertools
import random
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

from mnist_lab import experiments, recompute
from mnist_lab.atomic import shown
from mnist_lab.data import load_digits
from mnist_lab.errors import LabError
from mnist_lab.ideas import CATALOGUE, LONG
from mnist_lab.recipes import REPORT_A
from mnist_lab.recompute import Check, FinishedRun, Numbers
from mnist_lab.splits import stratified_split
from mnist_lab.training import fit


def verify(folder: Path, page_text: Callable[[Path], str] | None = None) -> list[Check]:
    """Check a finished run against itself.

    Args:
        folder: of the report.
        page_text: gives the HTML that the run's numbers and tables make; ``report.page`` if not
            given.

    Returns:
        What was checked, in order: files against the manifest, tables against predictions and
        trainings, numbers against both, the page against numbers and tables.

    Raises:
        LabError: if ``folder`` is no finished run.
    """
    run = FinishedRun(folder)
    checks = [check_files(run)]
    numbers = Numbers(run.metrics)
    for part in recompute.PARTS:
        try:
            checks += part(run, numbers)
        except LabError as error:
            checks.append(Check(recompute.title(part), (str(error),)))
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            problem = f"a file lacks something or holds something else: {error!r}"
            checks.append(Check(recompute.title(part), (problem,)))
    checks.append(numbers.check())
    checks.append(check_page(run, page_text))
    return checks


def check_files(run: FinishedRun) -> Check:
    """Digest of every file against the manifest; missing and unlisted files are named."""
    folder, problems = run.folder, []
    present = {
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "manifest.json"
    }
    for name, digest in run.manifest.items():
        if name not in present:
            problems.append(f"{name} is missing")
        elif hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            problems.append(f"{name} is not the file that the manifest lists (SHA-256 differs)")
    problems += [f"{name} is not in the manifest" for name in sorted(present - set(run.manifest))]
    return Check(f"manifest.json: SHA-256 of {len(run.manifest)} files", tuple(problems))


def check_page(run: FinishedRun, page: Callable[[Path], str] | None = None) -> Check:
    """The words of ``report.html`` against those that the run's numbers and tables make."""
    if page is None:
        from mnist_lab import report

        page = report.page
    what = "report.html: its text against metrics.json and the tables"
    try:
        found = page_words((run.folder / "report.html").read_text(encoding="utf-8"))
        expected = page_words(page(run.folder))
    except (OSError, LabError) as error:
        return Check(what, (f"report.html: {error}",))
    problems = []
    for number, (ours, theirs) in enumerate(itertools.zip_longest(found, expected, fillvalue="")):
        if ours != theirs:
            before = " ".join(found[max(0, number - 6) : number])
            problems.append(f"report.html after '{before}': '{ours}', expected '{theirs}'")
    return Check(what, tuple(problems))


def page_words(html: str) -> list[str]:
    """The words of a page in order, formulas and tables included, styles and scripts left out."""
    words: list[str] = []
    hidden = 0

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
            nonlocal hidden
            hidden += tag in ("style", "script")
            words.extend(str(value) for name, value in attrs if name == "alt" and value)

        def handle_endtag(self, tag: str) -> None:
            nonlocal hidden
            hidden -= tag in ("style", "script")

        def handle_data(self, data: str) -> None:
            if not hidden:
                words.extend(data.split())

    Reader().feed(html)
    return words


def retrain(
    folder: Path, count: int, *, seed: int | None = None, echo: Callable[[str], None] = print
) -> list[Check]:
    """Train ``count`` of the run's ideas again, chosen at random, and compare their accuracy.

    A training is repeated with its own seed. Threads and processors change the last digits, and
    those grow while training, so it need not come out equal: it holds if it lies within four
    standard deviations from seed to seed, those of the idea or of the baseline, whichever is more.

    Args:
        folder: of a finished run.
        count: how many.
        seed: of the choice; another one each time if not given.
        echo: gets one line per epoch.

    Raises:
        LabError: if the run's digits are not here.
    """
    run = FinishedRun(folder)
    digits = load_digits(run.provenance["dataset"]["name"])
    if digits.digest != run.provenance["dataset"]["digest"]:
        raise LabError(
            f"The digits found here are not those of the run in {shown(folder)}:\n"
            f"  expected digest {run.provenance['dataset']['digest'][:16]}…, found "
            f"{digits.digest[:16]}…"
        )
    settings = run.provenance["parameters"]["05_optimization"]
    split = stratified_split(digits, 1 / 6, settings["seed"])
    short = REPORT_A.but(epochs=settings["epochs"], train_fraction=settings["train_fraction"])
    long = short.but(epochs=settings["long_epochs"])
    recipes = {experiments.BASELINE: short, experiments.LONGER: long}
    for idea in CATALOGUE:
        recipes[idea.name] = idea.applied_to(long if idea.family in LONG else short)
    trainings = run.table("optimisation_trainings")
    done = trainings[trainings["failed"].isna() & trainings["name"].isin(recipes)]
    spread = done.groupby("name")["validation"].std()
    chosen = random.Random(seed).sample(range(len(done)), min(count, len(done)))
    checks = []
    for number in chosen:
        row = done.iloc[number]
        recipe = recipes[row["name"]].but(seed=int(row["seed"]))
        fitted = fit(recipe, digits, split=split, echo=echo)
        reached = fitted.history.validation_accuracies[-1]
        allowed = 4 * max(spread[row["name"]], spread[experiments.BASELINE])
        what = (
            f"{row['name']}, seed {row['seed']}, trained again: validation accuracy {reached:.4f}, "
            f"in the run {row['validation']:.4f}, allowed difference {allowed:.4f}"
        )
        apart = abs(reached - row["validation"]) > allowed
        problem = "tables/optimisation_trainings.csv: this accuracy was not reached again"
        checks.append(Check(what, (problem,) if apart else ()))
    return checks

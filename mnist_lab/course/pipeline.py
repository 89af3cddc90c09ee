"""papermill over the notebooks, in order, into a run folder that becomes a report."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from mnist_lab.course.execution import count_cells, execute
from mnist_lab.course.places import (
    alone,
    check_destination,
    recovered,
    replace_folder,
    working_folder,
)
from mnist_lab.course.run import RunFolder, provenance, write_json
from mnist_lab.course.settings import NOTEBOOKS, notebook_settings, plan_settings
from mnist_lab.course.stops import stops_ignored
from mnist_lab.files import PROJECT, LabError, display_path


def run_course(
    profile: str = "student",
    dataset: str = "auto",
    seed: int = 0,
    jobs: int = 1,
    out: Path | None = None,
    given: Mapping[str, str] | None = None,
    scheduler: str = "",
    notebooks: Path = PROJECT / "notebooks",
    names: Sequence[str] = NOTEBOOKS,
    render: Callable[[Path], object] | None = None,
    echo: Callable[[str], object] = print,
    progress: bool = False,
) -> Path:
    """Run the notebooks in order and put the finished report in place; gives its folder.

    The report replaces the last one in a single step, after every code cell of every notebook ran.
    Whatever stops the run before leaves the last report as it was. The options are those of the
    command line, ``given`` being settings as text. ``render`` writes the report into a folder of
    results. ``echo`` gets the lines that tell how far the run is; or ``progress`` shows a bar.

    Raises:
        LabError: before anything runs, for an unknown or mistyped setting, a folder that is in
            use or is not a report, a dataset that cannot be had, or a cluster that does not answer.
        CourseFailed: if a notebook fails.
    """
    given = dict(given or {})
    known = {name: notebook_settings(notebooks / f"{name}.ipynb") for name in names}
    plan_settings(known, profile, given)
    # These load PyTorch; a setting that is wrong has been answered before.
    from mnist_lab.data import load_digits
    from mnist_lab.study.store import runs_folder
    from mnist_lab.study.sweeps import cluster

    if scheduler:
        with cluster(scheduler):
            pass  # it answers
    digits = load_digits(dataset, progress=progress)
    title = f"{digits.name}-{profile}"
    destination = (out or PROJECT / "report" / title).resolve()
    check_destination(destination)
    # Once the report is being put in place nothing stops the run, which is then as good as done.
    with ExitStack() as end, alone(destination):
        started = datetime.now(UTC)
        with working_folder(runs_folder().resolve(), title, started) as working:
            asked = {"dataset": digits.name, "seed": seed, "jobs": jobs}
            here = {"output": str(working), "scheduler": scheduler}
            plan = plan_settings(known, profile, given, asked | here)
            seconds = _execute_all(notebooks, working, plan, echo, progress)
            used = {
                name: {key: value for key, value in settings.items() if key not in here}
                for name, settings in plan.items()
            }
            said = {"profile": profile, "seed": seed, "jobs": jobs, "given": given}
            with _results_kept(working):
                about = provenance(digits, started, seconds, **said, parameters=used)
                write_json(working / "provenance.json", about)
                _finish(working, render)
                end.enter_context(stops_ignored())
                replace_folder(destination, working)
    return destination


def _execute_all(
    notebooks: Path,
    working: Path,
    plan: Mapping[str, Mapping[str, object]],
    echo: Callable[[str], object],
    progress: bool,
) -> dict[str, float]:
    """Run the notebooks of the plan into ``working``; the seconds that each took."""
    seconds = {}
    cells = {name: count_cells(notebooks / f"{name}.ipynb", plan[name]) for name in plan}
    with tqdm(total=sum(cells.values()), disable=not progress) as bar:
        say = bar.set_description if progress else echo
        for name, settings in plan.items():
            say(f"{name} …")
            begun = time.perf_counter()
            execute(notebooks / f"{name}.ipynb", working, settings, cells[name], bar.update)
            seconds[name] = time.perf_counter() - begun
            say(f"{name} done in {seconds[name]:.0f} s")
    return seconds


@contextmanager
def _results_kept(working: Path) -> Iterator[None]:
    """Errors in the block say where the results are that all notebooks left."""
    try:
        yield
    except (LabError, OSError) as error:
        raise LabError(
            f"{error}\n  All notebooks ran, and their results are kept: {display_path(working)}"
        ) from error


def render_again(folder: Path, render: Callable[[Path], object] | None = None) -> None:
    """Write the report of a finished run once more from the files the run left.

    Raises:
        LabError: if ``folder`` is not a finished run.
    """
    folder = recovered(folder)
    RunFolder(folder).read_json("metrics.json")
    with alone(folder):
        _finish(folder, render)


def _finish(folder: Path, render: Callable[[Path], object] | None) -> None:
    """Render the report into ``folder``, then list the SHA-256 of its files in manifest.json."""
    if render is None:
        from mnist_lab.course import report

        render = report.render
    for left in folder.glob(".*.tmp"):  # by a process that was killed
        left.unlink()
    render(folder)
    write_json(folder / "manifest.json", RunFolder(folder).digests())

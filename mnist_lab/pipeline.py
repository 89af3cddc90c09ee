"""papermill over the notebooks, in order, into a run folder that becomes a report."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import nbformat
from tqdm import tqdm

from mnist_lab.atomic import alone, recover_folder, replace_folder, shown
from mnist_lab.data import PROJECT, load_digits
from mnist_lab.errors import LabError
from mnist_lab.parameters import notebook_parameters, papermill_path, plan_parameters
from mnist_lab.run import provenance, write_json
from mnist_lab.store import runs_folder
from mnist_lab.sweeps import check_cluster

NOTEBOOKS = (
    "01_data_exploration",
    "02_preprocessing",
    "03_cnn_training",
    "04_evaluation",
    "05_optimization",
)


class CourseFailed(LabError):
    """A notebook did not run to its end: ``notebook`` names it, ``cell`` is the n of its In[n]."""

    def __init__(self, message: str, notebook: str, cell: int) -> None:
        super().__init__(message)
        self.notebook = notebook
        self.cell = cell


def run_course(
    profile: str = "student",
    dataset: str = "auto",
    seed: int = 0,
    jobs: int = 1,
    out: Path | None = None,
    parameters: Mapping[str, str] | None = None,
    notebooks: Path | None = None,
    names: Sequence[str] = NOTEBOOKS,
    scheduler: str = "",
    render: Callable[[Path], object] | None = None,
    echo: Callable[[str], object] = print,
    progress: bool = False,
) -> Path:
    """Run the notebooks in order and put the finished report in place; gives its folder.

    The report replaces the last one in a single step, after every code cell of every notebook ran.
    Whatever stops the run before leaves the last report as it was.

    Args:
        profile: a key of ``parameters.PROFILES``.
        dataset: "auto", "mnist" or "uci-digits".
        seed: passed to the notebooks that have a parameter ``seed``.
        jobs: processes a notebook may use, passed likewise.
        out: the report's folder; ``report/<dataset>-<profile>`` of the project by default.
        parameters: values, as text, for the notebooks' own parameters; each goes to every notebook
            that has it.
        notebooks: the folder that holds them; the project's by default.
        names: which notebooks, in order.
        scheduler: address of a Dask scheduler whose workers make the sweeps' trainings.
        render: writes the report into a folder of results; ``report.render`` by default.
        echo: called with each line that tells how far the run is.
        progress: show a bar over all code cells instead of lines.

    Raises:
        LabError: before anything runs, for an unknown or mistyped parameter, a folder that is in
            use or is not a report, a dataset that cannot be had, or a cluster that does not answer.
        CourseFailed: if a notebook fails.
    """
    notebooks = notebooks or PROJECT / "notebooks"
    known = {name: notebook_parameters(notebooks / f"{name}.ipynb") for name in names}
    plan_parameters(known, profile, parameters or {})

    if scheduler:
        check_cluster(scheduler)
    digits = load_digits(dataset, progress=progress)
    chosen = plan_parameters(known, profile, parameters or {}, digits.name)
    destination = (out or PROJECT / "report" / f"{digits.name}-{profile}").resolve()
    with alone(destination), _stoppable() as stops:
        recover_folder(destination)
        _check_destination(destination)
        started = datetime.now(UTC)
        working = _working_folder(f"{digits.name}-{profile}", started)
        ours = {"dataset": digits.name, "seed": seed, "jobs": jobs, "output": str(working)}
        ours |= {"scheduler": scheduler} if scheduler else {}
        given = {
            name: {key: value for key, value in ours.items() if key in known[name]} | chosen[name]
            for name in names
        }
        seconds = {}
        total = sum(_count_steps(notebooks / f"{name}.ipynb", given[name]) for name in names)
        with tqdm(total=total, unit="cell", disable=not progress) as bar:
            for name in names:
                bar.set_description(name)
                if not progress:
                    echo(f"{name} …")
                begun = time.perf_counter()
                _execute(notebooks / f"{name}.ipynb", working, given[name], stops, bar.update)
                seconds[name] = time.perf_counter() - begun
                if not progress:
                    echo(f"{name} done in {seconds[name]:.0f} s")

        used = {
            name: {key: default for key, (_, default) in known[name].items()} | given[name]
            for name in names
        }
        for values in used.values():
            values.pop("output", None)
            values.pop("scheduler", None)
        origin = provenance(
            digits,
            profile=profile,
            seed=seed,
            jobs=jobs,
            given=parameters or {},
            parameters=used,
            started=started,
            seconds=seconds,
        )
        write_json(working / "provenance.json", origin)
        _finish(working, render)
        replace_folder(destination, working, stops.held())
    return destination


def render_again(folder: Path, render: Callable[[Path], object] | None = None) -> None:
    """Write the report of a finished run once more from the files the run left.

    Raises:
        LabError: if ``folder`` is not a finished run.
    """
    missing = [n for n in ("metrics.json", "provenance.json") if not (folder / n).is_file()]
    if missing:
        raise LabError(
            f"{shown(folder)} is not a finished run: it has no {' and no '.join(missing)}.\n"
            "  Give the folder of a report, such as report/mnist-full."
        )
    with alone(folder.resolve()):
        _finish(folder, render)


def _finish(folder: Path, render: Callable[[Path], object] | None) -> None:
    """Render the report into ``folder``, then list the SHA-256 of its files in manifest.json."""
    if render is None:
        from mnist_lab import report

        render = report.render
    render(folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    digests = {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
    }
    write_json(folder / "manifest.json", digests)


def _execute(
    source: Path,
    working: Path,
    parameters: dict[str, object],
    stops: _Stops,
    cell_done: Callable[[], object],
) -> None:
    """Run one notebook into ``working``; raises ``CourseFailed`` unless every code cell ran."""
    import papermill

    target = working / "notebooks" / source.name
    target.parent.mkdir(exist_ok=True)

    def after_cell(cell: Any, execute_reply: Any, **_: object) -> None:
        cell_done()
        # quit() in a cell leaves no error behind, only a kernel that is about to go.
        if any(p.get("source") == "ask_exit" for p in execute_reply["content"].get("payload", [])):
            reason = "a cell must not end the session"
            output = {"ename": "SystemExit", "evalue": reason, "traceback": [reason]}
            cell.outputs.append(nbformat.v4.new_output("error", **output))
            raise RuntimeError(reason)

    error: Exception | None = None
    with ExitStack() as starting:
        # nbclient stops the kernel whatever happens, but only from the first cell on: a Ctrl-C
        # while the kernel starts would leave it running, so it waits for that first cell.
        starting.enter_context(stops.held())
        try:
            papermill.execute_notebook(
                papermill_path(source),
                papermill_path(target),
                parameters,
                kernel_name="python3",
                kernel_manager_class=_this_interpreter(),
                progress_bar=False,
                log_output=False,
                on_cell_start=lambda **_: starting.close(),
                on_cell_executed=after_cell,
                # The notebook holds the errors of cells; a kernel that is stopped logs only noise.
                extra_arguments=["--log-level=CRITICAL"],
            )
        except (papermill.PapermillExecutionError, RuntimeError, TimeoutError) as exception:
            error = exception

    notebook = nbformat.read(target, as_version=4)
    failure = _first_failure(notebook, error)
    if failure:
        cell, reason = failure
        raise CourseFailed(
            f"{source.stem} failed at In[{cell}]: {reason}\n"
            f"  The failed notebook is kept: {shown(target)}\n"
            "  The last finished report was not touched.",
            source.stem,
            cell,
        ) from error
    nbformat.write(_without_paths(notebook, working), target)


def _this_interpreter() -> type:
    """A kernel manager whose ``python3`` is the interpreter of this process.

    A kernelspec of that name in the user's home would win otherwise, and often belongs to another
    Python that lacks what the course needs.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class ThisInterpreter(AsyncKernelManager):
        def _kernel_spec_manager_default(self) -> KernelSpecManager:
            return KernelSpecManager(kernel_dirs=[])

    return ThisInterpreter


def _code_cells(notebook: Any) -> list[Any]:
    return [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]


def _first_failure(notebook: Any, error: Exception | None) -> tuple[int, str] | None:
    """Number and reason of the first code cell that did not run cleanly.

    papermill alone is not enough: it counts ``sys.exit(0)`` as success and leaves the rest unrun.
    """
    cells = _code_cells(notebook)
    for number, cell in enumerate(cells, start=1):
        for output in cell.outputs:
            if output.output_type == "error":
                return number, f"{output.ename}: {output.evalue}".strip()
    if error:
        begun = [n for n, cell in enumerate(cells, 1) if cell.metadata.papermill.start_time]
        return max(begun, default=1), _last_line(str(error))
    for number, cell in enumerate(cells, start=1):
        if cell.execution_count != number:
            return number, f"it ran as In[{cell.execution_count or ' '}], not in order"
    return None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _without_paths(notebook: Any, working: Path) -> Any:
    """The executed notebook without this machine's paths."""
    for key in ("input_path", "output_path"):
        notebook.metadata.papermill.pop(key, None)
    text = nbformat.writes(notebook)
    # JSON writes a backslash twice, and once more twice where a cell's source already did.
    once = json.dumps(str(working), ensure_ascii=False)[1:-1]
    separator = json.dumps(os.sep)[1:-1]
    for written in (once.replace("\\", "\\\\"), once + separator, once):
        text = text.replace(written, "")
    return nbformat.reads(text, as_version=4)


def _count_steps(notebook: Path, given: Mapping[str, object]) -> int:
    """How many cells papermill runs: the code cells and the one that passes what is ``given``."""
    return len(_code_cells(nbformat.read(notebook, as_version=4))) + bool(given)


def _working_folder(name: str, started: datetime) -> Path:
    folder = runs_folder().resolve() / f"{name}-{started:%Y%m%d-%H%M%S}-{os.getpid()}"
    folder.mkdir(parents=True)
    return folder


def _check_destination(destination: Path) -> None:
    report = (destination / "provenance.json").is_file()
    empty = destination.is_dir() and not any(destination.iterdir())
    if destination.exists() and not report and not empty:
        raise LabError(
            f"{shown(destination)} exists and is not a report of this course (no provenance.json)."
            "\n  It was left alone: give another folder with --out, or move it away."
        )


class _Stops:
    """Ctrl-C, termination and hang-up, raised as exceptions; while held, once the holding ends."""

    def __init__(self) -> None:
        self._holding = False
        self._waiting: int | None = None

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._holding:
            self._waiting = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(128 + number)

    @contextmanager
    def held(self) -> Iterator[None]:
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
            if self._waiting is not None:
                signal.raise_signal(self._waiting)


@contextmanager
def _stoppable() -> Iterator[_Stops]:
    stops = _Stops()
    if threading.current_thread() is not threading.main_thread():
        yield stops
        return
    numbers = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
    before = {n: signal.getsignal(n) for n in numbers}
    # Whoever started us with nohup or in the background chose to ignore them.
    heard = [n for n, handler in before.items() if handler != signal.SIG_IGN]
    for number in heard:
        signal.signal(number, stops.on_signal)
    try:
        yield stops
    finally:
        for number in heard:
            signal.signal(number, before[number] or signal.SIG_DFL)

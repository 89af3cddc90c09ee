"""papermill over the notebooks, in order, into a run folder that becomes a report."""

import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from mnist_lab.course.run import RunFolder, provenance, write_json
from mnist_lab.course.settings import NOTEBOOKS, notebook_settings, plan_settings
from mnist_lab.files import PROJECT, LabError, display_path


class CourseFailed(LabError):
    """A notebook did not run to its end; the message says which, the n of its In[n] and why."""


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
    with _alone(destination), _termination_raises():
        _check_destination(destination)
        started, seconds = datetime.now(UTC), {}
        working = runs_folder().resolve() / f"{title}-{started:%Y%m%d-%H%M%S}-{os.getpid()}"
        (working / "notebooks").mkdir(parents=True)
        asked = {"dataset": digits.name, "seed": seed, "jobs": jobs}
        here = {"output": str(working), "scheduler": scheduler}
        plan = plan_settings(known, profile, given, asked | here)
        cells = {name: _count_cells(notebooks / f"{name}.ipynb", plan[name]) for name in names}
        with tqdm(total=sum(cells[name] for name in names), disable=not progress) as bar:
            say = bar.set_description if progress else echo
            for name in names:
                say(f"{name} …")
                begun, source = time.perf_counter(), notebooks / f"{name}.ipynb"
                _execute(source, working, plan[name], cells[name], bar.update)
                seconds[name] = time.perf_counter() - begun
                say(f"{name} done in {seconds[name]:.0f} s")
        used = {
            name: {key: value for key, value in settings.items() if key not in here}
            for name, settings in plan.items()
        }
        said = {"profile": profile, "seed": seed, "jobs": jobs, "given": given, "parameters": used}
        write_json(working / "provenance.json", provenance(digits, started, seconds, **said))
        _finish(working, render)
        _replace(destination, working)
    return destination


def render_again(folder: Path, render: Callable[[Path], object] | None = None) -> None:
    """Write the report of a finished run once more from the files the run left.

    Raises:
        LabError: if ``folder`` is not a finished run.
    """
    RunFolder(folder).read_json("metrics.json")
    with _alone(folder.resolve()):
        _finish(folder, render)


def _finish(folder: Path, render: Callable[[Path], object] | None) -> None:
    """Render the report into ``folder``, then list the SHA-256 of its files in manifest.json."""
    if render is None:
        from mnist_lab.course import report

        render = report.render
    render(folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    digests = {p.relative_to(folder).as_posix(): sha256(p.read_bytes()).hexdigest() for p in files}
    write_json(folder / "manifest.json", digests)


def _count_cells(notebook: Path, settings: Mapping[str, object]) -> int:
    """How many cells papermill runs: the code cells and the one that passes the settings."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]).strip() for cell in cells if cell["cell_type"] == "code"]
    return sum(map(bool, code)) + bool(settings)


def _execute(
    source: Path,
    working: Path,
    settings: Mapping[str, object],
    cells: int,
    cell_done: Callable[[], object],
) -> None:
    """Run a notebook into ``working``; raises ``CourseFailed`` unless all its code cells ran.

    papermill alone is not enough: it counts ``sys.exit(0)`` as success and leaves the rest unrun.
    """
    import papermill

    target, ran, failures = working / "notebooks" / source.name, 0, []

    def after_cell(execute_reply: Mapping[str, Any], **_: object) -> None:
        nonlocal ran
        ran += 1
        cell_done()
        reply = execute_reply["content"]
        if reply["status"] == "error":
            failures.append(f"In[{ran}]: {reply['ename']}: {reply['evalue']}")
        # quit() in a cell leaves no error behind, only a kernel that is about to go.
        if any(item.get("source") == "ask_exit" for item in reply.get("payload", [])):
            failures.append(f"In[{ran}]: a cell must not end the session")
            raise RuntimeError(failures[-1])

    # papermill fills in {...} in paths as a format string; a folder may really be called so.
    escaped = (str(path).replace("{", "{{").replace("}", "}}") for path in (source, target))
    try:
        papermill.execute_notebook(
            *escaped,
            settings,
            kernel_name="python3",
            kernel_manager_class=_this_interpreter(),
            progress_bar=False,
            log_output=False,
            on_cell_executed=after_cell,
            # The notebook holds the errors of cells; a kernel that is stopped logs only noise.
            extra_arguments=["--log-level=CRITICAL"],
        )
    except (papermill.PapermillExecutionError, RuntimeError, TimeoutError) as error:
        failures.append(f"In[{ran + 1}]: {(str(error).strip() or repr(error)).splitlines()[-1]}")
    if ran < cells:
        failures.append(f"In[{ran}]: {cells - ran} code cells did not run")
    if failures:
        raise CourseFailed(
            f"{source.stem} failed at {failures[0]}\n"
            f"  The failed notebook is kept: {display_path(target)}\n"
            "  The last finished report was not touched."
        )
    # Take this machine's paths out. JSON writes a backslash twice, and twice again in sources.
    text = target.read_text(encoding="utf-8")
    text = re.sub(r'"((?:in|out)put_path)": ".*"', r'"\1": ""', text)
    once, separator = (
        json.dumps(part, ensure_ascii=False)[1:-1] for part in (str(working), os.sep)
    )
    for written in (once.replace("\\", "\\\\"), once + separator, once):
        text = text.replace(written, "")
    target.write_text(text, encoding="utf-8", newline="\n")


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


def _alone(folder: Path) -> AbstractContextManager[object]:
    """Hold the lock beside ``folder``, which the system opens even if we are killed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(folder.with_name(f".{folder.name}.lock")).acquire(timeout=0)
    except Timeout:
        raise LabError(
            f"Another run is writing {display_path(folder)}.\n"
            "  Wait until it ends, or choose another folder."
        ) from None


def _check_destination(folder: Path) -> None:
    _recover(folder)
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not empty and not (folder / "provenance.json").is_file():
        raise LabError(
            f"{display_path(folder)} exists and is no report of this course (no provenance.json).\n"
            "  It was left alone: give another folder with --out, or move it away."
        )


def _replace(folder: Path, by: Path) -> None:
    """Move the folder ``by`` to ``folder``; what stood there goes.

    If ``folder`` cannot be renamed, as on Windows when a program has a file of it open, or after
    Ctrl-C, both are as they were.
    """
    new, old = _beside(folder)
    # They may lie on two disks; the renames must not cross from one to the other.
    shutil.move(by, new)
    try:
        if folder.exists():
            folder.replace(old)
        new.replace(folder)
    except OSError as error:
        raise LabError(
            f"{display_path(folder)} cannot be replaced: {error.strerror}.\n"
            "  Close the programs that use its files, then run again.\n"
            f"  The new results are kept: {display_path(by)}"
        ) from error
    finally:
        if new.exists():
            shutil.move(new, by)
        _recover(folder)


def _recover(folder: Path) -> None:
    """Undo what a ``_replace`` that was stopped halfway left behind."""
    new, old = _beside(folder)
    if old.exists() and not folder.exists():
        old.replace(folder)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)


def _beside(folder: Path) -> tuple[Path, Path]:
    """Where the new folder waits before it is at ``folder``, and the last one goes after."""
    return folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")


@contextmanager
def _termination_raises() -> Iterator[None]:
    """Termination and hang-up raise ``SystemExit``, as Ctrl-C raises ``KeyboardInterrupt``."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    with ExitStack() as restored:
        if threading.current_thread() is threading.main_thread():
            for number in {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:
                if signal.getsignal(number) == signal.SIG_DFL:  # nohup has them ignored
                    restored.callback(signal.signal, number, signal.signal(number, leave))
        yield

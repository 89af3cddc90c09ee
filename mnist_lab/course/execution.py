"""One notebook through papermill, in a kernel of this interpreter."""

import json
import logging
import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

from mnist_lab.files import ANOTHER_RUNS, LabError, display_path, writing

Kernel = subprocess.Popen[bytes]
MEMORY = """
  If memory ran out: close other programs, run with --jobs 1, or give smaller parts of the images
  (-p fraction 0.1). Finished trainings are kept, and the next run goes on from there."""


class CourseFailed(LabError):
    """A notebook did not run to its end; the message says which, the n of its In[n] and why."""

    exit_status = 1


def count_cells(notebook: Path, settings: Mapping[str, object]) -> int:
    """How many cells papermill runs: the code cells and the one that passes the settings."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]).strip() for cell in cells if cell["cell_type"] == "code"]
    return sum(map(bool, code)) + bool(settings)


def execute(
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
    kernels: list[Kernel] = []

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
    work = partial(
        papermill.execute_notebook,
        *escaped,
        settings,
        kernel_name="python3",
        kernel_manager_class=this_interpreter(kernels),
        progress_bar=False,
        log_output=False,
        on_cell_executed=after_cell,
        # The notebook holds the errors of cells; a kernel that is stopped logs only noise.
        extra_arguments=["--log-level=CRITICAL"],
    )
    logging.getLogger("papermill").addHandler(logging.NullHandler())  # what it logs, it raises too
    try:
        _finished_or_stopped(work, kernels)
    except (papermill.PapermillExecutionError, RuntimeError, TimeoutError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[-1]
        if reason.startswith("Kernel died") and kernels:
            reason += f": {_how_it_ended(kernels[-1])}"
        failures.append(f"In[{ran + 1}]: {reason}")
    except OSError as error:  # no room for the notebook, or for files of the kernel's own
        with writing(Path(error.filename or target), ANOTHER_RUNS):
            raise
    if ran < cells:
        failures.append(f"In[{ran}]: {cells - ran} code cells did not run")
    if failures:
        memory = re.search("memory", failures[0], re.IGNORECASE)
        raise CourseFailed(
            f"{source.stem} failed at {failures[0]}\n"
            f"  The failed notebook is kept: {display_path(target)}\n"
            "  The last finished report was not touched."
            f"{MEMORY if memory else ''}"
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


def _finished_or_stopped(work: Callable[[], object], kernels: list[Kernel]) -> None:
    """Do the work in a thread, so that a stop ends its kernels and not its event loop midway."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            while wait([future], timeout=0.2).not_done:
                pass
        except BaseException:
            while wait([future], timeout=0.2).not_done:
                for kernel in kernels:
                    kernel.kill()
            raise
        future.result()


def _how_it_ended(kernel: Kernel) -> str:
    """What the system says of a process that is gone."""
    status = kernel.wait()
    if status >= 0:
        return f"its process ended with exit status {status}"
    name = {one.value: one.name for one in signal.Signals}.get(-status, f"signal {-status}")
    memory = ", as the system does when memory is short" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{memory}"


def this_interpreter(kernels: list[Kernel]) -> type:
    """A kernel manager whose ``python3`` is the interpreter of this process.

    A kernelspec of that name in the user's home would win otherwise, and often belongs to another
    Python that lacks what the course needs. The processes that it starts go to ``kernels``.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class ThisInterpreter(AsyncKernelManager):
        def _kernel_spec_manager_default(self) -> KernelSpecManager:
            return KernelSpecManager(kernel_dirs=[])

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            await super().start_kernel(**options)
            provisioner: Any = self.provisioner
            kernels.append(provisioner.process)

    return ThisInterpreter

"""Many fits side by side: in processes of this machine, or by the workers of a Dask cluster.

A worker trains one fit at a time, on one thread. It gets the digits once, not once per fit.
"""

import os
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from concurrent.futures import Executor, as_completed
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from joblib.externals.loky import get_reusable_executor

from mnist_lab.data import Digits
from mnist_lab.files import LabError
from mnist_lab.recipes import Recipe
from mnist_lab.splits import Split
from mnist_lab.training import Diverged, Fit

CONNECT_SECONDS = 20


class Task(NamedTuple):
    """One fit to make, with the key that names it in the store."""

    key: str
    recipe: Recipe
    split: Split | None


class Failed(LabError):
    """A fit of a sweep could not be made, for another reason than that it diverged."""


Outcome = Fit | Diverged | Failed
Make = Callable[[Task, Digits], str | Failed]  # stores a fit and says so, or says why there is none


def finished(outcomes: Iterable[Outcome]) -> list[Fit]:
    """The fits among the outcomes of a sweep, in the same order."""
    return [outcome for outcome in outcomes if isinstance(outcome, Fit)]


def side_by_side(
    make: Make, tasks: Collection[Task], digits: Digits, jobs: int, scheduler: str
) -> Generator[tuple[Task, str | Failed], None, None]:
    """Each task with what ``make`` gives for it, as they finish; after an error, none is begun.

    Raises:
        LabError: if a worker is killed (Dask gives its task to others first) or the cluster cannot
            be used.
    """
    if not scheduler and jobs == 1:
        yield from ((task, make(task, digits)) for task in tasks)
    elif tasks:
        with _cluster(scheduler, digits) if scheduler else _processes(jobs, digits) as (pool, held):
            futures = {pool.submit(_make, make, task, held): task for task in tasks}
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            except LabError:
                raise
            except Exception as error:  # each library has several for it
                reason = str(error).partition("\n")[0]
                raise LabError(
                    f"A worker was lost while it trained: {type(error).__name__}. {reason}\n"
                    "  Finished fits are kept: run again, with fewer workers if memory was short."
                ) from error


_training = threading.Lock()  # fits of one process would draw from one another's random numbers
_digits: list[Digits] = []  # of this process, if it is one of ``_processes``


def _make(make: Make, task: Task, held: Digits | None) -> str | Failed:
    with _training:
        torch.set_num_threads(1)
        return make(task, held or _digits[0])


@contextmanager
def _processes(jobs: int, digits: Digits) -> Iterator[tuple[Executor, None]]:
    """Processes that hold the digits, and wait some minutes for a next sweep on the same ones."""
    holding = {"initializer": _hold, "initargs": (digits, os.getpid())}
    pool = get_reusable_executor(jobs, timeout=300, **holding)
    try:
        yield pool, None
    except BaseException:
        pool.shutdown(kill_workers=True)  # nobody waits for their fits
        raise


def _hold(digits: Digits, parent: int) -> None:
    """Keep the digits for the fits to come, and end this process soon after its parent."""
    _digits.append(digits)

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    if os.name == "posix":  # elsewhere a process is not told that its parent is gone
        threading.Thread(target=end_with_parent, daemon=True).start()


@contextmanager
def _cluster(scheduler: str, digits: Digits) -> Iterator[tuple[Executor, Any]]:
    with cluster(scheduler) as client:
        yield client.get_executor(pure=False), client.scatter(digits, broadcast=True)


@contextmanager
def cluster(scheduler: str) -> Iterator[Any]:
    """A client of the Dask cluster at that address.

    Raises:
        LabError: without Dask, a scheduler that answers, or workers of one thread each.
    """
    try:
        from distributed import Client

        with Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            if set(client.nthreads().values()) != {1}:
                raise ValueError("it has a worker of several threads")
            yield client
    except (ImportError, OSError, ValueError) as error:
        raise LabError(
            f"The Dask cluster at {scheduler!r} cannot be used: {error}\n  It needs Dask here "
            '(python -m pip install -e ".[cluster]"), a scheduler that answers (dask scheduler)\n'
            f"  and workers of one thread (dask worker {scheduler} --nthreads 1 --nworkers 2)."
        ) from error

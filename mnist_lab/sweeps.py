"""Many fits side by side: in processes of this machine, or by the workers of a Dask cluster.

A worker is a process that trains one fit at a time, on one thread. It gets the digits once, not
once per fit.
"""

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from mnist_lab.data import Digits, Images
from mnist_lab.errors import LabError
from mnist_lab.recipes import Recipe
from mnist_lab.splits import Split
from mnist_lab.training import Diverged, Fit

CONNECT_SECONDS = 20


class Task(NamedTuple):
    """One fit to make, with the key that names it in the store."""

    key: str
    recipe: Recipe
    split: Split | None


class Made(NamedTuple):
    """What a worker says of one fit: its key, a line for people and, if it failed, why."""

    key: str
    line: str
    failure: str = ""


Make = Callable[[Task, Digits], Made]


class Failed(LabError):
    """A fit of a sweep that could not be made, for another reason than that it diverged.

    Attributes:
        recipe: what was asked for.
        reason: the kind of error and the first line of its message. ``Store.fit`` of the same
            recipe raises the error itself.
    """

    def __init__(self, recipe: Recipe, reason: str) -> None:
        super().__init__(recipe, reason)
        self.recipe = recipe
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.recipe.name} (seed {self.recipe.seed}) could not be fitted: {self.reason}"


Outcome = Fit | Diverged | Failed


def finished(outcomes: Iterable[Outcome]) -> list[Fit]:
    """The fits among the outcomes of a sweep, in the same order."""
    return [outcome for outcome in outcomes if isinstance(outcome, Fit)]


def in_processes(
    make: Make, tasks: Sequence[Task], digits: Digits, jobs: int
) -> Generator[Made, None, None]:
    """What ``make`` gives for each task, as they finish, made in ``jobs`` processes.

    The processes read the digits from one file that they share in memory.

    Raises:
        LabError: if one of the processes is killed.
        Exception: whatever ``make`` raises; no further task is begun then.
    """
    arrays = _converted(digits, torch.Tensor.numpy)  # joblib maps arrays to a file, not tensors
    work = joblib.delayed(_make_in_process)
    calls = (work(make, task, arrays, os.getpid()) for task in tasks)
    side_by_side = joblib.Parallel(
        n_jobs=jobs, return_as="generator_unordered", mmap_mode="c", max_nbytes="10K"
    )
    try:
        yield from side_by_side(calls)
    except TerminatedWorkerError as error:
        raise LabError(
            "A process that trained was killed, which the system does when memory runs out.\n"
            "  Finished fits are kept: run again, with fewer jobs if memory was short."
        ) from error


def on_cluster(
    make: Make, tasks: Sequence[Task], digits: Digits, scheduler: str
) -> Generator[Made, None, None]:
    """What ``make`` gives for each task, as they finish, made by the workers of a Dask cluster.

    A task whose worker dies goes to another one; Dask gives up after some deaths.

    Args:
        make: called on a worker, which must be able to import it.
        tasks: what to make.
        digits: sent to every worker once.
        scheduler: the address of the cluster's scheduler, such as ``"tcp://127.0.0.1:8786"``.

    Raises:
        LabError: if Dask is not installed, the cluster does not answer, has no workers, is lost or
            loses too many workers, or a worker has several threads.
        Exception: whatever ``make`` raises; no further task is begun then.
    """
    with _connected(scheduler) as client:
        import distributed

        parts = [digits, *{task.split for task in tasks}]
        held = {part: client.scatter(part, broadcast=True, hash=False) for part in parts}
        futures = [
            client.submit(
                _make_on_cluster, make, key, recipe, held[split], held[digits], pure=False
            )
            for key, recipe, split in tasks
        ]
        try:
            for future in distributed.as_completed(futures, loop=client.loop):
                yield future.result()
        except (distributed.KilledWorker, CancelledError) as error:
            raise LabError(
                f"The Dask cluster at {scheduler} lost the workers that trained: {error}\n"
                "  Finished fits are kept: look at the cluster's log, then run again."
            ) from error


def check_cluster(scheduler: str) -> None:
    """Find out whether a Dask cluster can be used, before work rests on it.

    Raises:
        LabError: if Dask is not installed, or no scheduler answers there, or it has no workers.
    """
    with _connected(scheduler):
        pass


@contextmanager
def _connected(scheduler: str) -> Iterator[Any]:
    """A client of the Dask cluster, once the cluster has a worker."""
    try:
        import distributed
    except ImportError as error:
        raise LabError(
            f"The sweep is to run on the Dask cluster at {scheduler}, but Dask is missing here.\n"
            '  In the project\'s folder: python -m pip install -e ".[cluster]"'
        ) from error
    try:
        client = distributed.Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise LabError(
            f"No Dask scheduler answers at {scheduler!r}: {error}\n"
            "  Start one with `dask scheduler` and give the address that it prints."
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            raise LabError(
                f"The Dask cluster at {scheduler} has no workers.\n"
                f"  Start some: dask worker {scheduler} --nthreads 1 --nworkers 2"
            ) from error
        yield client


def _converted(digits: Digits, convert: Callable[[Any], Any]) -> Digits:
    """The digits with each of their four tensors converted."""
    train, test = (
        Images(convert(part.images), convert(part.labels)) for part in (digits.train, digits.test)
    )
    return replace(digits, train=train, test=test)


@cache
def _stop_with(parent: int) -> None:
    """End this process soon after the one that started it: nobody waits for its fits then."""
    if os.name != "posix":
        return  # elsewhere a process is not told that its parent is gone

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _make_in_process(make: Make, task: Task, arrays: Digits, parent: int) -> Made:
    _stop_with(parent)
    torch.set_num_threads(1)
    return make(task, _converted(arrays, torch.as_tensor))


def _make_on_cluster(
    make: Make, key: str, recipe: Recipe, split: Split | None, digits: Digits
) -> Made:
    from distributed import get_worker

    # Fits that share a process would draw from one another's random numbers.
    if get_worker().state.nthreads != 1:
        raise LabError(
            f"The Dask worker {get_worker().address} has several threads, and a fit needs a "
            "process of its own.\n  Start the workers with --nthreads 1."
        )
    torch.set_num_threads(1)
    return make(Task(key, recipe, split), digits)

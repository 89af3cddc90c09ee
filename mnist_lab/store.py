"""Fits kept on disk, so that what was trained once is read back and never trained again."""

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mnist_lab import data, sweeps, training
from mnist_lab.atomic import shown
from mnist_lab.data import Digits
from mnist_lab.errors import LabError
from mnist_lab.keys import fit_key
from mnist_lab.recipes import Recipe
from mnist_lab.splits import Split, stratified_folds
from mnist_lab.sweeps import Failed, Made, Outcome, Task, finished
from mnist_lab.training import Diverged, Fit, History

UNFINISHED = "." + 24 * "[0-9a-f]" + "-*"


def runs_folder() -> Path:
    """Where runs and stored fits lie: the project's ``runs``, or ``MNIST_LAB_RUNS`` if set."""
    return Path(os.environ.get("MNIST_LAB_RUNS") or data.PROJECT / "runs")


@dataclass(frozen=True)
class Store:
    """A folder of finished fits.

    Each is a folder of its own that appears whole or not at all: ``recipe.json``,
    ``history.json``, ``logits.npz`` and ``model.safetensors``; of a training that diverged
    ``recipe.json`` and ``diverged.json``. Nothing in it is pickled.
    """

    folder: Path

    def fit(
        self,
        recipe: Recipe,
        digits: Digits,
        *,
        split: Split | None = None,
        device: str = "auto",
        echo: Callable[[str], None] | None = print,
    ) -> Fit:
        """``training.fit``, or its stored result when this very fit was made before.

        Raises:
            Diverged: as ``training.fit``. That is stored too: asked again, it is raised again.
            LabError: if the device cannot be used, or the store cannot be read or written.
        """
        key = fit_key(recipe, digits, split, device)
        stored = (self.folder / key).exists()
        if echo:
            echo(f"{recipe.name}, seed {recipe.seed}:{' read from the store' if stored else ''}")
        made: Fit | Diverged
        if stored:
            made = self._read(key, recipe)
        else:
            try:
                made = training.fit(recipe, digits, split=split, device=device, echo=echo)
            except Diverged as error:
                made = error
            self._write(key, recipe, made)
        if isinstance(made, Diverged):
            raise made
        return made

    def sweep(
        self,
        recipes: Iterable[Recipe],
        digits: Digits,
        *,
        split: Split | None = None,
        jobs: int = 1,
        device: str = "auto",
        scheduler: str = "",
        echo: Callable[[str], None] | None = print,
    ) -> list[Outcome]:
        """What becomes of many recipes, in the order given: a fit of each, or why there is none.

        No recipe stops the others: a training that diverges gives its ``Diverged``, which is stored
        and not tried again; any other error in a training gives a ``Failed``, which is tried again
        when asked for again. ``finished`` keeps the fits. A sweep that is killed loses only the
        fits in flight; started again, it makes what is missing.

        Args:
            recipes: what to train.
            digits: what to train on.
            split: as for ``training.fit``, of all recipes.
            jobs: above 1, fits on a CPU are made side by side in that many processes of one thread
                each; they then differ in the last digits from those of fits with more threads.
            device: as for ``training.fit``.
            scheduler: address of a Dask scheduler, such as "tcp://127.0.0.1:8786", whose workers
                make the fits instead. They need one thread each, this package and PyTorch in the
                versions used here, and this store's folder at the same path. "auto" is the
                device of this machine, not theirs.
            echo: gets one line per fit; ``None`` for silence.

        Raises:
            LabError: if a worker is killed, the cluster or the device cannot be used, or the store
                cannot be read or written. Fits that finished before stay stored.
        """
        pairs = [(recipe, split) for recipe in recipes]
        return self._sweep(pairs, digits, jobs, device, scheduler, echo)

    def cross_validate(
        self,
        recipe: Recipe,
        digits: Digits,
        *,
        folds: int = 5,
        jobs: int = 1,
        device: str = "auto",
        scheduler: str = "",
        echo: Callable[[str], None] | None = print,
    ) -> list[tuple[Split, Fit]]:
        """One fit per stratified fold of the training images, validated on that fold.

        The folds are drawn by the recipe's seed. The other arguments are those of ``sweep``.

        Raises:
            Diverged, Failed: if the fit of a fold does, for none may be missing.
            LabError: as ``sweep``.
        """
        splits = stratified_folds(digits, folds, recipe.seed)
        pairs = [(recipe, split) for split in splits]
        outcomes = self._sweep(pairs, digits, jobs, device, scheduler, echo)
        for outcome in outcomes:
            if not isinstance(outcome, Fit):
                raise outcome
        return list(zip(splits, finished(outcomes), strict=True))

    def _sweep(
        self,
        pairs: Sequence[tuple[Recipe, Split | None]],
        digits: Digits,
        jobs: int,
        device: str,
        scheduler: str,
        echo: Callable[[str], None] | None,
    ) -> list[Outcome]:
        if jobs < 1:
            raise ValueError(f"jobs must be at least 1, found {jobs}")
        where = training.pick_device(device)
        tasks = [Task(fit_key(r, digits, split, device), r, split) for r, split in pairs]
        stored = self._keys()
        missing = list({task.key: task for task in tasks if task.key not in stored}.values())
        if echo and tasks:
            echo(f"{len(tasks)} fits, {sum(t.key in stored for t in tasks)} of them in the store")
        make = partial(Store(self.folder.absolute())._make, device=str(where))
        done: Generator[Made, None, None]
        if scheduler and missing:
            done = sweeps.on_cluster(make, missing, digits, scheduler)
        elif jobs > 1 and where.type == "cpu":
            done = sweeps.in_processes(make, missing, digits, jobs)
        else:
            done = (make(task, digits) for task in missing)
        failures = {}
        with closing(done):  # at once, should this stop: its workers must not go on
            for number, made in enumerate(done, 1):
                if echo:
                    echo(f"{number}/{len(missing)} {made.line}")
                if made.failure:
                    failures[made.key] = made.failure
                elif made.key not in self._keys():
                    raise LabError(
                        f"A worker made a fit that is not in the store {self.folder.absolute()}.\n"
                        "  That folder must be on a disk that all workers share, at the same path."
                    )
        return [
            Failed(task.recipe, failures[task.key])
            if task.key in failures
            else self._read(task.key, task.recipe)
            for task in tasks
        ]

    def _make(self, task: Task, digits: Digits, *, device: str) -> Made:
        """Make one fit of a sweep, wherever this runs."""
        key, recipe, split = task
        if fit_key(recipe, digits, split, device) != key:
            raise LabError(
                "A worker has other training code or another PyTorch than this process.\n"
                "  Give both the same versions, start this Python (or the notebook's kernel) "
                "and the workers afresh, then run again."
            )
        try:
            fitted = self.fit(recipe, digits, split=split, device=device, echo=None)
        except Diverged as error:
            return Made(key, str(error).splitlines()[0])
        except LabError:
            raise  # of the store or the device, which every fit of the sweep would meet
        except Exception as error:
            failed = Failed(recipe, f"{type(error).__name__}: {error}".splitlines()[0])
            return Made(key, str(failed), failed.reason)
        where = f", {split.name}" if split else ""
        scored = ""
        if fitted.history.validation_accuracies:
            scored = f", validation accuracy {100 * fitted.history.validation_accuracies[-1]:.2f} %"
        line = f"{recipe.name}, seed {recipe.seed}{where}{scored}, {fitted.seconds:.1f} s"
        return Made(key, line)

    def _keys(self) -> set[str]:
        # A listing is fresh on a network disk too, where asking for one name may not be.
        return {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()

    def _read(self, key: str, recipe: Recipe) -> Fit | Diverged:
        folder = self.folder / key
        try:
            if (folder / "diverged.json").exists():
                text = (folder / "diverged.json").read_text(encoding="utf-8")
                return Diverged(json.loads(text)["message"])
            values = json.loads((folder / "history.json").read_text(encoding="utf-8"))
            seconds = values.pop("seconds")
            plain: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
            }
            history = History(**plain)
            with np.load(folder / "logits.npz", allow_pickle=False) as arrays:
                test_logits = torch.from_numpy(arrays["test"])
                validation_logits = torch.from_numpy(arrays["validation"])
            with torch.random.fork_rng(devices=[]):
                model = recipe.build()
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except Exception as error:  # each of the three formats has errors of its own
            raise LabError(
                f"{folder} is not a readable fit:\n"
                "  expected history.json, logits.npz and model.safetensors, or diverged.json; "
                f"found {type(error).__name__}: {error}\n"
                "  Delete that folder; the fit is then made again."
            ) from error
        return Fit(recipe, model.eval(), history, test_logits, validation_logits, seconds)

    def _write(self, key: str, recipe: Recipe, made: Fit | Diverged) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                # Nobody else is writing: what is unfinished was left by a process that was killed.
                for left in self.folder.glob(UNFINISHED):
                    shutil.rmtree(left, ignore_errors=True)
                if (self.folder / key).exists():
                    return  # Another process finished the same fit first: its result is as good.
                work = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=self.folder))
                try:
                    _write_files(work, recipe, made)
                    work.rename(self.folder / key)
                finally:
                    shutil.rmtree(work, ignore_errors=True)
        except (OSError, SafetensorError) as error:
            raise LabError(
                f"A fit of {recipe.name} cannot be written to {shown(self.folder)}: {error}\n"
                "  Make room there, or set MNIST_LAB_RUNS to another folder, then run again."
            ) from error


def _write_files(folder: Path, recipe: Recipe, made: Fit | Diverged) -> None:
    (folder / "recipe.json").write_text(recipe.to_json() + "\n", encoding="utf-8")
    if isinstance(made, Diverged):
        text = json.dumps({"message": str(made)})
        (folder / "diverged.json").write_text(text + "\n", encoding="utf-8")
        return
    values = {**dataclasses.asdict(made.history), "seconds": made.seconds}
    (folder / "history.json").write_text(json.dumps(values) + "\n", encoding="utf-8")
    np.savez_compressed(
        folder / "logits.npz",
        test=made.test_logits.numpy(),
        validation=made.validation_logits.numpy(),
    )
    save_file(made.model.state_dict(), folder / "model.safetensors")


def open_store(folder: str | Path = "") -> Store:
    """The store in ``folder``, or the project's own without one."""
    return Store(Path(folder) if folder else runs_folder() / "store")

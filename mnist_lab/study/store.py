"""Fits kept on disk, so that what was trained once is read back and never trained again."""

import json
import os
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mnist_lab import training
from mnist_lab.data import Digits
from mnist_lab.devices import pick_device
from mnist_lab.files import ANOTHER_RUNS, PROJECT, LabError, display_path, lock, replacing, writing
from mnist_lab.recipes import Recipe
from mnist_lab.splits import Split, stratified_folds
from mnist_lab.study.cache_key import cache_key
from mnist_lab.study.sweeps import Failed, Outcome, Task, finished, side_by_side
from mnist_lab.training import Diverged, Fit, History

Echo = Callable[[str], None] | None


@dataclass(frozen=True)
class Store:
    """A folder of finished fits, each a safetensors file that appears whole or not at all.

    It holds weights and answers, with recipe and history as metadata; nothing is pickled. A file
    that is not as it was written is not believed: that is said, and the fit made again.
    """

    folder: Path

    def fit(
        self,
        recipe: Recipe,
        digits: Digits,
        *,
        split: Split | None = None,
        device: str = "auto",
        echo: Echo = print,
    ) -> Fit:
        """``training.fit``, or its stored result when this very fit was made before.

        Raises:
            Diverged: as ``training.fit``. That is stored too: asked again, it is raised again.
            LabError: if the device cannot be used or the store cannot be written.
        """
        key = cache_key(recipe, digits, split, device)
        made = self._read(key, recipe, echo)
        if echo:
            echo(f"{recipe.name}, seed {recipe.seed}:{' read from the store' if made else ''}")
        if not made:
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
        split: Split | Iterable[Split] | None = None,
        jobs: int = 1,
        device: str = "auto",
        scheduler: str = "",
        echo: Echo = print,
    ) -> list[Outcome]:
        """What becomes of each recipe, in the order given: its fit, or why there is none.

        No recipe stops the others: a training that diverges gives its ``Diverged``, another error
        a ``Failed``, which is tried again when asked for again. A sweep that is killed loses only
        the fits in flight; started again, it makes what is missing.

        ``split`` is of all recipes, or one for each. Fits on a CPU are made in ``jobs`` processes
        of one thread each, or by the workers of the Dask ``scheduler`` at this address, such as
        "tcp://127.0.0.1:8786", with this store's folder at the same path. The number of threads
        changes the last digits of a fit.

        Raises:
            LabError: if a worker is killed or is not like this process, the cluster or device
                cannot be used, or the store cannot be written. Fits made stay.
        """
        if jobs < 1:
            raise ValueError(f"jobs must be at least 1, found {jobs}")
        where, here = pick_device(device), Store(self.folder.absolute())
        splits = split if isinstance(split, Iterable) else repeat(split)
        pairs = zip(recipes, splits, strict=False)
        tasks = [Task(cache_key(r, digits, s, device), r, s) for r, s in pairs]
        outcomes: dict[str, Any] = {t.key: self._read(t.key, t.recipe, echo) for t in tasks}
        missing = {task.key: task for task in tasks if not outcomes[task.key]}
        if echo:
            stored = sum(task.key not in missing for task in tasks)
            echo(f"{len(tasks)} fits, {stored} of them in the store")
        make = partial(here._make, device=str(where))
        at_once = jobs if where.type == "cpu" else 1
        # Closed at once, should this stop: its workers must not go on.
        with closing(side_by_side(make, missing.values(), digits, at_once, scheduler)) as done:
            for number, (task, said) in enumerate(done, 1):
                if echo:
                    echo(f"{number}/{len(missing)} {said}")
                failed = isinstance(said, Failed)
                outcomes[task.key] = said if failed else self._read(task.key, task.recipe, echo)
                if not outcomes[task.key]:
                    raise LabError(
                        f"A worker made a fit that is not in the store {here.folder}.\n"
                        "  That folder must be on a disk that all workers share, at the same path."
                    )
        found = [(outcomes[task.key], task.recipe) for task in tasks]
        return [replace(one, recipe=r) if isinstance(one, Fit) else one for one, r in found]

    def cross_validate(
        self, recipe: Recipe, digits: Digits, *, folds: int = 5, **settings: Any
    ) -> list[tuple[Split, Fit]]:
        """One fit per stratified fold, drawn by the recipe's seed and validated on that fold.

        The settings, and what is raised, are those of ``sweep``; a fit that fails is raised too.
        """
        splits = stratified_folds(digits, folds, recipe.seed)
        outcomes = self.sweep(repeat(recipe), digits, split=splits, **settings)
        for outcome in outcomes:
            if not isinstance(outcome, Fit):
                raise outcome
        return list(zip(splits, finished(outcomes), strict=True))

    def _make(self, task: Task, digits: Digits, *, device: str) -> str | Failed:
        """Make one fit of a sweep, wherever this runs; a line for people."""
        key, recipe, split = task
        name = f"{recipe.name}, seed {recipe.seed}"
        if cache_key(recipe, digits, split, device) != key:
            raise LabError(
                "A worker has other training code or another PyTorch than this process.\n  Give "
                "both the same versions, start this Python and the workers afresh, then run again."
            )
        try:
            fitted = self.fit(recipe, digits, split=split, device=device, echo=None)
        except Diverged as error:
            return str(error).splitlines()[0]
        except LabError:
            raise  # of the store or the device, which every fit of the sweep would meet
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            return Failed(f"{recipe.name} (seed {recipe.seed}) could not be fitted: {reason}")
        if split:
            accuracy = fitted.history.validation_accuracies[-1]
            name += f", {split.name}, validation accuracy {100 * accuracy:.2f} %"
        return f"{name}, {fitted.seconds:.1f} s"

    def _write(self, key: str, recipe: Recipe, made: Fit | Diverged) -> None:
        tensors, about = _packed(recipe, made)
        about["sha256"] = _digest(key, about, tensors)
        path = self.folder / f"{key}.safetensors"
        with writing(path, ANOTHER_RUNS), lock(self.folder / ".lock", otherwise=ANOTHER_RUNS):
            # Nobody else is writing: what is unfinished was left by a process that was killed.
            for left in self.folder.glob(".*.tmp"):
                left.unlink()
            with replacing(path, ANOTHER_RUNS) as temporary:
                try:
                    save_file(tensors, temporary, about)
                except SafetensorError as error:  # in which it wraps what the system says
                    raise OSError(str(error)) from error

    def _read(self, key: str, recipe: Recipe, echo: Echo) -> Fit | Diverged | None:
        """What is stored of a fit; ``None`` where that is nothing, or not to be believed."""
        # A listing is fresh on a network disk too, where asking for one name may not be.
        for path in self.folder.glob(f"{key}.*"):
            try:
                with safe_open(path, "pt") as file:
                    about = file.metadata()
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                if about.pop("sha256") != _digest(key, about, tensors):
                    raise ValueError("its SHA-256 is not the one that was written")
                return _unpacked(recipe, tensors, about)
            except Exception as error:  # of the file, of JSON, of PyTorch
                if echo:
                    echo(f"{display_path(path)} is damaged, and its fit is made again: {error}")
        return None


def _packed(recipe: Recipe, made: Fit | Diverged) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What a file of the store holds: tensors, and text about them."""
    if isinstance(made, Diverged):
        return {}, {"recipe": recipe.to_json(), "diverged": str(made)}
    answers = {"test": made.test_logits, "validation": made.validation_logits}
    if made.best_test_logits is not made.test_logits:
        answers["best test"] = made.best_test_logits
    seen = {"history": json.dumps(vars(made.history)), "seconds": repr(made.seconds)}
    return made.model.state_dict() | answers, {"recipe": recipe.to_json(), **seen}


def _unpacked(recipe: Recipe, tensors: dict[str, Tensor], about: dict[str, str]) -> Fit | Diverged:
    """The inverse of ``_packed``, but under the name that the recipe has now."""
    if "diverged" in about:
        return Diverged(about["diverged"])
    test, validation = tensors.pop("test"), tensors.pop("validation")
    best = tensors.pop("best test", test)
    with torch.random.fork_rng(devices=[]):
        model = recipe.build()
    model.load_state_dict(tensors)
    seen = json.loads(about["history"])
    history = History(seen.pop("steps_per_epoch")).plus(**seen)
    seconds = float(about["seconds"])
    return Fit(recipe, model.eval(), history, test, best, validation, seconds)


def _digest(key: str, about: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """SHA-256 of all that the store's file of a fit holds, and of the key that names it."""
    digest = sha256(json.dumps([key, about], sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def runs_folder() -> Path:
    """Where runs and stored fits lie: the project's ``runs``, or ``MNIST_LAB_RUNS`` if set."""
    return Path(os.environ.get("MNIST_LAB_RUNS") or PROJECT / "runs").expanduser()


def open_store(folder: str | Path = "") -> Store:
    """The store in ``folder``, or the project's own without one."""
    return Store(Path(folder) if folder else runs_folder() / "store")

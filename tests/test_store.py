"""Fits kept on disk: read back unchanged, never stale, never half written, never pickled."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import psutil
import pytest
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import mnist_lab as lab
from mnist_lab import store as store_module
from mnist_lab import sweeps, training
from mnist_lab.errors import LabError
from mnist_lab.keys import code_only, fit_key
from mnist_lab.store import Store
from mnist_lab.sweeps import Failed, Made, Task, finished

TINY = lab.REPORT_A.but(name="tiny", epochs=2, batch_size=64, lr=0.05)
HOT = TINY.but(name="hot", lr=1e6, epochs=5, batch_size=20)
NO_ROOM_FOR_THE_FILTER = TINY.but(name="wide filter", kernel_size=25)
NO_MEMORY = TINY.but(name="petabytes", width=1e12)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def make(store: Store, recipe: lab.Recipe, digits: lab.Digits, **options) -> lab.Fit:
    return store.fit(recipe, digits, **{"device": "cpu", "echo": None, **options})


def entries(store: Store) -> list[Path]:
    """The fits in the store, which are its folders that are not hidden."""
    return sorted(path for path in store.folder.iterdir() if not path.name.startswith("."))


def unfinished(store: Store) -> list[Path]:
    """What the store holds of fits that are not finished: its hidden folders."""
    return [path for path in store.folder.glob(".*") if path.is_dir()]


def sweep(store: Store, recipes: list[lab.Recipe], digits: lab.Digits, **options) -> list:
    return store.sweep(recipes, digits, **{"device": "cpu", "echo": None, **options})


def halves(digits: lab.Digits) -> lab.Split:
    rows = torch.arange(len(digits.train))
    return lab.Split(rows[::2], rows[1::2], "every other")


def assert_same(first: lab.Fit, second: lab.Fit) -> None:
    assert first.recipe == second.recipe
    assert (first.history, first.seconds) == (second.history, second.seconds)
    assert torch.equal(first.test_logits, second.test_logits)
    assert torch.equal(first.validation_logits, second.validation_logits)
    theirs = second.model.state_dict()
    assert all(torch.equal(value, theirs[k]) for k, value in first.model.state_dict().items())


@pytest.mark.parametrize("recipe", [TINY, lab.REPORT_B_CODE.but(epochs=1)], ids=["A", "B code"])
def test_a_fit_asked_for_again_is_read_back_unchanged_and_not_trained(store, few_digits, recipe):
    first_lines, second_lines = [], []
    split = halves(few_digits)
    first = make(store, recipe, few_digits, split=split, echo=first_lines.append)
    again = make(store, recipe, few_digits, split=split, echo=second_lines.append)
    assert_same(again, first)
    assert any(line.startswith("epoch 1/") for line in first_lines)
    assert second_lines == [f"{recipe.name}, seed {recipe.seed}: read from the store"]
    assert not any(module.training for module in again.model.modules())


def test_reading_a_fit_back_leaves_the_global_random_state_alone(store, few_digits):
    make(store, TINY, few_digits)
    state = torch.get_rng_state()
    make(store, TINY, few_digits)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_fit_read_back_has_the_name_it_is_asked_for_by(store, few_digits):
    make(store, TINY, few_digits)
    assert make(store, TINY.but(name="other"), few_digits).recipe.name == "other"
    assert len(entries(store)) == 1


AUGMENTATION_CHANGES = {
    "rotation": 5.0,
    "shift": 0.1,
    "scale": 0.1,
    "shear": 5.0,
    "horizontal_flip": 0.5,
    "vertical_flip": 0.5,
    "crop_scale": (0.8, 1.0),
    "crop_ratio": (0.75, 1.25),
}
CHANGES = {
    "model": "report_b",
    "options": (("kernel_size", 3),),
    "initialisation": "kaiming",
    "pretraining": "rotations",
    "mean": 0.5,
    "std": 0.5,
    "border": 2,
    "augmentation": lab.Augmentation(rotation=5),
    "optimiser": "adam",
    "lr": 0.051,
    "momentum": 0.9,
    "nesterov": True,
    "schedule": "cosine",
    "label_smoothing": 0.1,
    "l1": 1e-5,
    "weight_decay": 1e-4,
    "averaging": 0.9,
    "precision": "bfloat16",
    "batch_shift": 1,
    "test_shift": 1,
    "batch_size": 65,
    "epochs": 3,
    "train_fraction": 0.5,
    "seed": 1,
}
NEEDS = {"border": {"model": "fast"}, "nesterov": {"momentum": 0.5}}
"""What the recipe that is changed must have for a change to be allowed."""


def test_every_value_of_a_recipe_has_a_change_to_be_tested():
    assert {field.name for field in dataclasses.fields(lab.Recipe)} - {"name"} == CHANGES.keys()
    fields = {field.name for field in dataclasses.fields(lab.Augmentation)}
    assert fields == AUGMENTATION_CHANGES.keys()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *(
            pytest.param(first := TINY.but(**NEEDS.get(k, {})), first.but(**{k: v}), id=k)
            for k, v in CHANGES.items()
        ),
        *(
            pytest.param(TINY, TINY.but(augmentation=lab.Augmentation(**{k: v})), id=k)
            for k, v in AUGMENTATION_CHANGES.items()
        ),
    ],
)
def test_a_fit_of_another_recipe_has_another_key(few_digits, first, second):
    assert fit_key(first, few_digits, None) != fit_key(second, few_digits, None)


@pytest.mark.parametrize(
    "same",
    [
        TINY.but(name="renamed"),
        TINY.but(kernel_size=5),
        TINY.but(mean=0, momentum=0),
        lab.Recipe.from_json(TINY.to_json()),
    ],
    ids=["name", "default option", "whole numbers", "json"],
)
def test_an_equal_recipe_has_the_same_key(few_digits, same):
    assert fit_key(same, few_digits, None) == fit_key(TINY, few_digits, None)


def test_other_digits_or_another_split_have_another_key(few_digits):
    part = lab.Images(few_digits.train.images[:150], few_digits.train.labels[:150])
    other = dataclasses.replace(few_digits, train=part)
    split = halves(few_digits)
    swapped = lab.Split(split.validation, split.train, split.name)
    keys = [
        fit_key(TINY, few_digits, None),
        fit_key(TINY, other, None),
        fit_key(TINY, few_digits, split),
        fit_key(TINY, few_digits, swapped),
    ]
    assert len(set(keys)) == 4


CODE = '''
"""What this is for."""
RATE = 0.1  # chosen by hand

def step(x):
    """Takes a step."""
    # downhill
    return x - RATE
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # chosen by hand", ""),
        ("Takes a step.", "Goes\n    one step down."),
        ("What this is for.", "Anything."),
        ("# downhill", "# not uphill\n"),
        ("x - RATE", "(x -  RATE)"),
    ],
)
def test_comments_docstrings_and_layout_are_not_training_code(old, new):
    assert code_only(CODE.replace(old, new)) == code_only(CODE) and old in CODE


@pytest.mark.parametrize(("old", "new"), [("0.1", "0.2"), ("x - RATE", "x + RATE")])
def test_values_and_expressions_are_training_code(old, new):
    assert code_only(CODE.replace(old, new)) != code_only(CODE)


def test_nothing_in_the_store_is_pickled(store, few_digits):
    make(store, TINY, few_digits, split=halves(few_digits))
    (entry,) = entries(store)
    assert {path.name for path in entry.iterdir()} == {
        "recipe.json",
        "history.json",
        "logits.npz",
        "model.safetensors",
    }
    with np.load(entry / "logits.npz", allow_pickle=False) as arrays:
        assert {name: arrays[name].shape for name in arrays} == {
            "test": (40, 10),
            "validation": (100, 10),
        }
    assert load_file(entry / "model.safetensors").keys() == TINY.build().state_dict().keys()
    assert lab.Recipe.from_json((entry / "recipe.json").read_text()) == TINY
    assert "epoch_losses" in json.loads((entry / "history.json").read_text())


def test_an_error_while_writing_leaves_nothing_behind(store, few_digits, monkeypatch):
    def full_disk(tensors: dict, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "save_file", full_disk)
    with pytest.raises(LabError, match=r"cannot be written to .*No space left(?s:.*)Make room"):
        make(store, TINY, few_digits)
    assert entries(store) == unfinished(store) == []


def test_a_diverged_fit_is_stored_and_raised_again_without_training(store, few_digits):
    with pytest.raises(lab.Diverged) as first:
        make(store, HOT, few_digits)
    (entry,) = entries(store)
    assert {path.name for path in entry.iterdir()} == {"recipe.json", "diverged.json"}
    assert lab.Recipe.from_json((entry / "recipe.json").read_text()) == HOT
    lines = []
    with pytest.raises(lab.Diverged) as second:
        make(store, HOT, few_digits, echo=lines.append)
    assert lines == ["hot, seed 0: read from the store"]
    assert str(second.value) == str(first.value)
    (entry / "diverged.json").write_text("{")
    with pytest.raises(LabError, match="is not a readable fit"):
        make(store, HOT, few_digits)


@pytest.mark.parametrize(
    "name", ["history.json", "logits.npz", "model.safetensors"], ids=lambda name: name
)
@pytest.mark.parametrize("kept", [0.0, 0.6], ids=["emptied", "cut off"])
def test_a_damaged_entry_is_named_with_what_to_do(few_digits, finished_entry, name, kept):
    store, entry = finished_entry
    content = (entry / name).read_bytes()
    (entry / name).write_bytes(content[: int(kept * len(content))])
    try:
        with pytest.raises(LabError) as refused:
            make(store, TINY, few_digits)
    finally:
        (entry / name).write_bytes(content)
    message = str(refused.value)
    assert message.startswith(f"{entry} is not a readable fit:")
    assert "Delete that folder; the fit is then made again." in message


def test_an_entry_without_one_of_its_files_is_named(few_digits, finished_entry):
    store, entry = finished_entry
    hidden = (entry / "logits.npz").rename(entry / "elsewhere")
    try:
        with pytest.raises(LabError, match="is not a readable fit"):
            make(store, TINY, few_digits)
    finally:
        hidden.rename(entry / "logits.npz")


@pytest.fixture(scope="module")
def finished_entry(tmp_path_factory, few_digits) -> tuple[Store, Path]:
    """A store with the one fit of ``TINY``, and that fit's folder."""
    store = Store(tmp_path_factory.mktemp("finished"))
    make(store, TINY, few_digits)
    (entry,) = entries(store)
    return store, entry


def test_a_fit_that_another_finished_first_is_kept(store, few_digits):
    def finish_first(line: str) -> None:
        if line.startswith("epoch 1/"):
            make(store, TINY, few_digits)

    late = make(store, TINY, few_digits, echo=finish_first)
    kept = make(store, TINY, few_digits)
    assert torch.equal(kept.test_logits, late.test_logits)
    assert len(entries(store)) == 1 and unfinished(store) == []


def test_two_processes_making_the_same_fit_at_once_both_succeed(store, few_digits, tmp_path):
    recipe = TINY

    def at_once(number: int) -> tuple[torch.Tensor, int]:
        def meet(line: str) -> None:
            if line.startswith("epoch 1/"):  # both are past looking it up
                (tmp_path / f"{number}").touch()
                until = time.monotonic() + 120
                while not all((tmp_path / f"{other}").exists() for other in (0, 1)):
                    assert time.monotonic() < until, "the other process never came"
                    time.sleep(0.01)

        torch.set_num_threads(1)
        return store.fit(recipe, few_digits, device="cpu", echo=meet).test_logits, os.getpid()

    both = joblib.Parallel(n_jobs=2)(joblib.delayed(at_once)(number) for number in (0, 1))
    (first, first_process), (second, second_process) = both
    assert first_process != second_process
    assert torch.equal(first, second)
    assert len(entries(store)) == 1 and unfinished(store) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_gives_the_fits_in_order_and_makes_only_those_missing(store, few_digits, jobs):
    recipes = TINY.but(epochs=1).seeds(4)
    make(store, recipes[2], few_digits)
    (finished,) = entries(store)
    inode = finished.stat().st_ino
    lines = []
    fits = store.sweep(recipes, few_digits, jobs=jobs, device="cpu", echo=lines.append)
    assert [fit.recipe for fit in fits] == recipes
    assert len({fit.test_logits.numpy().tobytes() for fit in fits}) == 4
    assert lines[0] == "4 fits, 1 of them in the store"
    assert sorted(line.split()[0] for line in lines[1:]) == ["1/3", "2/3", "3/3"]
    assert not any("seed 2" in line for line in lines)
    assert finished.stat().st_ino == inode
    alone = training.fit(recipes[3], few_digits, device="cpu", echo=None)
    torch.testing.assert_close(fits[3].test_logits, alone.test_logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_goes_on_after_fits_that_diverge_or_fail(store, few_digits, jobs):
    recipes = [HOT, TINY, NO_ROOM_FOR_THE_FILTER, NO_MEMORY, TINY.but(seed=1)]
    lines = []
    outcomes = sweep(store, recipes, few_digits, jobs=jobs, echo=lines.append)
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [lab.Diverged, lab.Fit, Failed, Failed, lab.Fit]
    assert [fit.recipe for fit in finished(outcomes)] == [TINY, TINY.but(seed=1)]
    assert outcomes[2].recipe == NO_ROOM_FOR_THE_FILTER
    assert outcomes[2].reason.startswith("ValueError: expected a map of at least 6×6")
    assert str(outcomes[3]).startswith("petabytes (seed 0) could not be fitted: RuntimeError: ")
    said = "\n".join(lines)
    assert "hot (seed 0) diverged: the loss at step" in said
    assert all(str(outcome) in said for outcome in outcomes[2:4])
    assert len(entries(store)) == 3 and unfinished(store) == []


def test_a_recipe_that_these_digits_cannot_judge_stops_no_sweep(store, few_digits):
    outcomes = sweep(store, [TINY.but(pretraining="uci-digits"), TINY], few_digits, echo=None)
    assert [type(outcome) for outcome in outcomes] == [Failed, lab.Fit]
    assert "cannot be judged on them" in outcomes[0].reason


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
def test_processes_share_the_digits_and_train_on_one_thread(uci_digits):
    tasks = [Task(str(number), TINY, None) for number in range(4)]
    made = list(sweeps.in_processes(_look_at_the_digits, tasks, uci_digits, jobs=2))
    assert sorted(made) == [Made(str(n), uci_digits.digest, "shared, 1 thread") for n in range(4)]


def _look_at_the_digits(task: Task, digits: lab.Digits) -> Made:
    images = digits.train.images
    starts = [
        int(line.split("-")[0], 16)
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "joblib_memmapping_folder" in line
    ]
    shared = any(0 <= images.data_ptr() - start < 4096 for start in starts)
    found = f"{'shared' if shared else 'copied'}, {torch.get_num_threads()} thread"
    return Made(task.key, digits.digest, found)


def test_a_sweep_asked_for_again_tries_what_failed_but_not_what_diverged(store, few_digits):
    recipes = [HOT, NO_ROOM_FOR_THE_FILTER]
    diverged, _ = sweep(store, recipes, few_digits)
    lines = []
    again, failed = sweep(store, recipes, few_digits, echo=lines.append)
    assert isinstance(again, lab.Diverged) and str(again) == str(diverged)
    assert lines == ["2 fits, 1 of them in the store", f"1/1 {failed}"]


def test_a_recipe_asked_for_twice_in_a_sweep_is_trained_once(store, few_digits):
    lines = []
    first, renamed = sweep(store, [TINY, TINY.but(name="twin")], few_digits, echo=lines.append)
    assert torch.equal(first.test_logits, renamed.test_logits)
    assert renamed.recipe.name == "twin"
    assert lines[0] == "2 fits, 0 of them in the store" and len(lines) == 2


def test_a_store_that_cannot_be_written_stops_the_sweep(store, few_digits, monkeypatch):
    def full_disk(tensors: dict, path: Path) -> None:
        raise SafetensorError("Error while serializing: No space left on device")

    monkeypatch.setattr(store_module, "save_file", full_disk)
    lines = []
    with pytest.raises(LabError, match="cannot be written"):
        sweep(store, TINY.seeds(2), few_digits, echo=lines.append)
    assert lines == ["2 fits, 0 of them in the store"]


def test_a_worker_with_other_training_code_is_refused(store, few_digits):
    task = Task(24 * "0", TINY, None)
    with pytest.raises(LabError, match="other training code"):
        store._make(task, few_digits, device="cpu")


def test_a_fit_that_did_not_arrive_in_this_store_is_told_at_once(store, few_digits):
    def lose(line: str) -> None:
        for entry in entries(store) if line.startswith("1/") else ():
            shutil.rmtree(entry)

    with pytest.raises(LabError, match="on a disk that all workers share"):
        sweep(store, TINY.seeds(3), few_digits, echo=lose)
    assert entries(store) == []


def test_a_sweep_of_nothing_gives_nothing(store, few_digits):
    assert store.sweep([], few_digits, device="cpu", echo=None) == []


def test_no_jobs_at_all_are_refused(store, few_digits):
    with pytest.raises(ValueError, match="jobs must be at least 1, found 0"):
        store.sweep([TINY], few_digits, jobs=0)


def test_cross_validation_judges_every_training_image_once_by_a_fit_that_never_saw_it(
    store, few_digits
):
    recipe = TINY.but(epochs=1)
    pairs = store.cross_validate(recipe, few_digits, folds=3, device="cpu", echo=None)
    judged = torch.cat([split.validation for split, _ in pairs])
    assert sorted(judged.tolist()) == list(range(200))
    for split, fit in pairs:
        assert sorted(torch.cat([split.train, split.validation]).tolist()) == list(range(200))
        assert_same(fit, make(store, recipe, few_digits, split=split))
        truth = few_digits.train.labels[split.validation]
        assert fit.history.validation_accuracies == (lab.accuracy(truth, fit.validation_logits),)
    assert len(entries(store)) == 3


@pytest.mark.parametrize(("recipe", "error"), [(HOT, lab.Diverged), (NO_MEMORY, Failed)])
def test_cross_validation_raises_what_a_fold_is_missing_for(store, few_digits, recipe, error):
    with pytest.raises(error):
        store.cross_validate(recipe, few_digits, folds=2, device="cpu", echo=None)


def test_the_store_is_in_the_folder_for_runs_unless_one_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_LAB_RUNS", str(tmp_path / "runs"))
    assert lab.open_store().folder == tmp_path / "runs" / "store"
    assert lab.open_store(tmp_path / "mine").folder == tmp_path / "mine"


def test_a_process_killed_while_it_writes_leaves_no_entry_and_the_next_fit_works(store, few_digits):
    parent = os.getpid()

    def fit_and_die() -> None:
        def half_of_the_weights(tensors: dict, path: Path) -> None:
            path.write_bytes(b"half of")
            os.kill(os.getpid(), signal.SIGKILL)

        if os.getpid() != parent:
            store_module.save_file = half_of_the_weights
            store.fit(TINY, few_digits, device="cpu", echo=None)

    with pytest.raises(TerminatedWorkerError):
        joblib.Parallel(n_jobs=2)([joblib.delayed(fit_and_die)()])
    assert [path.name for path in store.folder.rglob("model.safetensors")]
    assert entries(store) == []
    lines = []
    made = make(store, TINY, few_digits, echo=lines.append)
    assert any(line.startswith("epoch 1/") for line in lines)
    assert_same(make(store, TINY, few_digits), made)
    assert unfinished(store) == []


def test_what_another_process_is_writing_is_not_taken_for_left_behind(
    store, few_digits, monkeypatch
):
    writing, may_finish = threading.Event(), threading.Event()

    def slow(tensors: dict, path: Path) -> None:
        if not writing.is_set():
            writing.set()
            may_finish.wait(60)
        save_file(tensors, path)

    monkeypatch.setattr(store_module, "save_file", slow)
    first = training.fit(TINY, few_digits, device="cpu", echo=None)
    second = training.fit(TINY.but(seed=1), few_digits, device="cpu", echo=None)
    keys = [fit_key(fit.recipe, few_digits, None) for fit in (first, second)]
    threads = [
        threading.Thread(target=store._write, args=(key, fit.recipe, fit))
        for key, fit in zip(keys, (first, second), strict=True)
    ]
    threads[0].start()
    assert writing.wait(60)
    threads[1].start()
    threads[1].join(0.5)
    assert len(unfinished(store)) == 1 and threads[1].is_alive()
    may_finish.set()
    for thread in threads:
        thread.join(60)
    assert {path.name for path in entries(store)} == set(keys) and unfinished(store) == []
    assert_same(make(store, TINY, few_digits), first)


def test_a_worker_that_is_killed_stops_the_sweep_with_what_to_do(few_digits):
    tasks = [Task(24 * "0", TINY, None)]
    with pytest.raises(LabError, match=r"was killed(?s:.*)run again, with fewer jobs"):
        list(sweeps.in_processes(_die, tasks, few_digits, jobs=2))


def _die(task: Task, digits: lab.Digits) -> Made:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("killed before")


SWEEP = """
import sys
import mnist_lab as lab

recipe = lab.REPORT_A.but(name="tiny", batch_size=64, lr=0.05, train_fraction=0.2)
recipe = recipe.but(name="tiny", epochs=int(sys.argv[2]))
lab.open_store(sys.argv[1]).sweep(
    recipe.seeds(10), lab.load_digits("uci-digits"), jobs=2, device="cpu",
    echo=lambda line: print(line, flush=True),
)
"""


def start_sweep(store: Store, epochs: int = 8) -> subprocess.Popen[str]:
    """A process that sweeps in two others, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", SWEEP, str(store.folder), str(epochs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "JOBLIB_TEMP_FOLDER": str(store.folder.parent)},
    )


def stop_after_three(store: Store, how: signal.Signals) -> tuple[int, str]:
    """Send the signal to a sweep and its workers after its third fit: exit status and stderr."""
    process = start_sweep(store)
    for line in process.stdout:
        if line.startswith("3/10"):
            os.killpg(process.pid, how)
    return process.wait(300), process.stderr.read()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill", "Ctrl-C"])
def test_a_sweep_stopped_halfway_makes_only_what_is_missing(store, uci_digits, how):
    status, said = stop_after_three(store, how)
    assert status == -how
    assert ("KeyboardInterrupt" in said) == (how == signal.SIGINT)
    before = {path: path.stat().st_ino for path in entries(store)}
    assert 3 <= len(before) < 10
    recipe = TINY.but(epochs=8, train_fraction=0.2)
    lines = []
    outcomes = sweep(store, recipe.seeds(10), uci_digits, echo=lines.append)
    assert lines[0] == f"10 fits, {len(before)} of them in the store"
    assert len(lines) == 11 - len(before)
    assert [fit.recipe.seed for fit in finished(outcomes)] == list(range(10))
    assert {path: path.stat().st_ino for path in before} == before
    assert unfinished(store) == []


def test_workers_end_soon_after_the_process_that_started_them(store):
    def workers() -> list[int]:
        others = [p for p in psutil.process_iter() if p.pid != process.pid]
        return [p.pid for p in others if _runs_in_session(p, process.pid)]

    process = start_sweep(store, epochs=10_000)  # far longer than this test waits
    while len(workers()) < 2:
        time.sleep(0.1)
    time.sleep(5)  # on a slow machine they have not even begun a fit
    process.kill()
    process.wait(30)
    deadline = time.monotonic() + 30
    while workers() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not workers()
    assert not store.folder.exists()


def _runs_in_session(process: psutil.Process, session: int) -> bool:
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


@pytest.fixture(scope="module")
def cluster() -> Iterator:
    """A Dask cluster of two workers of one thread each on this machine."""
    distributed = pytest.importorskip("distributed")
    local = {"host": "127.0.0.1", "dashboard_address": ":0"}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, **local) as cluster:
        yield cluster


def test_a_dask_cluster_gives_the_fits_of_this_process(store, few_digits, tmp_path, cluster):
    recipes = [HOT, *TINY.seeds(2), NO_ROOM_FOR_THE_FILTER]
    split, address = halves(few_digits), cluster.scheduler_address
    lines = []
    options = {"split": split, "scheduler": address}
    remote = sweep(store, recipes, few_digits, **options, echo=lines.append)
    local = sweep(Store(tmp_path / "local"), recipes, few_digits, split=split)
    assert [str(o) for o in remote if not isinstance(o, lab.Fit)] == [
        str(o) for o in local if not isinstance(o, lab.Fit)
    ]
    for theirs, ours in zip(finished(remote), finished(local), strict=True):
        assert torch.equal(theirs.test_logits, ours.test_logits)
        assert torch.equal(theirs.validation_logits, ours.validation_logits)
        assert theirs.history.epoch_losses == ours.history.epoch_losses
    assert lines[0] == "4 fits, 0 of them in the store"
    assert sorted(line.split()[0] for line in lines[1:]) == ["1/4", "2/4", "3/4", "4/4"]
    assert len(sweep(store, recipes[:3], few_digits, split=split, scheduler="tcp://gone:1")) == 3


def test_cross_validation_runs_on_a_dask_cluster(store, few_digits, cluster):
    options = {"folds": 2, "device": "cpu", "echo": None}
    pairs = store.cross_validate(TINY, few_digits, **options, scheduler=cluster.scheduler_address)
    assert [len(fit.validation_logits) for _, fit in pairs] == [100, 100]


def test_a_dask_worker_that_is_killed_is_replaced_until_dask_gives_up(few_digits, cluster):
    tasks = [Task(24 * "0", TINY, None)]
    with pytest.raises(LabError, match="lost the workers that trained"):
        list(sweeps.on_cluster(_die, tasks, few_digits, cluster.scheduler_address))


def test_dask_workers_of_several_threads_are_refused(store, few_digits):
    distributed = pytest.importorskip("distributed")
    local = {"host": "127.0.0.1", "dashboard_address": ":0", "processes": False, "protocol": "tcp"}
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, **local) as cluster,
        pytest.raises(LabError, match="Start the workers with --nthreads 1"),
    ):
        sweep(store, [TINY], few_digits, scheduler=cluster.scheduler_address)


def test_a_cluster_without_workers_is_named_with_what_to_do(store, few_digits, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(sweeps, "CONNECT_SECONDS", 1)
    local = {"host": "127.0.0.1", "dashboard_address": ":0", "processes": False, "protocol": "tcp"}
    with (
        distributed.LocalCluster(n_workers=0, **local) as cluster,
        pytest.raises(LabError, match=r"has no workers(?s:.*)dask worker tcp://127.0.0.1"),
    ):
        sweeps.check_cluster(cluster.scheduler_address)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere", "gopher://127.0.0.1:1"])
def test_a_scheduler_that_does_not_answer_is_named(store, few_digits, monkeypatch, address):
    pytest.importorskip("distributed")
    monkeypatch.setattr(sweeps, "CONNECT_SECONDS", 1)
    with pytest.raises(LabError, match=f"No Dask scheduler answers at '{address}'"):
        sweep(store, [TINY], few_digits, scheduler=address)


def test_without_dask_the_command_that_installs_it_is_named(store, few_digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(LabError, match=r'pip install -e "\.\[cluster\]"'):
        sweep(store, [TINY], few_digits, scheduler="tcp://127.0.0.1:8786")

"""Fits kept on disk: read back unchanged, never half written; side by side, none stops another."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open

import mnist_lab as lab
from mnist_lab.files import LabError
from mnist_lab.study import store as store_module
from mnist_lab.study import sweeps
from mnist_lab.study.cache_key import cache_key
from mnist_lab.study.sweeps import Task, side_by_side

TINY = lab.REPORT_A.but(name="tiny", epochs=1, batch_size=64, lr=0.05)
HOT = TINY.but(name="hot", lr=1e6, epochs=5, batch_size=20)
NO_MEMORY = TINY.but(name="petabytes", width=1e12)
NO_JUDGE = TINY.but(name="learned before", pretraining="uci-digits")
POSIX = pytest.mark.skipif(os.name != "posix", reason="forks and kills processes")


@pytest.fixture
def store(tmp_path) -> lab.Store:
    return lab.Store(tmp_path / "store")


def make(store: lab.Store, recipe: lab.Recipe, digits: lab.Digits, **options) -> lab.Fit:
    return store.fit(recipe, digits, **{"device": "cpu", "echo": None, **options})


def sweep(store: lab.Store, recipes: list[lab.Recipe], digits: lab.Digits, **options) -> list:
    return store.sweep(recipes, digits, **{"device": "cpu", "echo": None, **options})


def entries(store: lab.Store) -> list[Path]:
    """The fits in the store: its files that are not hidden."""
    return list(store.folder.glob("[!.]*"))


def assert_same(first: lab.Fit, second: lab.Fit) -> None:
    assert first.recipe == second.recipe
    assert (first.history, first.seconds) == (second.history, second.seconds)
    assert torch.equal(first.test_logits, second.test_logits)
    assert torch.equal(first.best_test_logits, second.best_test_logits)
    assert torch.equal(first.validation_logits, second.validation_logits)
    theirs = second.model.state_dict()
    assert all(torch.equal(value, theirs[k]) for k, value in first.model.state_dict().items())


@pytest.mark.parametrize("recipe", [TINY, lab.REPORT_B_CODE.but(epochs=1)], ids=["A", "B code"])
def test_a_fit_asked_for_again_is_read_back_unchanged_and_not_trained(store, few_digits, recipe):
    split, lines = lab.stratified_split(few_digits), []
    first = make(store, recipe, few_digits, split=split)
    state = torch.get_rng_state()
    again = make(store, recipe.but(name="renamed"), few_digits, split=split, echo=lines.append)
    assert_same(again, first)
    assert again.recipe.name == "renamed"
    assert lines == [f"renamed, seed {recipe.seed}: read from the store"]
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in again.model.modules())


def test_a_fit_is_one_safetensors_file_and_nothing_is_pickled(store, few_digits):
    make(store, TINY, few_digits)
    (path,) = entries(store)
    with safe_open(path, "pt") as file:
        names, about = set(file.keys()), file.metadata()
    assert names == {"test", "validation", *TINY.build().state_dict()}
    assert lab.Recipe.from_json(about["recipe"]) == TINY
    assert "epoch_losses" in json.loads(about["history"])


def test_a_diverged_fit_is_stored_and_raised_again_without_training(store, few_digits):
    said, lines = set(), []
    for _ in range(2):
        with pytest.raises(lab.Diverged) as diverged:
            make(store, HOT, few_digits, echo=lines.append)
        said.add(str(diverged.value))
    assert len(said) == 1
    assert lines == ["hot, seed 0:", "hot, seed 0: read from the store"]


@pytest.mark.parametrize("damage", ["emptied", "cut off", "one bit", "another fit"])
def test_a_damaged_file_is_said_and_the_fit_made_again(store, few_digits, damage):
    first = make(store, TINY, few_digits)
    (path,) = entries(store)
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "another fit":
        make(store, TINY.but(seed=1), few_digits)
        entries(store)[0].rename(path)
    else:
        content[-1000] ^= damage == "one bit"
        path.write_bytes(content[: {"emptied": 0, "cut off": 50_000}.get(damage)])
    lines = []
    again = make(store, TINY, few_digits, echo=lines.append)
    assert f"{path} is damaged, and its fit is made again: " in lines[0]
    assert torch.equal(again.test_logits, first.test_logits)
    assert_same(make(store, TINY, few_digits), again)


@pytest.mark.parametrize("error", [OSError(28, "No space left"), SafetensorError("No space left")])
def test_an_error_while_writing_says_what_to_do_and_leaves_nothing(
    store, few_digits, monkeypatch, error
):
    def full_disk(tensors: dict, path: Path, about: dict) -> None:
        path.write_bytes(b"half of")
        raise error

    monkeypatch.setattr(store_module, "save_file", full_disk)
    lines = []
    with pytest.raises(LabError, match=r"cannot be written: No space left(?s:.*)MNIST_LAB_RUNS"):
        sweep(store, TINY.seeds(2), few_digits, echo=lines.append)
    assert lines == ["2 fits, 0 of them in the store"]  # an error that all fits would meet stops it
    assert [path.name for path in store.folder.iterdir()] == [".lock"]


def test_what_another_process_is_writing_is_not_taken_for_left_behind(store, few_digits):
    store.folder.mkdir()
    (store.folder / ".half.tmp").touch()
    with FileLock(store.folder / ".lock"):
        writer = threading.Thread(target=make, args=(store, TINY, few_digits))
        writer.start()
        writer.join(1)
        assert writer.is_alive() and (store.folder / ".half.tmp").exists()
    writer.join(60)
    names = {path.name for path in store.folder.iterdir()}
    assert names == {".lock", f"{cache_key(TINY, few_digits, None)}.safetensors"}


@POSIX
def test_four_processes_may_use_one_store_at_once(store, few_digits):
    fork = multiprocessing.get_context("fork")
    arguments = (store, TINY.seeds(5), few_digits)
    processes = [fork.Process(target=sweep, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    lines = []
    sweep(*arguments, echo=lines.append)
    assert lines == ["5 fits, 5 of them in the store"]
    assert len(list(store.folder.iterdir())) == 6  # with the lock


@POSIX
def test_a_process_killed_while_it_writes_leaves_no_fit_and_the_next_fit_works(store, few_digits):
    def fit_and_die() -> None:
        def die_half_way(tensors: dict, path: Path, about: dict) -> None:
            path.write_bytes(b"half of")
            os.kill(os.getpid(), signal.SIGKILL)

        store_module.save_file = die_half_way
        make(store, TINY, few_digits)

    process = multiprocessing.get_context("fork").Process(target=fit_and_die)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not entries(store) and list(store.folder.glob(".*.tmp"))
    fit = make(store, TINY, few_digits)
    assert_same(make(store, TINY, few_digits), fit)
    assert not list(store.folder.glob(".*.tmp"))


def test_the_store_is_in_the_folder_for_runs_unless_one_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_LAB_RUNS", str(tmp_path / "runs"))
    assert lab.open_store().folder == tmp_path / "runs" / "store"
    assert lab.open_store(tmp_path / "mine").folder == tmp_path / "mine"


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_gives_the_fits_in_order_and_makes_only_those_missing(store, few_digits, jobs):
    recipes, lines = [*TINY.seeds(3), TINY.but(name="twin", seed=2)], []
    stored = make(store, recipes[1], few_digits)
    fits = sweep(store, recipes, few_digits, jobs=jobs, echo=lines.append)
    assert [fit.recipe for fit in fits] == recipes and fits[3].recipe.name == "twin"
    assert lines[0] == "4 fits, 1 of them in the store"
    assert [line.split()[0] for line in lines[1:]] == ["1/2", "2/2"]
    assert {line.split()[3] for line in lines[1:]} == {"0,", "2,"}
    assert_same(fits[1], stored)
    alone = lab.fit(recipes[2], few_digits, device="cpu", echo=None)
    torch.testing.assert_close(fits[2].test_logits, alone.test_logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_recipe_stops_the_others_and_what_failed_is_tried_again(store, few_digits, jobs):
    recipes, lines, later = [HOT, NO_MEMORY, NO_JUDGE, TINY], [], []
    outcomes = sweep(store, recipes, few_digits, jobs=jobs, echo=lines.append)
    assert [*map(type, outcomes)] == [lab.Diverged, lab.Failed, lab.Failed, lab.Fit]
    assert str(outcomes[1]).startswith("petabytes (seed 0) could not be fitted: RuntimeError: ")
    assert "cannot be judged on them" in str(outcomes[2])
    assert lab.finished(outcomes) == outcomes[3:]
    assert all(str(one).splitlines()[0] in "\n".join(lines) for one in outcomes[:3])
    again = sweep(store, recipes[:3], few_digits, echo=later.append)
    assert [*map(str, again)] == [*map(str, outcomes[:3])]
    assert later[0] == "3 fits, 1 of them in the store" and len(later) == 3


def test_every_process_gets_the_digits_once_and_trains_on_one_thread(uci_digits):
    tasks = [Task(str(number), TINY, None) for number in range(6)]
    made = [said.split() for _, said in side_by_side(_look, tasks, uci_digits, 2, "")]
    assert {(threads, digest) for threads, digest, _, _ in made} == {("1", uci_digits.digest)}
    held = {(process, address) for _, _, process, address in made}
    assert len(held) == len({process for process, _ in held}) <= 2


def _look(task: Task, digits: lab.Digits) -> str:
    address = digits.train.images.data_ptr()
    return f"{torch.get_num_threads()} {digits.digest} {os.getpid()} {address}"


def test_a_worker_with_other_training_code_is_refused(store, few_digits):
    with pytest.raises(LabError, match="other training code"):
        store._make(Task(24 * "0", TINY, None), few_digits, device="cpu")


def test_a_fit_that_did_not_arrive_in_this_store_is_told_at_once(store, few_digits):
    def lose(line: str) -> None:
        for path in entries(store) if line.startswith("1/") else ():
            path.unlink()

    with pytest.raises(LabError, match="on a disk that all workers share"):
        sweep(store, TINY.seeds(3), few_digits, echo=lose)
    assert not entries(store)


def test_a_sweep_of_nothing_gives_nothing_and_one_without_jobs_is_refused(store, few_digits):
    assert sweep(store, [], few_digits, jobs=2) == []
    with pytest.raises(ValueError, match="jobs must be at least 1, found 0"):
        sweep(store, [TINY], few_digits, jobs=0)


def test_cross_validation_judges_every_image_once_by_a_fit_that_never_saw_it(store, few_digits):
    pairs = store.cross_validate(TINY, few_digits, folds=3, device="cpu", echo=None)
    assert sorted(torch.cat([split.validation for split, _ in pairs]).tolist()) == [*range(200)]
    for split, fit in pairs:
        assert sorted(torch.cat([split.train, split.validation]).tolist()) == [*range(200)]
        truth = few_digits.train.labels[split.validation]
        assert fit.history.validation_accuracies == (lab.accuracy(truth, fit.validation_logits),)
    for recipe, error in ((HOT, lab.Diverged), (NO_MEMORY, lab.Failed)):
        with pytest.raises(error):
            store.cross_validate(recipe, few_digits, folds=2, device="cpu", echo=None)


SWEEP = """
import sys
import mnist_lab as lab
recipe = lab.REPORT_A.but(epochs=int(sys.argv[2]), batch_size=64, lr=0.05, train_fraction=0.2)
lab.open_store(sys.argv[1]).sweep(
    recipe.seeds(6), lab.load_digits("uci-digits"), jobs=2, device="cpu",
    echo=lambda line: print(line, flush=True),
)
"""


def start_sweep(store: lab.Store, epochs: int) -> subprocess.Popen[str]:
    """A process that sweeps in two others, in a session and with temporary files of its own."""
    temporary = store.folder.parent / "zeitweilig für Größeres"
    temporary.mkdir()
    return subprocess.Popen(
        [sys.executable, "-c", SWEEP, str(store.folder), str(epochs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )


@POSIX
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_a_sweep_stopped_halfway_makes_only_what_is_missing(store, uci_digits, how):
    process = start_sweep(store, epochs=8)
    for line in process.stdout:
        if line.startswith("1/6"):
            os.killpg(process.pid, signal.Signals[how])
    assert process.wait(300) != 0
    assert ("KeyboardInterrupt" in process.stderr.read()) == (how == "SIGINT")
    before = {path: path.stat().st_ino for path in entries(store)}
    assert 1 <= len(before) < 6
    recipe, lines = TINY.but(epochs=8, train_fraction=0.2), []
    outcomes = sweep(store, recipe.seeds(6), uci_digits, echo=lines.append)
    assert lines[0] == f"6 fits, {len(before)} of them in the store"
    assert len(lines) == 7 - len(before)
    assert [fit.recipe.seed for fit in lab.finished(outcomes)] == [*range(6)]
    assert {path: path.stat().st_ino for path in before} == before
    assert not list(store.folder.glob(".*.tmp"))


@POSIX
def test_workers_end_soon_after_the_process_that_started_them(store):
    process = start_sweep(store, epochs=10_000)  # far longer than this test waits
    while len(_session(process.pid)) < 3:
        time.sleep(0.1)
    time.sleep(5)  # on a slow machine they have not even begun a fit
    process.kill()
    process.wait(30)
    deadline = time.monotonic() + 30
    while _session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _session(process.pid) and not store.folder.exists()


def _session(leader: int) -> list[psutil.Process]:
    def belongs(process: psutil.Process) -> bool:
        try:
            return os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False

    return [process for process in psutil.process_iter() if belongs(process)]


def local_cluster(**options):
    """A Dask cluster on this machine."""
    distributed = pytest.importorskip("distributed")
    return distributed.LocalCluster(host="127.0.0.1", dashboard_address=":0", **options)


@pytest.fixture(scope="module")
def address():
    """Of a Dask cluster of two workers of one thread each."""
    with local_cluster(n_workers=2, threads_per_worker=1) as cluster:
        yield cluster.scheduler_address


def test_a_dask_cluster_gives_the_fits_of_this_process(store, few_digits, tmp_path, address):
    recipes, lines = [HOT, *TINY.seeds(2), NO_MEMORY], []
    remote = sweep(store, recipes, few_digits, scheduler=address, echo=lines.append)
    local = sweep(lab.Store(tmp_path / "local"), recipes, few_digits)
    assert [*map(str, remote[::3])] == [*map(str, local[::3])]
    for theirs, ours in zip(lab.finished(remote), lab.finished(local), strict=True):
        assert torch.equal(theirs.test_logits, ours.test_logits)
        assert theirs.history.epoch_losses == ours.history.epoch_losses
    assert lines[0] == "4 fits, 0 of them in the store"
    assert sorted(line.split()[0] for line in lines[1:]) == ["1/4", "2/4", "3/4", "4/4"]
    assert len(sweep(store, recipes[:3], few_digits, scheduler="tcp://gone:1")) == 3
    pairs = store.cross_validate(TINY, few_digits, folds=2, scheduler=address, device="cpu")
    assert [len(fit.validation_logits) for _, fit in pairs] == [100, 100]


@POSIX
@pytest.mark.parametrize("where", ["processes", "cluster"])
def test_a_worker_that_is_killed_stops_the_sweep_with_what_to_do(few_digits, request, where):
    scheduler = request.getfixturevalue("address") if where == "cluster" else ""
    with pytest.raises(LabError, match=r"lost while it trained(?s:.*)run again, with fewer"):
        list(side_by_side(_die, [Task("", TINY, None)], few_digits, 2, scheduler))


def _die(task: Task, digits: lab.Digits) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("killed before")


@pytest.mark.parametrize(("workers", "found"), [(0, "Only 0/1 workers"), (1, "several threads")])
def test_a_cluster_without_fit_workers_is_refused(store, few_digits, monkeypatch, workers, found):
    monkeypatch.setattr(sweeps, "CONNECT_SECONDS", 1)
    how = {"n_workers": workers, "threads_per_worker": 2, "processes": False, "protocol": "tcp"}
    with (
        local_cluster(**how) as cluster,
        pytest.raises(LabError, match=rf"{found}(?s:.*)dask worker tcp://127.0.0.1.* --nthreads 1"),
    ):
        sweep(store, [TINY], few_digits, scheduler=cluster.scheduler_address)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere", "gopher://127.0.0.1:1"])
def test_a_scheduler_that_does_not_answer_is_named(monkeypatch, address):
    pytest.importorskip("distributed")
    monkeypatch.setattr(sweeps, "CONNECT_SECONDS", 1)
    with (
        pytest.raises(LabError, match=f"The Dask cluster at '{address}' cannot be used: "),
        sweeps.cluster(address),
    ):
        pass


def test_without_dask_the_command_that_installs_it_is_named(store, few_digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(LabError, match=r'pip install -e "\.\[cluster\]"'):
        sweep(store, [TINY], few_digits, scheduler="tcp://127.0.0.1:8786")

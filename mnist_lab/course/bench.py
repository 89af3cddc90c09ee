"""How fast this machine is at it: ``python -m mnist_lab bench``. No kept fit is read."""

import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn, optim
from torch.optim.lr_scheduler import OneCycleLR, StepLR
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import Compose, Normalize, ToTensor

from mnist_lab import recipes
from mnist_lab.course.machine import describe_machine, peak_memory
from mnist_lab.data import Digits, Images
from mnist_lab.devices import pick_device
from mnist_lab.evaluation import accuracy, probabilities
from mnist_lab.models import multiply_adds, parameter_count
from mnist_lab.recipes import MNIST_MEAN, MNIST_STD, REPORT_A, Recipe
from mnist_lab.study.statistics import mean_interval
from mnist_lab.training import fit, predict, train_one_epoch
from mnist_lab.transforms import prepare

NAMED = ("REPORT_A", "REPORT_B", "REPORT_B_CODE", "FAST", "STRONG", "ACCURATE")
TARGET = 0.99  # of the test images: a loop ends with the first epoch that reaches it
SCALED = Compose([ToTensor(), Normalize((MNIST_MEAN,), (MNIST_STD,))])
NORMALISED = Recipe(name="normalised", mean=MNIST_MEAN, std=MNIST_STD)
COMMANDS = {
    "import torch": ("-c", "import torch"),
    "import mnist_lab": ("-c", "import mnist_lab"),
    "import mnist_lab, use fit": ("-c", "import mnist_lab; mnist_lab.fit"),
    "python -m mnist_lab --help": ("-m", "mnist_lab", "--help"),
    "a setting that is refused": ("-m", "mnist_lab", "run", "-p", "nonsense", "3"),
}
Rows = list[dict[str, Any]]
Say = Callable[[str], object]


@dataclass(frozen=True)
class Loop:
    """A training loop of others; its images have the mean and the sd that ``scaling`` names."""

    network: Callable[[], nn.Module]
    batches: Callable[[Images, torch.device], Any]
    optimiser: Callable[..., optim.Optimizer]
    schedule: Callable[[optim.Optimizer, int], Any] | None = None  # given the steps of an epoch
    epochs: int = 1
    scaling: Recipe = NORMALISED


class Timed(NamedTuple):
    """A training by the clock."""

    seconds: float  # scoring not counted
    accuracy: float
    epochs: int
    test_logits: Tensor  # float32 [N, 10]


def one_by_one(transform: Any, images: Images, device: torch.device, worker: bool) -> Any:
    """Batches of 64, each image made a PIL image and transformed; the worker is for a GPU."""
    dataset = MNIST.__new__(MNIST)  # torchvision's own, but __init__ would read files
    dataset.data, dataset.targets = images.images, images.labels
    dataset.transform, dataset.target_transform = transform, None
    gpu = worker and device.type == "cuda"
    return DataLoader(dataset, 64, shuffle=True, num_workers=int(gpu), persistent_workers=gpu)


def ready_in_memory(images: Images, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Batches of 256, scaled and put in a random order before the clock starts."""
    order = torch.randperm(len(images))
    X = prepare(images.images[order].to(device), MNIST_MEAN, MNIST_STD).split(256)
    return list(zip(X, images.labels[order].to(device).split(256), strict=True))


REPORT_A_LOOP = Loop(
    network=REPORT_A.build,
    batches=partial(one_by_one, ToTensor(), worker=False),
    optimiser=partial(optim.SGD, lr=0.14),
    scaling=REPORT_A,
)
# mnist/main.py in https://github.com/pytorch/examples, its log-softmax taken by the loss
OFFICIAL = Loop(
    network=lambda: nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(0.25), nn.Flatten(), nn.Linear(64 * 12 * 12, 128), nn.ReLU(),
        nn.Dropout(0.5), nn.Linear(128, 10),
    ),
    batches=partial(one_by_one, SCALED, worker=True),
    optimiser=partial(optim.Adadelta, lr=1.0),
    schedule=lambda adadelta, steps: StepLR(adadelta, steps, gamma=0.7),
    epochs=14,
)  # fmt: skip
# 8_Final_00s76.ipynb in https://github.com/tuomaso/train_mnist_fast
LAPTOP = Loop(
    network=lambda: nn.Sequential(
        nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 5 * 5, 256), nn.ReLU(), nn.Linear(256, 10),
    ),
    batches=ready_in_memory,
    optimiser=partial(optim.Adam, lr=0.01, betas=(0.7, 0.9)),
    schedule=lambda adam, steps: OneCycleLR(adam, 0.01, total_steps=steps, cycle_momentum=False),
)  # fmt: skip


def dataloader_epoch(digits: Digits, seed: int = 0, *, device: str = "auto") -> Timed:
    """One epoch as Report A writes it: each image through ``ToTensor``, a ``DataLoader``, SGD."""
    return train(REPORT_A_LOOP, digits, seed, device, say=lambda line: None)


def train(how: Loop | Recipe, digits: Digits, seed: int, device: str, say: Say) -> Timed:
    """A loop, or ``fit`` of a recipe, by the clock; with a line per epoch of a longer loop."""
    where, labels, seconds = pick_device(device), digits.test.labels, 0.0
    if isinstance(how, Recipe):
        one = fit(how.but(seed=seed), digits, device=device, echo=None)
        return Timed(one.seconds, accuracy(labels, one.test_logits), how.epochs, one.test_logits)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = how.network().to(where)
        batches = how.batches(digits.train, where)
        optimiser = how.optimiser(model.parameters())
        step = how.schedule(optimiser, len(batches)).step if how.schedule else lambda: None
        for epoch in range(1, how.epochs + 1):
            start = time.perf_counter()
            moved = ((X.to(where), y.to(where)) for X, y in batches)
            train_one_epoch(model, moved, optimiser, after_step=lambda losses: step())
            if where.type != "cpu":
                torch.accelerator.synchronize(where)
            seconds += time.perf_counter() - start
            logits = predict(model, digits.test.images, how.scaling, where)
            timed = Timed(seconds, accuracy(labels, logits), epoch, logits)
            if how.epochs > 1:
                say(f"  epoch {epoch}: {seconds:.1f} s, {100 * timed.accuracy:.2f} %")
            if timed.accuracy >= TARGET:
                break
    return timed


def race(contenders: Mapping[str, Any], digits: Digits, seeds: int, device: str, say: Say) -> Rows:
    """A row for each training; contenders take turns, so that noise hits all alike.

    A ratio is to the last contender's seconds of the same turn; an official example short of
    ``TARGET`` has none. After several seeds a last row scores the last contender's mean softmax.
    """
    rows: Rows = []
    softmaxes = []
    for how in contenders.values():
        train(replace(how, epochs=1), first(digits, 2560), 0, device, say)  # warm-up
    for seed in range(seeds):
        turn = {name: train(how, digits, seed, device, say) for name, how in contenders.items()}
        *_, last = turn.values()
        softmaxes.append(probabilities(last.test_logits))
        for name, run in turn.items():
            say(f"{name}, seed {seed}: {run.seconds:.4g} s, {100 * run.accuracy:.2f} %")
            short = contenders[name] is OFFICIAL and run.accuracy < TARGET
            ratio = None if short else run.seconds / last.seconds
            row = {"name": name, "epochs": run.epochs, "accuracy": run.accuracy}
            rows.append({**row, "seconds": run.seconds, "ratio": ratio})
    if seeds > 1:
        together = accuracy(digits.test.labels, torch.stack(softmaxes).mean(0))
        rows.append({"name": f"{name}, mean softmax", "accuracy": together})
    return rows


def startup(repeats: int) -> Rows:
    """Seconds of imports and of the command line's quick answers, each in a fresh process."""
    rows = []
    for name, arguments in [*COMMANDS.items()] * repeats:
        start = time.perf_counter()
        status = subprocess.run([sys.executable, *arguments], capture_output=True).returncode
        seconds = time.perf_counter() - start
        rows.append({"name": name, "seconds": seconds, "exit_status": status})
    return rows


def inference(images: Tensor, repeats: int, device: str) -> Rows:
    """Images per second of each named network, untrained; all views of an image are one answer."""
    rows = []
    for recipe in (getattr(recipes, name) for name in NAMED):
        with torch.random.fork_rng(devices=[]):
            model = recipe.build()
        views, size = (2 * recipe.test_translation + 1) ** 2, recipe.image_size
        row = {"name": recipe.name, "parameters": parameter_count(model), "views": views}
        row["multiply_adds"] = views * multiply_adds(model, (1, size, size))
        predict(model, images[:400], recipe, device)  # warm-up
        answer = partial(predict, model, images, recipe, device)
        for seconds in timeit.repeat(answer, number=1, repeat=repeats):
            rows.append({**row, "seconds": seconds, "images_per_second": len(images) / seconds})
    return rows


def measure(
    digits: Digits, quick: bool, only: Collection[str], device: str, say: Say
) -> Iterator[tuple[str, dict[str, Any] | Rows]]:
    """Facts of the "machine", then each part's rows, one a measurement, then facts at the "end".

    ``quick`` takes one repeat and one seed, a tenth of the images for epochs and inference, and
    leaves STRONG and ACCURATE out unless ``only`` names them.
    """
    repeats, seeds, fast_seeds, share = (1, 1, 1, 10) if quick else (5, 3, 10, 1)
    some, clock = first(digits, len(digits.train) // share), (device, say)
    loops = {"Report A's DataLoader loop": REPORT_A_LOOP, "mnist_lab.fit": REPORT_A.but(epochs=1)}
    official = {"official PyTorch example": OFFICIAL, "FAST beside it": recipes.FAST}
    fast = {"train_mnist_fast": LAPTOP, "FAST": recipes.FAST}
    parts: dict[str, Callable[[], Rows]] = {
        "startup": lambda: startup(repeats),
        "epochs": lambda: race(loops, some, repeats, *clock),
        "fast": lambda: race(official, digits, 1, *clock) + race(fast, digits, fast_seeds, *clock),
        "strong": lambda: race({"STRONG": recipes.STRONG}, digits, seeds, *clock),
        "accurate": lambda: race({"ACCURATE": recipes.ACCURATE}, digits, seeds, *clock),
        "inference": lambda: inference(digits.test.images[: 10_000 // share], repeats, device),
    }
    facts = {"date": datetime.now().astimezone().isoformat(timespec="seconds"), "quick": quick}
    facts |= {"dataset": digits.name, "digest": digits.digest, "device": str(pick_device(device))}
    facts |= {"train_images": len(digits.train), "test_images": len(digits.test)}
    yield "machine", facts | describe_machine(device)
    for name, rows in parts.items():
        if name in only or not (only or (quick and name in ("strong", "accurate"))):
            yield name, rows()
    yield "end", {"load": describe_machine(device)["load"], **peak_memory()}


def as_text(name: str, found: dict[str, Any] | Rows) -> str:
    """Facts line by line, or a table of medians, of accuracies the mean and its t-interval."""
    if isinstance(found, dict):
        return "\n".join([f"{name}:", *(f"  {fact:<16} {value}" for fact, value in found.items())])
    groups = pd.DataFrame(found).groupby("name", sort=False)
    table = groups.median().rename_axis(None).assign(runs=groups.size())
    table["fastest"], table["slowest"] = groups["seconds"].min(), groups["seconds"].max()
    if "accuracy" in table:
        means = [mean_interval(values) for _, values in groups["accuracy"]]
        table[["accuracy", "low", "high"]] = [(mean.mean, mean.low, mean.high) for mean in means]
        table["reach 99 %"] = groups["accuracy"].agg(lambda values: (values >= TARGET).sum())
    return f"{name}:\n{table.to_string(na_rep='-', float_format='{:,.5g}'.format)}"


def first(digits: Digits, count: int) -> Digits:
    """The digits with only the first ``count`` of the training images."""
    some = Images(digits.train.images[:count], digits.train.labels[:count])
    return replace(digits, train=some)

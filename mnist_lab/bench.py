"""How fast this machine is at it: ``python -m mnist_lab bench``.

Everything is trained anew while the clock runs; no kept fit is read.
"""

import json
import os
import platform
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import median
from typing import Any

import torch

from mnist_lab.data import Digits, Images
from mnist_lab.evaluation import accuracy, mean_interval, probabilities
from mnist_lab.loops import Timed, dataloader_epoch, laptop_recipe, now, official_example
from mnist_lab.recipes import (
    ACCURATE,
    FAST,
    REPORT_A,
    REPORT_B,
    REPORT_B_CODE,
    STRONG,
    Recipe,
)
from mnist_lab.shapes import multiply_adds, parameter_count
from mnist_lab.training import Fit, fit, has_bfloat16, pick_device, predict

PARTS = ("epochs", "fast", "strong", "accurate", "inference")
QUICK_PARTS = ("epochs", "fast", "inference")
TARGET = 0.99
OFFICIAL_EPOCHS = 14
OFFICIAL, LAPTOP = "(a) official PyTorch example", "(b) train_mnist_fast"

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Part:
    """What one part of the bench found.

    Attributes:
        text: the table, for reading.
        values: the same and every single measurement, as plain JSON values.
        fits: the trainings by ``fit`` behind it, in order of seed.
    """

    text: str
    values: dict[str, Any]
    fits: tuple[Fit, ...] = ()


@dataclass(frozen=True, eq=False)
class Bench:
    """A finished bench: where it was measured, and its parts by name, as in ``PARTS``."""

    machine: dict[str, Any]
    parts: dict[str, Part]

    def to_json(self) -> str:
        """All of it as JSON, but the fits."""
        values = {"machine": self.machine} | {k: part.values for k, part in self.parts.items()}
        return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)


def measure(
    digits: Digits,
    *,
    quick: bool = False,
    only: Collection[str] = (),
    device: str = "auto",
    official_runs: int = 1,
    say: Say = print,
    progress: Say = lambda line: None,
    keep: Callable[["Bench"], None] = lambda so_far: None,
) -> Bench:
    """Measure the parts, one after the other.

    Args:
        digits: what to train and to answer.
        quick: one repeat and one seed; Report A's epoch on a tenth of the training images and
            inference on 1,000 images, not 10,000; without STRONG and ACCURATE unless named.
        only: the parts to measure; all of them if empty.
        device: "auto", "cpu", "cuda", …
        official_runs: how often PyTorch's own example is trained, minutes each on a CPU.
        say: gets the machine, then each part's table as soon as it is finished, then the end.
        progress: gets one line per training.
        keep: gets what is measured so far, after each part and at the end.

    Raises:
        ValueError: for a part that is none of ``PARTS``.
        LabError: if the device cannot be used.
    """
    if unknown := set(only) - set(PARTS):
        raise ValueError(f"unknown parts {sorted(unknown)}; known: {', '.join(PARTS)}")
    pick_device(device)
    machine = describe_machine(digits, device) | {"quick": quick}
    say(_machine_text(machine))
    few_repeats, few_seeds, many_seeds, share = (1, 1, 1, 10) if quick else (5, 3, 10, 1)
    measures: dict[str, Callable[[], Part]] = {
        "epochs": lambda: measure_epochs(
            _first(digits, len(digits.train) // share), few_repeats, device, progress
        ),
        "fast": lambda: measure_fast(digits, many_seeds, official_runs, device, progress),
        "strong": lambda: measure_recipe(STRONG, digits, few_seeds, device, progress),
        "accurate": lambda: measure_recipe(ACCURATE, digits, few_seeds, device, progress),
        "inference": lambda: measure_inference(
            digits.test.images[: 10_000 // share], few_repeats, device, progress
        ),
    }
    parts: dict[str, Part] = {}
    for name in PARTS:
        if name in (only or (QUICK_PARTS if quick else PARTS)):
            parts[name] = measures[name]()
            say("\n" + parts[name].text)
            keep(Bench(machine, parts))
    machine |= {"load_at_end": _load(), "peak_memory": peak_memory(device)}
    say("\n" + _end_text(machine))
    keep(Bench(machine, parts))
    return Bench(machine, parts)


def measure_epochs(
    digits: Digits, repeats: int, device: str = "auto", progress: Say = print
) -> Part:
    """Seconds per epoch of Report A's network: its own ``DataLoader`` loop against ``fit``.

    The two take turns, so that a noisy machine hits both alike; the ratio is of neighbours.
    """
    names = ("Report A's DataLoader loop", "mnist_lab.fit")
    recipe = REPORT_A.but(epochs=1)
    theirs, ours = [], []
    dataloader_epoch(_first(digits, 640), device=device)
    fit(recipe, _first(digits, 640), device=device, echo=None)
    for seed in range(repeats):
        theirs.append(dataloader_epoch(digits, seed, device=device))
        progress(_run_line(names[0], seed, theirs[-1]))
        ours.append(_timed(fit(recipe.but(seed=seed), digits, device=device, echo=None), digits))
        progress(_run_line(names[1], seed, ours[-1]))
    ratios = paired_ratios(theirs, ours)
    rows = [_summary(name, runs) for name, runs in zip(names, (theirs, ours), strict=True)]
    text = _table(
        f"Report A's network: seconds per epoch of {len(digits.train):,} images{_of(repeats)}",
        ("", "seconds", "fastest", "slowest"),
        [(row["name"], *_seconds(median(s := row["seconds"]), min(s), max(s))) for row in rows],
    )
    ratio = {"median": median(ratios), "min": min(ratios), "max": max(ratios)}
    text += (
        f"\n  The loop takes {ratio['median']:.1f} times as long "
        f"({ratio['min']:.1f} to {ratio['max']:.1f})."
    )
    return Part(text, {"images": len(digits.train), "rows": rows, "ratio": ratio})


def measure_fast(
    digits: Digits, seeds: int, official_runs: int = 1, device: str = "auto", progress: Say = print
) -> Part:
    """Seconds to 99 % of PyTorch's own example (a), of train_mnist_fast (b) and of FAST.

    (b) and FAST take turns, so that a noisy machine hits both alike.
    """
    official: list[Timed] = []
    for seed in range(official_runs):
        official.append(
            official_example(
                digits,
                seed,
                target=TARGET,
                max_epochs=OFFICIAL_EPOCHS,
                device=device,
                echo=progress,
            )
        )
        progress(_run_line(OFFICIAL, seed, official[-1]))
    laptop, fits = [], []
    laptop_recipe(_first(digits, 10 * 256), device=device)
    fit(FAST, _first(digits, 10 * FAST.batch_size), device=device, echo=None)
    for seed in range(seeds):
        laptop.append(laptop_recipe(digits, seed, device=device))
        progress(_run_line(LAPTOP, seed, laptop[-1]))
        fits.append(fit(FAST.but(seed=seed), digits, device=device, echo=None))
        progress(_run_line(FAST.name, seed, _timed(fits[-1], digits)))
    ours = [_timed(one, digits) for one in fits]
    contenders = {OFFICIAL: official, LAPTOP: laptop, FAST.name: ours}
    rows = [_summary(name, runs) for name, runs in contenders.items()]
    # Where the example was stopped short of the target, its seconds are no time to it.
    reached = all(run.accuracy >= TARGET for run in official)
    ratios = {
        OFFICIAL: ratio_of_medians(official, ours) if reached else None,
        LAPTOP: ratio_of_medians(laptop, ours),
    }
    lines = [_training_table(f"Seconds of training towards {100 * TARGET:g} %", rows)]
    for name, ratio in ratios.items():
        short = f"stopped short of {100 * TARGET:g} %: no ratio."
        took = short if ratio is None else f"takes {ratio:.1f} times as long as {FAST.name}."
        lines.append(f"  {name} {took}")
    return Part("\n".join(lines), {"rows": rows, "ratios": ratios}, tuple(fits))


def measure_recipe(
    recipe: Recipe, digits: Digits, seeds: int, device: str = "auto", progress: Say = print
) -> Part:
    """Seconds and accuracy of a recipe over several seeds, and of the mean of their softmaxes."""
    fits = []
    for one in recipe.seeds(seeds):
        fits.append(fit(one, digits, device=device, echo=None))
        progress(_run_line(recipe.name, one.seed, _timed(fits[-1], digits)))
    row = _summary(recipe.name, [_timed(one, digits) for one in fits])
    together = torch.stack([probabilities(one.test_logits) for one in fits]).mean(0)
    ensemble = accuracy(digits.test.labels, together)
    text = _training_table(f"{recipe.name}, seconds of training", [row])
    if seeds > 1:
        text += f"\n  The mean softmax of the {seeds}: {_percent(ensemble)} %."
    return Part(text, {"rows": [row], "ensemble_accuracy": ensemble}, tuple(fits))


def measure_inference(
    images: torch.Tensor, repeats: int, device: str = "auto", progress: Say = print
) -> Part:
    """Images answered per second by each named recipe's network, its weights not trained.

    A recipe that averages over shifted views of an image is counted with all of them, in its time
    and in its multiply-adds.

    Args:
        images: uint8 [N, 28, 28] to answer.
        repeats: how often; the median counts.
        device: "auto", "cpu", "cuda", …
        progress: gets one line per network.
    """
    where, rows = pick_device(device), []
    for recipe in (REPORT_A, REPORT_B, REPORT_B_CODE, FAST, STRONG, ACCURATE):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = recipe.build()
        predict(model, images[:400], recipe, where)
        seconds = []
        for _ in range(repeats):
            start = now(where)
            predict(model, images, recipe, where)
            seconds.append(now(where) - start)
        size, views = recipe.image_size, (2 * recipe.test_shift + 1) ** 2
        row: dict[str, Any] = {
            "name": recipe.name,
            "images_per_second": len(images) / median(seconds),
            "seconds": seconds,
            "views": views,
            "multiply_adds": views * multiply_adds(model, (1, size, size)),
            "parameters": parameter_count(model),
        }
        rows.append(row)
        progress(f"{recipe.name}: {row['images_per_second']:,.0f} images per second")
    columns = ("images_per_second", "views", "multiply_adds", "parameters")
    text = _table(
        f"Inference on {len(images):,} test images{_of(repeats)}",
        ("", "images/s", "views", "multiply-adds", "parameters"),
        [(row["name"], *(f"{row[column]:,.0f}" for column in columns)) for row in rows],
    )
    return Part(text, {"images": len(images), "rows": rows})


def paired_ratios(theirs: Sequence[Timed], ours: Sequence[Timed]) -> list[float]:
    """How many times longer each run of ``theirs`` took than the run of ``ours`` beside it."""
    return [them.seconds / us.seconds for them, us in zip(theirs, ours, strict=True)]


def ratio_of_medians(theirs: Sequence[Timed], ours: Sequence[Timed]) -> float:
    """How many times longer the median run of ``theirs`` took than that of ``ours``."""
    return median(run.seconds for run in theirs) / median(run.seconds for run in ours)


def describe_machine(digits: Digits, device: str = "auto") -> dict[str, Any]:
    """Where and on what a bench is measured, as plain JSON values; ``None`` where it isn't known.

    ``load_at_start`` holds the load averages over 1, 5 and 15 minutes.
    """
    where = pick_device(device)
    # Older versions of PyTorch do not have it.
    features: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "dataset": digits.name,
        "digest": digits.digest,
        "train_images": len(digits.train),
        "test_images": len(digits.test),
        "system": platform.system(),
        "processor": features.get("cpu_name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": str(where),
        "gpu": torch.cuda.get_device_name(where) if where.type == "cuda" else None,
        "bfloat16_native": has_bfloat16(where),
        "load_at_start": _load(),
    }


def peak_memory(device: str = "auto") -> dict[str, int | None]:
    """Most memory in use so far, in bytes: of this process, and on its GPU by PyTorch.

    ``None`` where the system does not say (Windows) or there is no such GPU.
    """
    on_gpu = pick_device(device).type == "cuda"
    try:
        import resource
    except ImportError:
        peak = None
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak *= 1 if sys.platform == "darwin" else 1024
    return {"process": peak, "gpu": torch.cuda.max_memory_allocated() if on_gpu else None}


def _first(digits: Digits, count: int) -> Digits:
    """The digits with only the first ``count`` of the training images."""
    train = Images(digits.train.images[:count], digits.train.labels[:count])
    return replace(digits, train=train)


def _timed(one: Fit, digits: Digits) -> Timed:
    reached = accuracy(digits.test.labels, one.test_logits)
    return Timed(one.seconds, reached, one.recipe.epochs)


def _summary(name: str, runs: Sequence[Timed]) -> dict[str, Any]:
    """A row of a table as plain JSON values; the interval is ``None`` for a single run."""
    accuracies = [run.accuracy for run in runs]
    mean = mean_interval(accuracies)
    low, high = (mean.low, mean.high) if mean.count > 1 else (None, None)
    return {
        "name": name,
        "seconds": [run.seconds for run in runs],
        "accuracies": accuracies,
        "epochs": [run.epochs for run in runs],
        "median_seconds": median(run.seconds for run in runs),
        "mean_accuracy": mean.mean,
        "accuracy_low": low,
        "accuracy_high": high,
        "seeds": mean.count,
        "seeds_at_target": sum(value >= TARGET for value in accuracies),
    }


def _run_line(name: str, seed: int, run: Timed) -> str:
    return f"{name}, seed {seed}: {_seconds(run.seconds)[0]} s, {_percent(run.accuracy)} %"


def _training_table(title: str, rows: Sequence[dict[str, Any]]) -> str:
    """The rows of ``_summary``, with the mean accuracy's 95 % t-interval."""
    return _table(
        title,
        ("", "epochs", "median s", "accuracy %", "95 % interval", f"seeds at {100 * TARGET:g} %"),
        [
            (
                row["name"],
                ", ".join(map(str, sorted(set(row["epochs"])))),
                *_seconds(row["median_seconds"]),
                _percent(row["mean_accuracy"]),
                "one seed"
                if row["accuracy_low"] is None
                else f"{_percent(row['accuracy_low'])} to {_percent(row['accuracy_high'])}",
                f"{row['seeds_at_target']} of {row['seeds']}",
            )
            for row in rows
        ],
    )


def _machine_text(machine: dict[str, Any]) -> str:
    native = machine["bfloat16_native"]
    facts = {
        "digits": f"{machine['dataset']}, {machine['train_images']:,} to train on, "
        f"{machine['test_images']:,} to test on",
        "processor": f"{machine['processor']}, {machine['cores']} cores, "
        f"threads used: {machine['threads']}",
        "device": machine["gpu"] or machine["device"],
        "bfloat16": "" if native is None else "native" if native else "not used",
        "PyTorch": f"{machine['torch']}, Python {machine['python']}",
        "load": _load_text(machine["load_at_start"]),
    }
    lines = [f"  {name:<10} {fact}" for name, fact in facts.items() if fact]
    return "\n".join([f"Measured on {machine['date']}{', quick' * machine['quick']}", *lines])


def _end_text(machine: dict[str, Any]) -> str:
    peak = machine["peak_memory"]
    said = "not available" if peak["process"] is None else f"{peak['process'] / 1e6:,.0f} MB"
    if peak["gpu"] is not None:
        said += f", on the GPU {peak['gpu'] / 1e6:,.0f} MB"
    return f"Peak memory: {said}\nLoad at the end: {_load_text(machine['load_at_end'])}"


def _load() -> list[float] | None:
    return [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None


def _load_text(load: list[float] | None) -> str:
    if load is None:
        return "not available"
    return " ".join(f"{x:.2f}" for x in load) + " (over 1, 5 and 15 minutes)"


def _of(repeats: int) -> str:
    return f", median of {repeats}" if repeats > 1 else ", measured once"


def _seconds(*values: float) -> list[str]:
    return [f"{value:.3f}" if value < 10 else f"{value:.1f}" for value in values]


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(
            [first.ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        )
        for first, *rest in (header, *rows)
    ]
    return "\n".join([title, *(f"  {line}".rstrip() for line in lines)])

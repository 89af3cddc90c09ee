"""Whether an answer to an exercise of the notebooks holds: ``lab.check("03.2", answer)``.

Numbers are compared with what the package computes, functions are tried on random input. Nothing
is read from disk, and PyTorch's global generator is left alone.
"""

import difflib
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from mnist_lab import evaluation
from mnist_lab.ideas import CATALOGUE
from mnist_lab.models import CLASSES
from mnist_lab.recipes import MNIST_MEAN, MNIST_STD
from mnist_lab.shapes import IMAGE_SIZE, output_size, parameter_count
from mnist_lab.transforms import prepare

SIZES = range(10_000, 100_000, 1000)  # of test sets


@dataclass(frozen=True)
class Exercise:
    """What an answer must be: numbers, or a function where there is a ``trial``.

    Attributes:
        expects: the kind of answer, in words.
        numbers: those that hold.
        slips: what a known mistake gives in place of one of them, and the hint on it.
        hint: on any other mistake.
        tolerance: share by which a number may be off; 0 for whole numbers.
        trial: tries a function and gives a hint, or "" where it holds.
    """

    expects: str
    numbers: Sequence[float] = ()
    slips: Mapping[float, str] = field(default_factory=dict)
    hint: str = ""
    tolerance: float = 0.005
    trial: Callable[[Callable[..., Any]], str] | None = None


def check(exercise: str, answer: object) -> None:
    """Print whether an answer holds, and a hint where it does not.

    Args:
        exercise: notebook and exercise, such as ``"03.2"``.
        answer: a number, several (a list, an array, a tensor) or a function, as it asks. Nothing
            is raised for an unknown exercise or another answer: the printed line tells.
    """
    known, name, given = exercises(), str(exercise), _numbers(answer)
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
        print(f"{name!r} has no check. Did you mean {nearest!r}? There are: {', '.join(known)}.")
        return
    asked = known[name]
    if asked.trial and callable(answer):
        try:
            fault = asked.trial(answer)
        except Exception as error:  # a student's function may raise anything
            fault = f"trying it gave {type(error).__name__}: {error}".splitlines()[0]
    elif asked.trial or given is None or len(given) != len(asked.numbers):
        print(f"{name}: expected {asked.expects}; found {_named(answer)}.")
        return
    else:
        fault = _compare(given, asked)
    print(f"{name}: not yet: {fault}" if fault else f"{name}: holds.")


def exercises() -> dict[str, Exercise]:
    """Every exercise that has a check, by its number."""
    return {**_exploration(), **_preprocessing(), **_training(), **_evaluation(), **_optimisation()}


def _numbers(answer: object) -> list[float] | None:
    """The finite numbers that an answer consists of, ``None`` where it holds anything else."""
    try:
        array = np.asarray(answer.tolist() if isinstance(answer, Tensor) else answer)
        found = array.astype(float).ravel().tolist() if array.dtype.kind in "iufO" else [math.nan]
    except Exception:  # an answer may be anything
        return None
    return found if all(map(math.isfinite, found)) else None


def _named(answer: object) -> str:
    if answer is None or isinstance(answer, (bool, int, float, str)):
        return reprlib.repr(answer)
    size = _numbers(answer)
    return type(answer).__name__ + (f" of {len(size)}" if size is not None else "")


def _compare(given: Sequence[float], asked: Exercise) -> str:
    """The hint on the first number that does not hold, "" if all do."""
    for place, (x, right) in enumerate(zip(given, asked.numbers, strict=True), 1):
        if math.isclose(x, right, rel_tol=asked.tolerance):
            continue
        near = asked.tolerance or 0.004
        hints = [hint for slip, hint in asked.slips.items() if math.isclose(x, slip, rel_tol=near)]
        if any(math.isclose(x, off, rel_tol=0.005) for off in (100 * right, right / 100)):
            hints.append("a factor of 100 is missing. Is a share asked, or percent?")
        if math.isclose(x, right, rel_tol=0.05, abs_tol=0 if asked.tolerance else 1):
            hints.append("close, but not close enough. Is it rounded too much, or off by one?")
        hint = (hints or [asked.hint])[0]
        return f"number {place}: {hint}" if len(given) > 1 else hint
    return ""


def _exploration() -> dict[str, Exercise]:
    megabytes = 60_000 * IMAGE_SIZE**2 / 1e6
    mebibytes = {x * megabytes / 1.048576: "a MB here is a million bytes." for x in (1, 4)}
    moved = {-MNIST_MEAN: "what does black become?", 1 - MNIST_STD: "does the spread change?"}
    return {
        "01.1": Exercise("two numbers, MB as bytes and as 32-bit floats",
            [megabytes, 4 * megabytes], mebibytes, "images times pixels times bytes, in millions."),
        "01.2": Exercise("two numbers, mean and standard deviation",
            [1 - MNIST_MEAN, MNIST_STD], moved, "put 1 − x in the place of x in both formulas."),
        "01.3": Exercise("a function of images (itself, not its result)", trial=_always_black),
    }  # fmt: skip


def _preprocessing() -> dict[str, Exercise]:
    levels = torch.arange(256, dtype=torch.uint8)[:, None, None]
    nearest = float(prepare(levels, MNIST_MEAN, MNIST_STD).abs().argmin())
    slips = {MNIST_MEAN: "grey levels go from 0 to 255.", 0: "black becomes (0 − μ) / σ."}
    beyond = 200 * float(stats.norm.sf(2))
    return {
        "02.1": Exercise("one grey level", [nearest], slips, "which x makes x / 255 − μ zero?", 0),
        "02.2": Exercise("a function of a batch (itself, not its result)", trial=_restore),
        "02.3": Exercise("one number, how many of 100", [beyond],
            {beyond / 2: "it can stray both ways.", 100 - beyond: "that many lie within."},
            "take the area of a normal distribution beyond two standard errors.", 0.1),
        "02.4": Exercise("a function of labels and a seed (itself, not its result)", trial=_split),
    }  # fmt: skip


def _training() -> dict[str, Exercise]:
    inputs = [20 * (output_size(output_size(28, k) // 2, 5) // 2) ** 2 for k in (3, 7)]
    with torch.device("meta"):  # no weights are drawn
        layers = (nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16))
    convolution, norm = map(parameter_count, layers)
    start, floor = math.log(26), math.log(math.e + 25) - 1
    return {
        "03.1": Exercise("two whole numbers, for kernels of 3 and of 7", inputs,
            {500: "pooling leaves an odd last row out.", 16: "how many maps?", 9: "how many maps?"},
            "use the formula four times, then count the numbers in all maps.", 0),
        "03.2": Exercise("one whole number", [convolution + norm],
            {convolution + norm - 16: "something that each channel has once is missing.",
             convolution: "that leaves batch norm out."}, "count what each output channel has.", 0),
        "03.3": Exercise("two losses, untrained and lowest", [start, floor],
            {math.log10(26): "take the natural logarithm.", floor + 1: "the right logit is 1.",
             math.log(math.e + 9) - 1: "here are 25 wrong classes."}, "write −log p out.", 0.002),
        "03.4": Exercise("one whole number", [sum(range(1, 11))],
            {10: "that is with zero_grad.", sum(range(10)): "the first step takes one gradient.",
             100: "only the last step takes ten."}, "step n takes a sum of n gradients.", 0),
    }  # fmt: skip


def _evaluation() -> dict[str, Exercise]:
    ones = evaluation.score(torch.tensor([1] * 9 + [0]), torch.ones(10, dtype=torch.long))
    widths = {n: np.ptp(evaluation.wilson_interval(99 * n // 100, n)) for n in SIZES}
    needed = min(n for n, width in widths.items() if width <= 0.002)
    y, a = torch.zeros(20, dtype=torch.long), (torch.arange(20) >= 15).long()
    p = evaluation.mcnemar(y, a, 1 - a).p
    return {
        "04.1": Exercise("two shares, accuracy and macro F1", [ones.accuracy, ones.macro_f1],
            {ones.f1[1]: "that is F1 of digit 1 alone.", ones.f1[1] / 2: "there are ten digits."},
            "F1 is 0 where no image is right; accuracy is right answers of all."),
        "04.2": Exercise("one number of images", [needed],
            {4 * needed: "±0.1 points are 0.2 from end to end."},
            "give it to wilson_interval: the half-width falls with the root of n.", 0.06),
        "04.3": Exercise("one p value", [p],
            {p / 2: "that is one side only.", float(stats.chi2.sf(5, 1)): "that is not exact."},
            "how likely are 20 fair coins to fall 15 to 5, or worse, either way?"),
    }  # fmt: skip


def _optimisation() -> dict[str, Exercise]:
    ideas, root = len(CATALOGUE), math.sqrt(5)
    few, many = (evaluation.mean_interval([-1.0, 1.0] * pairs) for pairs in (1, 5))
    ratio = (few.high / few.sd) / (many.high / many.sd)
    found = [0.012, 0.032, 0.004, 0.028, 0.2]
    adjusted = evaluation.holm(found).tolist()
    values, baseline = [97.3, 98.5, 96.6, 98.2, 98.4], [97.0, 98.1, 96.4, 97.7, 98.3]
    paired = evaluation.paired_difference(values, baseline)
    unpaired = stats.ttest_ind(values, baseline).confidence_interval()
    halves = [(end.high - end.low) / 2 for end in (paired, unpaired)]
    return {
        "05.1": Exercise("two numbers, how many and a probability", [ideas / 20, 1 - 0.95**ideas],
            {0.95**ideas: "that none does."}, "what does one test say, and what all of them?"),
        "05.2": Exercise("one number, a ratio", [ratio],
            {root: "that is 1/√n alone.", ratio / root: "that is the factor t alone.",
             1 / ratio: "divide the wide by the narrow one."}, "half the width is t · sd / √n."),
        "05.3": Exercise("five p values in the order of the question", adjusted,
            {5 * found[0]: "five times each is Bonferroni's correction.",
             2 * found[1]: "never below the value before it in sorted order."},
            "sort, multiply by 5, 4, 3, 2, 1, and put them back in their places."),
        "05.4": Exercise("two half-widths, paired and unpaired", halves,
            {2 * half: "that is the whole width." for half in halves}, "(high − low) / 2.", 0.01),
    }  # fmt: skip


def _random_images() -> Tensor:
    """uint8 [30, 28, 28], of which nine pixels in ten are black."""
    draw = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (30, IMAGE_SIZE, IMAGE_SIZE), generator=draw)
    return (levels * (torch.rand(levels.shape, generator=draw) < 0.1)).to(torch.uint8)


def _always_black(function: Callable[..., Any]) -> str:
    black = (_random_images() == 0).numpy()
    found = np.asarray(function(_random_images()))
    if np.array_equal(found, ~black.all(0)):
        return "the other way round: True means black."
    holds = np.array_equal(found, black.all(0))
    return "" if holds else "compare with 0, then ask of all images: 28×28 answers."


def _restore(function: Callable[..., Any]) -> str:
    images = _random_images()
    found = function(prepare(images, MNIST_MEAN, MNIST_STD))
    if not isinstance(found, Tensor) or found.dtype != torch.uint8 or found.ndim != 3:
        return "expected a tensor of torch.uint8 without a channel axis: [images, height, width]."
    off = int((found.int() - images.int()).abs().max())
    cut = "some levels are off by one: a cast to uint8 cuts decimals off."
    return ("", cut)[off] if off < 2 else "undo the last step first: times σ, plus μ, times 255."


def _split(function: Callable[..., Any]) -> str:
    draw = torch.Generator().manual_seed(0)
    labels = (CLASSES * torch.rand(700, generator=draw).sqrt()).long()
    first, again, other = (
        [sorted(int(i) for i in part) for part in function(labels.clone(), seed)]
        for seed in (0, 0, 1)
    )
    if len(first) != 2 or sorted(first[0] + first[1]) != list(range(len(labels))):
        return "every place must lie in one of two parts, and in one only."
    train, held_out = (torch.bincount(labels[part], minlength=CLASSES) for part in first)
    if (held_out - 0.2 * (train + held_out)).abs().max() > 1:
        return "hold out a fifth of each class, and give the training places first."
    if first != again:
        return "the same seed must give the same split: use a generator of its own."
    return "another seed must give another split." if first == other else ""

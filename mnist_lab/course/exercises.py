"""Whether an answer to an exercise of the notebooks holds: ``lab.check("03.2", answer)``.

Numbers are compared with those of ``exercises.toml``, functions are tried on random input.
"""

import difflib
import math
import reprlib
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnist_lab.recipes import MNIST_MEAN, MNIST_STD
from mnist_lab.transforms import prepare


@dataclass(frozen=True)
class Exercise:
    """What an answer must be; ``exercises.toml`` says what its fields mean."""

    expects: str
    answer: Sequence[float] = ()
    tolerance: float = 0.005
    slips: Sequence[tuple[float, str]] = ()
    hint: str = ""


def check(exercise: str, answer: object) -> None:
    """Print whether an answer to an exercise such as ``"03.2"`` holds, and a hint where it doesn't.

    The answer is a number, several (a list, an array, a tensor) or a function, as it asks. Nothing
    is raised for an unknown exercise or another answer: the printed line tells.
    """
    known, name, given = exercises(), str(exercise), _numbers(answer)
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
        print(f"{name!r} has no check. Did you mean {nearest!r}? There are: {', '.join(known)}.")
        return
    asked = known[name]
    if name in TRIALS and callable(answer):
        try:
            fault = TRIALS[name](answer)
        except Exception as error:  # a student's function may raise anything
            fault = f"trying it gave {type(error).__name__}: {error}".splitlines()[0]
    elif name in TRIALS or given is None or len(given) != len(asked.answer):
        print(f"{name}: expected {asked.expects}; found {_named(answer)}.")
        return
    else:
        fault = _compare(given, asked)
    print(f"{name}: not yet: {fault}" if fault else f"{name}: holds.")


def exercises() -> dict[str, Exercise]:
    """Every exercise that has a check, by its number."""
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return {name: Exercise(**entry) for name, entry in tomllib.loads(text).items()}


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
    for place, (x, right) in enumerate(zip(given, asked.answer, strict=True), 1):
        if math.isclose(x, right, rel_tol=asked.tolerance):
            continue
        near = asked.tolerance or 0.004
        hints = [hint for slip, hint in asked.slips if math.isclose(x, slip, rel_tol=near)]
        if any(math.isclose(x, off, rel_tol=0.005) for off in (100 * right, right / 100)):
            hints.append("a factor of 100 is missing. Is a share asked, or percent?")
        if math.isclose(x, right, rel_tol=0.05, abs_tol=0 if asked.tolerance else 1):
            hints.append("close, but not close enough. Is it rounded too much, or off by one?")
        hint = (hints or [asked.hint])[0]
        return f"number {place}: {hint}" if len(given) > 1 else hint
    return ""


def _random_images() -> Tensor:
    """uint8 [30, 28, 28], of which nine pixels in ten are black."""
    draw = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (30, 28, 28), generator=draw)
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
    labels = (10 * torch.rand(700, generator=draw).sqrt()).long()
    first, again, other = (
        [sorted(int(i) for i in part) for part in function(labels.clone(), seed)]
        for seed in (0, 0, 1)
    )
    if len(first) != 2 or sorted(first[0] + first[1]) != list(range(len(labels))):
        return "every place must lie in one of two parts, and in one only."
    train, held_out = (torch.bincount(labels[part], minlength=10) for part in first)
    if (held_out - 0.2 * (train + held_out)).abs().max() > 1:
        return "hold out a fifth of each class, and give the training places first."
    if first != again:
        return "the same seed must give the same split: use a generator of its own."
    return "another seed must give another split." if first == other else ""


def _bright_ink(function: Callable[..., Any]) -> str:
    dim = np.full((20, 30), 90, np.uint8)  # paper darker than the middle of the range
    dim[5:15, 12:15] = 20
    for picture in (dim, 255 - dim, 255 - dim // 2, dim // 2):
        given = picture.copy()
        found = np.asarray(function(given))
        if found.dtype != np.uint8 or found.shape != picture.shape:
            return "expected a picture of uint8 as large as the one given."
        if not np.array_equal(given, picture):
            return "the picture that was given must stay as it is."
        if found[5, 12] <= found[0, 0]:
            wrong = (
                "dark ink stayed dark" if picture[5, 12] < picture[0, 0] else "bright ink got dark"
            )
            return f"{wrong} on paper of grey {picture[0, 0]}: which grey do most pixels have?"
    return ""


TRIALS = {"01.3": _always_black, "02.2": _restore, "02.4": _split, "06.3": _bright_ink}

"""Answers to the exercises: right, wrong and of another kind.

The solutions, which run in the tests of the notebooks, compute the answers and check them all.
"""

import math
import re

import numpy as np
import pytest
import torch
from scipy import stats

import mnist_lab as lab
from mnist_lab.course import exercises

KNOWN = exercises.exercises()
NUMBERS = [name for name in KNOWN if name not in exercises.TRIALS]


def always_black(images):
    black = (images == 0).all(0)
    images.fill_(255)  # must not spoil the trial
    return black


def restore(X):
    return ((X * 0.3081 + 0.1307) * 255).round().to(torch.uint8)[:, 0]


def my_split(labels, seed):
    shuffler = torch.Generator().manual_seed(seed)
    train, validation = [], []
    for digit in range(10):
        places = (labels == digit).nonzero().flatten()
        places = places[torch.randperm(len(places), generator=shuffler)].tolist()
        held_out = round(0.2 * len(places))
        validation += places[:held_out]
        train += places[held_out:]
    return train, validation


def ink_bright(grey):
    middle = (int(grey.min()) + int(grey.max())) / 2
    return 255 - grey if np.median(grey) > middle else grey


def inverted_in_place(grey):
    grey[:] = 255 - grey
    return grey


RIGHT = {"01.3": always_black, "02.2": restore, "02.4": my_split, "06.3": ink_bright}
RIGHT |= {name: np.array([float(f"{x:.4g}") for x in KNOWN[name].answer]) for name in NUMBERS}
WRONG = [
    ("01.1", [47.04e6, 188.16e6], "number 1: images times pixels times bytes, in millions"),
    ("01.3", lambda images: (images != 0).any(0), "other way round"),
    ("01.3", lambda images: (images == 0).any(0), "ask of all images"),
    ("01.3", lambda images: images[0], "28×28"),
    ("02.1", 33.33, "rounded"),
    ("02.2", lambda X: (X * 0.3081 + 0.1307) * 255, "torch.uint8"),
    ("02.2", lambda X: restore(X)[:, None], "channel axis"),
    ("02.2", lambda X: ((X * 0.3081 + 0.1307) * 255).to(torch.uint8)[:, 0], "off by one"),
    ("02.2", lambda X: ((X + 0.1307) * 0.3081 * 255).to(torch.uint8)[:, 0], "last step first"),
    ("02.3", 0.0455, "factor of 100"),
    ("02.4", lambda labels, seed: (range(100), range(100)), "in one only"),
    ("02.4", lambda labels, seed: (range(560), range(560, 700)), "each class"),
    ("02.4", lambda labels, seed: my_split(labels, seed)[::-1], "training places first"),
    ("02.4", lambda labels, seed: my_split(labels, torch.seed()), "same seed"),
    ("02.4", lambda labels, seed: my_split(labels, 0), "another seed"),
    ("03.2", 191, "off by one"),
    ("04.1", [90, 9.47], "share asked, or percent"),
    ("06.3", lambda grey: 255 - grey, "bright ink got dark"),
    ("06.3", lambda grey: grey, "dark ink stayed dark"),
    ("06.3", lambda grey: 255 - grey if grey.mean() > 128 else grey, "on paper of grey 90"),
    ("06.3", lambda grey: ink_bright(grey) / 255, "uint8"),
    ("06.3", inverted_in_place, "must stay as it is"),
]
SLIPS = {
    "01.1": [47.04 / 1.048576, 188.16 / 1.048576],
    "01.2": [-0.1307, 1 - 0.3081],
    "02.1": [0.1307, 0],
    "02.3": [100 * stats.norm.sf(2), 100 - 200 * stats.norm.sf(2)],
    "03.1": [20 * 5 * 5, 4 * 4, 3 * 3],
    "03.2": [192 - 16, 16 * 10],
    "03.3": [math.log10(26), math.log(math.e + 25), math.log(math.e + 9) - 1],
    "03.4": [10, sum(range(10)), 10 * 10],
    "04.1": [18 / 19, 18 / 19 / 2],
    "04.2": [4 * 39_000],
    "04.3": [stats.binom.cdf(5, 20, 0.5), stats.chi2.sf((15 - 5) ** 2 / 20, 1)],
    "05.1": [0.95**72],
    "05.2": [5**0.5, stats.t.isf(0.025, 1) / stats.t.isf(0.025, 9), 0.07962],
    "05.3": [5 * 0.012, 2 * 0.032],
    "05.4": [2 * 0.196324, 2 * 1.175836],
    "06.1": [14 - 20 / 2, 14 - 10 / 2],
    "06.2": [math.e / (math.e + 9)],
    "06.4": [1 - 0.95**6, 0.999**6, 0.95**6 * (1 - 0.999**6)],
    "06.5": [
        stats.fisher_exact([[4, 96], [0, 100]], alternative="greater")[1],
        stats.chi2_contingency([[4, 96], [0, 100]], correction=False)[1],
    ],
}
SLIPPED = [
    (name, [slip if i == place else x for i, x in enumerate(asked.answer)], hint)
    for name, asked in KNOWN.items()
    for slip, hint in asked.slips
    for place in range(len(asked.answer))
]
MALFORMED = [None, math.nan, [1.0, math.inf], "ten", b"x", {"a": 1}, {3, 4}, [[1], [2, 3]], True,
             object(), [], range(99), 1j, [None], 10**400, np.array(["1"]), torch.tensor([True]),
             torch.rand(3, 28, 28), ...]  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_the_right_answer_holds_in_every_form_and_leaves_the_global_generator_alone(name, capsys):
    right, before = RIGHT[name], torch.get_rng_state()
    forms = [right]
    if name in NUMBERS:
        forms += [right.tolist(), tuple(right), torch.tensor(right, requires_grad=True)]
        forms += [[torch.tensor(x) for x in right]] if len(right) > 1 else [right[0], right.item()]
    for form in forms:
        lab.check(name, form)
    assert capsys.readouterr().out == f"{name}: holds.\n" * len(forms)
    assert torch.equal(before, torch.get_rng_state())


def test_slips_are_the_numbers_that_known_mistakes_give_and_no_hint_tells_the_answer():
    for name in NUMBERS:
        found = [slip for slip, _ in KNOWN[name].slips]
        assert found == pytest.approx(SLIPS[name], rel=1e-4), name
    for name, asked in KNOWN.items():
        hints = " ".join([*(hint for _, hint in asked.slips), asked.hint, asked.expects])
        assert not set(map(float, re.findall(r"\d+(?:\.\d+)?", hints))) & set(asked.answer), name


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG + SLIPPED)
def test_a_wrong_answer_gets_a_hint_that_fits_the_mistake(name, answer, hint, capsys):
    lab.check(name, answer)
    said = capsys.readouterr().out
    assert said.startswith(f"{name}: not yet: ") and hint in said and said.count("\n") == 1


@pytest.mark.parametrize("name", KNOWN)
def test_another_kind_of_answer_is_told_what_is_expected(name, capsys):
    for answer in MALFORMED:
        lab.check(name, answer)
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert len(lines) == len(MALFORMED) and said.err == ""
    assert all(line.startswith(f"{name}: expected {KNOWN[name].expects}; found") for line in lines)


@pytest.mark.parametrize("name", exercises.TRIALS)
def test_a_function_that_stops_or_gives_nonsense_is_told(name, capsys):
    def stops(*given):
        raise KeyError("3\nand more")

    nonsense = (lambda: 0, lambda *_: None, lambda *_: ["x"], int, lambda *_: torch.zeros(0))
    for function in (stops, *nonsense):
        lab.check(name, function)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and "KeyError" in lines[0]
    assert all(line.startswith(f"{name}: not yet: ") for line in lines)


@pytest.mark.parametrize("name", ["3.2", "03.20", "03-2", 3.2])
def test_an_unknown_exercise_is_told_the_nearest_and_all_that_there_are(name, capsys):
    lab.check(name, 1)
    said = capsys.readouterr().out
    assert "Did you mean '03.2'?" in said and ", ".join(KNOWN) in said

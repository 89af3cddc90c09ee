"""Answers to the exercises: right, wrong and of another kind."""

import json
import math
import re

import nbformat
import numpy as np
import pytest
import torch

import mnist_lab as lab
from mnist_lab import checks
from mnist_lab.data import PROJECT

KNOWN = checks.exercises()
FUNCTIONS = [name for name, asked in KNOWN.items() if asked.trial]
NUMBERS = [name for name, asked in KNOWN.items() if not asked.trial]


def always_black(images):
    return (images == 0).all(0)


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


RIGHT = {
    "01.1": [47.04, 188.16],
    "01.2": [0.8693, 0.3081],
    "01.3": always_black,
    "02.1": 33,
    "02.2": restore,
    "02.3": 4.55,
    "02.4": my_split,
    "03.1": [320, 180],
    "03.2": 192,
    "03.3": [3.2581, 2.3221],
    "03.4": 55,
    "04.1": [0.9, 0.0947],
    "04.2": 38_100,
    "04.3": 0.0414,
    "05.1": [3.6, 0.975],
    "05.2": 12.56,
    "05.3": [0.048, 0.084, 0.02, 0.084, 0.2],
    "05.4": [0.196, 1.176],
}
WRONG = [
    ("01.1", [44.86, 179.44], "a million bytes"),
    ("01.1", [47.04e6, 188.16e6], "in millions"),
    ("01.2", [-0.1307, 0.3081], "number 1: what does black become"),
    ("01.2", [0.8693, 0.6919], "number 2: does the spread change"),
    ("01.3", lambda images: (images != 0).any(0), "other way round"),
    ("01.3", lambda images: (images == 0).any(0), "ask of all images"),
    ("01.3", lambda images: images[0], "28×28"),
    ("02.1", 0.1307, "from 0 to 255"),
    ("02.1", 33.33, "rounded"),
    ("02.2", lambda X: (X * 0.3081 + 0.1307) * 255, "torch.uint8"),
    ("02.2", lambda X: restore(X)[:, None], "channel axis"),
    ("02.2", lambda X: ((X * 0.3081 + 0.1307) * 255).to(torch.uint8)[:, 0], "off by one"),
    ("02.2", lambda X: ((X + 0.1307) * 0.3081 * 255).to(torch.uint8)[:, 0], "last step first"),
    ("02.3", 0.0455, "factor of 100"),
    ("02.3", 95.45, "within"),
    ("02.3", 2.275, "both ways"),
    ("02.4", lambda labels, seed: (range(100), range(100)), "in one only"),
    ("02.4", lambda labels, seed: (range(560), range(560, 700)), "each class"),
    ("02.4", lambda labels, seed: my_split(labels, seed)[::-1], "training places first"),
    ("02.4", lambda labels, seed: my_split(labels, torch.seed()), "same seed"),
    ("02.4", lambda labels, seed: my_split(labels, 0), "another seed"),
    ("03.1", [500, 180], "number 1: pooling leaves"),
    ("03.1", [16, 9], "how many maps"),
    ("03.2", 176, "each channel"),
    ("03.2", 191, "off by one"),
    ("03.3", [1.415, 2.322], "natural logarithm"),
    ("03.3", [3.258, 1.4612], "number 2: here are 25"),
    ("03.4", 10, "zero_grad"),
    ("03.4", 45, "first step"),
    ("04.1", [90, 9.47], "share asked, or percent"),
    ("04.1", [0.9, 0.947], "F1 of digit 1"),
    ("04.2", 152_000, "end to end"),
    ("04.2", 10_000, "half-width"),
    ("04.3", 0.0207, "one side"),
    ("04.3", 0.0253, "not exact"),
    ("05.1", [3.6, 0.0249], "none does"),
    ("05.1", [3.6, 0.95], "rounded"),
    ("05.2", 2.236, "alone"),
    ("05.2", 0.0796, "wide by the narrow"),
    ("05.3", [0.06, 0.16, 0.02, 0.14, 1.0], "Bonferroni"),
    ("05.3", [0.048, 0.064, 0.02, 0.084, 0.2], "number 2: never below"),
    ("05.4", [0.39, 2.35], "whole width"),
]
MALFORMED = [None, math.nan, [1.0, math.inf], "ten", b"x", {"a": 1}, {3, 4}, [[1], [2, 3]], True,
             object(), [], range(99), 1j, [None], 10**400, np.array(["1"]), torch.tensor([True]),
             torch.rand(3, 28, 28), ...]  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_the_right_answer_holds(name, capsys):
    lab.check(name, RIGHT[name])
    assert capsys.readouterr().out == f"{name}: holds.\n"


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_a_wrong_answer_gets_a_hint_that_fits_the_mistake(name, answer, hint, capsys):
    lab.check(name, answer)
    said = capsys.readouterr().out
    assert said.startswith(f"{name}: not yet: ") and hint in said and said.count("\n") == 1


def test_every_exercise_has_a_wrong_answer_here():
    assert {name for name, _, _ in WRONG} == set(KNOWN) == set(RIGHT)


@pytest.mark.parametrize("name", KNOWN)
def test_another_kind_of_answer_is_told_what_is_expected(name, capsys):
    for answer in MALFORMED:
        lab.check(name, answer)
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert len(lines) == len(MALFORMED) and said.err == ""
    assert all(line.startswith(f"{name}: expected {KNOWN[name].expects}; found") for line in lines)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_may_be_a_scalar_an_array_or_a_tensor(name, capsys):
    values = np.array(RIGHT[name], dtype=float)
    forms = [values, values.tolist(), torch.tensor(RIGHT[name], dtype=torch.float64),
             torch.tensor(RIGHT[name], dtype=torch.float64, requires_grad=True)]  # fmt: skip
    if values.ndim:
        forms += [tuple(values), [torch.tensor(float(x)) for x in values]]
    else:
        forms += [np.float64(values), [values.item()]]
    for form in forms:
        lab.check(name, form)
    assert capsys.readouterr().out == f"{name}: holds.\n" * len(forms)


@pytest.mark.parametrize("name", NUMBERS)
def test_no_hint_tells_the_answer(name):
    asked = KNOWN[name]
    hints = " ".join([*asked.slips.values(), asked.hint, asked.expects])
    told = {float(number) for number in re.findall(r"\d+(?:\.\d+)?", hints)}
    assert not told & set(asked.numbers)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_stops_or_gives_nonsense_is_told(name, capsys):
    def stops(*given):
        raise KeyError("3\nand more")

    for function in (stops, lambda: 0, lambda *given: None, lambda *given: ["x"], int, print_less):
        lab.check(name, function)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all(line.startswith(f"{name}: not yet: ") for line in lines)
    assert "KeyError" in lines[0]


def print_less(*given):
    return torch.zeros(0)


def test_the_random_input_of_a_trial_is_not_spoilt_by_a_function_that_changes_it(capsys):
    def spoils(images):
        black = always_black(images)
        images.fill_(255)
        return black

    lab.check("01.3", spoils)
    assert capsys.readouterr().out == "01.3: holds.\n"


@pytest.mark.parametrize("name", ["3.2", "03.20", "03-2", 3.2])
def test_an_unknown_exercise_is_told_the_nearest_and_all_that_there_are(name, capsys):
    lab.check(name, 1)
    said = capsys.readouterr().out
    assert "Did you mean '03.2'?" in said and ", ".join(KNOWN) in said


def test_the_global_generator_is_left_alone(capsys):
    before = torch.get_rng_state()
    for name, answer in RIGHT.items():
        lab.check(name, answer)
    assert torch.equal(before, torch.get_rng_state())


def test_the_notebooks_name_these_exercises_and_no_others():
    named = set()
    for path in sorted((PROJECT / "notebooks").glob("*.ipynb")):
        text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        own = set(re.findall(r'lab\.check\("([^"]*)"', text))
        assert {name[:2] for name in own} == {path.stem[:2]}, path.stem
        for name in own:
            (exercise,) = re.findall(
                rf"^{int(name[3:])}\. .*(?:\n   .*)*", text.split("## Exercises")[1], re.MULTILINE
            )
            assert json.dumps(name) in exercise
        named |= own
    assert named == set(KNOWN)

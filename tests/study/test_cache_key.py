"""The key of a fit changes with everything that determines the fit, and with nothing else."""

import dataclasses

import pytest
import torch

import mnist_lab as lab
from mnist_lab.study.cache_key import cache_key, code_digest

TINY = lab.REPORT_A.but(name="tiny", epochs=2)
AUGMENTATIONS = [
    lab.Augmentation(rotation=5),
    lab.Augmentation(translation=0.1),
    lab.Augmentation(scale=0.1),
    lab.Augmentation(shear=5),
    lab.Augmentation(horizontal_flip=0.5),
    lab.Augmentation(vertical_flip=0.5),
    lab.Augmentation(crop_scale=(0.8, 1.0)),
    lab.Augmentation(crop_ratio=(0.75, 1.25)),
]
CHANGES = {
    "model": ["report_b"],
    "options": [(("kernel_size", 3),)],
    "initialisation": ["kaiming"],
    "pretraining": ["rotations", "uci-digits"],
    "mean": [0.5],
    "std": [0.5],
    "border": [2],
    "augmentation": AUGMENTATIONS,
    "optimiser": ["adam"],
    "lr": [0.051],
    "momentum": [0.9],
    "nesterov": [True],
    "schedule": ["cosine"],
    "label_smoothing": [0.1],
    "l1": [1e-5],
    "weight_decay": [1e-4],
    "averaging": [0.9],
    "precision": ["bfloat16"],
    "batch_translation": [1],
    "test_translation": [1],
    "batch_size": [65],
    "epochs": [3],
    "train_fraction": [0.5],
    "seed": [1],
}
NEEDS = {"border": {"model": "fast"}, "nesterov": {"momentum": 0.5}}  # for a change to be allowed


def test_every_value_of_a_recipe_has_a_change_to_be_tested():
    fields = {field.name for field in dataclasses.fields(lab.Recipe)}
    assert fields - {"name"} == CHANGES.keys()
    kinds = [field.name for field in dataclasses.fields(lab.Augmentation)]
    none = lab.Augmentation()
    assert kinds == [k for one in AUGMENTATIONS for k in kinds if vars(one)[k] != vars(none)[k]]


@pytest.mark.parametrize(("field", "value"), [(k, v) for k, vs in CHANGES.items() for v in vs])
def test_another_value_in_a_recipe_gives_another_key(few_digits, field, value):
    recipe = TINY.but(**NEEDS.get(field, {}))
    changed = recipe.but(**{field: value})
    assert cache_key(recipe, few_digits, None) != cache_key(changed, few_digits, None)


@pytest.mark.parametrize("changes", [{"name": "renamed"}, {"kernel_size": 5}, {"mean": 0}])
def test_an_equal_recipe_has_the_same_key(few_digits, changes):
    same = lab.Recipe.from_json(TINY.but(**changes).to_json())
    assert cache_key(same, few_digits, None) == cache_key(TINY, few_digits, None)


def test_other_digits_or_another_split_give_another_key(few_digits):
    part = lab.Images(few_digits.train.images[:150], few_digits.train.labels[:150])
    other = dataclasses.replace(few_digits, train=part)
    even, odd = torch.arange(200).reshape(-1, 2).T
    splits = [None, lab.Split(even, odd, ""), lab.Split(odd, even, "")]
    keys = {cache_key(TINY, few_digits, split) for split in splits}
    assert len(keys | {cache_key(TINY, other, None)}) == 4


RATE = "RATE: float = 0.1\n"
STEP = "def step(x, size=1):\n    return x - size * RATE\n"
NET = "class Net(Module):\n    bias = True\n"
CODE = [RATE + STEP, NET]
START = ["step", "Net"]
SAME_CODE = {
    "reordered": [STEP + RATE, NET],
    "files swapped": [NET, RATE + STEP],
    "moved": [RATE, NET + STEP],
    "imports": ["import os\n" + RATE + STEP, "from this import that\n" + NET],
    "docstrings": ['"""About."""\n' + RATE + '"""How fast."""\n' + STEP, NET + '    """Kept."""\n'],
    "docstring": [RATE + STEP.replace(":\n", ':\n    """One step."""\n'), NET],
    "comment": [RATE.replace("\n", "  # chosen by hand\n\n") + STEP, NET],
    "something that nothing uses": [RATE + STEP, "UNUSED = 3\n" + NET + "def aside():\n    pass\n"],
    "layout": [RATE + STEP.replace("x - size * RATE", "(x -  size*RATE)"), NET],
}


@pytest.mark.parametrize("change", SAME_CODE)
def test_code_that_is_moved_or_described_is_the_same_code(change):
    assert code_digest(SAME_CODE[change], START) == code_digest(CODE, START)


@pytest.mark.parametrize(
    ("old", "new"), [("0.1", "0.2"), ("size=1", "size=2"), ("x - size", "x + size"), ("True", "0")]
)
def test_another_value_default_or_expression_is_other_code(old, new):
    changed = [part.replace(old, new) for part in CODE]
    assert changed != CODE and code_digest(changed, START) != code_digest(CODE, START)

"""Recipes: what they hold, what they refuse, and what the named ones say."""

import dataclasses
import math

import numpy as np
import pytest

import mnist_lab as lab
from mnist_lab import models, recipes

NAMED = [value for value in vars(recipes).values() if isinstance(value, lab.Recipe)]
WITH_BORDER = lab.Recipe(name="takes a border", model="fast")


def test_a_recipe_is_its_values_which_cannot_be_changed():
    renamed = lab.REPORT_A.but(name="mine")
    assert renamed == lab.REPORT_A and hash(renamed) == hash(lab.REPORT_A)
    assert lab.REPORT_A.but(seed=1) != lab.REPORT_A
    with pytest.raises(dataclasses.FrozenInstanceError):
        lab.REPORT_A.lr = 0.2


def test_but_changes_fields_and_options_and_nothing_else():
    changed = lab.REPORT_A.but(lr=0.2, kernel_size=3, padding=1)
    expected = dataclasses.asdict(lab.REPORT_A) | {
        "lr": 0.2,
        "options": (("kernel_size", 3), ("padding", 1)),
        "name": "Report A, lr=0.2, kernel_size=3, padding=1",
    }
    assert dataclasses.asdict(changed) == expected
    assert changed.build().conv1.kernel_size == (3, 3)


def test_but_keeps_the_options_already_changed_unless_the_network_is_another():
    both = lab.REPORT_A.but(stride=2, kernel_size=3)
    assert lab.REPORT_A.but(kernel_size=3).but(stride=2) == both
    assert lab.STRONG.but(model="report_a", border=0).options == ()
    assert lab.STRONG.but(model="report_a", border=0, width=2).options == (("width", 2.0),)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"optimiser": "x"}, "optimiser must be one of sgd, adam, adamw, rmsprop, found 'x'"),
        ({"kernel": 3}, "'kernel' is no field.*'report_a'; did you mean 'kernel_size'?"),
        ({"epoch": 3}, "'epoch' is no field.*did you mean 'epochs'?"),
        ({"softmax": False}, "'softmax' is no field.*'report_a'"),
        ({"optimiser": "adam", "momentum": 0.9}, "adam takes no momentum, found 0.9"),
        ({"optimiser": "adamw", "momentum": 0.9}, "adamw takes no momentum, found 0.9"),
        ({"nesterov": True}, "nesterov is a kind of SGD's momentum"),
        ({"nesterov": True, "optimiser": "rmsprop", "momentum": 0.9}, "kind of SGD's momentum"),
        ({"border": 1}, "border must be 0: 'report_a' takes only whole images"),
        ({"border": 1, "model": "report_b"}, "border must be 0: 'report_b' takes only whole"),
        ({"border": 1, "model": "report_b_code"}, "border must be 0: 'report_b_code' takes only"),
        ({"model": "fast", "image_size": 20}, "set border instead"),
    ],
    ids=str,
)
def test_changes_that_do_not_go_together_are_refused_with_what_to_do(changes, told):
    with pytest.raises(ValueError, match=told):
        lab.REPORT_A.but(**changes)


@pytest.mark.parametrize(
    ("field", "values"),
    {
        "model": ("report_c", None),
        "optimiser": ("adagrad", "SGD", None),
        "initialisation": ("zeros", "", None),
        "pretraining": ("mnist", None, False),
        "schedule": ("linear", "one-cycle", None),
        "precision": ("float16", 32, None),
        "augmentation": (None, {"rotation": 5}),
        "lr": (0, -0.1, math.nan, math.inf, "0.1", None),
        "mean": (math.nan, math.inf, "0"),
        "std": (0, -1, math.nan, math.inf),
        "momentum": (-0.1, 1, math.nan),
        "nesterov": (2, "yes", None),
        "label_smoothing": (-0.1, 1, math.nan, None),
        "l1": (-1e-9, math.nan, math.inf),
        "weight_decay": (-1e-9, math.nan, math.inf),
        "averaging": (-0.1, 1, math.nan),
        "border": (-1, 14, 1.5, "2", None),
        "batch_translation": (-1, 14, 0.5, math.nan),
        "test_translation": (-1, 14, 0.5, math.nan),
        "batch_size": (0, 2.5, "64"),
        "epochs": (0, 1.5, math.nan),
        "train_fraction": (0, 1.01, math.nan),
        "seed": (-1, 0.5),
        "hidden": (2.5, "3", None),
    }.items(),
)
def test_a_value_that_makes_no_sense_is_refused_by_name(field, values):
    for value in values:
        with pytest.raises(ValueError, match=f"^{field} must be .*, found {value!r}"):
            WITH_BORDER.but(**{field: value})


@pytest.mark.parametrize(
    "same",
    [
        lab.REPORT_A.but(mean=0, std=1, momentum=0, train_fraction=1, l1=0, averaging=0),
        lab.REPORT_A.but(nesterov=0, border=0.0, test_translation=np.int64(0)),
        lab.REPORT_A.but(batch_size=np.int64(64), lr=np.float64(0.14)),
        lab.REPORT_A.but(augmentation=lab.Augmentation(rotation=0, scale=0, crop_scale=[1, 1])),
        lab.REPORT_A.but(kernel_size=5.0),
        lab.REPORT_A.but(kernel_size=3).but(kernel_size=5),
    ],
)
def test_equal_recipes_are_written_alike(same):
    assert same == lab.REPORT_A
    assert same.but(name="Report A").to_json() == lab.REPORT_A.to_json()


EVERYTHING = lab.Recipe(
    "everything", model="fast", options=(("width", 8),), initialisation="orthogonal",
    pretraining="rotations", mean=0.1307, std=0.3081, border=2,
    augmentation=lab.Augmentation(
        rotation=10, translation=0.1, scale=0.2, shear=5, horizontal_flip=0.2, vertical_flip=0.3,
        crop_scale=(0.5, 0.9), crop_ratio=(0.8, 1.2),
    ),
    optimiser="rmsprop", lr=0.02, momentum=0.9, schedule="one_cycle", label_smoothing=0.05,
    l1=1e-5, weight_decay=5e-4, averaging=0.998, precision="bfloat16", batch_translation=1,
    test_translation=1, batch_size=50, epochs=3, train_fraction=0.5, seed=7,
)  # fmt: skip
NESTEROV = EVERYTHING.but(name="everything with SGD", optimiser="sgd", nesterov=True)


def test_the_recipes_read_back_below_change_every_value():
    # each of its own: one that is added later has to be added here too
    changed = [dataclasses.asdict(recipe) for recipe in (EVERYTHING, NESTEROV)]
    for name, value in dataclasses.asdict(lab.Recipe(name="plain")).items():
        assert any(values[name] != value for values in changed), name
    for name, value in vars(lab.Augmentation()).items():
        assert getattr(EVERYTHING.augmentation, name) != value, name


@pytest.mark.parametrize("recipe", [*NAMED, EVERYTHING, NESTEROV], ids=lambda recipe: recipe.name)
def test_a_recipe_read_back_from_json_is_the_recipe(recipe):
    read = lab.Recipe.from_json(recipe.to_json())
    assert (read, read.name, hash(read)) == (recipe, recipe.name, hash(recipe))


@pytest.mark.parametrize(
    "recipe", [*NAMED, WITH_BORDER, WITH_BORDER.but(border=1)], ids=lambda recipe: recipe.name
)
def test_a_recipe_names_a_network_for_what_the_border_leaves(recipe):
    size = models.IMAGE_SIZE - 2 * recipe.border
    assert recipe.image_size == size
    assert lab.trace_shapes(recipe.build(), (1, 1, size, size))[-1][1] == (1, models.CLASSES)


def test_seeds_differ_in_the_seed_alone():
    repeats = lab.REPORT_A.seeds(3, first=5)
    assert [recipe.seed for recipe in repeats] == [5, 6, 7]
    assert {recipe.but(seed=0) for recipe in repeats} == {lab.REPORT_A.but(seed=0)}


# torchvision's defaults, as the flip's probability is
CROP = lab.Augmentation(10.0, horizontal_flip=0.5, crop_scale=(0.8, 1), crop_ratio=(3 / 4, 4 / 3))


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (lab.REPORT_A, {"optimiser": "sgd", "lr": 0.14, "batch_size": 64, "epochs": 15}),
        (
            lab.REPORT_B,
            {"model": "report_b", "mean": 0.5, "std": 0.5, "augmentation": CROP}
            | {"optimiser": "adam", "lr": 0.001, "batch_size": 50, "epochs": 30},
        ),
        (
            lab.REPORT_B_CODE,
            {"model": "report_b_code", "mean": 0.5, "std": 0.5, "optimiser": "adam"}
            | {"lr": 0.0008, "batch_size": 50, "epochs": 30, "seed": 20},
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_report_trains_as_it_says_with_nothing_that_it_does_not_mention(recipe, says):
    assert recipe == lab.Recipe("what it says", **says)
    nothing = {"augmentation": lab.Augmentation(), "initialisation": "default"}
    nothing |= {"pretraining": "none", "schedule": "constant", "precision": "float32"}
    none_of = ("border", "momentum", "label_smoothing", "l1", "weight_decay", "averaging")
    default = lab.Recipe("default")
    assert all(getattr(default, name) == value for name, value in nothing.items())
    assert not any(getattr(default, name) for name in none_of)

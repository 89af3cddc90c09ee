"""Recipes: what they hold, what they refuse, and what the named ones say."""

import dataclasses
import math

import numpy as np
import pytest

import mnist_lab as lab
from mnist_lab import models, recipes

NAMED = [value for value in vars(recipes).values() if isinstance(value, lab.Recipe)]


def test_a_recipe_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        lab.REPORT_A.lr = 0.2


def test_the_name_makes_no_difference_and_any_value_does():
    renamed = lab.REPORT_A.but(name="mine")
    assert renamed == lab.REPORT_A and hash(renamed) == hash(lab.REPORT_A)
    assert lab.REPORT_A.but(seed=1) != lab.REPORT_A


def test_but_changes_fields_and_options_and_nothing_else():
    changed = lab.REPORT_A.but(lr=0.2, kernel_size=3, padding=1)
    expected = dataclasses.asdict(lab.REPORT_A) | {
        "lr": 0.2,
        "options": (("kernel_size", 3), ("padding", 1)),
        "name": "Report A, lr=0.2, kernel_size=3, padding=1",
    }
    assert dataclasses.asdict(changed) == expected


def test_but_keeps_the_options_already_changed():
    assert lab.REPORT_A.but(kernel_size=3).but(stride=2) == lab.REPORT_A.but(
        stride=2, kernel_size=3
    )


def test_an_option_at_its_default_is_no_change():
    assert lab.REPORT_A.but(kernel_size=5) == lab.REPORT_A
    assert lab.REPORT_A.but(kernel_size=3).but(kernel_size=5) == lab.REPORT_A
    assert lab.REPORT_B_CODE.but(softmax=True) == lab.REPORT_B_CODE


def test_the_network_is_built_with_the_options():
    assert lab.REPORT_A.but(kernel_size=3).build().conv1.kernel_size == (3, 3)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("kernel", "kernel_size"), ("epoch", "epochs"), ("optimizer", "optimiser")],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(name, nearest):
    with pytest.raises(ValueError, match=f"{name!r} is no field.*did you mean {nearest!r}"):
        lab.REPORT_A.but(**{name: 3})


def test_an_option_of_another_network_is_refused():
    with pytest.raises(ValueError, match=r"'softmax' is no field.*'report_a'"):
        lab.REPORT_A.but(softmax=False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "report_c"),
        *(("optimiser", value) for value in ("adagrad", "SGD", None)),
        *(("initialisation", value) for value in ("zeros", "", None)),
        *(("pretraining", value) for value in ("mnist", None, False)),
        *(("schedule", value) for value in ("linear", "one-cycle", None)),
        *(("precision", value) for value in ("float16", 32, None)),
        *(("lr", value) for value in (0, -0.1, math.nan, math.inf, "0.1", None)),
        *(("std", value) for value in (0, -1, math.nan, math.inf)),
        *(("augmentation", value) for value in (None, {"rotation": 5})),
        *(("mean", value) for value in (math.nan, math.inf, "0")),
        *(("momentum", value) for value in (-0.1, 1, math.nan)),
        *(("nesterov", value) for value in (2, "yes", None)),
        *(("label_smoothing", value) for value in (-0.1, 1, math.nan, None)),
        *(("l1", value) for value in (-1e-9, math.nan, math.inf)),
        *(("weight_decay", value) for value in (-1e-9, math.nan, math.inf)),
        *(("averaging", value) for value in (-0.1, 1, math.nan)),
        *(("batch_shift", value) for value in (-1, 14, 0.5, math.nan)),
        *(("test_shift", value) for value in (-1, 14, 0.5, math.nan)),
        *(("batch_size", value) for value in (0, 2.5, "64")),
        *(("epochs", value) for value in (0, 1.5, math.nan)),
        *(("train_fraction", value) for value in (0, 1.01, math.nan)),
        *(("seed", value) for value in (-1, 0.5)),
        *(("kernel_size", value) for value in (2.5, "3", None)),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        lab.REPORT_A.but(**{field: value})


WITHOUT_BORDER = lab.Recipe(name="without border", model="fast")


@pytest.mark.parametrize("border", [-1, 14, 1.5, "2", None])
def test_a_border_that_leaves_no_image_is_refused(border):
    with pytest.raises(ValueError, match="border must be "):
        WITHOUT_BORDER.but(border=border)


@pytest.mark.parametrize("field", list(recipes.CHOICES))
def test_an_unknown_choice_is_refused_with_all_known_ones(field):
    with pytest.raises(ValueError, match=f"unknown {field} 'other'") as refused:
        lab.REPORT_A.but(**{field: "other"})
    assert str(refused.value).endswith(f"known: {', '.join(recipes.CHOICES[field])}")


@pytest.mark.parametrize("field", list(recipes.CHOICES))
def test_every_known_choice_is_accepted(field):
    for choice in recipes.CHOICES[field]:
        assert getattr(lab.REPORT_A.but(**{field: choice}), field) == choice


@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
def test_momentum_with_an_adam_is_refused(optimiser):
    with pytest.raises(ValueError, match=f"{optimiser} takes no momentum, found momentum=0.9"):
        lab.REPORT_A.but(optimiser=optimiser, momentum=0.9)


@pytest.mark.parametrize("optimiser", ["sgd", "rmsprop"])
def test_momentum_with_the_others_is_kept(optimiser):
    assert lab.REPORT_A.but(optimiser=optimiser, momentum=0.9).momentum == 0.9


@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": 0.0},
        {"optimiser": "rmsprop", "momentum": 0.9},
        {"optimiser": "adam"},
        {"optimiser": "adamw"},
    ],
    ids=str,
)
def test_nesterov_without_sgds_momentum_is_refused(changes):
    with pytest.raises(ValueError, match="nesterov is a kind of SGD's momentum"):
        lab.REPORT_A.but(nesterov=True, **changes)


@pytest.mark.parametrize(
    "same",
    [
        lab.REPORT_A.but(mean=0, std=1, momentum=0, train_fraction=1),
        lab.REPORT_A.but(label_smoothing=0, l1=0, weight_decay=0, averaging=0),
        lab.REPORT_A.but(nesterov=0, border=0.0, test_shift=np.int64(0)),
        lab.REPORT_A.but(batch_size=np.int64(64), lr=np.float64(0.14)),
        lab.REPORT_A.but(augmentation=lab.Augmentation(rotation=0, scale=0, crop_scale=[1, 1])),
        lab.REPORT_A.but(kernel_size=5.0),
    ],
)
def test_equal_recipes_are_written_alike(same):
    assert same == lab.REPORT_A
    assert same.but(name="Report A").to_json() == lab.REPORT_A.to_json()


EVERYTHING = lab.Recipe(
    name="everything",
    model="fast",
    options=(("width", 8),),
    initialisation="orthogonal",
    pretraining="rotations",
    mean=0.1307,
    std=0.3081,
    border=2,
    augmentation=lab.Augmentation(
        rotation=10,
        shift=0.1,
        scale=0.2,
        shear=5,
        horizontal_flip=0.2,
        vertical_flip=0.3,
        crop_scale=(0.5, 0.9),
        crop_ratio=(0.8, 1.2),
    ),
    optimiser="rmsprop",
    lr=0.02,
    momentum=0.9,
    schedule="one_cycle",
    label_smoothing=0.05,
    l1=1e-5,
    weight_decay=5e-4,
    averaging=0.998,
    precision="bfloat16",
    batch_shift=1,
    test_shift=1,
    batch_size=50,
    epochs=3,
    train_fraction=0.5,
    seed=7,
)
NESTEROV = EVERYTHING.but(name="everything with SGD", optimiser="sgd", nesterov=True)


def test_the_recipes_read_back_below_change_every_value():
    # a field of its own for each value: one that is added later has to be added here too
    plain = lab.Recipe(name="plain")
    for default, *changed in (
        (plain, EVERYTHING, NESTEROV),
        (lab.Augmentation(), EVERYTHING.augmentation),
    ):
        parts = [dataclasses.asdict(part) for part in changed]
        for name, value in dataclasses.asdict(default).items():
            assert any(part[name] != value for part in parts), name


@pytest.mark.parametrize("recipe", [*NAMED, EVERYTHING, NESTEROV], ids=lambda recipe: recipe.name)
def test_a_recipe_read_back_from_json_is_the_recipe(recipe):
    read = lab.Recipe.from_json(recipe.to_json())
    assert (read, read.name) == (recipe, recipe.name)
    assert read.augmentation == recipe.augmentation
    assert hash(read) == hash(recipe)


@pytest.mark.parametrize("recipe", NAMED, ids=lambda recipe: recipe.name)
def test_a_named_recipe_names_a_network_that_can_be_built(recipe):
    size = models.IMAGE_SIZE - 2 * recipe.border
    assert lab.trace_shapes(recipe.build(), (1, 1, size, size))[-1][1] == (1, models.CLASSES)


@pytest.mark.parametrize("border", [0, 1, 4])
def test_a_network_is_built_for_what_the_border_leaves(border):
    model = WITHOUT_BORDER.but(border=border).build()
    size = models.IMAGE_SIZE - 2 * border
    assert lab.trace_shapes(model, (1, 1, size, size))[-1][1] == (1, models.CLASSES)


@pytest.mark.parametrize("recipe", [lab.REPORT_A, lab.REPORT_B, lab.REPORT_B_CODE])
def test_a_border_is_refused_where_the_network_takes_only_whole_images(recipe):
    with pytest.raises(ValueError, match=f"border must be 0: '{recipe.model}' takes only whole"):
        recipe.but(border=1)


def test_another_network_starts_from_its_own_options():
    assert lab.STRONG.but(model="report_a", border=0).options == ()
    assert lab.STRONG.but(model="report_a", border=0, width=2).options == (("width", 2.0),)


def test_an_image_size_of_its_own_is_refused():
    with pytest.raises(ValueError, match="set border instead"):
        WITHOUT_BORDER.but(image_size=20)


def test_seeds_differ_in_the_seed_alone():
    repeats = lab.REPORT_A.seeds(3, first=5)
    assert [recipe.seed for recipe in repeats] == [5, 6, 7]
    assert {recipe.but(seed=0) for recipe in repeats} == {lab.REPORT_A.but(seed=0)}


def settings_of(recipe: lab.Recipe, *names: str) -> dict[str, object]:
    return {name: getattr(recipe, name) for name in names}


@pytest.mark.parametrize("recipe", [lab.REPORT_A, lab.REPORT_B, lab.REPORT_B_CODE])
def test_a_report_has_nothing_that_it_does_not_mention(recipe):
    expected = {
        "initialisation": "default",
        "pretraining": "none",
        "border": 0,
        "momentum": 0.0,
        "nesterov": False,
        "schedule": "constant",
        "label_smoothing": 0.0,
        "l1": 0.0,
        "weight_decay": 0.0,
        "averaging": 0.0,
        "precision": "float32",
        "batch_shift": 0,
        "test_shift": 0,
        "train_fraction": 1.0,
    }
    assert settings_of(recipe, *expected) == expected


def test_report_a_trains_as_the_report_says():
    assert settings_of(
        lab.REPORT_A, "model", "options", "optimiser", "lr", "momentum", "batch_size", "epochs"
    ) == {
        "model": "report_a",
        "options": (),
        "optimiser": "sgd",
        "lr": 0.14,
        "momentum": 0.0,
        "batch_size": 64,
        "epochs": 15,
    }
    assert settings_of(lab.REPORT_A, "mean", "std", "augmentation", "train_fraction") == {
        "mean": 0.0,
        "std": 1.0,
        "augmentation": lab.Augmentation(),
        "train_fraction": 1.0,
    }


def test_report_b_trains_as_its_text_says():
    assert settings_of(
        lab.REPORT_B, "model", "options", "mean", "std", "optimiser", "lr", "train_fraction"
    ) == {
        "model": "report_b",
        "options": (),
        "mean": 0.5,
        "std": 0.5,
        "optimiser": "adam",
        "lr": 0.001,
        "train_fraction": 1.0,
    }
    assert lab.REPORT_B.augmentation == lab.Augmentation(
        rotation=10.0,
        horizontal_flip=0.5,
        crop_scale=(0.8, 1.0),
        crop_ratio=(3 / 4, 4 / 3),  # torchvision's defaults, as the flip's probability is
    )


def test_report_b_code_trains_as_its_code_does():
    assert settings_of(
        lab.REPORT_B_CODE, "model", "options", "mean", "std", "augmentation", "optimiser"
    ) == {
        "model": "report_b_code",
        "options": (),
        "mean": 0.5,
        "std": 0.5,
        "augmentation": lab.Augmentation(),
        "optimiser": "adam",
    }
    assert settings_of(lab.REPORT_B_CODE, "lr", "batch_size", "epochs", "seed") == {
        "lr": 0.0008,
        "batch_size": 50,
        "epochs": 30,
        "seed": 20,
    }

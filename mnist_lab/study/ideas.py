"""Ideas, each one change to a baseline: the catalogue, and what was tried for FAST and STRONG.

The catalogue has the ideas of the two reports and some that they leave out, for Report A's recipe
unless a notebook says otherwise. To add an idea, add a line.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mnist_lab.recipes import FAST, MNIST_MEAN, MNIST_STD, STRONG, Recipe
from mnist_lab.transforms import Augmentation


@dataclass(frozen=True)
class Idea:
    """One change: ``changes`` are fields of the recipe, or options of its network, with new values.

    ``train_fraction`` among them is a share of what the baseline uses. ``proposed_by`` names the
    reports that propose, use or mention it: "A", "B" or "A, B"; "" for an idea of this course.
    """

    family: str
    name: str
    proposed_by: str
    changes: Mapping[str, Any]

    def applied_to(self, recipe: Recipe) -> Recipe:
        """The recipe with this change, under the idea's name; ValueError where both cannot be."""
        changes = dict(self.changes)
        if "train_fraction" in changes:
            changes["train_fraction"] *= recipe.train_fraction
        return recipe.but(name=self.name, **changes)


QUESTIONS = {
    "learning rate": "Is 0.14 the right size of step?",
    "optimiser": "Does another rule for the step do better than plain SGD?",
    "batch size": "How many images per step?",
    "epochs": "How long is long enough?",
    "schedule": "Should the learning rate change while training?",
    "first kernel": "Which window should look at the image first?",
    "depth and width": "Does a larger network do better?",
    "kinds of layer": "Do other layers in the same place do better?",
    "input and weights": "Does it matter where inputs and weights start?",
    "dropout": "Does leaving out units at random help?",
    "L1": "Does pulling weights to zero help?",
    "L2": "Does keeping weights small help?",
    "label smoothing": "Does training for less certainty help?",
    "augmentation": "Do changed copies of the images help?",
    "training images": "What are more images worth?",
}

REGULARISATION = frozenset({"dropout", "L1", "L2", "label smoothing", "augmentation"})
"""Families whose ideas are against overfitting, which takes a longer training to show."""

HYPERPARAMETERS = {
    "lr": "learning rate",
    "batch_size": "batch size",
    "epochs": "epochs",
    "kernel_size": "first kernel (pixels)",
    "padding": "padding (pixels)",
    "width": "width (times)",
    "dropout1": "dropout after linear 1 (p)",
    "l1": "L1 penalty (λ)",
    "weight_decay": "L2 penalty (λ)",
    "train_fraction": "share of the baseline's images",
}
"""Fields of a recipe whose values lie on an axis, with the axis's label."""

CROP: dict[str, Any] = {"crop_scale": (0.8, 1.0), "crop_ratio": (3 / 4, 4 / 3)}

CATALOGUE: tuple[Idea, ...] = (
    Idea("learning rate", "lr 0.05", "B", {"lr": 0.05}),
    Idea("learning rate", "lr 0.1", "A, B", {"lr": 0.1}),
    Idea("learning rate", "lr 0.2", "A, B", {"lr": 0.2}),
    Idea("learning rate", "lr 0.3", "B", {"lr": 0.3}),
    Idea("optimiser", "momentum 0.9, lr 0.014", "A", {"momentum": 0.9, "lr": 0.014}),
    Idea("optimiser", "Adam, lr 0.001", "B", {"optimiser": "adam", "lr": 0.001}),
    Idea("optimiser", "AdamW, lr 0.001", "",
         {"optimiser": "adamw", "lr": 0.001, "weight_decay": 0.01}),
    Idea("optimiser", "RMSprop, lr 0.001", "", {"optimiser": "rmsprop", "lr": 0.001}),
    Idea("batch size", "batch 32", "B", {"batch_size": 32}),
    Idea("batch size", "batch 128", "B", {"batch_size": 128}),
    Idea("batch size", "batch 256", "B", {"batch_size": 256}),
    Idea("batch size", "batch 512", "B", {"batch_size": 512}),
    Idea("epochs", "1 epoch", "B", {"epochs": 1}),
    Idea("epochs", "2 epochs", "B", {"epochs": 2}),
    Idea("epochs", "15 epochs", "B", {"epochs": 15}),
    Idea("epochs", "30 epochs", "A, B", {"epochs": 30}),
    Idea("schedule", "step schedule", "A, B", {"schedule": "step"}),
    Idea("schedule", "cosine schedule", "A, B", {"schedule": "cosine"}),
    Idea("schedule", "one-cycle schedule", "B", {"schedule": "one_cycle"}),
    Idea("schedule", "cyclical schedule", "B", {"schedule": "cyclical"}),
    Idea("schedule", "warm-up", "", {"schedule": "warm_up"}),
    Idea("first kernel", "kernel 3", "A", {"kernel_size": 3}),
    Idea("first kernel", "kernel 7", "", {"kernel_size": 7}),
    Idea("first kernel", "stride 2", "A", {"stride": 2}),
    Idea("first kernel", "padding 1", "A", {"padding": 1}),
    Idea("first kernel", "padding 2", "", {"padding": 2}),
    Idea("depth and width", "one more convolution", "A, B", {"extra_conv": True}),
    Idea("depth and width", "one convolution fewer", "B", {"second_conv": False}),
    Idea("depth and width", "one more linear layer", "A", {"extra_linear": True}),
    Idea("depth and width", "one more of both", "", {"extra_conv": True, "extra_linear": True}),
    Idea("depth and width", "twice as wide", "", {"width": 2.0}),
    Idea("depth and width", "half as wide", "", {"width": 0.5}),
    Idea("depth and width", "linear layers 2 times as wide", "B", {"linear_width": 2.0}),
    Idea("depth and width", "linear layers half as wide", "B", {"linear_width": 0.5}),
    Idea("kinds of layer", "separable convolution", "A", {"separable": True}),
    Idea("kinds of layer", "average pooling", "A", {"pooling": "average"}),
    Idea("kinds of layer", "strided convolutions", "", {"pooling": "stride"}),
    Idea("kinds of layer", "batch norm", "B", {"batch_norm": True}),
    Idea("kinds of layer", "residual block", "B", {"residual": True}),
    Idea("input and weights", "inputs −1 to 1", "B", {"mean": 0.5, "std": 0.5}),
    Idea("input and weights", "inputs normalised", "A", {"mean": MNIST_MEAN, "std": MNIST_STD}),
    Idea("input and weights", "Kaiming weights", "A", {"initialisation": "kaiming"}),
    Idea("input and weights", "Xavier weights", "A", {"initialisation": "xavier"}),
    Idea("input and weights", "orthogonal weights", "A", {"initialisation": "orthogonal"}),
    Idea("input and weights", "first learns UCI digits", "A", {"pretraining": "uci-digits"}),
    Idea("input and weights", "first learns rotations", "A", {"pretraining": "rotations"}),
    Idea("dropout", "dropout 0.25 after linear 1", "A", {"dropout1": 0.25}),
    Idea("dropout", "dropout 0.5 after linear 1", "A, B", {"dropout1": 0.5}),
    Idea("dropout", "dropout 0.75 after linear 1", "A", {"dropout1": 0.75}),
    Idea("dropout", "dropout 0.5 after linear 1, 2", "A", {"dropout1": 0.5, "dropout2": 0.5}),
    Idea("dropout", "dropout 0.25 of channels", "A", {"dropout2d": 0.25}),
    Idea("L1", "L1 1e-6", "A, B", {"l1": 1e-6}),
    Idea("L1", "L1 1e-5", "A, B", {"l1": 1e-5}),
    Idea("L1", "L1 1e-4", "A, B", {"l1": 1e-4}),
    Idea("L1", "L1 1e-3", "A, B", {"l1": 1e-3}),
    Idea("L1", "L1 1e-2", "A, B", {"l1": 1e-2}),
    Idea("L2", "L2 1e-5", "A, B", {"weight_decay": 1e-5}),
    Idea("L2", "L2 1e-4", "A, B", {"weight_decay": 1e-4}),
    Idea("L2", "L2 1e-3", "A, B", {"weight_decay": 1e-3}),
    Idea("L2", "L2 1e-2", "A, B", {"weight_decay": 1e-2}),
    Idea("label smoothing", "label smoothing 0.1", "", {"label_smoothing": 0.1}),
    Idea("augmentation", "rotation 10°", "B", {"augmentation": Augmentation(rotation=10)}),
    Idea("augmentation", "shift 10 %", "", {"augmentation": Augmentation(translation=0.1)}),
    Idea("augmentation", "scale 10 %", "B", {"augmentation": Augmentation(scale=0.1)}),
    Idea("augmentation", "crop and resize", "B", {"augmentation": Augmentation(**CROP)}),
    Idea("augmentation", "horizontal flip", "B",
         {"augmentation": Augmentation(horizontal_flip=0.5)}),
    Idea("augmentation", "vertical flip", "B", {"augmentation": Augmentation(vertical_flip=0.5)}),
    Idea("augmentation", "rotation, shift, scale", "",
         {"augmentation": Augmentation(rotation=10, translation=0.1, scale=0.1)}),
    Idea("training images", "1 % of the images", "", {"train_fraction": 0.01}),
    Idea("training images", "5 % of the images", "", {"train_fraction": 0.05}),
    Idea("training images", "20 % of the images", "", {"train_fraction": 0.2}),
    Idea("training images", "50 % of the images", "", {"train_fraction": 0.5}),
)  # fmt: skip

EIGHT = ("lr 0.1", "lr 0.2", "momentum 0.9, lr 0.014", "Adam, lr 0.001", "batch 32", "kernel 3",
         "average pooling", "L1 1e-2")  # fmt: skip
"""A choice for a first look: names of eight ideas of the reports."""

FAST_TRIALS: tuple[Idea, ...] = (
    Idea("epochs", "one epoch", "", {"epochs": 1}),
    Idea("epochs", "three epochs", "", {"epochs": 3}),
    Idea("depth and width", "width 32", "", {"width": 32}),
    Idea("depth and width", "128 hidden units", "", {"hidden": 128}),
    Idea("kinds of layer", "ReLU in the hidden layer", "", {"activation": "relu"}),
    Idea("learning rate", "lr 0.3", "", {"lr": 0.3}),
    Idea("learning rate", "lr 1.0", "", {"lr": 1.0}),
    Idea("batch size", "batch 128", "", {"batch_size": 128}),
    Idea("batch size", "batch 512", "", {"batch_size": 512}),
    Idea("optimiser", "Adam, lr 0.01", "",
         {"optimiser": "adam", "lr": 0.01, "momentum": 0, "nesterov": False, "weight_decay": 0}),
    Idea("schedule", "constant lr 0.1", "", {"schedule": "constant", "lr": 0.1}),
    Idea("L2", "no weight decay", "", {"weight_decay": 0.0}),
    Idea("label smoothing", "no label smoothing", "", {"label_smoothing": 0.0}),
    Idea("augmentation", "batches not shifted", "", {"batch_translation": 0}),
    Idea("averaging", "weights averaged (0.98)", "", {"averaging": 0.98}),
    Idea("augmentation", "each image turned by up to 5°", "",
         {"augmentation": Augmentation(rotation=5.0)}),
    Idea("input and weights", "border of 2 cut off", "", {"border": 2}),
)  # fmt: skip

STRONG_TRIALS: tuple[Idea, ...] = (
    Idea("epochs", "eight epochs", "", {"epochs": 8}),
    Idea("depth and width", "width 32", "", {"width": 32}),
    Idea("augmentation", "no augmentation", "", {"augmentation": Augmentation()}),
    Idea("averaging", "last weights, not averaged", "", {"averaging": 0.0}),
)
"""ACCURATE is STRONG with more of what these say is worth its time."""

HALF_STRONG = STRONG.but(name="STRONG, half as long", epochs=STRONG.epochs // 2)
SEARCHES = ((FAST, FAST_TRIALS, 3), (HALF_STRONG, STRONG_TRIALS, 2))
"""Baseline, trials and number of seeds of each search."""


def choose(names: Collection[str]) -> tuple[Idea, ...]:
    """The ideas of the catalogue with these names, in its order; ValueError for an unknown one."""
    known = {idea.name for idea in CATALOGUE}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no idea is called {unknown}; known: {', '.join(sorted(known))}")
    return tuple(idea for idea in CATALOGUE if idea.name in names)

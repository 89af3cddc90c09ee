"""Recipes and networks in words, for tables."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from torch import nn

from mnist_lab.recipes import Recipe
from mnist_lab.shapes import parameter_count, trace_shapes
from mnist_lab.transforms import Augmentation

LAYERS: dict[type[nn.Module], str] = {
    nn.MaxPool2d: "max-pool",
    nn.AvgPool2d: "average pool",
    nn.BatchNorm2d: "batch norm",
    nn.Softmax: "softmax",
}
OPTIMISERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop"}


def layer_table(model: nn.Sequential) -> pd.DataFrame:
    """One row per layer: ``layer``, ``output`` (channels × height × width), ``parameters``."""
    layers = dict(model.named_children())
    return pd.DataFrame(
        [
            {
                "layer": name,
                "output": " × ".join(map(str, shape[1:])),
                "parameters": parameter_count(layers[name]) if name in layers else 0,
            }
            for name, shape in trace_shapes(model)
        ]
    )


def recipe_table(recipes: Iterable[Recipe]) -> pd.DataFrame:
    """One row per recipe, in words: ``network``, ``layers``, ``inputs``, ``augmentation``,
    ``optimiser``, ``batch``, ``epochs``."""
    return pd.DataFrame([_in_words(recipe) for recipe in recipes])


def _in_words(recipe: Recipe) -> dict[str, Any]:
    as_they_are = (recipe.mean, recipe.std) == (0, 1)
    scaled = "[0, 1]" if as_they_are else f"−{recipe.mean:g}, /{recipe.std:g}"
    size = recipe.image_size
    return {
        "network": recipe.name,
        "layers": ", ".join(_layers(recipe.build())),
        "inputs": f"{size}×{size}, {scaled}",
        "augmentation": _augmentation(recipe.augmentation, recipe.batch_shift),
        "optimiser": _optimiser(recipe),
        "batch": recipe.batch_size,
        "epochs": recipe.epochs,
    }


def _layers(model: nn.Module) -> list[str]:
    """Convolutions, linear layers and what else has a say in the answer, in order."""
    words = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            stride = f" stride {layer.stride[0]}" if layer.stride[0] > 1 else ""
            size = layer.kernel_size[0]
            words.append(f"conv {layer.in_channels}→{layer.out_channels} {size}×{size}{stride}")
        elif isinstance(layer, nn.Linear):
            words.append(f"linear {layer.in_features}→{layer.out_features}")
        elif type(layer) in LAYERS:
            words.append(LAYERS[type(layer)])
    return words


def _augmentation(augmentation: Augmentation, batch_shift: int) -> str:
    said: Mapping[str, object] = {
        f"turned ≤ {augmentation.rotation:g}°": augmentation.rotation,
        f"moved ≤ {augmentation.shift:.0%}": augmentation.shift,
        f"scaled ±{augmentation.scale:.0%}": augmentation.scale,
        f"sheared ≤ {augmentation.shear:g}°": augmentation.shear,
        f"cropped to {augmentation.crop_scale[0]:g}–1": augmentation.crop_scale[0] < 1,
        f"flipped left-right (p {augmentation.horizontal_flip:g})": augmentation.horizontal_flip,
        f"flipped top-bottom (p {augmentation.vertical_flip:g})": augmentation.vertical_flip,
        f"batches moved ≤ {batch_shift} px": batch_shift,
    }
    return ", ".join(words for words, value in said.items() if value) or "none"


def _optimiser(recipe: Recipe) -> str:
    nesterov = " (Nesterov)" if recipe.nesterov else ""
    said: Mapping[str, object] = {
        f"momentum {recipe.momentum:g}{nesterov}": recipe.momentum,
        recipe.schedule.replace("_", " "): recipe.schedule != "constant",
        f"weight decay {recipe.weight_decay:g}": recipe.weight_decay,
        f"L1 {recipe.l1:g}": recipe.l1,
        f"label smoothing {recipe.label_smoothing:g}": recipe.label_smoothing,
        f"weights averaged ({recipe.averaging:g})": recipe.averaging,
        f"answers averaged over shifts ≤ {recipe.test_shift} px": recipe.test_shift,
    }
    start = f"{OPTIMISERS[recipe.optimiser]}, lr {recipe.lr:g}"
    return ", ".join([start, *(words for words, value in said.items() if value)])

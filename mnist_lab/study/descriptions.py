"""Recipes and networks in words, for tables."""

from collections.abc import Iterable

import pandas as pd
from torch import nn

from mnist_lab.models import parameter_count, trace_shapes
from mnist_lab.recipes import Recipe

LAYERS: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv {0.in_channels}→{0.out_channels} {0.kernel_size[0]}×{0.kernel_size[1]}",
    nn.Linear: "linear {0.in_features}→{0.out_features}",
    nn.MaxPool2d: "max-pool",
    nn.AvgPool2d: "average pool",
    nn.BatchNorm2d: "batch norm",
    nn.Softmax: "softmax",
}
OPTIMISERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop"}


def layer_table(model: nn.Sequential) -> pd.DataFrame:
    """One row per layer: ``layer``, ``output`` (channels × height × width), ``parameters``."""
    table = pd.DataFrame(trace_shapes(model), columns=["layer", "output"])
    table["output"] = [" × ".join(map(str, shape[1:])) for shape in table["output"]]
    return table.assign(parameters=[0, *map(parameter_count, model)])


def recipe_table(recipes: Iterable[Recipe]) -> pd.DataFrame:
    """Each recipe in words, in a row."""
    return pd.DataFrame([_in_words(recipe) for recipe in recipes])


def _in_words(r: Recipe) -> dict[str, object]:
    scaled = "[0, 1]" if (r.mean, r.std) == (0, 1) else f"−{r.mean:g}, /{r.std:g}"
    change = r.augmentation
    augmentation = {
        f"turned ≤ {change.rotation:g}°": change.rotation,
        f"moved ≤ {change.translation:.0%}": change.translation,
        f"scaled ±{change.scale:.0%}": change.scale,
        f"sheared ≤ {change.shear:g}°": change.shear,
        f"cropped to {change.crop_scale[0]:g}–1": change.crop_scale[0] < 1,
        f"flipped left-right (p {change.horizontal_flip:g})": change.horizontal_flip,
        f"flipped top-bottom (p {change.vertical_flip:g})": change.vertical_flip,
        f"batches moved ≤ {r.batch_translation} px": r.batch_translation,
    }
    optimiser = {
        f"{OPTIMISERS[r.optimiser]}, lr {r.lr:g}": True,
        f"momentum {r.momentum:g}{' (Nesterov)' if r.nesterov else ''}": r.momentum,
        r.schedule.replace("_", " "): r.schedule != "constant",
        f"weight decay {r.weight_decay:g}": r.weight_decay,
        f"L1 {r.l1:g}": r.l1,
        f"label smoothing {r.label_smoothing:g}": r.label_smoothing,
        f"weights averaged ({r.averaging:g})": r.averaging,
        f"answers averaged over shifts ≤ {r.test_translation} px": r.test_translation,
    }
    return {
        "network": r.name,
        "layers": _layers(r.build()),
        "inputs": f"{r.image_size}×{r.image_size}, {scaled}",
        "augmentation": ", ".join(filter(augmentation.get, augmentation)) or "none",
        "optimiser": ", ".join(filter(optimiser.get, optimiser)),
        "batch": r.batch_size,
        "epochs": r.epochs,
    }


def _layers(model: nn.Module) -> str:
    words = []
    for layer in model.modules():
        if form := LAYERS.get(type(layer)):
            words.append(form.format(layer))
        if isinstance(layer, nn.Conv2d) and layer.stride[0] > 1:
            words[-1] += f" stride {layer.stride[0]}"
    return ", ".join(words)

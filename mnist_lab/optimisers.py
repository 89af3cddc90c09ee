"""What a recipe's words for weights, optimiser and learning-rate schedule mean in PyTorch."""

import math
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mnist_lab.recipes import Recipe


def initialise(model: nn.Module, initialisation: str) -> None:
    """Draw the weights of convolutions and linear layers anew; biases then start at 0.

    "default" leaves what PyTorch drew.
    """
    if initialisation == "default":
        return
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if initialisation == "kaiming":
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            elif initialisation == "xavier":
                nn.init.xavier_uniform_(layer.weight)
            else:
                nn.init.orthogonal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def make_optimiser(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that the recipe names; where PyTorch has it, an update is one fused call."""
    shared: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimiser == "adam":
        return torch.optim.Adam(model.parameters(), fused=True, **shared)
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(model.parameters(), fused=True, **shared)
    shared["momentum"] = recipe.momentum
    if recipe.optimiser == "rmsprop":
        return torch.optim.RMSprop(model.parameters(), **shared)
    return torch.optim.SGD(model.parameters(), nesterov=recipe.nesterov, fused=True, **shared)


def make_schedule(
    recipe: Recipe, optimiser: torch.optim.Optimizer, steps_per_epoch: int
) -> lr_scheduler.LRScheduler:
    """The learning-rate schedule that the recipe names, to be advanced after every step.

    A training of three steps or fewer is too short to go up and down: "one_cycle" only goes down.
    """
    steps, kind = steps_per_epoch * recipe.epochs, recipe.schedule
    if kind == "step":
        milestones = [math.ceil(steps / 2), math.ceil(3 * steps / 4)]
        return lr_scheduler.MultiStepLR(optimiser, milestones)
    if kind == "one_cycle" and steps > 3:
        return lr_scheduler.OneCycleLR(optimiser, recipe.lr, steps, cycle_momentum=False)
    if kind in ("cosine", "one_cycle"):
        return lr_scheduler.CosineAnnealingLR(optimiser, steps)
    if kind == "cyclical":

        def triangle(step: int) -> float:
            """A tenth at the start of each epoch, 1 in its middle."""
            done = step % steps_per_epoch / steps_per_epoch
            return 0.1 + 0.9 * (1 - abs(1 - 2 * done))

        return lr_scheduler.LambdaLR(optimiser, triangle)
    if kind == "warm_up":
        return lr_scheduler.LinearLR(optimiser, 0.1, total_iters=steps_per_epoch)
    return lr_scheduler.ConstantLR(optimiser, 1.0)


def running_mean(model: nn.Module, decay: float) -> AveragedModel | None:
    """A running mean of weights and batch statistics, to be updated after every step."""
    if not decay:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

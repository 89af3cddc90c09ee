"""What a recipe's words for weights, optimiser and learning-rate schedule mean in PyTorch."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mnist_lab.recipes import Recipe


def make_optimiser(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that the recipe names, over the model's parameters.

    Where PyTorch has it, the update of all parameters is one call.
    """
    shared: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    parameters = list(model.parameters())
    if recipe.optimiser == "adam":
        return torch.optim.Adam(parameters, fused=True, **shared)
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(parameters, fused=True, **shared)
    shared["momentum"] = recipe.momentum
    if recipe.optimiser == "rmsprop":
        return torch.optim.RMSprop(parameters, **shared)
    return torch.optim.SGD(parameters, nesterov=recipe.nesterov, fused=True, **shared)


def make_schedule(
    recipe: Recipe, optimiser: torch.optim.Optimizer, steps_per_epoch: int
) -> lr_scheduler.LRScheduler:
    """The learning-rate schedule that the recipe names, to be advanced after every step.

    A training of three steps or fewer is too short to go up and down: "one_cycle" only goes down.
    """
    steps = steps_per_epoch * recipe.epochs
    if recipe.schedule == "step":
        milestones = [math.ceil(steps / 2), math.ceil(3 * steps / 4)]
        return lr_scheduler.MultiStepLR(optimiser, milestones)
    if recipe.schedule == "one_cycle" and steps > 3:
        return lr_scheduler.OneCycleLR(
            optimiser, recipe.lr, steps, pct_start=0.3, cycle_momentum=False
        )
    if recipe.schedule in ("cosine", "one_cycle"):
        return lr_scheduler.CosineAnnealingLR(optimiser, steps)
    if recipe.schedule == "cyclical":

        def triangle(step: int) -> float:
            share = step % steps_per_epoch / steps_per_epoch
            return 0.1 + 0.9 * (1 - abs(1 - 2 * share))

        return lr_scheduler.LambdaLR(optimiser, triangle)
    if recipe.schedule == "warm_up":
        return lr_scheduler.LinearLR(optimiser, 0.1, total_iters=steps_per_epoch)
    return lr_scheduler.ConstantLR(optimiser, 1.0)


def initialise(model: nn.Module, how: str) -> None:
    """Draw the weights of convolutions and linear layers anew; biases then start at 0.

    "default" leaves what PyTorch drew.
    """
    draw: dict[str, Callable[[Tensor], Tensor]] = {
        "kaiming": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
        "xavier": nn.init.xavier_uniform_,
        "orthogonal": nn.init.orthogonal_,
    }
    if how == "default":
        return
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            draw[how](layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def running_mean(model: nn.Module, decay: float) -> AveragedModel | None:
    """A running mean of the model's weights and batch statistics, to be updated after every step.

    ``None`` for a decay of 0.
    """
    if not decay:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

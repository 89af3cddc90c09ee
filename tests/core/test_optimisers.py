"""Weights, optimisers and learning-rate schedules against PyTorch's plain ones and formulas."""

import copy
import math

import pytest
import torch
from torch import nn

import mnist_lab as lab
from mnist_lab import models, recipes
from mnist_lab.optimisers import initialise, make_optimiser, make_schedule


@pytest.mark.parametrize(
    ("kind", "plain", "changes"),
    [
        ("sgd", torch.optim.SGD, {}),
        ("sgd", torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        ("adam", torch.optim.Adam, {"weight_decay": 0.1}),
        ("adamw", torch.optim.AdamW, {"weight_decay": 0.1}),
        ("rmsprop", torch.optim.RMSprop, {}),
        ("rmsprop", torch.optim.RMSprop, {"momentum": 0.9, "weight_decay": 0.01}),
    ],
)
def test_an_optimisers_steps_are_those_of_pytorchs_plain_one(kind, plain, changes):
    recipe = lab.REPORT_A.but(optimiser=kind, lr=0.01, **changes)
    ours = recipe.build()
    theirs = copy.deepcopy(ours)
    optimisers = [
        make_optimiser(recipe, ours),
        plain(theirs.parameters(), lr=0.01, **changes, foreach=False),
    ]
    source = torch.Generator().manual_seed(0)
    for _ in range(10):
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            p.grad = torch.randn(p.shape, generator=source)
            q.grad = p.grad.clone()
        for optimiser in optimisers:
            optimiser.step()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), atol=1e-6, rtol=1e-5)


def rates(schedule: str, steps_per_epoch: int, epochs: int) -> list[float]:
    """The learning rate of each step, as a share of the recipe's."""
    recipe = lab.REPORT_A.but(schedule=schedule, epochs=epochs, lr=0.5)
    optimiser = make_optimiser(recipe, nn.Linear(1, 1))
    advance = make_schedule(recipe, optimiser, steps_per_epoch)
    seen = []
    for _ in range(steps_per_epoch * epochs):
        seen.append(optimiser.param_groups[0]["lr"] / recipe.lr)
        optimiser.step()
        advance.step()
    return seen


def cosine(start: float, end: float, share: float) -> float:
    """From ``start`` to ``end`` along half a cosine wave."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def one_cycle(t: int, n: int, steps: int) -> float:
    peak = 0.3 * steps - 1
    if t <= peak:
        return cosine(1 / 25, 1, t / peak)
    return cosine(1, 1 / 25 / 1e4, (t - peak) / (steps - 1 - peak))


# of step t, with n steps in an epoch and this many steps in all
FORMULAS = {
    "constant": lambda t, n, steps: 1,
    "step": lambda t, n, steps: 1 if t < steps / 2 else 0.1 if t < 3 * steps / 4 else 0.01,
    "cosine": lambda t, n, steps: cosine(1, 0, t / steps),
    "one_cycle": one_cycle,
    "cyclical": lambda t, n, steps: 0.1 + 0.9 * (1 - abs(1 - 2 * (t % n) / n)),
    "warm_up": lambda t, n, steps: 0.1 + 0.9 * min(1, t / n),
}


LENGTHS = [(20, 2), (10, 1), (6, 3), (2, 8), (1, 1), (3, 1), (7, 3)]
# of three steps or fewer, one cycle is the cosine alone
WITH_FORMULA = [
    (s, *n) for s in recipes.SCHEDULES for n in LENGTHS if s != "one_cycle" or math.prod(n) > 3
]


@pytest.mark.parametrize(("schedule", "n", "epochs"), WITH_FORMULA)
def test_a_schedules_learning_rate_follows_its_formula(schedule, n, epochs):
    expected = [FORMULAS[schedule](t, n, n * epochs) for t in range(n * epochs)]
    assert rates(schedule, n, epochs) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("schedule", recipes.SCHEDULES)
def test_every_step_of_a_short_training_has_a_rate_and_some_step_a_large_one(schedule):
    for steps in range(1, 9):
        seen = rates(schedule, steps, 1)
        assert all(0 < rate <= 1 + 1e-9 for rate in seen) and max(seen) > 0.09, steps


DRAWN = [how for how in recipes.INITIALISATIONS if how != "default"]


def weighted(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize("how", DRAWN)
def test_drawn_weights_are_new_in_every_layer_and_biases_start_at_zero(how):
    model = models.report_a(residual=True, separable=True, batch_norm=True)
    before = copy.deepcopy(model)
    initialise(model, how)
    for layer, old in zip(weighted(model), weighted(before), strict=True):
        assert not torch.equal(layer.weight, old.weight)
        assert not layer.bias.any()
    assert (model.norm1.weight == 1).all()


def test_orthogonal_weights_are_orthogonal():
    model = models.report_a(residual=True)
    initialise(model, "orthogonal")
    for layer in weighted(model):
        weight = layer.weight.detach().flatten(1)
        rows, columns = weight.shape
        product = weight @ weight.T if rows <= columns else weight.T @ weight
        torch.testing.assert_close(product, torch.eye(min(rows, columns)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("how", "spread", "farthest"),
    [
        ("kaiming", math.sqrt(2 / 3136), math.inf),  # keeps the spread of what a ReLU lets through
        ("xavier", math.sqrt(2 / (3136 + 128)), math.sqrt(6 / (3136 + 128))),
    ],
)
def test_random_weights_have_the_spread_of_their_formula(how, spread, farthest):
    torch.manual_seed(0)
    model = models.report_b()
    initialise(model, how)
    weight = model.linear1.weight.detach()
    assert float(weight.std()) == pytest.approx(spread, rel=0.02)
    assert weight.abs().max() <= farthest

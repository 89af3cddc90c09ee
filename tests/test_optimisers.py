"""Weights, optimisers and learning-rate schedules against PyTorch's plain ones and formulas."""

import copy
import math

import pytest
import torch
from torch import nn

import mnist_lab as lab
from mnist_lab import models, recipes
from mnist_lab.optimisers import initialise, make_optimiser, make_schedule, running_mean

SGD, ADAM = lab.REPORT_A.but(lr=0.1), lab.REPORT_B.but(model="report_a", lr=0.01)
RMSPROP = lab.REPORT_A.but(optimiser="rmsprop", lr=0.001)


@pytest.mark.parametrize(
    ("recipe", "plain", "settings"),
    [
        (SGD, torch.optim.SGD, {"lr": 0.1}),
        (SGD.but(momentum=0.9), torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        (
            SGD.but(momentum=0.9, nesterov=True, weight_decay=0.01),
            torch.optim.SGD,
            {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        ),
        (ADAM, torch.optim.Adam, {"lr": 0.01}),
        (ADAM.but(weight_decay=0.1), torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
        (
            ADAM.but(optimiser="adamw", weight_decay=0.1),
            torch.optim.AdamW,
            {"lr": 0.01, "weight_decay": 0.1},
        ),
        (ADAM.but(optimiser="adamw"), torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.0}),
        (RMSPROP, torch.optim.RMSprop, {"lr": 0.001}),
        (
            RMSPROP.but(momentum=0.9, weight_decay=0.01),
            torch.optim.RMSprop,
            {"lr": 0.001, "momentum": 0.9, "weight_decay": 0.01},
        ),
    ],
    ids=lambda value: value.name if isinstance(value, lab.Recipe) else "",
)
def test_an_optimisers_steps_are_those_of_pytorchs_plain_one(recipe, plain, settings):
    ours = recipe.build()
    theirs = copy.deepcopy(ours)
    optimisers = [
        make_optimiser(recipe, ours),
        plain(theirs.parameters(), **settings, foreach=False),
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
    optimiser = make_optimiser(recipe, recipe.build())
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


def test_every_schedule_has_its_formula():
    assert FORMULAS.keys() == set(recipes.SCHEDULES)


@pytest.mark.parametrize("schedule", FORMULAS)
@pytest.mark.parametrize(("n", "epochs"), [(20, 2), (10, 1), (4, 5), (6, 3), (2, 8)])
def test_a_schedules_learning_rate_follows_its_formula(schedule, n, epochs):
    steps = n * epochs
    expected = [FORMULAS[schedule](t, n, steps) for t in range(steps)]
    assert rates(schedule, n, epochs) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "cyclical", "warm_up"])
@pytest.mark.parametrize(("n", "epochs"), [(1, 1), (3, 1), (5, 1), (1, 4), (7, 3)])
def test_a_formula_holds_for_few_steps_and_for_odd_ones(schedule, n, epochs):
    steps = n * epochs
    expected = [FORMULAS[schedule](t, n, steps) for t in range(steps)]
    assert rates(schedule, n, epochs) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("schedule", FORMULAS)
@pytest.mark.parametrize("steps", range(1, 9))
def test_every_step_of_a_short_training_has_a_rate_and_some_step_a_large_one(schedule, steps):
    seen = rates(schedule, steps, 1)
    assert len(seen) == steps
    assert all(0 < rate <= 1 + 1e-9 for rate in seen)
    assert max(seen) > 0.09


def test_one_cycle_peaks_after_three_tenths_of_the_steps():
    seen = rates("one_cycle", 50, 2)
    assert seen.index(max(seen)) == 29 and max(seen) == pytest.approx(1)


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_the_last_steps_of_an_annealing_schedule_hardly_move(schedule):
    assert rates(schedule, 50, 2)[-1] < 1e-3


def test_default_weights_are_those_pytorch_drew():
    model = lab.REPORT_B_CODE.build()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    initialise(model, "default")
    torch.testing.assert_close(model.state_dict(), before, atol=0, rtol=0)
    assert torch.equal(torch.get_rng_state(), state)


DRAWN = [how for how in recipes.INITIALISATIONS if how != "default"]


def weighted(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize("how", DRAWN)
def test_drawn_weights_are_new_in_every_layer_and_biases_start_at_zero(how):
    model = models.report_a(residual=True, separable=True)
    before = copy.deepcopy(model)
    initialise(model, how)
    for layer, old in zip(weighted(model), weighted(before), strict=True):
        assert not torch.equal(layer.weight, old.weight)
        assert not layer.bias.any()


@pytest.mark.parametrize("how", DRAWN)
def test_batch_normalisation_starts_as_pytorch_has_it(how):
    model = lab.REPORT_B_CODE.build()
    initialise(model, how)
    assert (model.norm1.weight == 1).all() and not model.norm1.bias.any()


def test_orthogonal_weights_are_orthogonal():
    model = models.report_a(residual=True)
    initialise(model, "orthogonal")
    for layer in weighted(model):
        weight = layer.weight.detach().flatten(1)
        rows, columns = weight.shape
        product = weight @ weight.T if rows <= columns else weight.T @ weight
        torch.testing.assert_close(product, torch.eye(min(rows, columns)), atol=1e-5, rtol=0)


def test_kaiming_weights_keep_the_spread_of_what_a_relu_lets_through():
    torch.manual_seed(0)
    model = models.report_b()
    initialise(model, "kaiming")
    for layer in (model.conv2, model.linear1):
        inputs = layer.weight[0].numel()
        assert float(layer.weight.detach().std()) == pytest.approx(math.sqrt(2 / inputs), rel=0.02)


def test_xavier_weights_fill_their_range():
    torch.manual_seed(0)
    model = models.report_b()
    initialise(model, "xavier")
    bound = math.sqrt(6 / (64 * 7 * 7 + 128))
    weight = model.linear1.weight.detach()
    assert 0.999 * bound < weight.abs().max() <= bound
    assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_without_averaging_there_is_no_running_mean():
    assert running_mean(lab.REPORT_A.build(), 0.0) is None


def test_the_running_mean_follows_its_formula_batch_statistics_included():
    decay = 0.75
    model = lab.REPORT_B_CODE.build().train()
    averaged = running_mean(model, decay)
    expected: dict[str, torch.Tensor] = {}
    for _ in range(6):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
            model(torch.rand(20, 1, 28, 28))
        averaged.update_parameters(model)
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                mean = expected.get(name, value)
                expected[name] = decay * mean + (1 - decay) * value
    found = {k: v for k, v in averaged.module.state_dict().items() if v.is_floating_point()}
    assert "norm1.running_mean" in found and "norm2.running_var" in found
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_updating_the_running_mean_leaves_the_model_alone():
    model = lab.REPORT_A.build()
    averaged = running_mean(model, 0.9)
    averaged.update_parameters(model)
    with torch.no_grad():
        model.linear3.bias.add_(1)
    before = copy.deepcopy(model.state_dict())
    averaged.update_parameters(model)
    torch.testing.assert_close(model.state_dict(), before, atol=0, rtol=0)

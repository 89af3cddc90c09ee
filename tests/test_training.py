"""The training loop: against a plain PyTorch loop, its seeds, its history, its failures."""

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

import mnist_lab as lab
from mnist_lab import recipes, training
from mnist_lab.errors import LabError

TINY = lab.REPORT_A.but(name="tiny", epochs=1, batch_size=32, lr=0.05)


def few(part: lab.Images, count: int) -> lab.Images:
    return lab.Images(part.images[:count], part.labels[:count])


def halves(digits: lab.Digits) -> lab.Split:
    rows = torch.arange(len(digits.train))
    return lab.Split(rows[::2], rows[1::2], "every other")


def train(recipe: lab.Recipe, digits: lab.Digits, **options) -> lab.Fit:
    return lab.fit(recipe, digits, **{"device": "cpu", "echo": None, **options})


def every_loss(recipe: lab.Recipe, digits: lab.Digits, **options) -> tuple[lab.Fit, list[float]]:
    """A fit and the loss of each of its steps, as it stops after each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "RECORD_EVERY", 1)
        fit = train(recipe, digits, **options)
    assert fit.history.steps == tuple(range(len(fit.history.step_losses)))
    return fit, list(fit.history.step_losses)


def drawn_network(recipe: lab.Recipe) -> nn.Sequential:
    """The network as a training of the recipe finds it."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        return recipe.build()


def same_weights(first: lab.Fit, second: lab.Fit) -> bool:
    ours, theirs = first.model.state_dict(), second.model.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


class OneByOne(Dataset):
    """PIL images transformed one at a time, as torchvision's own MNIST hands them out."""

    def __init__(self, part: lab.Images, transform: transforms.Compose) -> None:
        self.part, self.transform = part, transform

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.part.images[i].numpy())), int(
            self.part.labels[i]
        )


def cross_entropy(model: nn.Module, X: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(X), y)


def plain_training(
    recipe: lab.Recipe,
    digits: lab.Digits,
    *,
    transform: Callable[[Image.Image], Tensor] | None = None,
    loss_of: Callable[[nn.Module, Tensor, Tensor], Tensor] = cross_entropy,
    rate_of: Callable[[int], float] | None = None,
    watch: Callable[[nn.Module], None] = lambda model: None,
    layout: torch.memory_format = torch.channels_last,
) -> tuple[list[float], nn.Sequential]:
    """Losses and network of a loop as tutorials write it, fed in our order.

    It knows the recipe's network, mean, std, optimiser, lr, momentum, batch size, epochs and seed.

    Args:
        recipe: what to train.
        digits: what to train on.
        transform: in place of ``ToTensor`` and ``Normalize``.
        loss_of: the loss that is minimised, from model, images and labels.
        rate_of: learning rate of each step; the recipe's without it.
        watch: is shown the model after every step.
        layout: of the weights in memory, which decides how sums are rounded; ours without it.
    """
    standard = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize([recipe.mean], [recipe.std])]
    )
    dataset = OneByOne(digits.train, transform or standard)
    model = drawn_network(recipe).to(memory_format=layout)
    if recipe.optimiser == "adam":
        optimiser = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    else:
        optimiser = torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=recipe.momentum)
    shuffler = torch.Generator().manual_seed(recipe.seed)
    losses: list[float] = []
    for _ in range(recipe.epochs):
        order = lab.epoch_order(len(dataset), shuffler).tolist()
        for X, y in DataLoader(dataset, batch_size=recipe.batch_size, sampler=order):
            if rate_of:
                optimiser.param_groups[0]["lr"] = rate_of(len(losses))
            loss = loss_of(model, X, y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            watch(model)
    return losses, model


@pytest.mark.parametrize(
    "recipe",
    [
        TINY.but(epochs=2, batch_size=64, mean=0.1307, std=0.3081, momentum=0.5, seed=3),
        lab.REPORT_B_CODE.but(epochs=1),
    ],
    ids=["Report A's network, SGD", "Report B's code, Adam"],
)
def test_losses_equal_those_of_a_plain_loop_step_for_step(uci_digits, recipe):
    digits = dataclasses.replace(uci_digits, train=few(uci_digits.train, 600))
    expected, _ = plain_training(recipe, digits)
    np.testing.assert_allclose(every_loss(recipe, digits)[1], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("source", ["mnist", "uci-digits"])
def test_report_as_losses_equal_those_of_the_loop_that_report_a_prints(source, request):
    if source == "mnist":
        digits = lab.load_digits("mnist", request.getfixturevalue("mnist_root"))
    else:
        digits = request.getfixturevalue("uci_digits")
    digits = dataclasses.replace(digits, train=few(digits.train, 3_200), test=few(digits.test, 10))
    recipe, as_printed = lab.REPORT_A.but(epochs=1), {"transform": transforms.ToTensor()}
    _, losses = every_loss(recipe, digits)
    expected, _ = plain_training(recipe, digits, **as_printed)
    np.testing.assert_allclose(losses, expected, atol=1e-5, rtol=0)
    # PyTorch's own layout of the weights rounds sums differently, and steps add that up
    expected, _ = plain_training(recipe, digits, **as_printed, layout=torch.contiguous_format)
    np.testing.assert_allclose(losses, expected, atol=5e-4, rtol=0)


def test_label_smoothing_spreads_a_share_of_the_target_over_all_classes(few_digits):
    def smoothed(model: nn.Module, X: Tensor, y: Tensor) -> Tensor:
        target = 0.8 * F.one_hot(y, 10) + 0.2 / 10
        return -(target * model(X).log_softmax(1)).sum(1).mean()

    expected, _ = plain_training(TINY, few_digits, loss_of=smoothed)
    _, losses = every_loss(TINY.but(label_smoothing=0.2), few_digits)
    assert losses == pytest.approx(expected, abs=1e-5)


def test_an_l1_penalty_is_the_sum_of_all_absolute_values(few_digits):
    def penalised(model: nn.Module, X: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(model, X, y) + 1e-3 * sum(p.abs().sum() for p in model.parameters())

    expected, model = plain_training(TINY, few_digits, loss_of=penalised)
    fit, losses = every_loss(TINY.but(l1=1e-3), few_digits)
    assert losses == pytest.approx(expected, abs=1e-4)
    torch.testing.assert_close(fit.model.state_dict(), model.state_dict(), atol=1e-5, rtol=0)


def test_weight_decay_is_half_the_sum_of_squares_in_the_loss_that_sgd_minimises(few_digits):
    def penalised(model: nn.Module, X: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(model, X, y) + 0.1 / 2 * sum((p**2).sum() for p in model.parameters())

    recipe = TINY.but(momentum=0.5)
    _, model = plain_training(recipe, few_digits, loss_of=penalised)
    fit = train(recipe.but(weight_decay=0.1), few_digits)
    torch.testing.assert_close(fit.model.state_dict(), model.state_dict(), atol=1e-5, rtol=0)


def test_the_schedule_moves_on_after_every_step(few_digits):
    recipe = TINY.but(epochs=2)  # 7 steps each
    expected, _ = plain_training(
        recipe, few_digits, rate_of=lambda t: recipe.lr * (1 + math.cos(math.pi * t / 14)) / 2
    )
    _, losses = every_loss(recipe.but(schedule="cosine"), few_digits)
    assert losses == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("schedule", recipes.SCHEDULES)
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_a_training_of_few_steps_works_with_every_schedule(few_digits, schedule, steps):
    digits = dataclasses.replace(few_digits, train=few(few_digits.train, 4 * steps))
    fit = train(TINY.but(schedule=schedule, batch_size=4), digits)
    assert fit.history.steps_per_epoch == steps
    assert fit.test_logits.isfinite().all()


def test_a_training_starts_from_the_weights_asked_for(few_digits):
    fit = train(TINY.but(initialisation="orthogonal", lr=1e-12), few_digits)
    weight = fit.model.linear2.weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(64), atol=1e-5, rtol=0)


AVERAGED = TINY.but(name="averaged", batch_norm=True, epochs=2, averaging=0.8)


def test_the_fitted_model_is_the_running_mean_of_the_weights_over_all_steps(few_digits):
    mean: dict[str, Tensor] = {}

    def follow(model: nn.Module) -> None:
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                mean[name] = 0.8 * mean.get(name, value) + 0.2 * value

    _, last = plain_training(AVERAGED, few_digits, watch=follow)
    found = train(AVERAGED, few_digits).model.state_dict()
    assert "norm1.running_mean" in mean
    torch.testing.assert_close({k: found[k] for k in mean}, mean, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found["conv1.weight"], last.state_dict()["conv1.weight"], atol=1e-4)


def test_the_running_mean_answers_test_and_validation_images(few_digits):
    split = halves(few_digits)
    fit = train(AVERAGED, few_digits, split=split)
    for answers, images in (
        (fit.test_logits, few_digits.test.images),
        (fit.validation_logits, few_digits.train.images[split.validation]),
    ):
        expected = lab.predict(fit.model, images, fit.recipe, "cpu")
        torch.testing.assert_close(answers, expected, atol=1e-5, rtol=0)


def test_the_running_mean_only_watches_the_training(few_digits):
    last, averaged = (train(recipe, few_digits) for recipe in (AVERAGED.but(averaging=0), AVERAGED))
    assert averaged.history.epoch_losses == last.history.epoch_losses
    assert not same_weights(averaged, last)


def test_bfloat16_is_for_the_products_of_training_alone(few_digits):
    _, exact = every_loss(TINY, few_digits)
    fit, rounded = every_loss(TINY.but(precision="bfloat16"), few_digits)
    assert rounded != exact and rounded == pytest.approx(exact, abs=0.01)
    assert {p.dtype for p in fit.model.parameters()} == {torch.float32}
    assert fit.test_logits.dtype == torch.float32
    plain = lab.predict(fit.model, few_digits.test.images, TINY, "cpu")
    assert torch.equal(fit.test_logits, plain)


@pytest.mark.parametrize(
    ("native", "equal_to"), [(True, "bfloat16"), (False, "float32"), (None, "float32")]
)
def test_auto_is_bfloat16_only_where_the_device_has_it(few_digits, monkeypatch, native, equal_to):
    monkeypatch.setattr(training, "has_bfloat16", lambda device: native)
    _, chosen = every_loss(TINY.but(precision="auto"), few_digits)
    assert chosen == every_loss(TINY.but(precision=equal_to), few_digits)[1]


BORDERED = TINY.but(name="bordered", model="fast", width=4, hidden=16, border=3)


def test_a_border_is_cut_off_in_training(few_digits):
    cut = transforms.Compose([transforms.CenterCrop(22), transforms.ToTensor()])
    expected, _ = plain_training(BORDERED, few_digits, transform=cut)
    assert every_loss(BORDERED, few_digits)[1] == pytest.approx(expected, abs=1e-5)


def test_a_border_is_cut_off_in_prediction(few_digits):
    fit = train(BORDERED, few_digits)
    with torch.inference_mode():
        answers = fit.model(lab.prepare(few_digits.test.images[:, 3:-3, 3:-3], 0, 1))
    torch.testing.assert_close(fit.test_logits, answers, atol=1e-5, rtol=0)


@pytest.mark.parametrize("border", [0, 1, 3])
def test_a_batch_is_shifted_as_a_whole_by_whole_pixels(few_digits, border):
    images, seen = few_digits.train.images[:20], set()
    recipe = BORDERED.but(border=border, batch_shift=2)
    moves = {
        view.numpy().tobytes(): i for i, view in enumerate(training.shifted(images, border, 2))
    }
    for seed in range(200):
        batch = training._within_reach(images, recipe)
        X = training._network_input(batch, recipe, torch.Generator().manual_seed(seed))
        pixels = (X[:, 0] * 255).round().to(torch.uint8)
        seen.add(moves[pixels.contiguous().numpy().tobytes()])
    assert seen == set(range(25))


AUGMENTED = TINY.but(name="augmented", augmentation=lab.Augmentation(rotation=10, shift=0.1))


EVERYTHING = TINY.but(
    name="everything",
    batch_norm=True,
    dropout1=0.2,
    initialisation="orthogonal",
    pretraining="rotations",
    mean=0.1307,
    std=0.3081,
    augmentation=lab.Augmentation(rotation=10, shift=0.05, scale=0.1, shear=5),
    momentum=0.9,
    nesterov=True,
    schedule="one_cycle",
    label_smoothing=0.05,
    l1=1e-6,
    weight_decay=5e-4,
    averaging=0.9,
    precision="bfloat16",
    batch_shift=1,
    test_shift=1,
    epochs=2,
    seed=5,
)


@pytest.mark.parametrize("recipe", [AUGMENTED, EVERYTHING], ids=lambda recipe: recipe.name)
def test_a_seed_decides_the_whole_training(few_digits, recipe):
    first, again = train(recipe, few_digits), train(recipe, few_digits)
    assert same_weights(first, again)
    assert torch.equal(first.test_logits, again.test_logits)
    assert first.history.epoch_losses == again.history.epoch_losses


def test_another_seed_gives_another_training(few_digits):
    assert not same_weights(train(TINY, few_digits), train(TINY.but(seed=1), few_digits))


@pytest.mark.parametrize("recipe", [AUGMENTED, EVERYTHING], ids=lambda recipe: recipe.name)
def test_the_global_random_state_neither_matters_nor_changes(few_digits, recipe):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = train(recipe, few_digits)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert same_weights(first, train(recipe, few_digits))


def test_augmentation_changes_what_is_learned(few_digits):
    assert not same_weights(train(TINY, few_digits), train(AUGMENTED, few_digits))


def test_the_last_smaller_batch_counts_for_less_in_the_epochs_loss(few_digits, monkeypatch):
    monkeypatch.setattr(training, "RECORD_EVERY", 1)
    digits = dataclasses.replace(few_digits, train=few(few_digits.train, 101))
    history = train(TINY.but(batch_size=100, lr=2.0), digits).history
    many, one = history.step_losses
    assert abs(many - one) > 0.01
    assert history.epoch_losses[0] == pytest.approx((100 * many + one) / 101, abs=1e-6)


def test_the_loss_is_recorded_every_100_steps_of_each_epoch(few_digits):
    recipe = TINY.but(batch_size=1, epochs=2, lr=0.001, train_fraction=0.55)
    history = train(recipe, few_digits).history
    assert history.steps == (0, 100, 110, 210)
    assert len(history.step_losses) == 4
    assert history.steps_per_epoch == 110


def test_only_the_given_fraction_of_the_training_images_is_used(few_digits):
    # batches of one: as many steps as images; with a split, a fraction of its training part
    recipe = TINY.but(batch_size=1, train_fraction=0.1)
    assert train(recipe, few_digits).history.steps_per_epoch == 20
    assert train(recipe, few_digits, split=halves(few_digits)).history.steps_per_epoch == 10


def test_the_fraction_is_the_same_images_in_every_epoch(few_digits):
    # learning nothing, an epoch's loss depends only on which images it sees
    recipe = TINY.but(train_fraction=0.2, epochs=3, lr=1e-12)
    epochs = train(recipe, few_digits).history.epoch_losses
    assert epochs == pytest.approx([epochs[0]] * 3, abs=1e-6)
    everything = train(recipe.but(train_fraction=1), few_digits).history.epoch_losses
    assert abs(epochs[0] - everything[0]) > 1e-4


def test_validation_scores_are_those_of_the_validation_logits(few_digits):
    split = halves(few_digits)
    fit = train(TINY.but(epochs=2), few_digits, split=split)
    truth = few_digits.train.labels[split.validation]
    assert fit.validation_logits.shape == (100, 10)
    assert len(fit.history.validation_losses) == len(fit.history.validation_accuracies) == 2
    assert fit.history.validation_accuracies[-1] == lab.accuracy(truth, fit.validation_logits)
    assert fit.history.validation_losses[-1] == pytest.approx(
        float(F.cross_entropy(fit.validation_logits, truth)), abs=1e-6
    )
    answers = lab.predict(fit.model, few_digits.train.images[split.validation], fit.recipe, "cpu")
    torch.testing.assert_close(fit.validation_logits, answers, atol=1e-5, rtol=0)


def test_without_a_split_there_are_no_validation_scores(few_digits):
    fit = train(TINY, few_digits)
    assert fit.validation_logits.shape == (0, 10)
    assert fit.history.validation_losses == fit.history.validation_accuracies == ()


ROTATIONS = TINY.but(name="rotations", pretraining="rotations")


@pytest.mark.parametrize("recipe", [TINY, ROTATIONS], ids=lambda recipe: recipe.name)
def test_validation_images_are_not_trained_on(few_digits, recipe):
    split = halves(few_digits)
    images = few_digits.train.images.clone()
    images[split.validation] = 255 - images[split.validation]
    other = dataclasses.replace(few_digits, train=lab.Images(images, few_digits.train.labels))
    first, second = (train(recipe, digits, split=split) for digits in (few_digits, other))
    assert same_weights(first, second)
    assert not torch.equal(first.validation_logits, second.validation_logits)


@pytest.mark.parametrize("pretraining", ["none", "rotations"])
def test_test_images_never_influence_the_training(few_digits, pretraining):
    blank = lab.Images(torch.zeros_like(few_digits.test.images), few_digits.test.labels)
    other = dataclasses.replace(few_digits, test=blank)
    # batch normalisation would show a leak
    recipe = lab.REPORT_B_CODE.but(epochs=1, pretraining=pretraining)
    first, second = train(recipe, few_digits), train(recipe, other)
    assert same_weights(first, second)
    assert not torch.equal(first.test_logits, second.test_logits)


def test_the_fitted_model_is_on_the_cpu_in_evaluation_mode_and_gives_the_test_logits(few_digits):
    fit = train(lab.REPORT_B_CODE.but(epochs=1), few_digits)
    assert not any(module.training for module in fit.model.modules())
    assert {p.device.type for p in fit.model.parameters()} == {"cpu"}
    with torch.inference_mode():
        answers = fit.model(lab.prepare(few_digits.test.images, 0.5, 0.5))
    torch.testing.assert_close(fit.test_logits, answers, atol=1e-5, rtol=0)


def test_predicting_in_several_batches_keeps_the_order(uci_digits):
    model = lab.REPORT_A.build()
    images = uci_digits.train.images[: training.PREDICT_BATCH + 20]
    answers = lab.predict(model, images, lab.REPORT_A, "cpu")
    alone = lab.predict(model, images[-1:], lab.REPORT_A, "cpu")
    assert answers.shape == (len(images), 10)
    torch.testing.assert_close(answers[-1:], alone, atol=1e-5, rtol=0)


def test_predicting_no_images_gives_no_rows(uci_digits):
    none = uci_digits.train.images[:0]
    assert lab.predict(lab.REPORT_A.build(), none, lab.REPORT_A, "cpu").shape == (0, 10)


def moved(images: Tensor, down: int, right: int) -> Tensor:
    """The images [N, H, W] moved by whole pixels; black comes in from outside."""
    _, height, width = images.shape
    result = torch.zeros_like(images)
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                result[:, row, column] = images[:, row - down, column - right]
    return result


@pytest.mark.parametrize("border", [0, 1, 3])
def test_shifted_images_are_those_moved_by_every_step_and_then_cropped(few_digits, border):
    images = few_digits.test.images[:5] | 1  # no pixel is as black as what comes in
    views = {view.numpy().tobytes() for view in training.shifted(images, border, 2)}
    inside = slice(border, 28 - border)
    steps = list(itertools.product(range(-2, 3), repeat=2))
    expected = {moved(images, *by)[:, inside, inside].numpy().tobytes() for by in steps}
    assert len(expected) == 25
    assert views == expected


@pytest.mark.parametrize("border", [0, 1])
def test_without_a_shift_there_is_one_view_the_image_itself(few_digits, border):
    images = few_digits.test.images
    (view,) = training.shifted(images, border, 0)
    assert torch.equal(view, images[:, border : 28 - border, border : 28 - border])


@pytest.mark.parametrize(
    "recipe", [TINY.but(mean=0.1, std=0.3), BORDERED], ids=["no border", "border"]
)
def test_an_answer_over_shifts_is_the_log_of_the_mean_probability(few_digits, recipe):
    model, images = drawn_network(recipe).eval(), few_digits.test.images
    inside = slice(recipe.border, 28 - recipe.border)
    total = torch.zeros(len(images), 10)
    for by in itertools.product((-1, 0, 1), repeat=2):
        X = lab.prepare(moved(images, *by)[:, inside, inside], recipe.mean, recipe.std)
        with torch.inference_mode():
            total += model(X).softmax(1)
    answers = lab.predict(model, images, recipe.but(test_shift=1), "cpu")
    torch.testing.assert_close(answers, (total / 9).log(), atol=1e-5, rtol=0)


def test_an_answer_without_shifts_is_the_networks_own_logits(few_digits):
    model, images = drawn_network(TINY).eval(), few_digits.test.images
    with torch.inference_mode():
        logits = model(lab.prepare(images, 0, 1))
    answers = lab.predict(model, images, TINY.but(test_shift=0), "cpu")
    torch.testing.assert_close(answers, logits, atol=1e-6, rtol=0)


def test_an_answer_over_shifts_is_finite_however_sure_the_network_is(few_digits):
    model = drawn_network(TINY)
    with torch.no_grad():
        model.linear3.weight.mul_(1e4)
    answers = lab.predict(model, few_digits.test.images, TINY.but(test_shift=1), "cpu")
    assert answers.isfinite().all()


def test_a_fit_answers_test_and_validation_images_over_shifts(few_digits):
    split, recipe = halves(few_digits), TINY.but(test_shift=1)
    fit = train(recipe, few_digits, split=split)
    for answers, images in (
        (fit.test_logits, few_digits.test.images),
        (fit.validation_logits, few_digits.train.images[split.validation]),
    ):
        assert torch.equal(answers, lab.predict(fit.model, images, recipe, "cpu"))
    assert same_weights(fit, train(TINY, few_digits, split=split))


@pytest.mark.parametrize("precision", recipes.PRECISIONS)
def test_training_learns(uci_digits, precision):
    recipe = lab.REPORT_A.but(epochs=3, batch_size=32, momentum=0.9, lr=0.03, precision=precision)
    fit = train(recipe, uci_digits)
    assert lab.accuracy(uci_digits.test.labels, fit.test_logits) > 0.8


def test_rotations_are_learned_first_and_the_same_each_time(few_digits):
    first, again = train(ROTATIONS, few_digits), train(ROTATIONS, few_digits)
    assert same_weights(first, again)
    assert not same_weights(first, train(TINY, few_digits))


def test_after_the_bundled_digits_few_images_are_enough_and_the_same_each_time(uci_digits):
    digits = dataclasses.replace(uci_digits, train=few(uci_digits.train, 500), name="other")
    recipe = TINY.but(train_fraction=0.2, epochs=3, batch_size=20, lr=0.1)
    scratch = train(recipe, digits)
    first, again = (train(recipe.but(pretraining="uci-digits"), digits) for _ in range(2))
    assert same_weights(first, again)
    truth = digits.test.labels
    assert lab.accuracy(truth, first.test_logits) > lab.accuracy(truth, scratch.test_logits) + 0.3


def test_after_pretraining_the_last_layer_alone_is_drawn_anew(few_digits):
    # learning nothing, pretraining leaves the weights as they were drawn
    fit, fresh = train(ROTATIONS.but(lr=1e-12), few_digits), drawn_network(ROTATIONS)
    ours, theirs = fit.model.state_dict(), fresh.state_dict()
    same = {name for name in ours if torch.allclose(ours[name], theirs[name], atol=1e-7)}
    assert ours.keys() - same == {"linear3.weight", "linear3.bias"}
    assert 0.9 / 8 < ours["linear3.weight"].abs().max() <= 1 / 8  # PyTorch's own range, 64 inputs


def test_pretraining_leaves_no_trace_in_the_history(few_digits):
    history = train(ROTATIONS.but(epochs=2), few_digits).history
    assert history.steps_per_epoch == 7
    assert len(history.epoch_losses) == len(history.epoch_seconds) == 2


def test_a_last_step_that_blows_up_is_a_divergence_too(few_digits):
    once = TINY.but(name="once", lr=1e30, batch_size=200)
    with pytest.raises(lab.Diverged, match="answers to the test images are not finite"):
        train(once, few_digits)


def test_a_diverging_training_says_which_step_and_what_came_before(few_digits):
    recipe = TINY.but(name="hot", lr=1e6, batch_size=20, seed=7, epochs=3)
    with pytest.raises(lab.Diverged) as diverged:
        train(recipe, few_digits)
    message = str(diverged.value)
    assert message.startswith("hot (seed 7) diverged: the loss at step ")
    step, found, last = _facts(message)
    losses, _ = plain_training(recipe, few_digits)
    assert step == next(i for i, loss in enumerate(losses) if not math.isfinite(loss)) > 0
    assert not math.isfinite(found) and last == pytest.approx(losses[step - 1], rel=1e-3)
    assert "lr 1000000.0" in message and "Lower the learning rate" in message
    assert isinstance(diverged.value, LabError)


@pytest.mark.parametrize(
    "changes",
    [{"l1": 1e-5, "label_smoothing": 0.1}, {"averaging": 0.9}, {"pretraining": "rotations"}],
    ids=str,
)
def test_a_divergence_is_told_under_the_recipes_own_name(few_digits, changes):
    recipe = TINY.but(lr=1e6, batch_size=20, epochs=3, **changes, name="hot")
    with pytest.raises(lab.Diverged, match=r"^hot \(seed 0\) diverged: the loss at step \d+ is "):
        train(recipe, few_digits)


def _facts(message: str) -> tuple[int, float, float]:
    after = message.replace(",", "").replace(".\n", " ").split()
    following = dict(itertools.pairwise(after))
    return int(following["step"]), float(following["is"]), float(following["was"])


@pytest.mark.parametrize("device", ["nonsense", "", "cuda:99", "hpu"])
def test_a_device_that_is_not_here_is_refused_with_what_to_do(few_digits, device):
    with pytest.raises(LabError, match=f"device '{device}' cannot be used here(?s:.*)Use device="):
        lab.fit(TINY, few_digits, device=device)


def test_one_line_per_epoch_is_echoed(few_digits):
    lines = []
    train(TINY.but(epochs=2), few_digits, split=halves(few_digits), echo=lines.append)
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all("validation accuracy" in line for line in lines)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "recipe",
    [
        AUGMENTED,
        BORDERED,
        EVERYTHING.but(name="everything but rounding", precision="float32", dropout1=0),
    ],
    ids=lambda recipe: recipe.name,
)
def test_a_gpu_gives_the_losses_of_the_cpu(few_digits, recipe):
    ours, theirs = (
        train(recipe, few_digits, split=halves(few_digits), device=device)
        for device in ("cuda", "cpu")
    )
    assert ours.history.epoch_losses == pytest.approx(theirs.history.epoch_losses, abs=1e-3)
    assert {tensor.device.type for tensor in (ours.test_logits, ours.validation_logits)} == {"cpu"}
    assert {p.device.type for p in ours.model.parameters()} == {"cpu"}
    with pytest.raises(lab.Diverged):
        train(TINY.but(lr=1e6, batch_size=20, epochs=3), few_digits, device="cuda")

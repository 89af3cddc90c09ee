"""The training loop: a ``Recipe`` and digits in, a ``Fit`` out."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_lab.data import Digits, Images, load_digits
from mnist_lab.errors import LabError
from mnist_lab.models import CLASSES
from mnist_lab.optimisers import initialise, make_optimiser, make_schedule, running_mean
from mnist_lab.recipes import Recipe
from mnist_lab.splits import Split
from mnist_lab.transforms import (
    Augmentation,
    augment,
    crop,
    normalise,
    prepare,
    to_unit_interval,
)

RECORD_EVERY = 100
PREDICT_BATCH = 200


class Diverged(LabError):
    """Training stopped because the loss became infinite or no number at all."""


@dataclass(frozen=True)
class History:
    """What was seen while training.

    Attributes:
        steps_per_epoch: batches in an epoch.
        steps: number of the step, from 0, at which each of ``step_losses`` was read: steps 0, 100,
            200, … of every epoch, as Report A records them.
        step_losses: training loss of that one batch, before its update; label smoothing and an L1
            penalty are part of it, where the recipe has them.
        epoch_losses: mean training loss of each epoch over its images (a smaller last batch
            counts for less), while the weights were changing.
        validation_losses: cross-entropy on the validation images after each epoch; empty without
            a validation split. Only the last is averaged over shifts, where the recipe has them.
        validation_accuracies: share of validation images recognised after each epoch.
        epoch_seconds: time that each epoch's training took, validation not counted.
    """

    steps_per_epoch: int
    steps: tuple[int, ...]
    step_losses: tuple[float, ...]
    epoch_losses: tuple[float, ...]
    validation_losses: tuple[float, ...]
    validation_accuracies: tuple[float, ...]
    epoch_seconds: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Fit:
    """One finished training.

    Attributes:
        recipe: what was asked for.
        model: the trained network, on the CPU, in evaluation mode.
        history: what was seen while training.
        test_logits: float32 [number of test images, 10].
        validation_logits: the same of the split's validation images, in its order; [0, 10]
            without a split.
        seconds: time spent training, pre-training included, scoring not counted.
    """

    recipe: Recipe
    model: nn.Sequential
    history: History
    test_logits: Tensor
    validation_logits: Tensor
    seconds: float


def pick_device(name: str = "auto") -> torch.device:
    """The device called ``name``; "auto" is a GPU (CUDA, else Apple's MPS) when there is one.

    Raises:
        LabError: if that device is not on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise LabError(
            f"device {name!r} cannot be used here: {str(error).splitlines()[0]}\n"
            '  Use device="auto" or "cpu".'
        ) from error
    return device


def has_bfloat16(device: torch.device) -> bool | None:
    """Whether the device itself computes with 16-bit bfloat16; ``None`` where PyTorch can't say.

    Elsewhere PyTorch imitates it, many times slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        features = torch.cpu.get_capabilities()
        return any(has for name, has in features.items() if "bf16" in name)
    return None


def computes_in_bfloat16(recipe: Recipe, device: torch.device) -> bool:
    """Whether the network's products are bfloat16 when the recipe is trained on the device."""
    wanted = recipe.precision
    return wanted == "bfloat16" or (wanted == "auto" and bool(has_bfloat16(device)))


def epoch_order(count: int, shuffler: torch.Generator) -> Tensor:
    """A random order of ``count`` images, int64 [count], drawn from ``shuffler``."""
    return torch.randperm(count, generator=shuffler)


def shifted(images: Tensor, border: int, shift: int) -> Iterator[Tensor]:
    """The images [N, H, W] shifted by every step of up to ``shift`` pixels, then cropped."""
    height, width = images.shape[1:]
    padded = F.pad(images, [shift] * 4)
    for top in range(2 * shift + 1):
        for left in range(2 * shift + 1):
            yield crop(padded[:, top : top + height, left : left + width], border)


def predict(
    model: nn.Module, images: Tensor, recipe: Recipe, device: str | torch.device = "auto"
) -> Tensor:
    """What the network answers: float32 [N, 10] on the CPU, for uint8 images [N, 28, 28].

    The model itself is left as it is: a copy in evaluation mode answers. Where the recipe shifts
    test images, the answer is the logarithm of the mean probability over the shifts.
    """
    where = pick_device(device) if isinstance(device, str) else device
    answering = copy.deepcopy(model).to(where).to(memory_format=torch.channels_last).eval()

    def answer(batch: Tensor) -> Tensor:
        views = [
            answering(prepare(view, recipe.mean, recipe.std))
            for view in shifted(batch.to(where), recipe.border, recipe.test_shift)
        ]
        if len(views) == 1:
            return views[0]
        logs = torch.stack([F.log_softmax(view, dim=1) for view in views])
        return logs.logsumexp(0) - math.log(len(views))

    with torch.inference_mode():
        answers = [answer(batch) for batch in images.split(PREDICT_BATCH)]
    return torch.cat(answers).cpu() if len(images) else torch.empty(0, CLASSES)


def fit(
    recipe: Recipe,
    digits: Digits,
    *,
    split: Split | None = None,
    device: str = "auto",
    echo: Callable[[str], None] | None = print,
) -> Fit:
    """Train a network as the recipe says, then let it answer the test images once.

    The same recipe, digits and split give the same result on one machine with one number of
    threads. PyTorch's global random state on the CPU and on CUDA is left as it was.

    Args:
        recipe: what to train, and how.
        digits: what to train on.
        split: train on its training images and score its validation images after every epoch;
            without it all training images are used.
        device: "auto", "cpu", "cuda", …
        echo: gets one line per epoch; ``None`` for silence.

    Raises:
        Diverged: as soon as the loss is infinite or not a number (on a GPU after that epoch), or
            if the last step leaves a network whose answers are.
        ValueError: if the recipe learns the bundled digits first and these are they.
        LabError: if the device cannot be used.
    """
    where = pick_device(device)
    if recipe.pretraining == digits.name:
        raise ValueError(
            f"{recipe.name} learns {digits.title} first, so it cannot be judged on them.\n"
            "  Use other digits, or another pretraining."
        )
    exact = {"benchmark": False, "deterministic": True, "allow_tf32": False}
    with _seeded(recipe.seed, where), torch.backends.cudnn.flags(enabled=True, **exact):
        # The layout that convolutions and poolings work fastest on, on a CPU and on a GPU.
        model = recipe.build()
        initialise(model, recipe.initialisation)
        model = model.to(where).to(memory_format=torch.channels_last)
        seconds = 0.0
        if recipe.pretraining != "none":
            seconds = _pretrain(model, recipe, digits, split, where)
        model, history, validation_logits = _train(model, recipe, digits, split, where, echo)
        test_logits = predict(model, digits.test.images, recipe, where)
    if not test_logits.isfinite().all():
        raise Diverged(
            f"{recipe.name} (seed {recipe.seed}) diverged: its answers to the test images are not "
            f"finite after the last step, lr {recipe.lr}.\n  Lower the learning rate."
        )
    return Fit(
        recipe=recipe,
        model=model.cpu().to(memory_format=torch.contiguous_format).eval(),
        history=history,
        test_logits=test_logits,
        validation_logits=validation_logits,
        seconds=seconds + sum(history.epoch_seconds),
    )


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, PyTorch's random numbers start from ``seed``; after, they go on as before.

    For the CPU no GPU is asked, let alone started.
    """
    on_gpu = range(torch.cuda.device_count()) if device.type == "cuda" else ()
    with torch.random.fork_rng(devices=on_gpu):
        if device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)
        yield


def _train(
    model: nn.Sequential,
    recipe: Recipe,
    digits: Digits,
    split: Split | None,
    device: torch.device,
    echo: Callable[[str], None] | None,
) -> tuple[nn.Sequential, History, Tensor]:
    """Train ``model``; what answers, its history and its last answers to the validation images."""
    shuffler = torch.Generator().manual_seed(recipe.seed)
    augmenter = torch.Generator().manual_seed(recipe.seed)
    indices = split.train if split else torch.arange(len(digits.train.images))
    if recipe.train_fraction < 1:
        kept = max(1, round(recipe.train_fraction * len(indices)))
        indices = indices[epoch_order(len(indices), shuffler)[:kept]]
    images = _within_reach(digits.train.images[indices].to(device), recipe)
    labels = digits.train.labels[indices].to(device)
    held_out = split.validation if split else torch.arange(0)
    truth = digits.train.labels[held_out]
    answers = torch.empty(0, CLASSES)
    steps_per_epoch = math.ceil(len(images) / recipe.batch_size)
    optimiser = make_optimiser(recipe, model)
    schedule = make_schedule(recipe, optimiser, steps_per_epoch)
    averaged = running_mean(model, recipe.averaging)
    answering = cast(nn.Sequential, averaged.module) if averaged else model
    in_bfloat16 = computes_in_bfloat16(recipe, device)
    # On a GPU, reading a loss would make the host wait for every step.
    check_every = 1 if device.type == "cpu" else steps_per_epoch

    steps: list[int] = []
    step_losses: list[float] = []
    epoch_losses: list[float] = []
    validation_losses: list[float] = []
    validation_accuracies: list[float] = []
    epoch_seconds: list[float] = []
    for epoch in range(recipe.epochs):
        model.train()
        start = time.perf_counter()
        batches = epoch_order(len(images), shuffler).to(device).split(recipe.batch_size)
        losses = torch.zeros(steps_per_epoch, device=device)
        for step, batch in enumerate(batches):
            X = _network_input(images.index_select(0, batch), recipe, augmenter)
            with torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16):
                y_hat = model(X)
            y = labels.index_select(0, batch)
            loss = F.cross_entropy(y_hat.float(), y, label_smoothing=recipe.label_smoothing)
            if recipe.l1:
                loss = loss + recipe.l1 * sum(p.abs().sum() for p in model.parameters())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if averaged:
                averaged.update_parameters(model)
            losses[step] = loss.detach()
            if (step + 1) % check_every == 0:
                _stop_if_diverged(losses[: step + 1], epoch * steps_per_epoch, recipe)
        loss_values = losses.cpu()
        epoch_seconds.append(time.perf_counter() - start)

        sizes = torch.tensor([len(batch) for batch in batches], dtype=torch.float64)
        epoch_losses.append(float((loss_values.double() * sizes).sum() / sizes.sum()))
        for step in range(0, steps_per_epoch, RECORD_EVERY):
            steps.append(epoch * steps_per_epoch + step)
            step_losses.append(float(loss_values[step]))
        line = f"epoch {epoch + 1}/{recipe.epochs}: training loss {epoch_losses[-1]:.4f}"
        if split:
            last = epoch + 1 == recipe.epochs
            how = recipe if last else recipe.but(test_shift=0)
            answers = predict(answering, digits.train.images[held_out], how, device)
            validation_losses.append(float(F.cross_entropy(answers, truth)))
            validation_accuracies.append(float((answers.argmax(1) == truth).double().mean()))
            line += f", validation accuracy {100 * validation_accuracies[-1]:.2f} %"
        if echo:
            echo(f"{line}, {epoch_seconds[-1]:.1f} s")
    history = History(
        steps_per_epoch=steps_per_epoch,
        steps=tuple(steps),
        step_losses=tuple(step_losses),
        epoch_losses=tuple(epoch_losses),
        validation_losses=tuple(validation_losses),
        validation_accuracies=tuple(validation_accuracies),
        epoch_seconds=tuple(epoch_seconds),
    )
    return answering, history, answers


def _within_reach(images: Tensor, recipe: Recipe) -> Tensor:
    """The images [N, H, W] without what no batch shows, or with the black that some batches do."""
    cut = recipe.border if recipe.augmentation == Augmentation() else 0
    return F.pad(images, [recipe.batch_shift - cut] * 4)


def _network_input(batch: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """What the network sees of a batch of ``_within_reach``: float32 [N, 1, size, size]."""
    if recipe.batch_shift:
        size = batch.shape[1] - 2 * recipe.batch_shift
        top, left = torch.randint(2 * recipe.batch_shift + 1, (2,), generator=generator).tolist()
        batch = batch[:, top : top + size, left : left + size]
    X = to_unit_interval(batch)
    if recipe.augmentation != Augmentation():
        X = augment(X, recipe.augmentation, generator, recipe.border)
    return normalise(X, recipe.mean, recipe.std)


def _pretrain(
    model: nn.Sequential,
    recipe: Recipe,
    digits: Digits,
    split: Split | None,
    device: torch.device,
) -> float:
    """Train ``model`` in place on another task first; its last layer is then drawn anew.

    Returns the seconds that it took.

    "uci-digits" are scikit-learn's bundled digits, 20 epochs. "rotations" are the training images,
    each turned by a random number of quarter turns, which is to be told: one epoch (Gidaris, Singh
    & Komodakis 2018, arXiv:1803.07728).
    """
    if recipe.pretraining == "uci-digits":
        task, epochs = load_digits("uci-digits"), 20
    else:
        images = digits.train.images[split.train] if split else digits.train.images
        generator = torch.Generator().manual_seed(recipe.seed)
        turns = torch.randint(4, (len(images),), generator=generator)
        turned = torch.stack([images.rot90(k, (1, 2)) for k in range(4)])
        task, epochs = replace(digits, train=Images(turned[turns, range(len(images))], turns)), 1
    share = recipe.train_fraction if recipe.pretraining == "rotations" else 1.0
    first = recipe.but(
        name=recipe.name, pretraining="none", averaging=0.0, epochs=epochs, train_fraction=share
    )
    _, history, _ = _train(model, first, task, None, device, None)
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    anew = nn.Linear(last.in_features, last.out_features)  # on the CPU: the same for every device
    initialise(anew, recipe.initialisation)
    last.load_state_dict(anew.state_dict())
    return sum(history.epoch_seconds)


def _stop_if_diverged(losses: Tensor, first_step: int, recipe: Recipe) -> None:
    if math.isfinite(losses[-1]) and (losses.device.type == "cpu" or losses.isfinite().all()):
        return
    values = losses.tolist()
    bad = next(i for i, value in enumerate(values) if not math.isfinite(value))
    last = f"{values[bad - 1]:.4g}" if bad else "none in this epoch"
    raise Diverged(
        f"{recipe.name} (seed {recipe.seed}) diverged: the loss at step {first_step + bad} is "
        f"{values[bad]}, the last finite loss was {last}, lr {recipe.lr}.\n"
        "  Lower the learning rate, or look at the batch of that step."
    )

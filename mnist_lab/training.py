"""The training loop: a ``Recipe`` and digits in, a ``Fit`` out."""

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_lab.data import Digits, Images, load_digits
from mnist_lab.devices import has_bfloat16, pick_device
from mnist_lab.files import LabError
from mnist_lab.models import CLASSES
from mnist_lab.optimisers import initialise, make_optimiser, make_schedule, running_mean
from mnist_lab.recipes import Recipe
from mnist_lab.splits import Split
from mnist_lab.transforms import augment, normalise, prepare, to_unit_interval, translated

RECORD_EVERY = 100
PREDICT_BATCH = 200


class Diverged(LabError):
    """Training stopped because the loss became infinite or no number at all."""


@dataclass(frozen=True)
class History:
    """Losses and accuracies while training; those of validation need a split."""

    steps_per_epoch: int
    steps: tuple[int, ...] = ()  # the 0th, 100th, 200th, … of each epoch, since the first epoch
    step_losses: tuple[float, ...] = ()  # of the batch of each such step, before its update
    epoch_losses: tuple[float, ...] = ()  # mean over the images, each before its batch's step
    validation_losses: tuple[float, ...] = ()  # after each epoch
    validation_accuracies: tuple[float, ...] = ()
    epoch_seconds: tuple[float, ...] = ()  # of training alone

    def plus(self, **new: Iterable[float]) -> "History":
        """The history with new values at the end."""
        longer = {name: (*getattr(self, name), *values) for name, values in new.items()}
        return History(**{**vars(self), **longer})


@dataclass(frozen=True, eq=False)
class Fit:
    """One finished training."""

    recipe: Recipe
    model: nn.Sequential  # on the CPU, in evaluation mode
    history: History
    test_logits: Tensor  # float32 [number of test images, 10]
    validation_logits: Tensor  # in the split's order; [0, 10] without a split
    seconds: float  # of training, pre-training included


def computes_in_bfloat16(recipe: Recipe, device: torch.device) -> bool:
    """Whether the network's products are bfloat16 when the recipe is trained on the device."""
    automatic = recipe.precision == "auto" and bool(has_bfloat16(device))
    return automatic or recipe.precision == "bfloat16"


def train_one_epoch(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimiser: torch.optim.Optimizer,
    loss_of: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    after_step: Callable[[list[Tensor]], None] = lambda losses: None,
    in_bfloat16: bool = False,
) -> Tensor:
    """One pass over the batches of images and labels: each batch's loss before its step, [steps].

    ``loss_of`` gets logits and labels, ``after_step`` the losses so far, still on the device.
    """
    losses: list[Tensor] = []
    model.train()
    for X, y in batches:
        with torch.autocast(X.device.type, torch.bfloat16, enabled=in_bfloat16):
            y_hat = model(X)
        loss = loss_of(y_hat.float(), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
        after_step(losses)
    return torch.stack(losses)


def predict(
    model: nn.Module, images: Tensor, recipe: Recipe, device: str | torch.device = "auto"
) -> Tensor:
    """The logits of uint8 images [N, 28, 28]: float32 [N, 10], on the CPU.

    A copy of the model computes them, in evaluation mode. Where the recipe translates test images,
    they are the logarithm of the mean probability over the translations.

    Raises:
        TypeError: if the images are not uint8.
        ValueError: if they are neither [N, 28, 28] nor [N, 1, 28, 28] nor one image [28, 28].
    """
    match list(images.shape):
        case [28, 28] | [_, 28, 28] | [_, 1, 28, 28]:
            images = torch.as_tensor(images).reshape(-1, 28, 28)
        case shape:
            raise ValueError(f"expected grey images of shape [N, 28, 28], found {shape}")
    where = pick_device(device)
    model = copy.deepcopy(model).to(where).to(memory_format=torch.channels_last).eval()
    logits = []
    with torch.inference_mode():
        for batch in images.to(where).split(PREDICT_BATCH):
            moved = translated(batch, recipe.border, recipe.test_translation)
            views = torch.stack([model(prepare(view, recipe.mean, recipe.std)) for view in moved])
            if len(views) == 1:
                logits.append(views[0])
            else:
                logits.append(views.log_softmax(2).logsumexp(0) - math.log(len(views)))
    return torch.cat(logits).cpu()


def fit(
    recipe: Recipe,
    digits: Digits,
    *,
    split: Split | None = None,
    device: str = "auto",
    echo: Callable[[str], None] | None = print,
) -> Fit:
    """Train a network as the recipe says, then let it answer the test images once.

    With a ``split`` its training images are learned and its validation images scored after every
    epoch. ``echo`` gets a line per epoch. The same recipe, digits and split give the same result on
    one machine with one number of threads. The random state of the CPU and of CUDA is left as it
    was.

    Raises:
        Diverged: as soon as the loss is not finite (on a GPU after that epoch), or if the answers
            after the last step are not.
        ValueError: if the digits are those learned first, or images and labels differ in number.
        LabError: if the device cannot be used.
    """
    where = pick_device(device)
    for part in (digits.train, digits.test):
        if len(part.images) != len(part.labels):
            found = f"found {len(part.images)} images and {len(part.labels)} labels"
            raise ValueError(f"expected one label for each image, {found}")
    if recipe.pretraining == digits.name:
        raise ValueError(
            f"{recipe.name} learns {digits.title} first, so it cannot be judged on them.\n"
            "  Use other digits, or another pretraining."
        )
    train, validation = digits.train, None
    if split:
        train, validation = (_subset(train, rows) for rows in (split.train, split.validation))
    gpus = range(torch.cuda.device_count()) if where.type == "cuda" else ()
    exact = {"benchmark": False, "deterministic": True, "allow_tf32": False}
    with torch.random.fork_rng(gpus), torch.backends.cudnn.flags(enabled=True, **exact):
        if where.type == "cpu":
            torch.default_generator.manual_seed(recipe.seed)  # and no GPU is started to be seeded
        else:
            torch.manual_seed(recipe.seed)
        model = recipe.build()
        initialise(model, recipe.initialisation)
        # The layout that convolutions and poolings work fastest on, on a CPU and on a GPU.
        model = model.to(where).to(memory_format=torch.channels_last)
        seconds = _pretrain(model, recipe, train, where) if recipe.pretraining != "none" else 0.0
        model, history, logits = _train(model, recipe, train, where, validation, echo)
        test_logits = predict(model, digits.test.images, recipe, where)
    if not test_logits.isfinite().all():
        raise Diverged(
            f"{recipe.name} (seed {recipe.seed}) diverged: its answers to the test images are not "
            f"finite after the last step, lr {recipe.lr}.\n  Lower the learning rate."
        )
    model = model.cpu().to(memory_format=torch.contiguous_format).eval()
    seconds += sum(history.epoch_seconds)
    return Fit(recipe, model, history, test_logits, logits, seconds)


def _train(
    model: nn.Sequential,
    recipe: Recipe,
    train: Images,
    device: torch.device,
    validation: Images | None = None,
    echo: Callable[[str], None] | None = None,
) -> tuple[nn.Sequential, History, Tensor]:
    """Train ``model``: the network to predict with, its history and its last validation logits.

    The network is ``model`` itself or, with averaging, the running mean of its weights.
    """
    shuffler = torch.Generator().manual_seed(recipe.seed)
    augmenter = torch.Generator().manual_seed(recipe.seed)
    if recipe.train_fraction < 1:
        count = max(1, round(recipe.train_fraction * len(train)))
        train = _subset(train, torch.randperm(len(train), generator=shuffler)[:count])
    images = F.pad(train.images.to(device), [recipe.batch_translation] * 4)
    train = Images(images, train.labels.to(device))
    steps_per_epoch = math.ceil(len(train) / recipe.batch_size)
    optimiser = make_optimiser(recipe, model)
    schedule = make_schedule(recipe, optimiser, steps_per_epoch)
    averaged = running_mean(model, recipe.averaging)
    predicting: Any = averaged.module if averaged else model
    loss_of, in_bfloat16 = partial(_loss, recipe, model), computes_in_bfloat16(recipe, device)

    def after_step(losses: list[Tensor]) -> None:
        schedule.step()
        if averaged:
            averaged.update_parameters(model)
        if device.type == "cpu":  # reading a loss makes the host wait for a GPU
            _stop_if_diverged(losses[-2:], schedule.last_epoch, recipe)

    history, logits = History(steps_per_epoch), torch.empty(0, CLASSES)
    for epoch in range(1, recipe.epochs + 1):
        start = time.perf_counter()
        order = torch.randperm(len(train), generator=shuffler).to(device).split(recipe.batch_size)
        batches = _batches(train, order, recipe, augmenter)
        losses = train_one_epoch(model, batches, optimiser, loss_of, after_step, in_bfloat16).cpu()
        history = history.plus(epoch_seconds=[time.perf_counter() - start])
        done = schedule.last_epoch  # the schedule counts steps
        _stop_if_diverged(losses, done, recipe)
        steps = range(done - len(losses), done, RECORD_EVERY)
        history = history.plus(steps=steps, step_losses=losses[::RECORD_EVERY].tolist())
        sizes = torch.tensor([len(rows) for rows in order])
        history = history.plus(epoch_losses=[float((losses.double() * sizes).sum() / len(train))])
        if validation is not None:
            # Translations take time: only the last epoch is validated over them.
            how = recipe if epoch == recipe.epochs else recipe.but(test_translation=0)
            logits = predict(predicting, validation.images, how, device)
            loss = float(F.cross_entropy(logits, validation.labels))
            accuracy = float((logits.argmax(1) == validation.labels).double().mean())
            history = history.plus(validation_losses=[loss], validation_accuracies=[accuracy])
        if echo:
            echo(_last_epoch(history, recipe.epochs))
    return predicting, history, logits


def _loss(recipe: Recipe, model: nn.Module, y_hat: Tensor, y: Tensor) -> Tensor:
    loss = F.cross_entropy(y_hat, y, label_smoothing=recipe.label_smoothing)
    if recipe.l1:
        loss = loss + recipe.l1 * sum(p.abs().sum() for p in model.parameters())
    return loss


def _stop_if_diverged(losses: Sequence[Tensor] | Tensor, steps_done: int, recipe: Recipe) -> None:
    """Raise ``Diverged`` if one of these losses, of the last steps done, is not finite."""
    bad = next((i for i, loss in enumerate(losses) if not loss.isfinite()), None)
    if bad is not None:
        last = f"{losses[bad - 1]:.4g}" if bad else "none in this epoch"
        raise Diverged(
            f"{recipe.name} (seed {recipe.seed}) diverged: the loss at step "
            f"{steps_done - len(losses) + bad} is {losses[bad]}, the last finite loss was {last}, "
            f"lr {recipe.lr}.\n  Lower the learning rate, or look at the batch of that step."
        )


def _last_epoch(history: History, epochs: int) -> str:
    losses, accuracies = history.epoch_losses, history.validation_accuracies
    validated = f", validation accuracy {100 * accuracies[-1]:.2f} %" if accuracies else ""
    line = f"epoch {len(losses)}/{epochs}: training loss {losses[-1]:.4f}"
    return f"{line}{validated}, {history.epoch_seconds[-1]:.1f} s"


def _subset(digits: Images, rows: Tensor) -> Images:
    return Images(digits.images[rows], digits.labels[rows])


def _batches(
    train: Images, order: Iterable[Tensor], recipe: Recipe, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """What the network sees, float32 [n, 1, size, size], and the labels, a batch at a time."""
    for rows in order:
        images = train.images.index_select(0, rows)
        if moves := 2 * recipe.batch_translation:
            size = images.shape[1] - moves
            top, left = torch.randint(moves + 1, (2,), generator=generator).tolist()
            images = images[:, top : top + size, left : left + size]
        X = augment(to_unit_interval(images), recipe.augmentation, generator, recipe.border)
        yield normalise(X, recipe.mean, recipe.std), train.labels.index_select(0, rows)


def _pretrain(model: nn.Sequential, recipe: Recipe, train: Images, device: torch.device) -> float:
    """Train ``model`` on another task, then draw its last layer anew; the seconds that it took.

    "uci-digits" are scikit-learn's bundled digits, 20 epochs. "rotations" are the training images,
    each turned by a random number of quarter turns, which is to be told: one epoch (Gidaris, Singh
    & Komodakis 2018, arXiv:1803.07728).
    """
    first = dataclasses.replace(recipe, pretraining="none", averaging=0.0, epochs=1)
    if recipe.pretraining == "uci-digits":
        train = load_digits("uci-digits").train
        first = dataclasses.replace(first, epochs=20, train_fraction=1.0)
    else:
        generator = torch.Generator().manual_seed(recipe.seed)
        turns = torch.randint(4, (len(train),), generator=generator)
        turned = [image.rot90(k) for image, k in zip(train.images, turns.tolist(), strict=True)]
        train = Images(torch.stack(turned), turns)
    _, history, _ = _train(model, first, train, device)
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    anew = nn.Linear(last.in_features, last.out_features)  # on the CPU: the same for every device
    initialise(anew, recipe.initialisation)
    last.load_state_dict(anew.state_dict())
    return sum(history.epoch_seconds)

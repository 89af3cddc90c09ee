"""The training loop: a ``Recipe`` and digits in, a ``Fit`` out."""

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_lab.data import Digits, Images, load_digits
from mnist_lab.devices import has_bfloat16, pick_device
from mnist_lab.fits import Diverged, Fit, History
from mnist_lab.models import CLASSES, IMAGE_SIZE
from mnist_lab.optimisers import initialise, make_optimiser, make_schedule, running_mean
from mnist_lab.recipes import Recipe
from mnist_lab.splits import Split
from mnist_lab.transforms import augment, normalise, prepare, to_unit_interval, translated

RECORD_EVERY = 100  # steps between recorded losses, as in Report A's table
PREDICT_BATCH = 200  # images: what the maps of so many need stays in a processor's cache
REPRODUCIBLE = {"enabled": True, "benchmark": False, "deterministic": True, "allow_tf32": False}


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
    """One pass over batches of images and labels. Returns each batch's loss before its step.

    They are float32 [steps]. ``loss_of`` gets logits and labels, ``after_step`` the losses of the
    epoch so far, still on the device. ``fit`` gives it ``_batches`` and ``_loss`` of the recipe.
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
    shape, size = tuple(images.shape), (IMAGE_SIZE, IMAGE_SIZE)
    if shape[-2:] != size or shape[:-2] not in [(), shape[:1], (*shape[:1], 1)]:  # 1, N, N × 1
        raise ValueError(f"expected grey images of shape [N, 28, 28], found {list(shape)}")
    images, device = torch.as_tensor(images).reshape(-1, *size), pick_device(device)
    model = copy.deepcopy(model).to(device).to(memory_format=torch.channels_last).eval()
    logits = []
    with torch.inference_mode(), torch.backends.cudnn.flags(**REPRODUCIBLE):
        for batch in images.to(device).split(PREDICT_BATCH):
            moved = translated(batch, recipe.border, recipe.test_translation)
            views = torch.stack([model(prepare(view, recipe.mean, recipe.std)) for view in moved])
            if len(views) == 1:
                logits.append(views[0])
            else:  # the logarithm of the mean of their probabilities
                logits.append(views.log_softmax(2).logsumexp(0) - math.log(len(views)))
    return torch.cat(logits).cpu()


def fit(
    recipe: Recipe,
    digits: Digits,
    *,
    split: Split | None = None,
    device: str | torch.device = "auto",
    echo: Callable[[str], None] | None = print,
) -> Fit:
    """Train a network as the recipe says, then let it answer the test images once.

    With a ``split`` its training images are learned and its validation images scored after every
    epoch. ``echo`` gets a line per epoch. The same recipe, digits and split give the same result on
    one device, with one number of threads and one version of PyTorch. Its global random state is
    left as it was.

    Raises:
        Diverged: as soon as the loss is not finite (on a GPU after that epoch), or if the logits of
            the test images are not.
        ValueError: if the digits are those learned first, or images and labels differ in number.
        LabError: if the device cannot be used.
    """
    device = pick_device(device)
    for part in (digits.train, digits.test):
        if len(part.images) != len(part.labels):
            found = f"found {len(part.images)} images and {len(part.labels)} labels"
            raise ValueError(f"expected one label for each image, {found}")
    if not len(digits.train):
        raise ValueError(f"there is nothing to learn from: {digits.title} has only test images")
    if recipe.pretraining == digits.name:
        raise ValueError(
            f"{recipe.name} learns {digits.title} first, so it cannot be judged on them.\n"
            "  Use other digits, or another pretraining."
        )
    train, validation = digits.train, None
    if split:
        train, validation = (_subset(train, rows) for rows in (split.train, split.validation))
    with _random_state(recipe.seed, device), torch.backends.cudnn.flags(**REPRODUCIBLE):
        model = recipe.build()
        initialise(model, recipe.initialisation)
        # The layout that convolutions and poolings work fastest on, on a CPU and on a GPU.
        model = model.to(device).to(memory_format=torch.channels_last)
        seconds = _pretrain(model, recipe, train, device) if recipe.pretraining != "none" else 0.0
        model, best, history, logits = _train(model, recipe, train, device, validation, echo)
        test_logits = predict(model, digits.test.images, recipe, device)
        best_logits = predict(best, digits.test.images, recipe, device) if best else test_logits
    if not test_logits.isfinite().all():
        raise Diverged(
            f"{recipe.name} (seed {recipe.seed}) diverged: its logits of the test images are not "
            f"finite after the last step, lr {recipe.lr}.\n  Lower the learning rate."
        )
    model = model.cpu().to(memory_format=torch.contiguous_format).eval()
    seconds += sum(history.epoch_seconds)
    return Fit(recipe, model, history, test_logits, best_logits, logits, seconds)


@contextmanager
def _random_state(seed: int, device: torch.device) -> Iterator[None]:
    """PyTorch's global random state starts from ``seed``, and afterwards is what it was."""
    if device.type == "cpu":
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would start a GPU as well
            yield
    else:
        count = torch.get_device_module(device).device_count()
        with torch.random.fork_rng(range(count), device_type=device.type):
            torch.manual_seed(seed)
            yield


def _train(
    model: nn.Sequential,
    recipe: Recipe,
    train: Images,
    device: torch.device,
    validation: Images | None = None,
    echo: Callable[[str], None] | None = None,
) -> tuple[nn.Sequential, nn.Sequential | None, History, Tensor]:
    """Train ``model``: the network to predict with, its history and its last validation logits.

    The network is ``model`` itself or, with averaging, the running mean of its weights. The second
    is a copy of it after the best epoch, if that was another than the last.
    """
    # Two generators, so that augmentation does not change the order of the images.
    shuffler = torch.Generator().manual_seed(recipe.seed)
    augmenter = torch.Generator().manual_seed(recipe.seed)
    if recipe.train_fraction < 1:
        count = max(1, round(recipe.train_fraction * len(train)))
        train = _subset(train, torch.randperm(len(train), generator=shuffler)[:count])
    # Room to move each batch in, in ``_batches``.
    images = F.pad(train.images.to(device), [recipe.batch_translation] * 4)
    train = Images(images, train.labels.to(device))
    steps_per_epoch = math.ceil(len(train) / recipe.batch_size)
    optimiser = make_optimiser(recipe, model)
    schedule = make_schedule(recipe, optimiser, steps_per_epoch)
    averaged = running_mean(model, recipe.averaging)
    predicting: Any = averaged.module if averaged else model  # the mean is a network of its own
    loss_of, in_bfloat16 = partial(_loss, recipe, model), computes_in_bfloat16(recipe, device)

    def after_step(losses: list[Tensor]) -> None:
        """Set the next learning rate, update the running mean, and stop at a loss of infinity."""
        schedule.step()
        if averaged:
            averaged.update_parameters(model)
        if device.type == "cpu":  # reading a loss makes the host wait for a GPU
            _stop_if_diverged(losses, (epoch - 1) * steps_per_epoch, recipe)

    history, logits = History(steps_per_epoch), torch.empty(0, CLASSES)
    best: nn.Sequential | None = None
    for epoch in range(1, recipe.epochs + 1):
        start = time.perf_counter()
        order = torch.randperm(len(train), generator=shuffler).to(device).split(recipe.batch_size)
        batches = _batches(train, order, recipe, augmenter)
        losses = train_one_epoch(model, batches, optimiser, loss_of, after_step, in_bfloat16).cpu()
        history = history.plus(epoch_seconds=[time.perf_counter() - start])
        first_step = (epoch - 1) * steps_per_epoch
        _stop_if_diverged(losses, first_step, recipe)
        steps = range(first_step, first_step + steps_per_epoch, RECORD_EVERY)
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
            if history.best_epoch == epoch:
                best = copy.deepcopy(predicting) if epoch < recipe.epochs else None
        if echo:
            echo(_last_epoch(history, recipe.epochs))
    return predicting, best, history, logits


def _loss(recipe: Recipe, model: nn.Module, y_hat: Tensor, y: Tensor) -> Tensor:
    loss = F.cross_entropy(y_hat, y, label_smoothing=recipe.label_smoothing)
    if recipe.l1:
        loss = loss + recipe.l1 * sum(p.abs().sum() for p in model.parameters())
    return loss


def _stop_if_diverged(losses: Sequence[Tensor] | Tensor, first_step: int, recipe: Recipe) -> None:
    """Raise ``Diverged`` if the last loss of an epoch so far is not finite, naming the first."""
    if not losses[-1].isfinite():
        bad = next(i for i, loss in enumerate(losses) if not loss.isfinite())
        last = f"{losses[bad - 1]:.4g}" if bad else "none in this epoch"
        raise Diverged(
            f"{recipe.name} (seed {recipe.seed}) diverged: the loss at step {first_step + bad} is "
            f"{losses[bad]}, the last finite loss was {last}, lr {recipe.lr}.\n"
            "  Lower the learning rate, or look at the batch of that step."
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
    """Train ``model`` on another task, then draw its last layer anew. Returns the seconds taken.

    "uci-digits": scikit-learn's bundled digits, 20 epochs. "rotations": the network learns by how
    many quarter turns each training image was turned, one epoch (Gidaris, Singh & Komodakis 2018,
    arXiv:1803.07728), with four of the ten outputs. The rest of the recipe applies, but for the
    running mean of the weights: it is the last ones that training goes on from.
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
    *_, history, _ = _train(model, first, train, device)
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    anew = nn.Linear(last.in_features, last.out_features)  # on the CPU: the same for every device
    initialise(anew, recipe.initialisation)
    last.load_state_dict(anew.state_dict())
    return sum(history.epoch_seconds)

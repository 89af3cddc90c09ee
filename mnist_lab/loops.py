"""Training loops of others, written out: what this course's own loop is measured against."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mnist_lab.data import Digits, Images
from mnist_lab.evaluation import accuracy
from mnist_lab.models import CLASSES
from mnist_lab.recipes import MNIST_MEAN, MNIST_STD, REPORT_A, Recipe
from mnist_lab.training import pick_device, predict
from mnist_lab.transforms import prepare


@dataclass(frozen=True)
class Timed:
    """One training by the clock.

    Attributes:
        seconds: time spent training; preparing the images once beforehand is not counted, nor is
            scoring.
        accuracy: share of the test images recognised by the network as training left it.
        epochs: passes over the training images.
    """

    seconds: float
    accuracy: float
    epochs: int


class OneByOne(Dataset[tuple[Tensor, int]]):
    """Digits handed out one at a time, as ``torchvision.datasets.MNIST`` does.

    Each image becomes a PIL image, then goes through ``transform`` by itself.
    """

    def __init__(self, part: Images, transform: Callable[[Image.Image], Tensor]) -> None:
        self.part, self.transform = part, transform

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.part.images[index].numpy())
        return self.transform(image), int(self.part.labels[index])


def dataloader_epoch(digits: Digits, seed: int = 0, *, device: str = "auto") -> Timed:
    """One epoch as Report A writes it: each image through ``ToTensor``, a ``DataLoader``, SGD.

    Batches of 64 in a new order, lr 0.14, the loss read every 100 steps.
    """
    where = pick_device(device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = REPORT_A.build().to(where)
        dataset = OneByOne(digits.train, transforms.ToTensor())
        loader = DataLoader(dataset, batch_size=64, shuffle=True)
        loss_function = nn.CrossEntropyLoss()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.14)
        losses = []
        start = now(where)
        for step, (X, y) in enumerate(loader):
            loss = loss_function(model(X.to(where)), y.to(where))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if step % 100 == 0:
                losses.append(loss.item())
        seconds = now(where) - start
    return Timed(seconds, _test_accuracy(model, digits, REPORT_A, where), epochs=1)


def official_network() -> nn.Sequential:
    """The network of PyTorch's own MNIST example: 1,199,882 parameters, output log-probabilities.

    From mnist/main.py in https://github.com/pytorch/examples.
    """
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(64 * 12 * 12, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, CLASSES),
        nn.LogSoftmax(dim=1),
    )


def official_example(
    digits: Digits,
    seed: int = 0,
    *,
    target: float = 0.99,
    max_epochs: int = 14,
    device: str = "auto",
    echo: Callable[[str], None] | None = None,
) -> Timed:
    """PyTorch's own MNIST example, trained to the end of its first epoch that reaches ``target``.

    Each image through ``ToTensor`` and ``Normalize``, batches of 64 by a ``DataLoader``, Adadelta
    with lr 1.0, times 0.7 after every epoch (mnist/main.py in https://github.com/pytorch/examples).
    It shuffles always, as the example does on a GPU, and there it takes the example's worker too.

    Args:
        digits: what to train on.
        seed: of the initial weights, the order of images and dropout.
        target: test accuracy at which to stop.
        max_epochs: where to stop if it is never reached; 14 is the example's own number.
        device: "auto", "cpu", "cuda", …
        echo: gets one line per epoch; ``None`` for silence.
    """
    where = pick_device(device)
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((MNIST_MEAN,), (MNIST_STD,))]
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = official_network().to(where)
        on_gpu = where.type == "cuda"
        loader = DataLoader(
            OneByOne(digits.train, transform),
            batch_size=64,
            shuffle=True,
            num_workers=1 if on_gpu else 0,
            persistent_workers=on_gpu,
            pin_memory=on_gpu,
        )
        optimiser = torch.optim.Adadelta(model.parameters(), lr=1.0)
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, step_size=1, gamma=0.7)
        seconds, reached, epoch = 0.0, 0.0, 0
        for epoch in range(1, max_epochs + 1):
            model.train()
            start = now(where)
            for X, y in loader:
                optimiser.zero_grad()
                F.nll_loss(model(X.to(where)), y.to(where)).backward()
                optimiser.step()
            seconds += now(where) - start
            schedule.step()
            reached = _test_accuracy(model, digits, _NORMALISED, where)
            if echo:
                echo(
                    f"official example, epoch {epoch}: {100 * reached:.2f} % after {seconds:.1f} s"
                )
            if reached >= target:
                break
    return Timed(seconds, reached, epoch)


def laptop_network() -> nn.Sequential:
    """The network of the train_mnist_fast repository's last notebook: 215,194 parameters.

    From 8_Final_00s76.ipynb in https://github.com/tuomaso/train_mnist_fast.
    """
    return nn.Sequential(
        nn.Conv2d(1, 24, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(24, 32, 3),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 5 * 5, 256),
        nn.ReLU(),
        nn.Linear(256, CLASSES),
    )


def laptop_recipe(
    digits: Digits,
    seed: int = 0,
    *,
    memory_format: torch.memory_format = torch.contiguous_format,
    device: str = "auto",
) -> Timed:
    """The fastest published recipe for a laptop: one epoch on tensors that lie ready in memory.

    Adam with a one-cycle schedule up to lr 0.01, batches of 256 (8_Final_00s76.ipynb in
    https://github.com/tuomaso/train_mnist_fast). As there, the images are normalised and put in
    a random order before the clock starts. Its ``memory_format`` is PyTorch's default;
    ``torch.channels_last`` is a change of ours that makes it faster on a CPU.
    """
    where = pick_device(device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = laptop_network().to(where).to(memory_format=memory_format)
        order = torch.randperm(len(digits.train))
        images = prepare(digits.train.images[order].to(where), MNIST_MEAN, MNIST_STD)
        labels = digits.train.labels[order].to(where)
        steps = math.ceil(len(order) / 256)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.7, 0.9))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=0.01, total_steps=steps, cycle_momentum=False
        )
        start = now(where)
        for X, y in zip(images.split(256), labels.split(256), strict=True):
            optimiser.zero_grad()
            F.cross_entropy(model(X), y).backward()
            optimiser.step()
            schedule.step()
        seconds = now(where) - start
    return Timed(seconds, _test_accuracy(model, digits, _NORMALISED, where), epochs=1)


def now(device: torch.device) -> float:
    """Seconds on a clock, once the device has finished all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


_NORMALISED = Recipe(name="normalised as MNIST is", mean=MNIST_MEAN, std=MNIST_STD)


def _test_accuracy(model: nn.Module, digits: Digits, recipe: Recipe, device: torch.device) -> float:
    """Share of the test images recognised, normalised as the recipe says."""
    logits = predict(model, digits.test.images, recipe, device)
    return accuracy(digits.test.labels, logits)

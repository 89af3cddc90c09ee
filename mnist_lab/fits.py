"""What a training gives: its result, what was seen meanwhile, and how it can fail."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from mnist_lab.files import LabError
from mnist_lab.recipes import Recipe


class Diverged(LabError):
    """Training stopped because the loss became infinite or no number at all."""


@dataclass(frozen=True)
class History:
    """Losses and accuracies while training; those of validation need a split.

    Losses of training are of the recipe, label smoothing and L1 included; those of validation are
    cross-entropy alone. Only the last validation averages over translations.
    """

    steps_per_epoch: int
    steps: tuple[int, ...] = ()  # every 100th of each epoch, counted from the first epoch's 0
    step_losses: tuple[float, ...] = ()  # of the batch of each such step, before its update
    epoch_losses: tuple[float, ...] = ()  # mean over the images; weights change from step to step
    validation_losses: tuple[float, ...] = ()  # after each epoch
    validation_accuracies: tuple[float, ...] = ()
    epoch_seconds: tuple[float, ...] = ()  # of training alone

    @property
    def best_epoch(self) -> int:
        """The epoch, from 1, of the first highest validation accuracy; 0 without a split."""
        reached = self.validation_accuracies
        return reached.index(max(reached)) + 1 if reached else 0

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
    test_logits: Tensor  # float32 [number of test images, 10], after the last epoch
    best_test_logits: Tensor  # alike, after ``history.best_epoch``
    validation_logits: Tensor  # in the split's order; [0, 10] without a split
    seconds: float  # of training, pre-training included

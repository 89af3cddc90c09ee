"""The network that reads handwriting: its kept weights, how sure it may be, and how it is made."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mnist_lab.data import Digits
from mnist_lab.devices import pick_device
from mnist_lab.evaluation import probabilities
from mnist_lab.files import LabError, display_path, replacing
from mnist_lab.recipes import Recipe
from mnist_lab.splits import Split, stratified_split
from mnist_lab.training import fit
from mnist_lab.transforms import prepare, translated

FOLDER = Path(__file__).parent
AT_ONCE = 32  # images that are answered together: more take more memory, and no less time


class DamagedNetwork(LabError):
    """A file that should hold a network and does not, or not as it was written."""


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network with what validation images say about its confidence."""

    name: str
    model: nn.Sequential  # on the CPU, in evaluation mode
    recipe: Recipe
    temperature: float  # its logits are divided by it (Guo et al. 2017, arXiv:1706.04599)
    # float64 [K, 2]: shares of errors among the answers given, falling, and the lowest confidence
    # to answer at that keeps to each, rising
    thresholds: Tensor
    made: dict[str, str]  # what it was trained and validated on

    def answer(self, images: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of the ten digits, float64 [N, 10], for uint8 [N, 28, 28]."""
        batches = torch.as_tensor(images).split(AT_ONCE)
        logits = torch.cat([_logits(self.model, batch, self.recipe) for batch in batches])
        return probabilities(logits / self.temperature).numpy()

    def threshold(self, allow: float) -> float:
        """The lowest confidence to answer at, so that at most a share ``allow`` is wrong.

        That share was counted on validation images and varied copies of them. It is infinite where
        no answer of theirs was sure enough.
        """
        if not 0 <= allow <= 1:
            raise ValueError(f"allow must be a share in [0, 1], found {allow!r}")
        rates, confidences = self.thresholds.unbind(1)
        kept = confidences[rates <= allow]
        return float(kept.min()) if len(kept) else float("inf")


def _logits(model: nn.Sequential, images: Tensor, recipe: Recipe) -> Tensor:
    """What ``predict`` gives, sooner for few images: all their translations are one batch."""
    moved = list(translated(images, recipe.border, recipe.test_translation))
    with torch.inference_mode():
        views = model(prepare(torch.cat(moved), recipe.mean, recipe.std))
    views = views.unflatten(0, (len(moved), len(images))).log_softmax(2)
    return views.logsumexp(0) - math.log(len(moved))


def load_network(name: str | Path = "reader") -> Network:
    """The kept network of this name, or the one in a file that ``make_network`` wrote.

    Raises:
        DamagedNetwork: if the file is not there, or not as it was written.
    """
    kept = FOLDER / f"{name}.safetensors"
    path = kept if kept.is_file() else Path(name)
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if about.pop("sha256") != _digest(about, tensors):
            raise ValueError("its SHA-256 is not the one that was written")
        recipe = Recipe.from_json(about.pop("recipe"))
        with torch.random.fork_rng(devices=[]):
            model = recipe.build().to(memory_format=torch.channels_last).eval()
        thresholds = tensors.pop("thresholds")
        model.load_state_dict(tensors)
        temperature = float(about.pop("temperature"))
    except (OSError, SafetensorError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise DamagedNetwork(
            f"{display_path(path)} can't be used as a network: {error or type(error).__name__}\n"
            "  expected a file that make_network wrote. Give such a file, or install mnist_lab\n"
            "  anew for the one that comes with it."
        ) from None
    return Network(path.stem, model, recipe, temperature, thresholds, about)


def make_network(
    digits: Digits,
    recipe: Recipe,
    out: str | Path,
    *,
    copies: int = 3,
    seed: int = 0,
    device: str = "auto",
    echo: Callable[[str], None] | None = print,
) -> Network:
    """Train a network for handwriting, and write the file that ``load_network`` reads.

    Nine tenths of the training digits are learned, each with as many varied ``copies``. The others,
    varied too, are the validation images that temperature and thresholds are fitted on.
    """
    from mnist_lab.handwriting.strokes import vary_strokes
    from mnist_lab.study.calibration import fit_temperature

    varied = vary_strokes(digits, copies=copies, seed=seed)
    split = split_with_copies(stratified_split(digits, 0.1, seed), len(digits.train), copies)
    made = fit(recipe, varied, split=split, device=device, echo=echo)
    labels = varied.train.labels[split.validation]
    temperature = fit_temperature(labels, made.validation_logits)
    answers = probabilities(made.validation_logits / temperature)
    about = {
        "digits": f"{digits.title}, {digits.digest}",
        "copies": f"{copies}, drawn by seed {seed}",
        "validation": f"{split.name}: {made.history.validation_accuracies[-1]:.2%} right",
        "trained": f"with PyTorch {torch.__version__} on {pick_device(device).type}",
    }
    thresholds = threshold_table(labels, answers)
    model = made.model.to(memory_format=torch.channels_last)  # as load_network gives it
    network = Network(Path(out).stem, model, recipe, temperature, thresholds, about)
    _write(network, Path(out))
    return network


def split_with_copies(split: Split, count: int, copies: int) -> Split:
    """The split of ``count`` digits for these and their varied copies: each goes with its own."""
    shifts = count * torch.arange(copies + 1)
    learned, held_out = ((r + shifts[:, None]).flatten() for r in (split.train, split.validation))
    return Split(learned, held_out, f"{split.name}, with {copies} varied copies")


def threshold_table(labels: Tensor, answers: Tensor) -> Tensor:
    """What is needed of the coverage curve: ``Network.thresholds``, float64 [K, 2].

    ``labels`` are int64 [N], ``answers`` the probabilities float [N, 10] of validation images.
    """
    from mnist_lab.study.calibration import coverage_curve

    curve = coverage_curve(labels, answers)[["error_rate", "threshold"]].iloc[1:]
    # From the lowest threshold up, only those that make fewer errors than all before.
    rising = torch.tensor(curve.to_numpy()[::-1].copy())
    best = rising[:, 0].cummin(0).values
    first = torch.cat([torch.tensor([True]), best[1:] < best[:-1]])
    return rising[first]


def _write(network: Network, path: Path) -> None:
    about = {"recipe": network.recipe.to_json(), "temperature": repr(network.temperature)}
    about |= network.made
    tensors = network.model.state_dict() | {"thresholds": network.thresholds}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, about | {"sha256": _digest(about, tensors)})


def _digest(about: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """SHA-256 of all that the file of a network holds."""
    digest = sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode() + tensor.numpy().tobytes())
    return digest.hexdigest()

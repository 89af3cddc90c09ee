"""A ``Recipe`` names everything that determines one training, and the named recipes."""

import dataclasses
import difflib
import json
import math
import numbers
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from mnist_lab.models import NETWORKS, network_options
from mnist_lab.shapes import IMAGE_SIZE
from mnist_lab.transforms import Augmentation

OPTIMISERS = ("sgd", "adam", "adamw", "rmsprop")
SCHEDULES = ("constant", "step", "cosine", "one_cycle", "cyclical", "warm_up")
INITIALISATIONS = ("default", "kaiming", "xavier", "orthogonal")
PRETRAININGS = ("none", "uci-digits", "rotations")
PRECISIONS = ("float32", "bfloat16", "auto")
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081  # of all training pixels in [0, 1]; notebook 1 computes them
CHOICES: dict[str, Collection[str]] = {
    "model": NETWORKS,
    "initialisation": INITIALISATIONS,
    "pretraining": PRETRAININGS,
    "optimiser": OPTIMISERS,
    "schedule": SCHEDULES,
    "precision": PRECISIONS,
}


@dataclass(frozen=True)
class Recipe:
    """Plain values that determine one training, given the digits.

    Two recipes with the same values are equal whatever their ``name``, which is only for reading.

    Attributes:
        name: what tables and progress lines call it.
        model: one of ``models.NETWORKS``.
        options: the network's options that differ from their defaults, as (name, value) pairs.
        initialisation: how the weights are drawn: "default" is PyTorch's own, "kaiming" (He et
            al. 2015, arXiv:1502.01852), "xavier" (Glorot & Bengio 2010), "orthogonal" (Saxe et
            al. 2014, arXiv:1312.6120).
        pretraining: what the network learns first: "none", "uci-digits" (the bundled digits) or
            "rotations" (telling by how many quarter turns a training image was turned).
        mean, std: normalisation ``(x - mean) / std`` of images in [0, 1].
        border: pixels cut off on each side before the network sees an image.
        augmentation: random changes to training images.
        optimiser: "sgd", "adam" (Kingma & Ba 2015, arXiv:1412.6980), "adamw" (Loshchilov & Hutter
            2019, arXiv:1711.05101) or "rmsprop" (Tieleman & Hinton 2012).
        lr: learning rate; the highest one where the schedule changes it.
        momentum: of SGD and RMSprop; the Adams take none.
        nesterov: whether SGD's momentum looks ahead (Sutskever et al. 2013).
        schedule: how the learning rate changes while training. "constant"; "step": a tenth after
            half and a hundredth after three quarters of the steps; "cosine": down to 0;
            "one_cycle": up in the first three tenths, then down to 0 (Smith & Topin 2019,
            arXiv:1708.07120); "cyclical": up from a tenth and down again in each epoch (Smith 2017,
            arXiv:1506.01186); "warm_up": up from a tenth in the first epoch.
        label_smoothing: share of the target spread evenly over the classes (Szegedy et al. 2016,
            arXiv:1512.00567).
        l1: this times the sum of the parameters' absolute values is added to the loss.
        weight_decay: L2 penalty; half of this times the sum of the parameters' squares is added to
            the loss. AdamW shrinks the parameters directly instead.
        averaging: decay of the running mean of the weights, which then answers in place of the
            last weights; 0 keeps the last weights (Polyak & Juditsky 1992).
        precision: of the network's products while training. "float32"; "bfloat16"; "auto":
            bfloat16 where the device computes it by itself, float32 elsewhere.
        batch_shift: each training batch is shifted by a random number of whole pixels up to this
            one along each axis, all its images alike; costs nothing where ``border`` is as wide.
        test_shift: answers are averaged over all shifts of an image by up to this many pixels.
        batch_size: images per step; the last batch of an epoch may be smaller.
        epochs: passes over the training images.
        train_fraction: share of the training images used, drawn at random by the seed.
        seed: of the initial weights, the order of images, augmentation and dropout.
    """

    name: str = field(compare=False)
    model: str = "report_a"
    options: tuple[tuple[str, Any], ...] = ()
    initialisation: str = "default"
    pretraining: str = "none"
    mean: float = 0.0
    std: float = 1.0
    border: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimiser: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False
    schedule: str = "constant"
    label_smoothing: float = 0.0
    l1: float = 0.0
    weight_decay: float = 0.0
    averaging: float = 0.0
    precision: str = "float32"
    batch_shift: int = 0
    test_shift: int = 0
    batch_size: int = 64
    epochs: int = 1
    train_fraction: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known_values in CHOICES.items():
            if getattr(self, name) not in known_values:
                raise ValueError(
                    f"unknown {name} {getattr(self, name)!r}; known: {', '.join(known_values)}"
                )
        if not isinstance(self.augmentation, Augmentation):
            raise ValueError(f"augmentation must be an Augmentation, found {self.augmentation!r}")
        known = network_options(self.model)
        if self.border and "image_size" not in known:
            raise ValueError(f"border must be 0: {self.model!r} takes only whole images")
        for option, _ in self.options:
            if option == "image_size":
                raise ValueError("the image size follows from border: set border instead")
            if option not in known:
                raise ValueError(_unknown(option, [*known, *_field_names()], self.model))
        typed = [(k, _typed(k, v, type(known[k]))) for k, v in self.options]
        differing = sorted((k, v) for k, v in typed if v != known[k])
        object.__setattr__(self, "options", tuple(differing))
        for known_field in dataclasses.fields(self):
            name, kind = known_field.name, known_field.type
            if kind in (bool, int, float):
                object.__setattr__(self, name, _typed(name, getattr(self, name), kind))
        if self.optimiser in ("adam", "adamw") and self.momentum:
            raise ValueError(f"{self.optimiser} takes no momentum, found momentum={self.momentum}")
        if self.nesterov and not (self.optimiser == "sgd" and self.momentum):
            raise ValueError("nesterov is a kind of SGD's momentum: set momentum above 0")
        for name, ok, expected in (
            ("lr", self.lr > 0, "above 0"),
            ("std", self.std > 0, "above 0"),
            ("border", 0 <= self.border < IMAGE_SIZE // 2, f"in [0, {IMAGE_SIZE // 2})"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)"),
            ("l1", self.l1 >= 0, "at least 0"),
            ("weight_decay", self.weight_decay >= 0, "at least 0"),
            ("averaging", 0 <= self.averaging < 1, "in [0, 1)"),
            ("batch_shift", 0 <= self.batch_shift < IMAGE_SIZE // 2, f"in [0, {IMAGE_SIZE // 2})"),
            ("test_shift", 0 <= self.test_shift < IMAGE_SIZE // 2, f"in [0, {IMAGE_SIZE // 2})"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("epochs", self.epochs >= 1, "at least 1"),
            ("train_fraction", 0 < self.train_fraction <= 1, "in (0, 1]"),
            ("seed", self.seed >= 0, "at least 0"),
        ):
            if not ok:
                raise ValueError(f"{name} must be {expected}, found {getattr(self, name)}")

    def but(self, **changes: Any) -> "Recipe":
        """The same recipe with some values changed.

        A name that is no field of ``Recipe`` is an option of its network:
        ``REPORT_A.but(lr=0.1)``, ``REPORT_A.but(kernel_size=3)``. Another ``model`` starts from
        its own default options.

        Raises:
            ValueError: for a name that is neither, with the nearest known one.
        """
        fields = _field_names()
        own = {name: value for name, value in changes.items() if name in fields}
        options = {name: value for name, value in changes.items() if name not in fields}
        kept = dict(self.options) if own.get("model", self.model) == self.model else {}
        own.setdefault("options", tuple({**kept, **options}.items()))
        shown = [f"{k}={v}" for k, v in changes.items() if k not in ("name", "seed", "epochs")]
        own.setdefault("name", ", ".join([self.name, *shown]))
        return dataclasses.replace(self, **own)

    def seeds(self, count: int, first: int = 0) -> list["Recipe"]:
        """The recipe with seeds ``first``, ``first + 1``, …, ``count`` of them."""
        return [self.but(seed=seed) for seed in range(first, first + count)]

    @property
    def image_size(self) -> int:
        """Width and height of the images that the network sees."""
        return IMAGE_SIZE - 2 * self.border

    def build(self) -> nn.Sequential:
        """A new network, with weights drawn from PyTorch's global generator.

        Raises:
            ValueError: for options that make no network.
        """
        options = dict(self.options)
        if "image_size" in network_options(self.model):
            options["image_size"] = self.image_size
        return NETWORKS[self.model](**options)

    def to_json(self) -> str:
        """The recipe as JSON, keys sorted; ``from_json`` reads it back."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Recipe":
        """The recipe that ``to_json`` wrote.

        Raises:
            TypeError, ValueError: for JSON that is no recipe.
        """
        values = json.loads(text)
        augmentation: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values["augmentation"].items()
        }
        values["augmentation"] = Augmentation(**augmentation)
        values["options"] = tuple((name, value) for name, value in values["options"])
        return Recipe(**values)


def _field_names() -> list[str]:
    return [f.name for f in dataclasses.fields(Recipe)]


def _typed(name: str, value: Any, kind: Any) -> Any:
    """The value as a plain bool, int or float, so that equal recipes are written alike."""
    if kind not in (bool, int, float):
        return value
    if not isinstance(value, numbers.Real) or not math.isfinite(value) or kind(value) != value:
        wanted = {bool: "True or False", int: "a whole number", float: "a finite number"}[kind]
        raise ValueError(f"{name} must be {wanted}, found {value!r}")
    return kind(value)


def _unknown(name: str, known: list[str], model: str) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"{name!r} is no field of a recipe and no option of the network {model!r}{hint}"


REPORT_A = Recipe(name="Report A", model="report_a", lr=0.14, batch_size=64, epochs=15)
"""Report A: images in [0, 1], SGD at lr 0.14 without momentum, batch 64, 15 epochs."""

REPORT_B = Recipe(
    name="Report B",
    model="report_b",
    mean=0.5,
    std=0.5,
    augmentation=Augmentation(
        rotation=10.0, horizontal_flip=0.5, crop_scale=(0.8, 1.0), crop_ratio=(3 / 4, 4 / 3)
    ),
    optimiser="adam",
    lr=0.001,
    batch_size=50,
    epochs=30,
)
"""Report B as its text prints it, the flips of its augmentation included.

The text names no batch size; 50 is its code's.
"""

REPORT_B_CODE = Recipe(
    name="Report B (code)",
    model="report_b_code",
    mean=0.5,
    std=0.5,
    optimiser="adam",
    lr=0.0008,
    batch_size=50,
    epochs=30,
    seed=20,
)
"""Report B as its published code trains: no augmentation, cross-entropy over a softmax."""

FAST = Recipe(
    name="FAST",
    model="fast",
    mean=MNIST_MEAN,
    std=MNIST_STD,
    border=4,
    optimiser="sgd",
    lr=0.5,
    momentum=0.9,
    nesterov=True,
    schedule="one_cycle",
    label_smoothing=0.1,
    weight_decay=5e-4,
    precision="auto",
    batch_shift=1,
    batch_size=256,
    epochs=2,
)
"""99 % of the test digits in seconds."""

STRONG = Recipe(
    name="STRONG",
    model="deep",
    options=(("width", 16),),
    mean=MNIST_MEAN,
    std=MNIST_STD,
    border=2,
    augmentation=Augmentation(rotation=10.0, shift=0.06, scale=0.1, shear=8.0),
    optimiser="sgd",
    lr=0.1,
    momentum=0.9,
    nesterov=True,
    schedule="one_cycle",
    label_smoothing=0.1,
    weight_decay=5e-4,
    averaging=0.99,
    precision="auto",
    test_shift=1,
    batch_size=128,
    epochs=8,
)
"""99.6 % of the test digits in about a minute."""

ACCURATE = STRONG.but(
    name="ACCURATE",
    width=32,
    averaging=0.998,
    epochs=20,
)
"""The best single network that this course can teach in a quarter of an hour."""

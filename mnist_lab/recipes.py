"""A ``Recipe`` holds every choice that determines a training; here are also the named ones."""

import dataclasses
import difflib
import json
import math
import numbers
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from mnist_lab.limits import ABOVE_0, BELOW_1, Limit, at_least, check_settings, one_of, setting
from mnist_lab.models import IMAGE_SIZE, NETWORKS, network_options  # networks are functions there
from mnist_lab.transforms import Augmentation

OPTIMISERS = ("sgd", "adam", "adamw", "rmsprop")
SCHEDULES = ("constant", "step", "cosine", "one_cycle", "cyclical", "warm_up")
INITIALISATIONS = ("default", "kaiming", "xavier", "orthogonal")
PRETRAININGS = ("none", "uci-digits", "rotations")
PRECISIONS = ("float32", "bfloat16", "auto")
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081  # of all training pixels in [0, 1]; notebook 1 computes them

_PIXELS = Limit(lambda pixels: 0 <= pixels < IMAGE_SIZE // 2, f"in [0, {IMAGE_SIZE // 2})")
_FRACTION = Limit(lambda share: 0 < share <= 1, "in (0, 1]")
_CHANGES = Limit(lambda changes: isinstance(changes, Augmentation), "an Augmentation")


@dataclass(frozen=True)
class Recipe:
    """Plain values that determine one training, given the digits, the split and the device.

    Two recipes with the same values are equal whatever their ``name``, which is only for reading.
    """

    name: str = field(compare=False)
    # The network, and those of its options that differ from their defaults, as (name, value).
    model: str = setting("report_a", one_of(NETWORKS))
    options: tuple[tuple[str, Any], ...] = ()
    # How weights are drawn: "default" is PyTorch's way; He et al. 2015, arXiv:1502.01852; Glorot &
    # Bengio 2010; Saxe et al. 2014, arXiv:1312.6120.
    initialisation: str = setting("default", one_of(INITIALISATIONS))
    # What is learned first: the bundled digits, or by how many quarter turns an image was turned.
    pretraining: str = setting("none", one_of(PRETRAININGS))
    # Images in [0, 1] become (x - mean) / std and lose ``border`` pixels on each side.
    mean: float = 0.0
    std: float = setting(1.0, ABOVE_0)
    border: int = setting(0, _PIXELS)
    # Random changes to training images.
    augmentation: Augmentation = field(default_factory=Augmentation, metadata={"limit": _CHANGES})
    # Kingma & Ba 2015, arXiv:1412.6980; Loshchilov & Hutter 2019, arXiv:1711.05101; Tieleman &
    # Hinton 2012.
    optimiser: str = setting("sgd", one_of(OPTIMISERS))
    lr: float = setting(0.1, ABOVE_0)  # learning rate; the highest one of the schedule
    momentum: float = setting(0.0, BELOW_1)  # of SGD and RMSprop; the Adams take none
    nesterov: bool = False  # whether SGD's momentum looks ahead (Sutskever et al. 2013)
    # "step": a tenth of the rate after half and a hundredth after three quarters of the steps;
    # "cosine": down to 0; "one_cycle": up in the first three tenths, then down to 0 (Smith & Topin
    # 2019, arXiv:1708.07120); "cyclical": up from a tenth and down again in each epoch (Smith
    # 2017, arXiv:1506.01186); "warm_up": up from a tenth in the first epoch.
    schedule: str = setting("constant", one_of(SCHEDULES))
    # Share of the target spread evenly over the classes (Szegedy et al. 2016, arXiv:1512.00567).
    label_smoothing: float = setting(0.0, BELOW_1)
    l1: float = setting(0.0, at_least(0))  # the loss gets l1 times the sum of |parameters|
    # The loss gets half of this times the sum of squared parameters; AdamW shrinks them instead.
    weight_decay: float = setting(0.0, at_least(0))
    # Decay of the running mean of weights that predicts in their place (Polyak & Juditsky 1992).
    averaging: float = setting(0.0, BELOW_1)
    # Number format of products while training; "auto": bfloat16 where the device has it.
    precision: str = setting("float32", one_of(PRECISIONS))
    batch_translation: int = setting(0, _PIXELS)  # each batch moves as one by up to this, in pixels
    # Predicted probabilities are means over all moves of the image by up to this, in pixels.
    test_translation: int = setting(0, _PIXELS)
    batch_size: int = setting(64, at_least(1))  # images per step; an epoch's last may be smaller
    epochs: int = setting(1, at_least(1))  # passes over the training images
    train_fraction: float = setting(1.0, _FRACTION)  # of the training images, drawn by the seed
    seed: int = setting(0, at_least(0))  # for weights, order, augmentation and dropout

    def __post_init__(self) -> None:
        _check_and_make_plain(self)

    def but(self, **changes: Any) -> "Recipe":
        """The same recipe with some values changed.

        A name that is no field is an option of its network: ``REPORT_A.but(lr=0.1)``,
        ``REPORT_A.but(kernel_size=3)``. Another ``model`` starts from its own default options.

        Raises:
            ValueError: for a name that is neither, with the nearest known one.
        """
        # What is a field of the recipe, and what is left for its network.
        own = {name: value for name, value in changes.items() if name in vars(self)}
        options = {name: value for name, value in changes.items() if name not in own}
        # The options so far stay, unless they were those of another network.
        kept = self.options if own.get("model", self.model) == self.model else ()
        together = dict(own.get("options", kept)) | options
        own["options"] = tuple(together.items())
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
        """A new network, with weights drawn from PyTorch's global generator."""
        options = dict(self.options)
        if "image_size" in network_options(self.model):
            options["image_size"] = self.image_size
        return NETWORKS[self.model](**options)

    def to_json(self) -> str:
        """The recipe as JSON with sorted keys, for ``from_json``. Its name is in it as well."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Recipe":
        """The recipe that ``to_json`` wrote."""
        values = json.loads(text)
        values["augmentation"] = Augmentation(**values["augmentation"])
        values["options"] = tuple((name, value) for name, value in values["options"])
        return Recipe(**values)


def _check_and_make_plain(recipe: Recipe) -> None:
    """Raise ``ValueError`` for an impossible recipe, and write equal values in one way.

    Numbers become plain, options are sorted, and those at their defaults are left out. The network
    that takes an option checks its value.
    """
    for a_field in dataclasses.fields(recipe):
        value = _plain(a_field.name, getattr(recipe, a_field.name), a_field.type)
        object.__setattr__(recipe, a_field.name, value)
    check_settings(recipe)
    known = network_options(recipe.model)
    if recipe.border and "image_size" not in known:
        raise ValueError(f"border must be 0: {recipe.model!r} takes only whole images")
    for option, _ in recipe.options:
        if option == "image_size":
            raise ValueError("the image size follows from border: set border instead")
        if option not in known:
            nearest = difflib.get_close_matches(option, [*known, *vars(recipe)], n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            where = f"no field of a recipe and no option of the network {recipe.model!r}"
            raise ValueError(f"{option!r} is {where}{hint}")
    # An option is of the type of its default.
    plain = [(name, _plain(name, value, type(known[name]))) for name, value in recipe.options]
    differing = sorted((name, value) for name, value in plain if value != known[name])
    object.__setattr__(recipe, "options", tuple(differing))
    if recipe.optimiser in ("adam", "adamw") and recipe.momentum:
        raise ValueError(f"{recipe.optimiser} takes no momentum, found {recipe.momentum}")
    if recipe.nesterov and not (recipe.optimiser == "sgd" and recipe.momentum):
        raise ValueError("nesterov is a kind of SGD's momentum: set momentum above 0")


def _plain(name: str, value: Any, kind: Any) -> Any:
    """The value as Python's own bool, int or float, where a setting is of that kind."""
    if kind not in (bool, int, float):
        return value
    if not isinstance(value, numbers.Real) or not math.isfinite(value) or kind(value) != value:
        wanted = {bool: "True or False", int: "a whole number", float: "a finite number"}[kind]
        raise ValueError(f"{name} must be {wanted}, found {value!r}")
    return kind(value)


REPORT_A = Recipe("Report A", lr=0.14, batch_size=64, epochs=15)
"""Report A: images in [0, 1], SGD at lr 0.14 without momentum, batch 64, 15 epochs."""

REPORT_B = Recipe(
    "Report B", model="report_b", mean=0.5, std=0.5,
    augmentation=Augmentation(
        rotation=10.0, horizontal_flip=0.5, crop_scale=(0.8, 1.0), crop_ratio=(3 / 4, 4 / 3)
    ),
    optimiser="adam", lr=0.001,
    batch_size=50, epochs=30,  # the text names no batch size; 50 is its code's
)  # fmt: skip
"""Report B as its text prints it, the flips of its augmentation included."""

REPORT_B_CODE = REPORT_B.but(
    name="Report B (code)", model="report_b_code", augmentation=Augmentation(), lr=0.0008, seed=20
)
"""Report B as its published code trains: no augmentation, cross-entropy over a softmax."""

FAST = Recipe(
    "FAST", model="fast", mean=MNIST_MEAN, std=MNIST_STD, border=4,
    lr=0.5, momentum=0.9, nesterov=True, schedule="one_cycle",
    label_smoothing=0.1, weight_decay=5e-4, batch_translation=1,
    precision="auto", batch_size=256, epochs=2,
)  # fmt: skip
"""99 % of the test digits in seconds."""

STRONG = FAST.but(
    name="STRONG", model="deep", width=16, border=2,
    augmentation=Augmentation(rotation=10.0, translation=0.06, scale=0.1, shear=8.0),
    lr=0.1, averaging=0.99, batch_translation=0, test_translation=1,
    batch_size=128, epochs=8,
)  # fmt: skip
"""99.6 % of the test digits in about a minute."""

ACCURATE = STRONG.but(name="ACCURATE", width=32, averaging=0.998, epochs=20)
"""The best single network that this course can teach in a quarter of an hour."""

READER = STRONG.but(
    name="READER", width=24,
    augmentation=Augmentation(rotation=15.0, translation=0.06, scale=0.15, shear=12.0),
    lr=0.2, label_smoothing=0.0, averaging=0.998, batch_size=256, epochs=10, seed=1,
)  # fmt: skip
"""Reads handwriting, when trained on digits whose strokes ``handwriting.strokes`` varied."""

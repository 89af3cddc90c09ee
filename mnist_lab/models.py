"""The networks, each a list of named layers.

All take float32 images [N, 1, 28, 28] and give float32 [N, 10], one number per digit. Those with an
``image_size`` take images of other sizes as well.
"""

import inspect
import math
from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from mnist_lab.shapes import IMAGE_SIZE, output_size

CLASSES = 10


class Residual(nn.Module):
    """Two padded 3×3 convolutions whose result is added to their input: relu(x + f(x)).

    Shape and number of channels stay as they are (He et al. 2016, arXiv:1512.03385, figure 2).
    """

    def __init__(self, channels: int, batch_norm: bool = False) -> None:
        super().__init__()
        self.change = _layers(
            conv1=nn.Conv2d(channels, channels, 3, padding=1),
            norm1=nn.BatchNorm2d(channels) if batch_norm else None,
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(channels, channels, 3, padding=1),
            norm2=nn.BatchNorm2d(channels) if batch_norm else None,
        )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Float maps [N, channels, H, W] to maps of the same shape."""
        return self.relu2(x + self.change(x))


def report_a(
    kernel_size: int = 5,
    stride: int = 1,
    padding: int = 0,
    width: float = 1.0,
    linear_width: float = 1.0,
    pooling: str = "max",
    separable: bool = False,
    second_conv: bool = True,
    extra_conv: bool = False,
    residual: bool = False,
    extra_linear: bool = False,
    batch_norm: bool = False,
    dropout2d: float = 0.0,
    dropout1: float = 0.0,
    dropout2: float = 0.0,
) -> nn.Sequential:
    """Report A's network: two 5×5 convolutions, each pooled, then three linear layers.

    Each argument changes one thing, most of them as the reports propose but do not try. A layer
    that an argument adds gets a name of its own, and no other layer's name changes.

    Args:
        kernel_size: of the first convolution.
        stride: of the first convolution.
        padding: of the first convolution.
        width: multiplies the 10 and 20 channels and the 128 and 64 hidden units, rounded.
        linear_width: multiplies the 128 and 64 hidden units alone, rounded.
        pooling: "max", "average", or "stride" for a 2×2 convolution of stride 2 in the pool's
            place (Springenberg et al. 2015, arXiv:1412.6806; here without a ReLU before it).
        separable: the second convolution as a 5×5 one on each channel by itself, then a 1×1 one
            across channels (Howard et al. 2017, arXiv:1704.04861; here with nothing in between).
        second_conv: whether there is a second stage of convolution, pooling and ReLU.
        extra_conv: one more convolution, 3×3 and padded, after the last stage.
        residual: a ``Residual`` block before the linear layers.
        extra_linear: one more linear layer after the second, of the same width.
        batch_norm: normalise after every convolution, those of the residual block included, but
            not after one that stands for a pool (Ioffe & Szegedy 2015, arXiv:1502.03167).
        dropout2d: probability of dropping a whole channel after each convolution's ReLU, outside
            the residual block (Tompson et al. 2015, arXiv:1411.4280).
        dropout1: probability of dropping a unit after linear layer 1 and its ReLU
            (Srivastava et al. 2014, JMLR 15:1929–1958).
        dropout2: the same after linear layer 2 and its ReLU.

    Returns:
        A network whose output is logits; 55,274 parameters as the report has it.

    Raises:
        ValueError: if the image is used up before the linear layers, or for a value that is no
            kind of pooling, no probability below 1 or no positive width, or for a separable second
            convolution where there is no second one.
    """
    for name, factor in (("width", width), ("linear_width", linear_width)):
        if not 0 < factor < math.inf:
            raise ValueError(f"{name}: expected a number above 0, found {factor!r}")
    if separable and not second_conv:
        raise ValueError(
            "separable changes the second convolution, which second_conv=False leaves out"
        )
    for name, p in (("dropout2d", dropout2d), ("dropout1", dropout1), ("dropout2", dropout2)):
        if not 0 <= p < 1:
            raise ValueError(f"{name}: expected a probability in [0, 1), found {p!r}")
    first = output_size(IMAGE_SIZE, kernel_size, padding, stride) // 2
    if first < (6 if second_conv else 1):
        raise ValueError(
            "expected a map of at least 6×6 for the second 5×5 convolution and its pooling, found "
            f"{first}×{first} after kernel_size={kernel_size}, stride={stride}, padding={padding}"
        )
    last = output_size(first, 5) // 2 if second_conv else first
    c1, c2 = (max(1, round(width * size)) for size in (10, 20))
    h1, h2 = (max(1, round(width * linear_width * size)) for size in (128, 64))
    c_last = c2 if second_conv else c1
    return _layers(
        conv1=nn.Conv2d(1, c1, kernel_size, stride, padding),
        norm1=nn.BatchNorm2d(c1) if batch_norm else None,
        pool1=_pool(pooling, c1),
        relu1=nn.ReLU(),
        dropout2d_1=nn.Dropout2d(dropout2d) if dropout2d else None,
        depthwise2=nn.Conv2d(c1, c1, 5, groups=c1) if separable else None,
        conv2=nn.Conv2d(c1, c2, 1 if separable else 5) if second_conv else None,
        norm2=nn.BatchNorm2d(c2) if second_conv and batch_norm else None,
        pool2=_pool(pooling, c2) if second_conv else None,
        relu2=nn.ReLU() if second_conv else None,
        dropout2d_2=nn.Dropout2d(dropout2d) if second_conv and dropout2d else None,
        conv2b=nn.Conv2d(c_last, c_last, 3, padding=1) if extra_conv else None,
        norm2b=nn.BatchNorm2d(c_last) if extra_conv and batch_norm else None,
        relu2b=nn.ReLU() if extra_conv else None,
        dropout2d_2b=nn.Dropout2d(dropout2d) if extra_conv and dropout2d else None,
        residual=Residual(c_last, batch_norm) if residual else None,
        flatten=nn.Flatten(),
        linear1=nn.Linear(c_last * last * last, h1),
        relu3=nn.ReLU(),
        dropout1=nn.Dropout(dropout1) if dropout1 else None,
        linear2=nn.Linear(h1, h2),
        relu4=nn.ReLU(),
        dropout2=nn.Dropout(dropout2) if dropout2 else None,
        linear2b=nn.Linear(h2, h2) if extra_linear else None,
        relu4b=nn.ReLU() if extra_linear else None,
        linear3=nn.Linear(h2, CLASSES),
    )


def _layers(**layers: nn.Module | None) -> nn.Sequential:
    """The layers in the order given, without those that are None."""
    return nn.Sequential(OrderedDict((k, v) for k, v in layers.items() if v is not None))


def _require_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}: expected at least 1, found {size}")


def _pool(pooling: str, channels: int) -> nn.Module:
    """What halves the height and width of a map."""
    if pooling == "max":
        return nn.MaxPool2d(2)
    if pooling == "average":
        return nn.AvgPool2d(2)
    if pooling == "stride":
        return nn.Conv2d(channels, channels, 2, stride=2)
    raise ValueError(f"pooling: expected 'max', 'average' or 'stride', found {pooling!r}")


def report_b() -> nn.Sequential:
    """Report B's network as its text prints it: 421,642 parameters, output logits."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 32, 3, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(32, 64, 3, padding=1),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            linear1=nn.Linear(64 * 7 * 7, 128),
            relu3=nn.ReLU(),
            linear2=nn.Linear(128, CLASSES),
        )
    )


def report_b_code(softmax: bool = True, last_relu: bool = True) -> nn.Sequential:
    """Report B's network as its published code has it: 106,072 parameters.

    With ``softmax`` its outputs are probabilities, which its loss then takes for logits. That and
    the ReLU before the last linear layer are kept because the course measures what they do.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(1, 16, 3, padding=1),
        norm1=nn.BatchNorm2d(16),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(16, 32, 3, padding=1),
        norm2=nn.BatchNorm2d(32),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        linear1=nn.Linear(32 * 7 * 7, 64),
        relu3=nn.ReLU(),
        linear2=nn.Linear(64, 10),
    )
    if last_relu:
        layers["relu4"] = nn.ReLU()
    layers["linear3"] = nn.Linear(10, CLASSES)
    if softmax:
        layers["softmax"] = nn.Softmax(dim=1)
    return nn.Sequential(layers)


def fast(
    width: int = 16, hidden: int = 256, activation: str = "gelu", image_size: int = IMAGE_SIZE
) -> nn.Sequential:
    """A network for few operations: its first convolution takes every second pixel.

    A quarter of the places remain for everything that follows. Batch normalisation lets it learn at
    a high rate, so that few epochs are enough.

    Args:
        width: channels of the first convolution; the second has twice as many.
        hidden: units of the hidden linear layer.
        activation: of the hidden layer, "relu" or "gelu" (Hendrycks & Gimpel 2016,
            arXiv:1606.08415).
        image_size: width and height of the images.

    Raises:
        ValueError: if the images are too small for its layers, a size is below 1, or for another
            activation.
    """
    activations: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}
    if activation not in activations:
        raise ValueError(f"activation: expected 'relu' or 'gelu', found {activation!r}")
    if image_size < 12:
        raise ValueError(f"image_size: expected at least 12, found {image_size}")
    _require_positive(width=width, hidden=hidden)
    last = output_size(output_size(image_size, 5, stride=2), 3) // 2
    return _layers(
        conv1=nn.Conv2d(1, width, 5, stride=2, bias=False),
        norm1=nn.BatchNorm2d(width),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(width, 2 * width, 3, bias=False),
        pool2=nn.MaxPool2d(2),
        norm2=nn.BatchNorm2d(2 * width),
        relu2=nn.ReLU(),
        flatten=nn.Flatten(),
        linear1=nn.Linear(2 * width * last * last, hidden),
        activation3=activations[activation](),
        linear2=nn.Linear(hidden, CLASSES),
    )


def deep(width: int = 32, image_size: int = IMAGE_SIZE) -> nn.Sequential:
    """Five convolutions in three stages, with ``width``, 2 and 4 times as many channels.

    Pooling parts the stages. Of each channel of the last one only the largest value is kept,
    wherever in the image it is (global max-pooling), so that few weights are needed after it.

    Raises:
        ValueError: if the images are smaller than 8 pixels, or the width is below 1.
    """
    if image_size < 8:
        raise ValueError(f"image_size: expected at least 8, found {image_size}")
    _require_positive(width=width)
    stages = ((1, width, 5), (width, 2 * width, 3), (2 * width, 2 * width, 3),
              (2 * width, 4 * width, 3), (4 * width, 4 * width, 3))  # fmt: skip
    layers: dict[str, nn.Module | None] = {}
    for number, (before, after, kernel_size) in enumerate(stages, 1):
        layers[f"conv{number}"] = nn.Conv2d(
            before, after, kernel_size, padding=kernel_size // 2, bias=False
        )
        layers[f"pool{number}"] = nn.MaxPool2d(2) if number in (1, 3) else None
        layers[f"norm{number}"] = nn.BatchNorm2d(after)
        layers[f"relu{number}"] = nn.ReLU()
    return _layers(
        **layers,
        last_pool=nn.AdaptiveMaxPool2d(1),
        flatten=nn.Flatten(),
        linear=nn.Linear(4 * width, CLASSES),
    )


NETWORKS: dict[str, Callable[..., nn.Sequential]] = {
    "report_a": report_a,
    "report_b": report_b,
    "report_b_code": report_b_code,
    "fast": fast,
    "deep": deep,
}


def network_options(name: str) -> dict[str, object]:
    """The options that the network ``name`` takes, with their defaults."""
    parameters = inspect.signature(NETWORKS[name]).parameters
    return {option: parameter.default for option, parameter in parameters.items()}

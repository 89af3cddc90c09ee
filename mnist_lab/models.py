"""The networks, each a list of named layers, and the sizes of their feature maps.

A network takes float32 images [N, 1, 28, 28], or of its ``image_size``, and gives float32 [N, 10],
one number per digit. An option that it cannot take raises ``ValueError``.
"""

import copy
import inspect
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mnist_lab.limits import ABOVE_0, BELOW_1, at_least, one_of, require

IMAGE_SIZE = 28
CLASSES = 10


def output_size(width: int, kernel_size: int, padding: int = 0, stride: int = 1) -> int:
    """Width of what a convolution or pooling makes of an image: ⌊(w + 2p − k) / s⌋ + 1.

    Raises:
        ValueError: if the filter is larger than the padded image, or there is no such filter.
    """
    require(kernel_size=(kernel_size, at_least(1)), stride=(stride, at_least(1)))
    require(padding=(padding, at_least(0)))
    if kernel_size > width + 2 * padding:
        raise ValueError(f"a filter of {kernel_size} does not fit {width} padded by {padding}")
    return (width + 2 * padding - kernel_size) // stride + 1


def parameter_count(model: nn.Module) -> int:
    """How many numbers training can change."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def multiply_adds(
    model: nn.Module, input_shape: tuple[int, ...] = (1, IMAGE_SIZE, IMAGE_SIZE)
) -> int:
    """Multiplications, each with its addition, that one image of ``input_shape`` costs forwards.

    Those of convolutions and linear layers, padding included; biases, normalisation, pooling and
    activations do not count (Howard et al. 2017, arXiv:1704.04861, section 3.1).
    """
    from torch.utils.flop_counter import FlopCounterMode

    model = copy.deepcopy(model).to("cpu", torch.float32).eval()  # the model stays as it is
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, *input_shape))
    return counter.get_total_flops() // 2


def trace_shapes(
    model: nn.Sequential, input_shape: tuple[int, ...] = (1, 1, IMAGE_SIZE, IMAGE_SIZE)
) -> list[tuple[str, tuple[int, ...]]]:
    """The shape after each layer, as (layer name, shape), starting with the input."""
    shapes: list[tuple[str, tuple[int, ...]]] = [("input", input_shape)]
    x = torch.zeros(input_shape)
    with torch.inference_mode():
        for name, layer in copy.deepcopy(model).eval().named_children():
            x = layer(x)
            shapes.append((name, tuple(x.shape)))
    return shapes


def _layers(**layers: nn.Module | None) -> nn.Sequential:
    """The layers in the order given, without those that are None."""
    return nn.Sequential(OrderedDict((k, v) for k, v in layers.items() if v is not None))


class Residual(nn.Module):
    """Two padded 3×3 convolutions whose result is added to their input: relu(x + f(x)).

    Maps [N, channels, H, W] keep their shape (He et al. 2016, arXiv:1512.03385, figure 2).
    """

    def __init__(self, channels: int, batch_norm: bool = False) -> None:
        super().__init__()
        self.change = _layers(
            conv1=nn.Conv2d(channels, channels, 3, padding=1),
            norm1=nn.BatchNorm2d(channels) if batch_norm else None, relu1=nn.ReLU(),
            conv2=nn.Conv2d(channels, channels, 3, padding=1),
            norm2=nn.BatchNorm2d(channels) if batch_norm else None,
        )  # fmt: skip
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu2(x + self.change(x))


POOLINGS: dict[str, Callable[[int], nn.Module]] = {
    "max": lambda channels: nn.MaxPool2d(2),
    "average": lambda channels: nn.AvgPool2d(2),
    "stride": lambda channels: nn.Conv2d(channels, channels, 2, stride=2),
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}


def report_a(
    kernel_size: int = 5,  # of the first convolution, as are the next two
    stride: int = 1,
    padding: int = 0,
    width: float = 1.0,  # multiplies the 10 and 20 channels and the 128 and 64 hidden units
    linear_width: float = 1.0,  # multiplies the hidden units alone
    # Or "average", or "stride": a 2×2 convolution of stride 2, here without a ReLU before it
    # (Springenberg et al. 2015, arXiv:1412.6806).
    pooling: str = "max",
    # conv2 as 5×5 on each channel by itself, then 1×1 across them, with nothing between (Howard et
    # al. 2017, arXiv:1704.04861).
    separable: bool = False,
    second_conv: bool = True,  # whether there is a second stage of convolution, pooling, ReLU
    extra_conv: bool = False,  # one more convolution, 3×3 and padded, after the last stage
    residual: bool = False,  # a ``Residual`` block before the linear layers
    extra_linear: bool = False,  # one more linear layer after the second, of the same width
    # After conv1, conv2, conv2b and those of the residual block (Ioffe & Szegedy 2015,
    # arXiv:1502.03167).
    batch_norm: bool = False,
    # Probability of dropping a whole channel, after the ReLU of conv1, conv2 and conv2b (Tompson et
    # al. 2015, arXiv:1411.4280).
    dropout2d: float = 0.0,
    # Probability of dropping a unit after linear layer 1 and its ReLU, and after linear layer 2 and
    # its own (Srivastava et al. 2014, JMLR 15:1929–1958).
    dropout1: float = 0.0,
    dropout2: float = 0.0,
) -> nn.Sequential:
    """Report A's network: two 5×5 convolutions, each pooled, then three linear layers to logits.

    It has 55,274 parameters. Each argument changes one thing, most of them as the reports propose
    but do not try; a layer that it adds has a name of its own, and no other layer's name changes.
    """
    require(width=(width, ABOVE_0), linear_width=(linear_width, ABOVE_0))
    require(dropout2d=(dropout2d, BELOW_1), dropout1=(dropout1, BELOW_1))
    require(dropout2=(dropout2, BELOW_1), pooling=(pooling, one_of(POOLINGS)))
    if separable and not second_conv:
        raise ValueError("separable changes the convolution that second_conv=False leaves out")
    first = output_size(IMAGE_SIZE, kernel_size, padding, stride) // 2
    needed = 6 if second_conv else 1  # the second stage is a 5×5 convolution and a pooling by 2
    if first < needed:
        raise ValueError(
            f"expected a map of at least {needed}×{needed} after the first pooling, found "
            f"{first}×{first} from kernel_size={kernel_size}, stride={stride}, padding={padding}"
        )
    c1, c2 = (max(1, round(width * size)) for size in (10, 20))
    h1, h2 = (max(1, round(width * linear_width * size)) for size in (128, 64))
    c_last, last = (c2, output_size(first, 5) // 2) if second_conv else (c1, first)

    # A layer that is None is left out by ``_layers``.
    def stage(number: str, convolution: nn.Conv2d, pool: bool = True) -> dict[str, Any]:
        channels = convolution.out_channels
        return {
            f"conv{number}": convolution,
            f"norm{number}": nn.BatchNorm2d(channels) if batch_norm else None,
            f"pool{number}": POOLINGS[pooling](channels) if pool else None,
            f"relu{number}": nn.ReLU(),
            f"dropout2d_{number}": nn.Dropout2d(dropout2d) if dropout2d else None,
        }

    layers = stage("1", nn.Conv2d(1, c1, kernel_size, stride, padding))
    if separable:
        layers["depthwise2"] = nn.Conv2d(c1, c1, 5, groups=c1)
    if second_conv:
        layers |= stage("2", nn.Conv2d(c1, c2, 1 if separable else 5))
    if extra_conv:
        layers |= stage("2b", nn.Conv2d(c_last, c_last, 3, padding=1), pool=False)
    return _layers(
        **layers,
        residual=Residual(c_last, batch_norm) if residual else None,
        flatten=nn.Flatten(), linear1=nn.Linear(c_last * last * last, h1), relu3=nn.ReLU(),
        dropout1=nn.Dropout(dropout1) if dropout1 else None,
        linear2=nn.Linear(h1, h2), relu4=nn.ReLU(),
        dropout2=nn.Dropout(dropout2) if dropout2 else None,
        linear2b=nn.Linear(h2, h2) if extra_linear else None,
        relu4b=nn.ReLU() if extra_linear else None,
        linear3=nn.Linear(h2, CLASSES),
    )  # fmt: skip


def report_b() -> nn.Sequential:
    """Report B's network as its text prints it: 421,642 parameters, output logits."""
    return _layers(
        conv1=nn.Conv2d(1, 32, 3, padding=1), relu1=nn.ReLU(), pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(32, 64, 3, padding=1), relu2=nn.ReLU(), pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(), linear1=nn.Linear(64 * 7 * 7, 128), relu3=nn.ReLU(),
        linear2=nn.Linear(128, CLASSES),
    )  # fmt: skip


def report_b_code(softmax: bool = True, last_relu: bool = True) -> nn.Sequential:
    """Report B's network as its published code has it: 106,072 parameters.

    With ``softmax`` its outputs are probabilities, which its loss then takes for logits. That and
    the ReLU before the last linear layer are kept because the course measures what they do.
    """
    return _layers(
        conv1=nn.Conv2d(1, 16, 3, padding=1), norm1=nn.BatchNorm2d(16),
        relu1=nn.ReLU(), pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(16, 32, 3, padding=1), norm2=nn.BatchNorm2d(32),
        relu2=nn.ReLU(), pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(), linear1=nn.Linear(32 * 7 * 7, 64), relu3=nn.ReLU(),
        linear2=nn.Linear(64, 10), relu4=nn.ReLU() if last_relu else None,
        linear3=nn.Linear(10, CLASSES), softmax=nn.Softmax(dim=1) if softmax else None,
    )  # fmt: skip


def fast(
    width: int = 16, hidden: int = 256, activation: str = "gelu", image_size: int = IMAGE_SIZE
) -> nn.Sequential:
    """A network for few operations: its first convolution takes every second pixel.

    Batch normalisation lets it learn at a high rate, so that few epochs are enough. Its first
    convolution has ``width`` channels, the second twice as many; the ``activation`` of its hidden
    layer is "relu" or "gelu" (Hendrycks & Gimpel 2016, arXiv:1606.08415).
    """
    require(width=(width, at_least(1)), hidden=(hidden, at_least(1)))
    require(image_size=(image_size, at_least(12)), activation=(activation, one_of(ACTIVATIONS)))
    last = output_size(output_size(image_size, 5, stride=2), 3) // 2
    return _layers(
        conv1=nn.Conv2d(1, width, 5, stride=2, bias=False),
        norm1=nn.BatchNorm2d(width), relu1=nn.ReLU(),
        conv2=nn.Conv2d(width, 2 * width, 3, bias=False), pool2=nn.MaxPool2d(2),
        norm2=nn.BatchNorm2d(2 * width), relu2=nn.ReLU(),
        flatten=nn.Flatten(), linear1=nn.Linear(2 * width * last * last, hidden),
        activation3=ACTIVATIONS[activation](), linear2=nn.Linear(hidden, CLASSES),
    )  # fmt: skip


def deep(width: int = 32, image_size: int = IMAGE_SIZE) -> nn.Sequential:
    """Five convolutions with ``width``, 2 and 4 times as many channels, pooled three times.

    The pooling after the last keeps the largest value of each channel, wherever in the image it is
    (global max-pooling), so that few weights are needed after it.
    """
    require(width=(width, at_least(1)), image_size=(image_size, at_least(8)))
    channels = [1, width, 2 * width, 2 * width, 4 * width, 4 * width]
    layers: dict[str, nn.Module | None] = {}
    for i, size in enumerate((5, 3, 3, 3, 3)):
        before, after = channels[i : i + 2]
        layers |= {
            f"conv{i + 1}": nn.Conv2d(before, after, size, padding=size // 2, bias=False),
            f"pool{i + 1}": nn.MaxPool2d(2) if i in (0, 2) else None,
            f"norm{i + 1}": nn.BatchNorm2d(after),
            f"relu{i + 1}": nn.ReLU(),
        }
    layers |= {"last_pool": nn.AdaptiveMaxPool2d(1), "flatten": nn.Flatten()}
    return _layers(**layers, linear=nn.Linear(4 * width, CLASSES))


NETWORKS: dict[str, Callable[..., nn.Sequential]] = {
    network.__name__: network for network in (report_a, report_b, report_b_code, fast, deep)
}


def network_options(name: str) -> dict[str, object]:
    """The options that the network ``name`` takes, with their defaults."""
    parameters = inspect.signature(NETWORKS[name]).parameters
    return {option: parameter.default for option, parameter in parameters.items()}

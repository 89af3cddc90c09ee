"""Sizes of maps, numbers of parameters and of operations, for any network."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

IMAGE_SIZE = 28


def output_size(width: int, kernel_size: int, padding: int = 0, stride: int = 1) -> int:
    """Width of what a convolution or pooling makes of an image: ⌊(w + 2p − k) / s⌋ + 1.

    Raises:
        ValueError: if the filter is larger than the padded image, or there is no such filter.
    """
    if kernel_size < 1 or padding < 0 or stride < 1:
        raise ValueError(
            "expected kernel_size and stride of at least 1 and padding of at least 0, found "
            f"kernel_size={kernel_size}, stride={stride}, padding={padding}"
        )
    if kernel_size > width + 2 * padding:
        raise ValueError(
            f"a filter of {kernel_size} does not fit an image of {width} padded by {padding}"
        )
    return (width + 2 * padding - kernel_size) // stride + 1


def parameter_count(model: nn.Module) -> int:
    """How many numbers training can change."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def multiply_adds(
    model: nn.Module, input_shape: tuple[int, ...] = (1, IMAGE_SIZE, IMAGE_SIZE)
) -> int:
    """Multiplications, each with its addition, that one image of ``input_shape`` costs forwards.

    Counts the ``nn.Conv1d`` to ``nn.Conv3d`` and ``nn.Linear`` layers, however deep inside the
    model and as often as it uses them: every output number costs one filter's worth. Multiplying
    by padding counts; biases, normalisation, pooling and activations do not (the counting of
    Howard et al. 2017, arXiv:1704.04861, section 3.1). Nothing in the model changes.
    """
    counts: list[int] = []

    def count(layer: Any, inputs: object, output: Tensor) -> None:
        counts.append(output.numel() * layer.weight[0].numel())

    counted = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, counted)]
    like = next(model.parameters(), torch.empty(0))
    try:
        with _evaluating(model):
            model(torch.zeros(1, *input_shape, device=like.device, dtype=like.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counts)


def trace_shapes(
    model: nn.Sequential, input_shape: tuple[int, ...] = (1, 1, IMAGE_SIZE, IMAGE_SIZE)
) -> list[tuple[str, tuple[int, ...]]]:
    """The shape after each layer, as (layer name, shape), starting with the input.

    Works on any list of layers. Weights are not changed and nothing is learned.
    """
    shapes: list[tuple[str, tuple[int, ...]]] = [("input", input_shape)]
    with _evaluating(model):
        x: Tensor = torch.zeros(input_shape)
        for name, layer in model.named_children():
            x = layer(x)
            shapes.append((name, tuple(x.shape)))
    return shapes


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in eval mode and keeps no gradients; after, each mode is as before."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode

"""Where PyTorch computes."""

import torch

from mnist_lab.files import LabError


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The device called ``name``; "auto" is a GPU (CUDA, else Apple's MPS) when there is one.

    Raises:
        LabError: if that device is not on this machine.
    """
    if name == "auto":
        on_a_mac = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if on_a_mac else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise LabError(
            f"device {name!r} cannot be used here: {str(error).splitlines()[0]}\n"
            '  Use device="auto" or "cpu".'
        ) from error
    return torch.device(name)


def has_bfloat16(device: torch.device) -> bool | None:
    """Whether the device itself computes in bfloat16, or ``None`` where PyTorch can't say.

    On a device that does not, PyTorch imitates it, many times slower than float32.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        features = torch.cpu.get_capabilities()
        return any(has for name, has in features.items() if "bf16" in name)
    return None

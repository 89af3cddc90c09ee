"""The machine that a run or a measurement was made on."""

import os
import platform
import re
import sys
from pathlib import Path


def describe_machine(device: str = "cpu") -> dict[str, object]:
    """Its processor, GPU, load and versions, as plain JSON values; ``None`` where it isn't known.

    It names no host, user or path. ``bfloat16`` tells whether ``device`` computes in it natively,
    ``load`` holds the averages over 1, 5 and 15 minutes.
    """
    import torch

    from mnist_lab.devices import has_bfloat16, pick_device

    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "logical_cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "bfloat16": has_bfloat16(pick_device(device)),
        "load": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }


def peak_memory() -> dict[str, int | None]:
    """Most bytes in use so far, by this process and on the GPU; ``None`` where it isn't known."""
    import torch

    try:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    except ImportError:  # on Windows
        peak = None
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {"peak_memory": peak, "peak_gpu_memory": gpu}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()

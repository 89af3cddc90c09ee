"""A run folder: figures, tables, numbers and where they came from, each file written atomically."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_lab.atomic import replacing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from mnist_lab.data import Digits

_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "matplotlib",
    "papermill",
    "mnist-lab",
)


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented UTF-8 JSON, atomically.

    Raises:
        ValueError: if it holds a NaN or an infinity, which JSON cannot say.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


@dataclass(frozen=True)
class Run:
    """Where a notebook leaves its results; with ``folder=None`` it checks them and keeps nothing.

    Names are made of lower-case letters, digits and underscores; every method raises ``ValueError``
    for another name. A second result of the same name replaces the first.
    """

    folder: Path | None = None

    def figure(self, name: str, fig: Figure) -> None:
        """Keep ``fig`` as ``figures/<name>.png`` with its title; equal figures, equal bytes."""
        _check_name(name)
        if self.folder is None:
            return
        with replacing(self.folder / "figures" / f"{name}.png") as temporary:
            fig.savefig(
                temporary,
                format="png",
                dpi=150,
                bbox_inches="tight",
                facecolor="white",
                metadata={"Software": None, "Title": fig.get_suptitle()},
            )

    def table(self, name: str, frame: pd.DataFrame, index: bool = False) -> None:
        """Keep ``frame`` as ``tables/<name>.csv``, with its index as the first column if asked."""
        _check_name(name)
        if self.folder is None:
            return
        with replacing(self.folder / "tables" / f"{name}.csv") as temporary:
            frame.to_csv(temporary, index=index, lineterminator="\n", encoding="utf-8")

    def numbers(self, section: str, **values: object) -> None:
        """Merge ``values`` into ``metrics.json`` under ``section``.

        NumPy and torch values become plain ones, arrays become lists.

        Raises:
            ValueError: if a value is a NaN, an infinity or nothing JSON can hold; it is named.
        """
        _check_name(section)
        plain = {name: _plain(f"{section}.{name}", value) for name, value in values.items()}
        if self.folder is None:
            return
        path = self.folder / "metrics.json"
        metrics = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        metrics.setdefault(section, {}).update(plain)
        write_json(path, metrics)

    def array(self, name: str, **arrays: Any) -> None:
        """Keep ``arrays`` compressed as ``predictions/<name>.npz``."""
        import numpy as np

        _check_name(name)
        if self.folder is None:
            return
        path = self.folder / "predictions" / f"{name}.npz"
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)


def open_run(output: str | Path = "") -> Run:
    """The run folder at ``output``, made where it is missing; an empty string keeps nothing."""
    if not str(output):
        return Run()
    folder = Path(output).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return Run(folder)


def provenance(
    digits: Digits,
    *,
    profile: str,
    seed: int,
    jobs: int,
    given: Mapping[str, str],
    parameters: Mapping[str, Mapping[str, object]],
    started: datetime,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Everything needed to repeat a run and to judge its timings, as plain JSON values.

    ``given`` are the parameters that the user chose, ``parameters`` all of them by notebook, and
    ``seconds`` are by notebook. It names no absolute path, host or user.
    """
    return {
        "dataset": {
            "name": digits.name,
            "title": digits.title,
            "source": str(digits.source),
            "digest": digits.digest,
            "sha256": dict(digits.sha256),
        },
        "profile": profile,
        "seed": seed,
        "jobs": jobs,
        "given": dict(given),
        "parameters": {notebook: dict(values) for notebook, values in parameters.items()},
        "started": started.isoformat(timespec="seconds"),
        "seconds": {
            "total": round(sum(seconds.values()), 1),
            "notebooks": {notebook: round(value, 1) for notebook, value in seconds.items()},
        },
        "machine": _machine(),
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in _PACKAGES},
        "git": _git(),
    }


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ValueError(f"a name is made of a-z, 0-9 and _, not {name!r}")


def _plain(name: str, value: Any) -> object:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(f"{name}.{key}", item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(f"{name}[{i}]", item) for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}, which is not a result")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"{name} is a {type(value).__name__}, which metrics.json cannot hold")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _machine() -> dict[str, object]:
    import torch

    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "logical_cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def _git() -> dict[str, object] | None:
    from mnist_lab.data import PROJECT

    def ask(*words: str) -> str:
        command = ["git", "-C", str(PROJECT), *words]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        return answer.stdout.strip()

    try:
        # A copy unpacked inside another project's checkout must not claim that project's commit.
        if Path(ask("rev-parse", "--show-toplevel")).resolve() != PROJECT.resolve():
            return None
        return {
            "commit": ask("rev-parse", "HEAD"),
            "dirty": bool(ask("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None

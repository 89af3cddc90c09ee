"""A run folder: what notebooks leave there, what a finished one holds, and where it came from."""

from __future__ import annotations

import json
import platform
import re
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_lab.files import MAX_BYTES, PROJECT, LabError, display_path, replacing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from PIL import Image

    from mnist_lab.data import Digits
    from mnist_lab.study.predictions import Predictions

MARKUP = r"""[\\`*{}\[\]<>|~^$#@&"⟦⟧]"""
MAX_FILES = 1000
MAX_PIXELS = 40_000_000
PACKAGES = (
    *("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "matplotlib"),
    *("papermill", "mnist-lab"),
)


@dataclass(frozen=True)
class RunFolder:
    """Where notebooks leave results and the report finds them; ``None`` checks and keeps nothing.

    Names consist of a-z, 0-9 and _; what writes raises ``ValueError`` for others, and replaces an
    earlier result of that name. What reads raises ``LabError`` for a missing or unreadable file.
    """

    folder: Path | None = None

    def figure(self, name: str, fig: Figure) -> None:
        """Keep ``fig`` as ``figures/<name>.png`` with its title; equal figures, equal bytes."""
        if path := self._target(name, f"figures/{name}.png"):
            about = {"Software": None, "Title": fig.get_suptitle()}
            with replacing(path) as new:
                fig.savefig(
                    new, format="png", dpi=150, bbox_inches="tight", facecolor="w", metadata=about
                )

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Keep ``frame`` without its index as ``tables/<name>.csv``."""
        if path := self._target(name, f"tables/{name}.csv"):
            with replacing(path) as new:
                frame.to_csv(new, index=False, lineterminator="\n", encoding="utf-8")

    def numbers(self, section: str, **values: object) -> None:
        """Merge ``values`` into ``metrics.json`` under ``section``, NumPy's and torch's as plain.

        Raises:
            ValueError: if a value is a NaN, an infinity or nothing JSON can hold; it is named.
        """
        plain = {}
        for name, value in values.items():
            try:
                text = json.dumps(value, allow_nan=False, default=lambda array: array.tolist())
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"{section}.{name} is no result: {error}") from error
            plain[name] = json.loads(text)
        if path := self._target(section, "metrics.json"):
            metrics = self.metrics if path.exists() else {}
            metrics.setdefault(section, {}).update(plain)
            write_json(path, metrics)

    def array(self, name: str, **arrays: Any) -> None:
        """Keep ``arrays`` compressed as ``predictions/<name>.npz``."""
        import numpy as np

        if path := self._target(name, f"predictions/{name}.npz"):
            with replacing(path) as new, new.open("wb") as file:
                np.savez_compressed(file, **arrays)

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Every number of the report, by section."""
        return self.read_json("metrics.json")

    @property
    def provenance(self) -> dict[str, Any]:
        """What ``provenance`` said of the run."""
        return self.read_json("provenance.json")

    @property
    def manifest(self) -> dict[str, str]:
        """SHA-256 of every other file, by its path."""
        return self.read_json("manifest.json")

    @cached_property
    def predictions(self) -> dict[str, Predictions]:
        """The kept predictions by file name, read once."""
        from mnist_lab.study.predictions import read_predictions

        files = sorted(self._file("predictions").glob("*.npz"))
        return {file.stem: read_predictions(file) for file in files}

    def read_json(self, name: str) -> Any:
        """A JSON file of the run: an object."""
        path = self._file(name)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError(f"it holds {content!r:.20}, not an object")
            return content
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise LabError(
                f"{display_path(path.parent)} is no finished run: {name} can't be read: {reason}.\n"
                "  Give the folder of a report, such as report/mnist-full."
            ) from error

    def read_table(self, name: str) -> pd.DataFrame:
        """``tables/<name>.csv``."""
        import pandas as pd

        try:
            return pd.read_csv(self._file(f"tables/{name}.csv"))
        except (OSError, ValueError, OverflowError) as error:
            raise LabError(f"tables/{name}.csv cannot be read: {error}") from error

    def has_table(self, name: str) -> bool:
        """Whether there is such a table."""
        return self._file(f"tables/{name}.csv").exists()

    def read_figure(self, name: str) -> Image.Image:
        """``figures/<name>.png``, its pixels loaded."""
        from PIL import Image

        try:
            with Image.open(self._file(f"figures/{name}.png"), formats=["PNG"]) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"{image.width}×{image.height} pixels are too many")
                image.load()
            return image
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise LabError(f"figures/{name}.png cannot be read: {error}") from error

    def files(self) -> dict[str, Path]:
        """Every file of the run by its path within it, in order.

        Raises:
            LabError: if there is anything but files and folders, or more than a run can hold.
        """
        found = {}
        for path in sorted(self._file("").rglob("*")):
            name, kind = path.relative_to(self._file("")).as_posix(), path.lstat().st_mode
            if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
                raise LabError(f"{name} is a link or a device: a run holds only files and folders.")
            if stat.S_ISREG(kind):
                found[name] = path
            if path.lstat().st_size > MAX_BYTES or len(found) > MAX_FILES:
                raise LabError(
                    f"{name}: a run holds no more than {MAX_FILES} files, none over 47 MB."
                )
        return found

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file but the manifest, by its path; raises as ``files``."""
        files = {name: path for name, path in self.files().items() if name != "manifest.json"}
        return {name: sha256(path.read_bytes()).hexdigest() for name, path in files.items()}

    def _target(self, name: str, file: str) -> Path | None:
        if not re.fullmatch(r"[a-z0-9_]+", name):
            raise ValueError(f"a name is made of a-z, 0-9 and _, not {name!r}")
        return self.folder and self.folder / file

    def _file(self, name: str) -> Path:
        if self.folder is None:
            raise LabError("Nothing is kept here to read: open a run with a folder.")
        return self.folder / name


def open_run(output: str | Path = "") -> RunFolder:
    """The run folder at ``output``, made where it is missing; an empty string keeps nothing."""
    if not str(output):
        return RunFolder()
    folder = Path(output).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return RunFolder(folder)


def literal(value: Any) -> Any:
    """The value with every text in it so that Markdown, YAML and HTML show it and obey nothing.

    A run may come from anyone. What could be markup becomes a character reference, a line break or
    another control character a space.
    """
    if isinstance(value, str):
        printable = "".join(c if c.isprintable() else " " for c in value)
        return re.sub(MARKUP, lambda found: f"&#{ord(found[0])};", printable)
    if isinstance(value, Mapping):
        return {literal(name): literal(one) for name, one in value.items()}
    return [literal(one) for one in value] if isinstance(value, list) else value


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented UTF-8 JSON, atomically; ``ValueError`` for NaN or infinity."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as new:
        new.write_text(text + "\n", encoding="utf-8", newline="\n")


def provenance(
    digits: Digits, started: datetime, seconds: Mapping[str, float], **asked: object
) -> dict[str, Any]:
    """Everything needed to repeat a run and to judge its timings, as plain JSON values.

    ``seconds`` are by notebook, ``asked`` is what was asked for. No path, host or user is named.
    """
    from mnist_lab.course.machine import describe_machine

    return {
        "dataset": {
            "name": digits.name,
            "title": digits.title,
            "source": str(digits.source),
            "digest": digits.digest,
            "sha256": dict(digits.sha256),
        },
        **asked,
        "started": started.isoformat(timespec="seconds"),
        "seconds": {
            "total": round(sum(seconds.values()), 1),
            "notebooks": {notebook: round(value, 1) for notebook, value in seconds.items()},
        },
        "machine": describe_machine(),
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES},
        "git": _git(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git() -> dict[str, object] | None:
    """Commit and state of this project's own checkout, if git knows one."""

    def ask(*words: str) -> str:
        command = ["git", "-C", str(PROJECT), *words]
        done = subprocess.run(command, capture_output=True, check=True, timeout=30)
        return done.stdout.decode("utf-8", errors="replace").strip()

    try:
        # A copy unpacked inside another project's checkout must not claim that project's commit.
        root, commit = ask("rev-parse", "--show-toplevel", "HEAD").splitlines()
        dirty = bool(ask("status", "--porcelain", "--untracked-files=no"))
        own = Path(root).resolve() == PROJECT.resolve()
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": dirty} if own else None

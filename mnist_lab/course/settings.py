"""The notebooks' settings: which there are, and what a run passes, checked before it starts."""

import ast
import difflib
import json
import math
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mnist_lab.files import LabError, display_path

_FILE = tomllib.loads(Path(__file__).with_name("profiles.toml").read_text(encoding="utf-8"))
NOTEBOOKS: tuple[str, ...] = tuple(_FILE["notebooks"])
PROFILES: dict[str, dict[str, dict[str, Any]]] = _FILE["profiles"]
BUNDLED_DIGITS: dict[str, dict[str, Any]] = _FILE["bundled_digits"]
OPTIONS = {"output": "--out", "scheduler": "--dask"} | {
    name: f"--{name}" for name in ("dataset", "seed", "jobs")
}
EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list[int]": 'a list such as "[8, 16]"',
    "list[float]": 'a list such as "[0.1, 0.14]"',
    "list[str]": """a list such as "['a', 'b']\"""",
}
_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Setting(NamedTuple):
    """A line ``name: kind = default`` of a notebook's cell tagged ``parameters``."""

    kind: str
    default: Any


def notebook_settings(notebook: Path) -> dict[str, Setting]:
    """The settings of a notebook by name.

    Raises:
        LabError: if there is no such notebook or it cannot be read.
    """
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        tagged = [c["source"] for c in cells if "parameters" in c["metadata"].get("tags", [])]
        settings = {}
        for line in ast.parse("".join(tagged[0]) if tagged else "").body:
            if isinstance(line, ast.AnnAssign) and line.value:
                kind, default = ast.unparse(line.annotation), ast.literal_eval(line.value)
                settings[ast.unparse(line.target)] = Setting(kind, default)
        return settings
    except OSError as error:
        raise LabError(f"{display_path(notebook)} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, SyntaxError) as error:
        raise LabError(
            f"{display_path(notebook)} has no settings such as `epochs: int = 2`: {error}."
            "\n  Mend its cell tagged `parameters`, or fetch a good copy of it."
        ) from error


def plan_settings(
    known: Mapping[str, Mapping[str, Setting]],
    profile: str,
    given: Mapping[str, str],
    of_run: Mapping[str, object] | None = None,
) -> dict[str, dict[str, object]]:
    """Every setting of every notebook: ``of_run``, else ``given``, the profile's, or its default.

    On the bundled digits ``BUNDLED_DIGITS`` come before the defaults.

    Raises:
        LabError: for an unknown profile, a name that no notebook has, one that the run sets itself,
            or a value that is not of the setting's type.
    """
    if profile not in PROFILES:
        raise LabError(f"There is no profile {profile!r}; there are {', '.join(PROFILES)}.")
    for name in given:
        if name in OPTIONS:
            raise LabError(f"The run sets {name!r} itself: use {OPTIONS[name]}, not -p {name}.")
        _check_known(name, {name for settings in known.values() for name in settings}, "-p")
    of_run = of_run or {}
    bundled = BUNDLED_DIGITS if of_run.get("dataset") == "uci-digits" else {}
    plan = {}
    for notebook, settings in known.items():
        wanted = bundled.get(notebook, {}) | PROFILES[profile].get(notebook, {})
        for name in wanted:
            _check_known(name, settings, f"the profile {profile} for {notebook}")
        wanted |= {name: text for name, text in given.items() if name in settings}
        plan[notebook] = {name: setting.default for name, setting in settings.items()}
        plan[notebook] |= {name: _value(name, settings[name].kind, v) for name, v in wanted.items()}
        plan[notebook] |= {name: value for name, value in of_run.items() if name in settings}
    return plan


def _check_known(name: str, known: Collection[str], where: str) -> None:
    offered = sorted(set(known) - OPTIONS.keys())
    near = difflib.get_close_matches(name, offered, n=1)
    if name not in known:
        raise LabError(
            f"No notebook has the setting {name!r} (from {where})."
            f"{f' Did you mean {near[0]!r}?' if near else ''}\n"
            f"  Known settings: {', '.join(offered) or 'none'}."
        )


def _value(name: str, kind: str, value: object) -> object:
    try:
        return _parse(kind, str(value))
    except (ValueError, TypeError, SyntaxError):
        raise LabError(
            f"The setting {name!r} takes {EXPECTED.get(kind, kind)}; found {value!r}."
        ) from None


def _parse(kind: str, text: str) -> object:
    if kind.startswith("list["):
        items = ast.literal_eval(text)
        if isinstance(items, list):
            return [_parse(kind[5:-1], str(item)) for item in items]
    if kind == "str":
        return text
    if kind == "int":
        return int(text)
    if kind == "float" and math.isfinite(number := float(text)):
        return number
    if kind == "bool" and text.lower() in _BOOLS:
        return _BOOLS[text.lower()]
    raise ValueError(text)

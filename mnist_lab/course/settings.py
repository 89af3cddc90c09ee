"""The notebooks' settings: which there are, and what a run passes, checked before it starts."""

import ast
import difflib
import json
import math
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mnist_lab.files import PROJECT, LabError, display_path

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


RANGE = r" *(?:(?P<above>above )?(?P<low>[\d.]+))?(?: or more)?(?: to (?P<high>[\d.]+))?: "


class Setting(NamedTuple):
    """A line ``name: kind = default  # range: meaning`` of a cell tagged ``parameters``."""

    kind: str
    default: Any
    range: str = ""  # "1 or more", "0 to 1", "above 0 to 1" or "above 0"; of a list, of its items

    def allows(self, value: Any) -> bool:
        """Whether a value is of this kind and in this range."""
        if self.kind.startswith("list["):
            item = self._replace(kind=self.kind[5:-1])
            return isinstance(value, list) and all(map(item.allows, value))
        kinds: Any = {"int": int, "float": (int, float), "bool": bool, "str": str}[self.kind]
        if not isinstance(value, kinds) or (isinstance(value, bool) and self.kind != "bool"):
            return False
        if not (found := re.match(RANGE, f"{self.range}: ")) or self.kind in ("bool", "str"):
            return True
        low, high = float(found["low"] or "-inf"), float(found["high"] or "inf")
        within = low < value <= high if found["above"] else low <= value <= high
        return math.isfinite(value) and within

    @property
    def expected(self) -> str:
        """What it takes, in words."""
        return EXPECTED.get(self.kind, self.kind) + (f", {self.range}" if self.range else "")


def notebook_settings(notebook: Path) -> dict[str, Setting]:
    """The settings of a notebook by name.

    Raises:
        LabError: if there is no such notebook or it cannot be read.
    """
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        tagged = [c["source"] for c in cells if "parameters" in c["metadata"].get("tags", [])]
        source, settings = "".join(tagged[0]) if tagged else "", {}
        for line in ast.parse(source).body:
            if isinstance(line, ast.AnnAssign) and line.value:
                kind, default = ast.unparse(line.annotation), ast.literal_eval(line.value)
                comment = source.splitlines()[line.lineno - 1].partition("  #")[2]
                found = re.match(RANGE, comment)
                words = found[0].strip(" :") if found else ""
                settings[ast.unparse(line.target)] = Setting(kind, default, words)
        return settings
    except OSError as error:
        raise LabError(f"{display_path(notebook)} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, SyntaxError) as error:
        raise LabError(
            f"{display_path(notebook)} has no settings such as `epochs: int = 2`: {error}."
            "\n  Mend its cell tagged `parameters`, or fetch a good copy of it."
        ) from error


def check_parameters(values: Mapping[str, Any], notebook: str) -> None:
    """Refuse what a notebook's parameters can't be, however they were given.

    Raises:
        LabError: for the first of ``values`` that is not of its kind or outside its range.
    """
    for name, setting in notebook_settings(PROJECT / "notebooks" / f"{notebook}.ipynb").items():
        if not setting.allows(values[name]):
            raise _refused(name, setting, values[name])


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
            or a value that is not of the setting's type or outside its range.
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
        plan[notebook] |= {name: _value(name, settings[name], v) for name, v in wanted.items()}
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


def _value(name: str, setting: Setting, value: object) -> object:
    try:
        parsed = _parse(setting.kind, str(value))
    except (ValueError, TypeError, SyntaxError):
        raise _refused(name, setting, value) from None
    if not setting.allows(parsed):
        raise _refused(name, setting, value)
    return parsed


def _refused(name: str, setting: Setting, value: object) -> LabError:
    return LabError(f"The setting {name!r} takes {setting.expected}; found {value!r}.")


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

"""The notebooks' parameters: which there are, and what a run passes, checked before it starts."""

from __future__ import annotations

import ast
import difflib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnist_lab.atomic import shown
from mnist_lab.errors import LabError

PROFILES: dict[str, dict[str, dict[str, object]]] = {
    "student": {},
    "full": {
        "01_data_exploration": {"tsne_images": 5000},
        "03_cnn_training": {
            "epochs": 15,
            "epochs_b": 5,
            "fraction_b": 1.0,
            "ladder_fraction": 1.0,
            "ladder_seeds": 3,
        },
        "04_evaluation": {
            "seeds": 3,
            "epochs": 15,
            "fraction": 1.0,
            "epochs_b": 30,
            "fraction_b": 1.0,
            "seeds_b": 2,
            "long_seeds": 2,
            "cv_epochs": 15,
            "cv_fraction": 1.0,
            "cv_epochs_b": 3,
            "shifted_images": 2000,
        },
        "05_optimization": {
            "epochs": 3,
            "seeds": 10,
            "train_fraction": 1.0,
            "whole_catalogue": True,
            "idea_seeds": 3,
            "long_epochs": 6,
            "leaders": 4,
            "fresh_seeds": 6,
            "selection_steps": 2,
            "accurate_seeds": 2,
        },
    },
}

# The bundled digits are forty times fewer: what MNIST learns in one epoch takes them many.
BUNDLED_DIGITS: dict[str, dict[str, object]] = {
    "03_cnn_training": {"epochs": 15, "epochs_b": 6, "fraction_b": 1.0, "ladder_fraction": 1.0},
    "04_evaluation": {
        "epochs": 15,
        "fraction": 1.0,
        "epochs_b": 6,
        "epochs_fast": 40,
        "fraction_b": 1.0,
        "cv_epochs": 10,
        "cv_fraction": 1.0,
    },
    "05_optimization": {"epochs": 10, "train_fraction": 1.0, "long_epochs": 10},
}

_OPTIONS = {
    "dataset": "--dataset",
    "seed": "--seed",
    "jobs": "--jobs",
    "output": "--out",
    "scheduler": "--dask",
}
_EXPECTED = {
    "int": "a whole number (int)",
    "float": "a number (float)",
    "bool": "true or false (bool)",
    "list": "a JSON list (list)",
}
_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def notebook_parameters(notebook: Path) -> dict[str, tuple[str, Any]]:
    """The type's name and the default value of each parameter of a notebook, by parameter.

    Raises:
        LabError: if there is no such notebook or it cannot be read.
    """
    import papermill

    try:
        found = papermill.inspect_notebook(papermill_path(notebook))
    except OSError as error:
        raise LabError(f"{shown(notebook)} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise LabError(f"{shown(notebook)} is not a notebook; fetch a good copy of it.") from error
    return {name: _typed(entry) for name, entry in found.items()}


def plan_parameters(
    known: Mapping[str, Mapping[str, tuple[str, Any]]],
    profile: str,
    given: Mapping[str, str],
    dataset: str = "mnist",
) -> dict[str, dict[str, object]]:
    """What each notebook is passed: the profile's values, then the ``given`` ones, as their types.

    ``known`` is ``notebook_parameters`` by notebook. For "uci-digits", ``BUNDLED_DIGITS`` fill
    in what the profile leaves open.

    Raises:
        LabError: for an unknown profile, a name that no notebook has, one that the run sets itself,
            or a text that is not of the parameter's type.
    """
    if profile not in PROFILES:
        raise LabError(f"There is no profile {profile!r}; there are {', '.join(PROFILES)}.")
    for name in given:
        if name in _OPTIONS:
            raise LabError(f"The run sets {name!r} itself: use {_OPTIONS[name]}, not -p {name}.")
        _check_known(name, {parameter for types in known.values() for parameter in types})
    plan: dict[str, dict[str, object]] = {}
    for notebook, types in known.items():
        bundled = BUNDLED_DIGITS.get(notebook, {}) if dataset == "uci-digits" else {}
        wanted = bundled | PROFILES[profile].get(notebook, {})
        for name in wanted:
            _check_known(name, set(types), f"the profile {profile} for {notebook}")
        wanted = wanted | {name: text for name, text in given.items() if name in types}
        plan[notebook] = {name: _value(name, types[name][0], v) for name, v in wanted.items()}
    return plan


def papermill_path(path: Path) -> str:
    """papermill fills in ``{…}`` in paths as a format string; a folder may really be called so."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _check_known(name: str, known: set[str], where: str = "-p") -> None:
    if name in known:
        return
    offered = sorted(known - _OPTIONS.keys())
    near = difflib.get_close_matches(name, offered, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise LabError(
        f"No notebook has the parameter {name!r} (from {where}).{hint}\n"
        f"  Known parameters: {', '.join(offered) or 'none'}."
    )


def _typed(entry: Mapping[str, str]) -> tuple[str, Any]:
    try:
        default = ast.literal_eval(entry["default"])
    except (SyntaxError, ValueError):
        default = entry["default"]
    kind = entry["inferred_type_name"]
    return (type(default).__name__ if kind == "None" else kind), default


def _value(name: str, kind: str, value: object) -> object:
    text = _text(value)
    try:
        return _parse(kind, text)
    except ValueError:
        raise LabError(
            f"The parameter {name!r} takes {_EXPECTED.get(kind, kind)}; found {text!r}."
        ) from None


def _parse(kind: str, text: str) -> object:
    of = re.fullmatch(r"[lL]ist(?:\[\s*(\w+)\s*\])?", kind)
    if of:
        items = json.loads(text)
        if not isinstance(items, list):
            raise ValueError(text)
        return [_parse(of[1], _text(item)) for item in items] if of[1] else items
    if kind == "str":
        return text
    if kind == "int":
        return int(text)
    if kind == "float" and math.isfinite(number := float(text)):
        return number
    if kind == "bool" and text.lower() in _BOOLS:
        return _BOOLS[text.lower()]
    raise ValueError(text)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)

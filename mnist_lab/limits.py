"""Which values make sense for a setting: said in one line each, checked in one way."""

import math
from collections.abc import Callable, Collection
from dataclasses import field, fields
from typing import Any

Limit = tuple[Callable[[Any], bool], str]  # which values, and the same in words

ABOVE_0: Limit = (lambda value: 0 < value < math.inf, "above 0")
BELOW_1: Limit = (lambda value: 0 <= value < 1, "in [0, 1)")
PROBABILITY: Limit = (lambda value: 0 <= value <= 1, "in [0, 1]")


def at_least(lowest: int) -> Limit:
    return (lambda value: lowest <= value < math.inf, f"at least {lowest}")


def one_of(choices: Collection[str]) -> Limit:
    return (lambda value: value in choices, f"one of {', '.join(choices)}")


def check(**settings: tuple[Any, Limit]) -> None:
    """A ``ValueError`` that names the first setting whose value is outside its limit.

    For example ``check(padding=(padding, at_least(0)))``.
    """
    for name, (value, (allows, expected)) in settings.items():
        if not allows(value):
            raise ValueError(f"{name} must be {expected}, found {value!r}")


def setting(default: Any, limit: Limit) -> Any:
    """A field of a dataclass with its default and its limit, for ``check_settings``."""
    return field(default=default, metadata={"limit": limit})


def check_settings(dataclass: Any) -> None:
    """A ``ValueError`` if a field that is a ``setting`` is outside its limit."""
    for one in fields(dataclass):
        if "limit" in one.metadata:
            check(**{one.name: (getattr(dataclass, one.name), one.metadata["limit"])})

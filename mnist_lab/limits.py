"""Which values make sense for a setting: said in one line each, checked in one way."""

import math
from collections.abc import Callable, Collection
from dataclasses import field, fields
from typing import Any, NamedTuple


class Limit(NamedTuple):
    """Which values a setting may have."""

    allows: Callable[[Any], bool]
    words: str  # what follows "must be"


ABOVE_0 = Limit(lambda value: 0 < value < math.inf, "above 0")
BELOW_1 = Limit(lambda value: 0 <= value < 1, "in [0, 1)")
PROBABILITY = Limit(lambda value: 0 <= value <= 1, "in [0, 1]")


def at_least(lowest: int) -> Limit:
    return Limit(lambda value: lowest <= value < math.inf, f"at least {lowest}")


def one_of(choices: Collection[str]) -> Limit:
    return Limit(lambda value: value in choices, f"one of {', '.join(choices)}")


def require(**settings: tuple[Any, Limit]) -> None:
    """Raise ``ValueError`` for the first setting whose value is outside its limit.

    For example ``require(padding=(padding, at_least(0)))``.
    """
    for name, (value, limit) in settings.items():
        if not limit.allows(value):
            raise ValueError(f"{name} must be {limit.words}, found {value!r}")


def setting(default: Any, limit: Limit) -> Any:
    """A field of a dataclass that carries its limit: ``lr: float = setting(0.1, ABOVE_0)``."""
    return field(default=default, metadata={"limit": limit})


def check_settings(dataclass: Any) -> None:
    """Raise ``ValueError`` if a field of the dataclass is outside the limit that it carries."""
    for a_field in fields(dataclass):
        if "limit" in a_field.metadata:
            value = getattr(dataclass, a_field.name)
            require(**{a_field.name: (value, a_field.metadata["limit"])})

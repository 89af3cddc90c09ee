"""Which values make sense for a setting: said in one line each, checked in one way."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

Limit = tuple[Callable[[Any], bool], str]

ABOVE_0: Limit = (lambda value: 0 < value < math.inf, "above 0")
BELOW_1: Limit = (lambda value: 0 <= value < 1, "in [0, 1)")
PROBABILITY: Limit = (lambda value: 0 <= value <= 1, "in [0, 1]")


def at_least(lowest: int) -> Limit:
    return (lambda value: lowest <= value < math.inf, f"at least {lowest}")


def one_of(choices: Collection[str]) -> Limit:
    return (lambda value: value in choices, f"one of {', '.join(choices)}")


def check(values: Mapping[str, Any], **limits: Limit) -> None:
    """Raise ``ValueError`` that names the first of the ``values`` outside its limit."""
    for name, (allows, expected) in limits.items():
        if not allows(values[name]):
            raise ValueError(f"{name} must be {expected}, found {values[name]!r}")

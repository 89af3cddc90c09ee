"""What names a fit in the store: all that determines it."""

import ast
import dataclasses
import hashlib
import inspect
import json
from collections.abc import Iterable
from typing import Any

import torch

from mnist_lab import models, optimisers, training, transforms
from mnist_lab.data import Digits, load_digits
from mnist_lab.devices import pick_device
from mnist_lab.recipes import Recipe
from mnist_lab.splits import Split

FORMAT = 2


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) else node


def code_digest(sources: Iterable[str], start: Iterable[str]) -> str:
    """SHA-256 of the definitions named ``start`` and of all that they use, one through another.

    In whatever order and file of these sources each stands. Comments, docstrings, layout and
    imports are not part of it, nor definitions that nothing here uses.
    """
    parsed = [_WithoutDocstrings().visit(ast.parse(source)) for source in sources]
    defined = {name: node for file in parsed for node in file.body for name in _names(node)}
    used: dict[str, str] = {}
    left = list(start)
    while left:
        name = left.pop()
        if name in defined and name not in used:
            used[name] = ast.unparse(defined[name])
            left += [n.id for n in ast.walk(defined[name]) if isinstance(n, ast.Name)]
    return hashlib.sha256("\n".join(sorted(used.values())).encode()).hexdigest()


def _names(node: ast.stmt) -> list[str]:
    """What a statement at the top of a file defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


# Read at import, as the code itself is: what is edited later does not train in this process.
DECISIVE: tuple[Any, ...] = (transforms, models, optimisers, training, Recipe)
TRAINING_CODE = code_digest(map(inspect.getsource, DECISIVE), ["fit", "Recipe"])


def cache_key(recipe: Recipe, digits: Digits, split: Split | None, device: str = "cpu") -> str:
    """Names a fit by recipe, digits, split, training code, PyTorch and kind of device.

    The number of threads, which changes the last digits of a result, is not part of it.
    """
    where = pick_device(device)
    on_uci_digits = recipe.pretraining == "uci-digits"
    determines = {
        "format": FORMAT,
        "recipe": dataclasses.asdict(recipe) | {"name": "", "precision": ""},
        "bfloat16": training.computes_in_bfloat16(recipe, where),
        "digits": digits.digest,
        "split": split.digest if split else "",
        "pretrained on": load_digits("uci-digits").digest if on_uci_digits else "",
        "code": TRAINING_CODE,
        "torch": torch.__version__,
        "device": where.type,
    }
    return hashlib.sha256(json.dumps(determines, sort_keys=True).encode()).hexdigest()[:24]

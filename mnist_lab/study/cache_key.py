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


def code_digest(sources: Iterable[str]) -> str:
    """SHA-256 of what Python files define, in whatever order and file each definition stands.

    Comments, docstrings, layout and the imports of a file are not part of it.
    """
    parsed = [_WithoutDocstrings().visit(ast.parse(source)) for source in sources]
    imports = (ast.Import, ast.ImportFrom)
    nodes = [node for file in parsed for node in file.body if not isinstance(node, imports)]
    return hashlib.sha256("\n".join(sorted(map(ast.unparse, nodes))).encode()).hexdigest()


# Read at import, as the code itself is: what is edited later does not train in this process.
DECISIVE: tuple[Any, ...] = (transforms, models, optimisers, training, Recipe)
TRAINING_CODE = code_digest(inspect.getsource(part) for part in DECISIVE)


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

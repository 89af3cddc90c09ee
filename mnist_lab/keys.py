"""What names a fit in the store: all that determines it."""

import ast
import dataclasses
import hashlib
import json
from pathlib import Path

import torch

from mnist_lab import models, optimisers, shapes, training, transforms
from mnist_lab.data import Digits, load_digits
from mnist_lab.recipes import Recipe
from mnist_lab.splits import Split

FORMAT = 1


def training_code_digest() -> str:
    """SHA-256 of the code that decides what a fit gives, its comments and docstrings left out."""
    digest = hashlib.sha256()
    for module in (shapes, transforms, models, optimisers, training):
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        digest.update(code_only(source).encode())
    return digest.hexdigest()


def code_only(source: str) -> str:
    """Python source without its comments, docstrings, top-level imports and layout."""
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
    return ast.unparse(tree)


TRAINING_CODE = training_code_digest()
"""Read at import, as the code itself is: what is edited later does not train in this process."""


def fit_key(recipe: Recipe, digits: Digits, split: Split | None, device: str = "cpu") -> str:
    """Names a fit by what determines it: recipe, digits, split, training code, PyTorch, device.

    The number of threads, which changes the last digits of a result, is not part of it.
    """
    where = training.pick_device(device)
    values = dataclasses.asdict(recipe)
    del values["name"]
    in_bfloat16 = training.computes_in_bfloat16(recipe, where)
    values["precision"] = "bfloat16" if in_bfloat16 else "float32"
    on_uci_digits = recipe.pretraining == "uci-digits"
    determines = {
        "format": FORMAT,
        "recipe": values,
        "digits": digits.digest,
        "split": split.digest if split else None,
        "pretrained on": load_digits("uci-digits").digest if on_uci_digits else None,
        "code": TRAINING_CODE,
        "torch": torch.__version__,
        "device": where.type,
    }
    return hashlib.sha256(json.dumps(determines, sort_keys=True).encode()).hexdigest()[:24]

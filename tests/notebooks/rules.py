"""Rules that the notebooks and their solutions share."""

import ast
import builtins
import re
from pathlib import Path

import nbformat

MACHINE_PATH = re.compile(r"(?<![\w.])/(home|root|tmp|usr|work|Users)/|[A-Z]:\\\\")
OWN_NAMES = (ast.FunctionDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def cells(path: Path, kind: str = "code") -> list:
    """The cells of one kind of a notebook."""
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def assert_annotated_literals(source: str) -> None:
    """Each line of a parameters cell is one annotated literal with a comment."""
    for line in source.splitlines():
        (statement,) = ast.parse(line).body
        assert isinstance(statement, ast.AnnAssign), line
        assert isinstance(statement.annotation, ast.Name | ast.Subscript), line
        ast.literal_eval(statement.value)
        assert "  # " in line and line.count("=") == 1 and "|" not in line, line


def assert_no_cell_rebinds(path: Path) -> None:
    """A name that one cell gives and another uses is given by one cell only.

    So a cell can be run again after any other, and nothing has become something else meanwhile.
    """
    every = [_names(cell.source) for cell in cells(path)]
    for name in set().union(*(used for _, used in every)):
        givers = [number for number, (given, _) in enumerate(every, 1) if name in given]
        assert len(givers) == 1, f"{path.name}: {name} is given in the code cells {givers}"


def _names(source: str) -> tuple[set[str], set[str]]:
    """The names that a cell gives a value, and those it uses without having done so before."""
    given: set[str] = set()
    used: set[str] = set()

    def visit(node: ast.AST, local: frozenset[str] = frozenset()) -> None:
        if isinstance(node, ast.Name) and node.id not in local:
            if isinstance(node.ctx, ast.Store):
                given.add(node.id)
            elif node.id not in given and node.id not in (*dir(builtins), "display"):
                used.add(node.id)
        if isinstance(node, ast.alias):
            given.add(node.asname or node.name)
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            given.add(node.name)
        if isinstance(node, OWN_NAMES):
            inside = list(ast.walk(node))
            stored = {n.id for n in inside if isinstance(n, ast.Name) and type(n.ctx) is ast.Store}
            local |= stored | {n.arg for n in inside if isinstance(n, ast.arg)}
        for child in sorted(ast.iter_child_nodes(node), key=_when):
            visit(child, local)

    visit(ast.parse(re.sub(r"^%.*", "", source, flags=re.MULTILINE)))
    return given, used


def _when(node: ast.AST) -> int:
    """Python first computes a value, then gives it to names, then runs what stands below."""
    if isinstance(node, ast.stmt):
        return 2
    contexts = [type(part.ctx) for part in ast.walk(node) if hasattr(part, "ctx")]
    return int(isinstance(node, ast.expr) and ast.Store in contexts)

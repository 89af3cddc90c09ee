"""Rules that the notebooks and their solutions share."""

import ast


def assert_annotated_literals(source: str) -> None:
    """Each line of a parameters cell is one annotated literal with a comment."""
    for line in source.splitlines():
        (statement,) = ast.parse(line).body
        assert isinstance(statement, ast.AnnAssign), line
        assert isinstance(statement.annotation, ast.Name | ast.Subscript), line
        ast.literal_eval(statement.value)
        assert "  # " in line and line.count("=") == 1 and "|" not in line, line

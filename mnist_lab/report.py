"""A finished run to a report: the template's text, the run's numbers, one HTML file."""

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import pypandoc

from mnist_lab.data import PROJECT
from mnist_lab.errors import LabError

TEMPLATES = PROJECT / "report"


def percent(share: float, digits: int = 2) -> str:
    """A share in [0, 1] as text in percent: 0.9889 is "98.89 %"."""
    return f"{100 * share:.{digits}f} %"


def markdown_table(frame: pd.DataFrame, caption: str, digits: int = 4) -> str:
    """A table in pandoc's Markdown: numbers to the right, missing values as a dash."""

    def cells(column: pd.Series) -> list[str]:
        if not pd.api.types.is_numeric_dtype(column):
            return column.fillna("–").astype(str).tolist()
        whole = all(float(value).is_integer() for value in column.dropna())
        places = 0 if whole else digits
        return ["–" if math.isnan(value) else f"{value:,.{places}f}" for value in column]

    numeric = [pd.api.types.is_numeric_dtype(frame[column]) for column in frame]
    columns = [cells(frame[column]) for column in frame]
    lines = [
        "| " + " | ".join(map(str, frame.columns)) + " |",
        "|" + "|".join("---:" if right else ":---" for right in numeric) + "|",
        *("| " + " | ".join(row) + " |" for row in zip(*columns, strict=True)),
        "",
        f": {caption}",
    ]
    return "\n".join(lines)


def headline(metrics: Mapping[str, Any]) -> list[str]:
    """The few numbers of a run that one wants to see first, a line each."""
    data, evaluation, search = (metrics[name] for name in ("data", "evaluation", "optimization"))
    return [
        f"{data['title']}: {data['train_images']:,} training, {data['test_images']:,} test images",
        f"Report A's network, epochs {evaluation['epochs']}: "
        f"{percent(evaluation['accuracy'])} of the test images, 95 % interval "
        f"{percent(evaluation['accuracy_low'])} to {percent(evaluation['accuracy_high'])}",
        f"{evaluation['folds']}-fold cross-validation, {evaluation['cv_images']:,} images a fold, "
        f"epochs {evaluation['cv_epochs']}: mean {percent(evaluation['cv_mean'])} "
        f"(Report A: {percent(evaluation['report_a_cv_mean'])})",
        f"learning rates: {search['told_apart']} of {search['comparisons']} can be told from 0.14 "
        f"with {search['seeds']} seeds",
    ]


def render(folder: Path) -> Path:
    """Write ``report.html`` of the finished run in ``folder`` from the files that lie there.

    The page is one file: figures and styles are embedded, formulas are MathML, and nothing is
    loaded from the network.

    Returns:
        The path of the page.

    Raises:
        LabError: if a number, table or figure that the text needs is missing, or pandoc fails.
    """
    metrics = _read_json(folder / "metrics.json")
    provenance = _read_json(folder / "provenance.json")
    text = _text(folder, metrics, provenance)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".report-") as work:
        page = Path(work) / "report.html"
        try:
            pypandoc.convert_text(
                text,
                "html5",
                format="markdown",
                outputfile=str(page),
                extra_args=[
                    "--standalone",
                    "--embed-resources",
                    "--mathml",
                    "--toc",
                    "--toc-depth=2",
                    "--fail-if-warnings",
                    f"--css={TEMPLATES / 'style.css'}",
                    f"--resource-path={folder}",
                ],
            )
        except (RuntimeError, OSError) as error:
            raise LabError(f"pandoc could not make the report of {folder.name}: {error}") from error
        page.replace(folder / "report.html")
    return folder / "report.html"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise LabError(
            f"{path.name} of the run in {path.parent.name} cannot be read: {error}\n"
            "  A report is made from a finished run; run `python -m mnist_lab run` again."
        ) from error


def _text(folder: Path, metrics: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    """The template filled in: Markdown."""

    def frame(name: str) -> pd.DataFrame:
        try:
            return pd.read_csv(folder / "tables" / f"{name}.csv")
        except FileNotFoundError as error:
            raise LabError(f"the run in {folder.name} has no table {name}.csv") from error

    def table(name: str, caption: str, digits: int = 4, columns: list[str] | None = None) -> str:
        chosen = frame(name)[columns] if columns else frame(name)
        return markdown_table(chosen.rename(columns=lambda c: c.replace("_", " ")), caption, digits)

    def has_figure(name: str) -> bool:
        return (folder / "figures" / f"{name}.png").exists()

    def figure(name: str, caption: str) -> str:
        if not has_figure(name):
            raise LabError(f"the run in {folder.name} has no figure {name}.png")
        return f"![{caption}](figures/{name}.png)"

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = percent
    environment.filters["epochs"] = lambda n: "1 epoch" if n == 1 else f"{n} epochs"
    environment.filters["thousands"] = lambda value: f"{int(value):,}"
    environment.filters["signed"] = lambda value, digits=2: f"{float(value):+.{digits}f}"
    try:
        return environment.get_template("template.md.j2").render(
            **metrics,
            provenance=provenance,
            mnist=provenance["dataset"]["name"] == "mnist",
            table=table,
            figure=figure,
            has_figure=has_figure,
            rows=lambda name: frame(name).to_dict("records"),
        )
    except jinja2.UndefinedError as error:
        raise LabError(
            f"metrics.json of the run in {folder.name} lacks a number of the report: {error}"
        ) from error

"""A finished run to a report: the template's text and the run's numbers, as HTML and as PDF."""

import json
import math
import os
import re
import string
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import pypandoc
import typst
from PIL import Image

from mnist_lab.data import PROJECT
from mnist_lab.errors import LabError

TEMPLATES = PROJECT / "report"
# The PDF uses the first of these that the machine has, and leaves Chinese terms out without any.
CHINESE_FONTS = (
    "Noto Serif CJK SC",
    "Noto Serif SC",
    "Source Han Serif SC",
    "Songti SC",
    "SimSun",
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
)
LONG_CELL = 32  # characters; text longer than this is wrapped
MANY_COLUMNS = 9  # tables with as many or more are set smaller
CHINESE = "[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]"
HEADING = (
    r"^(?P<level>#+) (?:(?P<number>\d+(?:\.\d+)*) |Appendix(?=:))"
    r"[^\n{]*(?:\{[^}\n]*#(?P<id>[\w-]+)[^}\n]*\})?"
)
CAPTION = r"⟦\+(?P<kind>figure|table):(?P<name>\w+)⟧"


def percent(share: float, digits: int = 2) -> str:
    """A share in [0, 1] as text in percent: 0.9889 is "98.89 %"."""
    return f"{100 * share:.{digits}f} %"


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, a minus as long as the plus: "−0.12"."""
    return f"{float(value):+.{digits}f}".replace("-", "−")


def markdown_table(frame: pd.DataFrame, caption: str, digits: int | Mapping[str, int] = 4) -> str:
    """A table in pandoc's Markdown: numbers to the right, missing values as a dash.

    Args:
        frame: its columns are the headers. Where one ends with "(%)", its shares are shown in
            percent. Columns called "p" or "p (Holm)" hold p values, shown as at least 0.0001.
        caption: of the table.
        digits: after the point, for all columns or by header; 4 where none are given.
    """

    def cells(header: str, column: pd.Series) -> list[str]:
        if not pd.api.types.is_numeric_dtype(column):
            return column.fillna("–").astype(str).tolist()
        values = 100 * column if header.endswith("(%)") else column
        whole = all(float(value).is_integer() for value in column.dropna())
        wanted = digits if isinstance(digits, int) else digits.get(header, 4)
        places = 0 if whole and not header.endswith("(%)") else wanted
        shown = ["–" if math.isnan(value) else f"{value:,.{places}f}" for value in values]
        if header in ("p", "p (Holm)"):
            small = [value < 0.0001 for value in values]
            shown = ["< 0.0001" if s else text for s, text in zip(small, shown, strict=True)]
        return [text.replace("-", "−") for text in shown]

    numeric = [pd.api.types.is_numeric_dtype(frame[column]) for column in frame]
    columns = [cells(str(column), frame[column]) for column in frame]
    lines = [
        "| " + " | ".join(map(str, frame.columns)) + " |",
        "|" + "|".join("---:" if right else ":---" for right in numeric) + "|",
        *("| " + " | ".join(row) + " |" for row in zip(*columns, strict=True)),
        "",
        f": {caption}",
    ]
    return "\n".join(lines)


def enumerated(words: Sequence[object]) -> str:
    """Words as a sentence lists them: "a, b and c", "none" without any."""
    *others, end = map(str, words) if words else ("none",)
    return f"{', '.join(others)} and {end}" if others else end


def count_of(count: int, total: int) -> str:
    """How many of a total, in words where that is clearer: "none", "both", "all 4", "3"."""
    if count == total > 1:
        return "both" if total == 2 else f"all {total}"
    return str(count or "none")


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


def numbered(text: str) -> str:
    """The Markdown with figures and tables counted by chapter, and references that say the number.

    ``⟦+figure:roc⟧`` becomes the next number of its chapter, ``⟦figure:roc⟧`` that same number,
    before or after it. Chapters are the first-level headings that begin with a number;
    appendices are lettered. ``⟦section:id⟧`` is the number of the heading that has this id.

    Raises:
        LabError: if a name is given twice, or referred to and not there.
    """
    numbers: dict[str, str] = {}
    counts: Counter[tuple[str, str]] = Counter()
    letters = iter(string.ascii_uppercase)
    chapter = ""

    def define(name: str, number: str) -> None:
        if name in numbers:
            raise LabError(f"the report's text has {name} twice")
        numbers[name] = number

    def count(match: re.Match[str]) -> str:
        nonlocal chapter
        if kind := match["kind"]:
            counts[kind, chapter] += 1
            number = f"{chapter}.{counts[kind, chapter]}".lstrip(".")
            define(f"{kind}:{match['name']}", number)
            return number
        number = match["number"] or next(letters)
        if match["level"] == "#":
            chapter = number
        if match["id"]:
            define(f"section:{match['id']}", number)
        return match[0] if match["number"] else match[0].replace("Appendix", f"Appendix {number}")

    def refer(match: re.Match[str]) -> str:
        if match[1] not in numbers:
            raise LabError(f"the report's text refers to {match[1]}, which is not in it")
        return numbers[match[1]]

    text = re.sub(f"{HEADING}|{CAPTION}", count, text, flags=re.MULTILINE)
    return re.sub(r"⟦(\w+:[\w-]+)⟧", refer, text)


def render(folder: Path) -> Path:
    """Write ``report.html`` and ``report.pdf`` of the finished run in ``folder`` from its files.

    Both are made from the same Markdown. The page is one file: figures and styles are embedded,
    formulas are MathML, and nothing is loaded from the network. The PDF is typeset by Typst.

    Returns:
        The path of the page.

    Raises:
        LabError: if a number, table or figure that the text needs is missing, or pandoc or Typst
            fails. The last report is then as it was.
    """
    text = _text(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".report-") as work:
        html, pdf = Path(work) / "report.html", Path(work) / "report.pdf"
        html.write_bytes(_html(text, folder).encode())
        _write_pdf(pdf, text, folder)
        html.replace(folder / html.name)
        pdf.replace(folder / pdf.name)
    return folder / "report.html"


def page(folder: Path) -> str:
    """The HTML that ``render`` writes for the finished run in ``folder``; raises as it does."""
    return _html(_text(folder), folder)


def _pandoc(text: str, form: str, folder: Path, *options: str) -> str:
    try:
        return pypandoc.convert_text(
            text,
            form,
            format="markdown+ascii_identifiers",
            extra_args=[
                "--standalone",
                "--fail-if-warnings",
                # Pipe tables wider than this many characters would get columns of equal width.
                "--columns=10000",
                *options,
            ],
        )
    except (RuntimeError, OSError) as error:
        raise LabError(f"pandoc could not make the report of {folder.name}: {error}") from error


def _html(text: str, folder: Path) -> str:
    with tempfile.TemporaryDirectory() as smaller:
        _shrink_figures(folder, Path(smaller))
        html = _pandoc(
            re.sub(f"{CHINESE}+", r"[\g<0>]{lang=zh}", text),
            "html5",
            folder,
            f"--resource-path={smaller}{os.pathsep}{folder}",
            "--embed-resources",
            "--mathml",
            "--toc",
            "--toc-depth=3",
            "--shift-heading-level-by=1",
            f"--template={TEMPLATES / 'template.html'}",
            f"--css={TEMPLATES / 'style.css'}",
        )
    return re.sub(r"<th(?=[ >])", '<th scope="col"', html)


def _shrink_figures(folder: Path, target: Path) -> None:
    """Copies of the figures in 256 colours, a third of the size, for the page to hold."""
    (target / "figures").mkdir()
    for figure in sorted((folder / "figures").glob("*.png")):
        with Image.open(figure) as image:
            few = image.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE)
        few.save(target / "figures" / figure.name, compress_level=9)


def _write_pdf(target: Path, text: str, folder: Path) -> None:
    started = datetime.fromisoformat(_read_json(folder / "provenance.json")["started"])
    families = set(typst.Fonts().families())
    chinese = next((font for font in CHINESE_FONTS if font in families), None)
    if not chinese:
        text = re.sub(rf"\s*\({CHINESE}+\)", "", text)
    markup = _pandoc(
        text,
        "typst",
        folder,
        f"--resource-path={folder}",
        f"--template={TEMPLATES / 'template.typ'}",
        *([f"--variable=chinese-font:{chinese}"] if chinese else []),
    )
    source = target.with_suffix(".typ")
    source.write_bytes(markup.encode())
    try:
        typst.compile(source, target, root=folder, timestamp=int(started.timestamp()))
    except (RuntimeError, OSError) as error:
        raise LabError(f"Typst could not make the report of {folder.name}: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise LabError(
            f"{path.name} of the run in {path.parent.name} cannot be read: {error}\n"
            "  A report is made from a finished run; run `python -m mnist_lab run` again."
        ) from error


def _text(folder: Path) -> str:
    """The template filled in with the files of the run: Markdown."""
    metrics = _read_json(folder / "metrics.json")
    provenance = _read_json(folder / "provenance.json")

    def frame(name: str) -> pd.DataFrame:
        try:
            return pd.read_csv(folder / "tables" / f"{name}.csv")
        except FileNotFoundError as error:
            raise LabError(f"the run in {folder.name} has no table {name}.csv") from error

    def table(
        name: str,
        caption: str,
        digits: int | Mapping[str, int] = 4,
        columns: Sequence[str] | Mapping[str, str] = (),
        called: str = "",
    ) -> str:
        headers = dict(
            columns if isinstance(columns, Mapping) else zip(columns, columns, strict=True)
        )
        chosen = frame(name)
        chosen = chosen[list(headers) or list(chosen.columns)].rename(columns=headers)
        named = chosen.rename(columns=lambda header: str(header).replace("_", " "))
        called = called or name
        return _boxed(called, markdown_table(named, _caption("table", called, caption), digits))

    def typed_table(name: str, caption: str, caller: Callable[[], str]) -> str:
        return _boxed(name, f"{caller().strip()}\n\n: {_caption('table', name, caption)}")

    def has_figure(name: str) -> bool:
        return (folder / "figures" / f"{name}.png").exists()

    def has_table(name: str) -> bool:
        return (folder / "tables" / f"{name}.csv").exists()

    def figure(name: str, caption: str) -> str:
        if not has_figure(name):
            raise LabError(f"the run in {folder.name} has no figure {name}.png")
        with Image.open(folder / "figures" / f"{name}.png") as image:
            width, height = image.size
            title = str(image.info.get("Title", ""))
        said = f"Figure ⟦figure:{name}⟧. " + f"{title.rstrip('.')}. {caption}".lstrip(". ")
        said = re.sub('"([^"]*)"', r"“\1”", said).replace("$", "")
        size = f'{{#figure-{name} width={width} height={height} alt="{said}"}}'
        return f"![{_caption('figure', name, caption)}](figures/{name}.png){size}"

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        # Jinja's own {# would swallow pandoc's {#id}.
        comment_start_string="{##",
        comment_end_string="##}",
    )
    environment.filters["percent"] = percent
    environment.filters["epochs"] = lambda n: "1 epoch" if n == 1 else f"{n} epochs"
    environment.filters["thousands"] = lambda value: f"{int(value):,}"
    environment.filters["signed"] = signed
    environment.filters["enumerated"] = enumerated
    environment.filters["count_of"] = count_of
    try:
        text = environment.get_template("template.md.j2").render(
            **metrics,
            provenance=provenance,
            mnist=provenance["dataset"]["name"] == "mnist",
            table=table,
            typed_table=typed_table,
            figure=figure,
            has_figure=has_figure,
            has_table=has_table,
            ref=_reference,
            rows=lambda name: frame(name).to_dict("records"),
        )
    except jinja2.UndefinedError as error:
        raise LabError(
            f"metrics.json of the run in {folder.name} lacks a number of the report: {error}"
        ) from error
    return numbered(text)


def _caption(kind: str, name: str, caption: str) -> str:
    return f"**{kind.capitalize()} ⟦+{kind}:{name}⟧.** {caption}"


def _boxed(name: str, table: str) -> str:
    """The table in a box that scrolls where the page is too narrow, also by keyboard."""
    cells = [cell.strip() for line in table.splitlines() for cell in line.split("|")[1:-1]]
    short = "" if max(map(len, cells)) > LONG_CELL else ".short "
    wide = ".wide " if table.split("\n")[0].count("|") > MANY_COLUMNS else ""
    said = f'role=region tabindex=0 aria-label="Table ⟦table:{name}⟧"'
    return f"::: {{#table-{name} .table-box {short}{wide}{said}}}\n{table}\n:::"


def _reference(target: str, word: str | None = None) -> str:
    """A link such as "Figure 4.2" to a figure's name, ``table:`` and its name, or ``section:id``.

    ``word`` stands before the number instead of the usual one; "" leaves the number alone.
    """
    kind, _, name = target.rpartition(":")
    kind = kind or "figure"
    if word is None:
        word = "section" if kind == "section" else kind.capitalize()
    where = name if kind == "section" else f"{kind}-{name}"
    return f"[{word} ⟦{kind}:{name}⟧](#{where})".replace("[ ", "[")

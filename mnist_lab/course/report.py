"""A finished run to a report: the template's text and the run's numbers, as HTML and as PDF."""

import base64
import io
import math
import re
import shutil
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

from mnist_lab.course.places import replace_together
from mnist_lab.course.run import RunFolder, literal
from mnist_lab.files import PROJECT, LabError, writing

TEMPLATES = PROJECT / "report"
MARKDOWN = "markdown+ascii_identifiers-raw_html-raw_attribute-raw_tex"
CHINESE = "[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]"
LONG_CELL = 32  # characters; text longer than this is wrapped
MANY_COLUMNS = 9  # tables with as many or more are set smaller
HEADING = (
    r"^(?P<level>#+) (?:(?P<number>\d+(?:\.\d+)*) |Appendix(?=:))"
    r"[^\n{]*(?:\{[^}\n]*#(?P<id>[\w-]+)[^}\n]*\})?"
)
CAPTION = r"⟦\+(?P<kind>figure|table):(?P<name>\w+)⟧"


def render(folder: Path) -> None:
    """Write ``report.html`` and ``report.pdf`` of the finished run in ``folder`` from its files.

    The page is one file: figures and styles are embedded and nothing is loaded from the network.

    Raises:
        LabError: if a number, table or figure that the text needs is missing, or pandoc or Typst
            fails. The last report is then as it was.
    """
    text = _text(folder)
    with writing(folder):
        for left in folder.glob(".report-*"):  # by a process that was killed
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".report-") as work:
            html, pdf = Path(work) / "report.html", Path(work) / "report.pdf"
            html.write_bytes(_html(text, folder).encode())
            _write_pdf(pdf, text, folder)
            replace_together([html, pdf], folder)


def page(folder: Path) -> str:
    """The HTML that ``render`` writes for the finished run in ``folder``; raises as it does."""
    return _html(_text(folder), folder)


def headline(folder: Path) -> list[str]:
    """The few numbers of a finished run that one wants to see first, a line each."""
    return _filled("headline.txt.j2", RunFolder(folder).metrics).splitlines()


def numbered(text: str) -> str:
    """The Markdown with figures and tables counted by chapter, and references that say the number.

    ``⟦+figure:roc⟧`` becomes the next number of its chapter, ``⟦figure:roc⟧`` the same anywhere,
    ``⟦section:id⟧`` the number of the heading with this id; appendices are lettered. Raises
    ``LabError`` if a name is given twice, or referred to and not there.
    """
    numbers: dict[str, str] = {}
    counts: Counter[str] = Counter()
    letters = iter(string.ascii_uppercase)
    chapter = ""

    def define(name: str, number: str) -> str:
        if name in numbers:
            raise LabError(f"the report's text has {name} twice")
        numbers[name] = number
        return number

    def count(match: re.Match[str]) -> str:
        nonlocal chapter
        if kind := match["kind"]:
            counts[kind] += 1
            return define(f"{kind}:{match['name']}", f"{chapter}.{counts[kind]}".lstrip("."))
        number = match["number"] or next(letters)
        if match["level"] == "#":
            chapter = number
            counts.clear()
        if match["id"]:
            define(f"section:{match['id']}", number)
        return match[0] if match["number"] else match[0].replace("Appendix", f"Appendix {number}")

    def refer(match: re.Match[str]) -> str:
        if match[1] not in numbers:
            raise LabError(f"the report's text refers to {match[1]}, which is not in it")
        return numbers[match[1]]

    text = re.sub(f"{HEADING}|{CAPTION}", count, text, flags=re.MULTILINE)
    return re.sub(r"⟦(\w+:[\w-]+)⟧", refer, text)


def markdown_table(frame: pd.DataFrame, caption: str, digits: int | Mapping[str, int] = 4) -> str:
    """A table in pandoc's Markdown: numbers to the right, missing values as a dash.

    A header that ends with "(%)" shows shares in percent; "p" and "p (Holm)" show p values of at
    least 0.0001. ``digits`` are after the point, for all columns or by header; else 4.
    """

    def cells(header: str) -> list[str]:
        column = frame[header]
        if not pd.api.types.is_numeric_dtype(column):
            # With an ordinary space, Typst would take "+ 20×20 box" for an item of a list.
            words = column.fillna("–").astype(str)
            return [":---", *words.str.replace(r"^([-+=/]|\d+\.) ", "\\1\u00a0", regex=True)]
        values = 100 * column if header.endswith("(%)") else column
        whole = all(float(value).is_integer() for value in column.dropna())
        places = digits if isinstance(digits, int) else digits.get(header, 4)
        places = 0 if whole and not header.endswith("(%)") else places
        least = 0.0001 if header in ("p", "p (Holm)") else -math.inf
        shown = ["< 0.0001" if v < least else f"{v:,.{places}f}" for v in values]
        return ["---:", *(text.replace("nan", "–").replace("-", "−") for text in shown)]

    rows = [tuple(frame.columns), *zip(*map(cells, frame.columns), strict=True)]
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", f": {caption}"])


def enumerated(words: Sequence[object]) -> str:
    """Words as a sentence lists them: "a, b and c", "none" without any."""
    *others, end = map(str, words) if words else ("none",)
    return f"{', '.join(others)} and {end}" if others else end


def count_of(count: int, total: int) -> str:
    """How many of a total, in words where that is clearer: "none", "both", "all 4", "3"."""
    if count == total > 1:
        return "both" if total == 2 else f"all {total}"
    return str(count or "none")


FILTERS: dict[str, Callable[..., str]] = {
    "percent": lambda share, digits=2: f"{100 * share:.{digits}f} %",
    "signed": lambda value, digits=2: f"{float(value):+.{digits}f}".replace("-", "−"),
    "thousands": lambda value: f"{int(value):,}",
    "epochs": lambda count: "1 epoch" if count == 1 else f"{count} epochs",
    "enumerated": enumerated,
    "count_of": count_of,
}


def _filled(template: str, metrics: Mapping[str, Any], **more: object) -> str:
    # Jinja's own {# would swallow pandoc's {#id}.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        comment_start_string="{##",
        comment_end_string="##}",
    )
    environment.filters |= FILTERS
    try:
        return environment.get_template(template).render(metrics, **more)
    except LabError:
        raise
    except jinja2.UndefinedError as error:
        raise LabError(f"metrics.json of the run lacks a number of the report: {error}") from error
    except Exception as error:  # where a number should be, a run's files may hold anything
        raise LabError(f"the run's files hold what the report cannot say: {error!r}") from error


def _text(folder: Path) -> str:
    """The template filled in with the files of the run: Markdown."""
    run = RunFolder(folder)
    run.files()  # links and devices are refused before any is opened

    def table(
        name: str,
        caption: str,
        digits: int | Mapping[str, int] = 4,
        columns: Sequence[str] | Mapping[str, str] = (),
        called: str = "",
    ) -> str:
        frame, called = run.read_table(name), called or name
        headers = columns if isinstance(columns, Mapping) else {c: c for c in columns or frame}
        if missing := [column for column in headers if column not in frame]:
            raise LabError(f"tables/{name}.csv lacks {', '.join(map(str, missing))}")
        frame = frame[list(headers)].rename(columns=headers).map(literal)
        frame.columns = [literal(str(column).replace("_", " ")) for column in frame]
        return _boxed(called, markdown_table(frame, _caption("table", called, caption), digits))

    def typed_table(name: str, caption: str, caller: Callable[[], str]) -> str:
        return _boxed(name, f"{caller().strip()}\n\n: {_caption('table', name, caption)}")

    def figure(name: str, caption: str) -> str:
        image = run.read_figure(name)
        (width, height), title = image.size, literal(str(image.info.get("Title", "")))
        said = f"Figure ⟦figure:{name}⟧. " + f"{title.rstrip('.')}. {caption}".lstrip(". ")
        said = re.sub('"([^"]*)"', r"“\1”", said).replace("$", "")
        size = f'{{#figure-{name} width={width} height={height} alt="{said}"}}'
        return f"![{_caption('figure', name, caption)}](figures/{name}.png){size}"

    provenance = run.provenance
    filled = _filled(
        "template.md.j2",
        literal(run.metrics),
        provenance=literal(provenance),
        given=_given(provenance),
        mnist=provenance.get("dataset", {}).get("name") == "mnist",
        table=table,
        typed_table=typed_table,
        figure=figure,
        has_figure=lambda name: (folder / "figures" / f"{name}.png").exists(),
        has_table=run.has_table,
        ref=_reference,
        rows=lambda name: literal(run.read_table(name).to_dict("records")),
    )
    return numbered(filled)


def _given(provenance: Mapping[str, Any]) -> str:
    """The parameters given on the command line, as one line of it that a code block can hold."""
    words = (f" -p {name} '{value}'" for name, value in provenance.get("given", {}).items())
    return re.sub(r"[^\S ]|`", " ", "".join(words))


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
    """A link such as "Figure 4.2" to a figure's name, ``table:name`` or ``section:id``."""
    kind, name = target.split(":") if ":" in target else ("figure", target)
    usual, where = (kind, name) if kind == "section" else (kind.capitalize(), f"{kind}-{name}")
    said = f"{usual if word is None else word} ⟦{kind}:{name}⟧".strip()
    return f"[{said}](#{where})"


def _html(text: str, folder: Path) -> str:
    chinese = re.sub(f"{CHINESE}+", r"[\g<0>]{lang=zh}", text)
    html = re.sub(r"<th(?=[ >])", '<th scope="col"', _pandoc(chinese, "html"))
    # pandoc may open no file, so what the page holds of others is put in here.
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    html = html.replace("<style></style>", f"<style>\n{style}</style>", 1)
    return re.sub(r'src="figures/(\w+)\.png"', lambda found: _embedded(found[1], folder), html)


def _embedded(name: str, folder: Path) -> str:
    """A figure as an attribute that holds it, in 256 colours: a third of the size."""
    few = RunFolder(folder).read_figure(name).convert("RGB")
    file = io.BytesIO()
    few.quantize(256, method=Image.Quantize.FASTOCTREE).save(file, "PNG", compress_level=9)
    return f'src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"'


def _write_pdf(target: Path, text: str, folder: Path) -> None:
    started = datetime.fromisoformat(RunFolder(folder).provenance["started"])
    wanted = (TEMPLATES / "chinese_fonts.txt").read_text(encoding="utf-8").splitlines()
    here = set(typst.Fonts().families())
    fonts = [f"--variable=chinese-font:{font}" for font in wanted if font in here][:1]
    if not fonts:
        text = re.sub(rf"\s*\({CHINESE}+\)", "", text)
    source = target.with_suffix(".typ")
    source.write_bytes(_pandoc(text, "typst", *fonts).encode())
    try:
        typst.compile(source, target, root=folder, timestamp=int(started.timestamp()))
    except (RuntimeError, OSError) as error:
        raise LabError(f"Typst could not make the report: {error}") from error


def _pandoc(text: str, form: str, *options: str) -> str:
    options = (f"--defaults={TEMPLATES / form}.yaml", "--sandbox", *options)
    try:
        return pypandoc.convert_text(text, form, MARKDOWN, options)
    except (RuntimeError, OSError) as error:
        raise LabError(f"pandoc could not make the report: {error}") from error

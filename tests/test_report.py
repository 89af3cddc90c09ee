"""One source, two forms: a made-up run rendered as HTML and as PDF."""

import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pypdf
import pytest

from mnist_lab import report
from mnist_lab.errors import LabError

VOID = {"meta", "link", "img", "br", "hr", "col", "input"}


class Elements(HTMLParser):
    """The start tags of a page with their attributes, and the words of each tag's name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.words[tag] = self.words.get(tag, "") + data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.all if name == tag]


@pytest.fixture(scope="module")
def text(made_up_report) -> str:
    return (made_up_report / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text) -> Elements:
    return Elements(text)


@pytest.fixture(scope="module")
def pdf(made_up_report) -> pypdf.PdfReader:
    return pypdf.PdfReader(made_up_report / "report.pdf")


@pytest.fixture(scope="module")
def words(pdf) -> str:
    return " ".join(" ".join(sheet.extract_text() for sheet in pdf.pages).split())


@pytest.fixture
def run(made_up_run, tmp_path, monkeypatch) -> Path:
    """A copy of the run to spoil, with the last good report in it."""
    shutil.copytree(made_up_run.parent, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(report, "TEMPLATES", tmp_path / "templates")
    for name in ("report.html", "report.pdf"):
        (tmp_path / "run" / name).write_text("the last good one")
    return tmp_path / "run"


def numbers(*lines: str) -> list[str]:
    return report.numbered("\n".join(lines)).split("\n")


def test_figures_and_tables_are_counted_apart_and_by_chapter():
    assert numbers(
        "# 1 One",
        "⟦+figure:a⟧ ⟦+figure:b⟧ ⟦+table:a⟧",
        "## 1.2 Part",
        "⟦+figure:c⟧",
        "# 2 Two",
        "⟦+figure:d⟧",
        "# Appendix: three {.unnumbered}",
        "⟦+table:d⟧",
        "# Appendix: four",
        "⟦+table:e⟧",
    )[1::2] == ["1.1 1.2 1.1", "1.3", "2.1", "A.1", "B.1"]


def test_references_look_ahead_and_back():
    lines = numbers("⟦figure:a⟧ ⟦section:it⟧", "# 3 X", "## 3.1 Y {#it}", "⟦+figure:a⟧ ⟦figure:a⟧")
    assert (lines[0], lines[3]) == ("3.1 3.1", "3.1 3.1")


def test_appendices_are_lettered():
    assert numbers("# Appendix: x {.unnumbered #x}", "⟦section:x⟧") == [
        "# Appendix A: x {.unnumbered #x}",
        "A",
    ]


def test_a_table_shows_percent_p_values_and_long_minus_signs():
    frame = pd.DataFrame(
        {"name": ["a", None], "share (%)": [0.12345, 1.0], "points": [-0.5, 2], "p": [0.2, 1e-9]}
    )
    rows = report.markdown_table(frame, "Any.", {"share (%)": 1, "points": 2}).splitlines()
    assert rows[2] == "| a | 12.3 | −0.50 | 0.2000 |"
    assert rows[3] == "| – | 100.0 | 2.00 | < 0.0001 |"


@pytest.mark.parametrize(
    ("count", "total", "said"),
    [(0, 4, "none"), (4, 4, "all 4"), (2, 2, "both"), (1, 1, "1"), (3, 4, "3"), (0, 0, "none")],
)
def test_a_count_is_said_in_words(count, total, said):
    assert report.count_of(count, total) == said


def test_words_are_listed_as_in_a_sentence():
    assert report.enumerated([]) == "none"
    assert report.enumerated([7]) == "7"
    assert report.enumerated(["a", "b", 3]) == "a, b and 3"


def test_a_reference_to_nothing_is_named():
    with pytest.raises(LabError, match="figure:nowhere"):
        numbers("⟦figure:nowhere⟧")


def test_a_name_given_twice_is_named():
    with pytest.raises(LabError, match="table:a twice"):
        numbers("⟦+table:a⟧ ⟦+table:a⟧")


def test_links_say_the_number_and_lead_to_it(text, page):
    links = dict(re.findall(r'<a href="#([^"]+)">([^<]*)</a>', text))
    assert links["figure-later"] == "Figure 2.1"
    assert links["table-wide"] == "Table 2.1"
    assert re.search(r'<a href="#second">Section 2</a>', text)
    assert re.search(r'<a href="#origin">section A</a>', text)
    assert {"figure-later", "table-wide", "second", "origin"} <= {a.get("id") for _, a in page.all}


def test_figures_have_ids_sizes_and_words(page):
    early, later = page.named("img")
    assert (early["width"], early["height"]) == ("300", "200")
    assert early["alt"] == "Figure 1.1. A small figure with x < 1 and “quotes”."
    assert later["alt"] == "Figure 2.1. A tall figure."
    assert [a["id"] for a in page.named("figure")] == ["figure-early", "figure-later"]


def test_tables_have_captions_header_cells_and_a_box_for_keyboards(page):
    assert page.words["caption"].split("Table ")[1:] == [
        "2.1. Fourteen columns and a long text.",
        "2.2. A hundred rows.",
        "A.1. A table typed by hand.",
    ]
    assert len(page.named("th")) == 14 + 2 + 2
    assert all(a.get("scope") == "col" for a in page.named("th"))
    boxes = [a for a in page.named("div") if "table-box" in (a.get("class") or "")]
    assert ["short" in a["class"] for a in boxes] == [False, True, False]
    assert [a["aria-label"] for a in boxes] == ["Table 2.1", "Table 2.2", "Table A.1"]
    assert all((a["role"], a["tabindex"]) == ("region", "0") for a in boxes)


def test_chinese_terms_say_their_language(text):
    assert '<span lang="zh">摘要</span>' in text


def test_only_links_lead_out_of_the_page(text, page):
    for tag, attributes in page.all:
        for name in ("src", "href", "srcset", "data", "poster"):
            if value := attributes.get(name):
                assert value.startswith("data:") or tag == "a", (tag, value)
    assert not re.search(r"@import|url\((?!['\"]?data:)", text)


def colours() -> Iterator[tuple[str, str, str]]:
    css = (report.TEMPLATES / "style.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--(\w+): #(\w{6});", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    )
    for mode in (light, dark):
        for ink in ("text", "soft", "accent"):
            for ground in ("page", "raised"):
                yield ink, mode[ink], mode[ground]


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize(("ink", "front", "back"), list(colours()))
def test_text_stands_out_from_its_ground_in_light_and_dark(ink, front, back):
    low, high = sorted((luminance(front), luminance(back)))
    assert (high + 0.05) / (low + 0.05) >= 4.5


def test_the_pdf_can_be_read_and_searched(pdf, words):
    assert "A made-up report" in words
    assert "98.77 %" in words
    for sign in ("10→20", "3↔8", "B′", "≤"):
        assert sign in words
    assert f"1 / {len(pdf.pages)}" in words


def test_the_pdf_is_a4_and_says_what_it_is(pdf):
    assert [round(float(x)) for x in pdf.pages[0].mediabox[2:]] == [595, 842]
    assert pdf.metadata.title == "A made-up report"
    assert pdf.metadata["/Keywords"] == "digits, Nobody's digits"
    assert pdf.trailer["/Root"]["/Lang"] == "en"


def test_the_pdf_has_bookmarks_and_contents(pdf):
    def titles(outline: list) -> list[str]:
        return [t for o in outline for t in (titles(o) if isinstance(o, list) else [o["/Title"]])]

    found = titles(pdf.outline)
    assert "1.1 Figures" in found and "Appendix A: origin" in found
    assert "1.1 Figures" in pdf.pages[0].extract_text()


def test_links_of_the_pdf_stay_inside(pdf):
    annotations = [a.get_object() for sheet in pdf.pages for a in sheet.get("/Annots", [])]
    assert len(annotations) == 4 + 5
    assert all("/URI" not in a.get("/A", {}) for a in annotations)


def test_every_font_of_the_pdf_is_embedded(pdf):
    fonts = {}
    for sheet in pdf.pages:
        for font in sheet["/Resources"].get("/Font", {}).values():
            inner = font.get_object().get("/DescendantFonts", [font])[0].get_object()
            fonts[inner["/BaseFont"]] = inner["/FontDescriptor"]
    assert any("Libertinus" in name for name in fonts)
    assert all({"/FontFile2", "/FontFile3"} & set(descriptor) for descriptor in fonts.values())


def test_figures_of_the_pdf_have_words(pdf):
    def walk(node: dict) -> Iterator[str]:
        if "/Alt" in node:
            yield node["/Alt"]
        children = node.get("/K", [])
        for child in children if isinstance(children, list) else [children]:
            if isinstance(child := child.get_object() if hasattr(child, "get_object") else 0, dict):
                yield from walk(child)

    said = list(walk(pdf.trailer["/Root"]["/StructTreeRoot"]))
    assert any("Figure 2.1. A tall figure." in words for words in said)


def test_a_long_table_goes_on_with_its_header_on_the_next_page(pdf):
    sheets = [sheet.extract_text() for sheet in pdf.pages]
    assert sum(bool(re.search(r"^row ?name", sheet, re.MULTILINE)) for sheet in sheets) >= 2


def test_without_a_font_for_it_the_pdf_leaves_chinese_out(run, monkeypatch):
    monkeypatch.setattr(report, "CHINESE_FONTS", ())
    page = report.render(run).read_text(encoding="utf-8")
    written = "".join(s.extract_text() for s in pypdf.PdfReader(run / "report.pdf").pages)
    assert "摘要" in page
    assert "Abstract" in written and not re.search(report.CHINESE, written)


def test_rendering_twice_gives_the_same_bytes(made_up_report, run):
    report.render(run)
    for name in ("report.html", "report.pdf"):
        assert (run / name).read_bytes() == (made_up_report / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "addition", "complaint"),
    [
        ("template.typ", "\n#no-such-function()\n", "Typst"),
        ("template.html", "$if(", "pandoc"),
        ("template.md.j2", '{{ figure("nowhere", "x") }}', "nowhere"),
        ("template.md.j2", '{{ ref("nowhere") }}', "nowhere"),
    ],
)
def test_what_fails_leaves_both_forms_as_they_were(run, name, addition, complaint):
    with (report.TEMPLATES / name).open("a", encoding="utf-8") as template:
        template.write(addition)
    with pytest.raises(LabError, match=complaint):
        report.render(run)
    for form in ("report.html", "report.pdf"):
        assert (run / form).read_text() == "the last good one"
    assert not list(run.glob(".report-*"))

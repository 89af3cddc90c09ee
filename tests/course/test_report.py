"""One source, two forms: a made-up run rendered as HTML and as PDF."""

import itertools
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pypdf
import pytest
from browser import Page
from PIL import Image, PngImagePlugin

from mnist_lab.course import report
from mnist_lab.course.run import RunFolder
from mnist_lab.course.verify import verify
from mnist_lab.files import LabError


@pytest.fixture(scope="module")
def text(made_up_report) -> str:
    return (made_up_report / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


@pytest.fixture(scope="module")
def pdf(made_up_report) -> pypdf.PdfReader:
    return pypdf.PdfReader(made_up_report / "report.pdf")


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


def test_figures_and_tables_are_counted_apart_and_by_chapter_and_references_look_both_ways():
    assert numbers(
        *("# 1 One", "⟦+figure:a⟧ ⟦+figure:b⟧ ⟦+table:a⟧"),
        *("## 1.2 Part", "⟦+figure:c⟧"),
        *("# 2 Two", "⟦+figure:d⟧"),
        *("# Appendix: three {.unnumbered #x}", "⟦+table:d⟧ ⟦section:x⟧"),
        *("# Appendix: four", "⟦+table:e⟧"),
    )[1::2] == ["1.1 1.2 1.1", "1.3", "2.1", "A.1 A", "B.1"]
    assert numbers("# Appendix: x {.unnumbered}") == ["# Appendix A: x {.unnumbered}"]
    lines = numbers("⟦figure:a⟧ ⟦section:it⟧", "# 3 X", "## 3.1 Y {#it}", "⟦+figure:a⟧ ⟦figure:a⟧")
    assert (lines[0], lines[3]) == ("3.1 3.1", "3.1 3.1")


@pytest.mark.parametrize(
    ("text", "said"), [("⟦figure:no⟧", "figure:no"), ("⟦+table:a⟧ " * 2, "table:a twice")]
)
def test_a_reference_to_nothing_and_a_name_given_twice_are_named(text, said):
    with pytest.raises(LabError, match=said):
        numbers(text)


def test_tables_show_percent_p_values_and_minus_signs_and_counts_and_lists_are_in_words():
    frame = pd.DataFrame(
        {"name": ["+ a", None], "share (%)": [0.12345, 1.0], "points": [-0.5, 2], "p": [0.2, 1e-9]}
    ).assign(seeds=[1000, 3], empty=[float("nan"), 2])
    rows = report.markdown_table(frame, "Any.", {"share (%)": 1, "points": 2}).splitlines()
    assert rows[2] == "| +\u00a0a | 12.3 | −0.50 | 0.2000 | 1,000 | – |"
    assert rows[3] == "| – | 100.0 | 2.00 | < 0.0001 | 3 | 2 |"
    counts = [(0, 4), (4, 4), (2, 2), (1, 1), (3, 4), (0, 0)]
    said = [report.count_of(count, total) for count, total in counts]
    assert said == ["none", "all 4", "both", "1", "3", "none"]
    lists: list[list[object]] = [[], [7], ["a", "b", 3]]
    assert [report.enumerated(words) for words in lists] == ["none", "7", "a, b and 3"]


def test_links_say_the_number_and_lead_to_it_and_figures_have_ids_sizes_and_words(text, page):
    links = dict(re.findall(r'<a href="#([^"]+)">([^<]*)</a>', text))
    said = {"figure-later": "Figure 2.1", "table-wide": "Table 2.1", "origin": "section A"}
    assert said.items() <= links.items()
    assert '<a href="#second">Section 2</a>' in text
    assert {*said, "second"} <= {attributes.get("id") for _, attributes in page.tags}
    early, later = page.named("img")
    assert (early["width"], early["height"]) == ("300", "200")
    assert early["alt"] == "Figure 1.1. A small figure with x < 1 and “quotes”."
    assert later["alt"] == "Figure 2.1. A tall figure."
    assert [a["id"] for a in page.named("figure")] == ["figure-early", "figure-later"]


def test_tables_have_captions_header_cells_and_a_box_for_keyboards(text, page):
    captions = re.findall(r"<caption>(.*?)</caption>", text, re.DOTALL)
    assert [" ".join(re.sub(r"<.*?>", " ", caption).split()) for caption in captions] == [
        "Table 2.1. Fourteen columns and a long text.",
        "Table 2.2. A hundred rows.",
        "Table A.1. A table typed by hand.",
    ]
    assert [a.get("scope") for a in page.named("th")] == ["col"] * (14 + 2 + 2)
    boxes = [a for a in page.named("div") if "table-box" in (a.get("class") or "")]
    assert ["short" in a["class"] for a in boxes] == [False, True, False]
    assert [a["aria-label"] for a in boxes] == ["Table 2.1", "Table 2.2", "Table A.1"]
    assert all((a["role"], a["tabindex"]) == ("region", "0") for a in boxes)


def test_only_links_lead_out_of_the_page_and_chinese_says_its_language(text, page):
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "poster"):
            if value := attributes.get(name):
                assert value.startswith("data:") or tag == "a", (tag, value)
    assert not re.search(r"@import|url\((?!['\"]?data:)", text)
    assert '<span lang="zh">摘要</span>' in text


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(mode):
    css = (report.TEMPLATES / "style.css").read_text(encoding="utf-8")
    block = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[mode]
    colours = {name: luminance(c) for name, c in re.findall(r"--(\w+): #(\w{6});", block)}
    for ink, ground in itertools.product(("text", "soft", "accent"), ("page", "raised")):
        low, high = sorted((colours[ink], colours[ground]))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


def test_the_pdf_is_a4_can_be_searched_and_repeats_a_long_tables_header(pdf):
    assert [round(float(x)) for x in pdf.pages[0].mediabox[2:]] == [595, 842]
    assert pdf.metadata.title == "A made-up report"
    assert pdf.metadata["/Keywords"] == "digits, Nobody's digits"
    assert pdf.trailer["/Root"]["/Lang"] == "en"
    words = " ".join(" ".join(sheet.extract_text() for sheet in pdf.pages).split())
    for said in ("A made-up report", "98.77 %", "10→20", "3↔8", "B′", "≤", f"1 / {len(pdf.pages)}"):
        assert said in words
    sheets = [sheet.extract_text() for sheet in pdf.pages]
    assert sum(bool(re.search(r"^row ?name", sheet, re.MULTILINE)) for sheet in sheets) >= 2


def test_the_pdf_has_bookmarks_contents_and_links_inside(pdf):
    def titles(outline: list) -> list[str]:
        return [t for o in outline for t in (titles(o) if isinstance(o, list) else [o["/Title"]])]

    assert {"1.1 Figures", "Appendix A: origin"} <= set(titles(pdf.outline))
    assert "1.1 Figures" in pdf.pages[0].extract_text()
    annotations = [a.get_object() for sheet in pdf.pages for a in sheet.get("/Annots", [])]
    assert len(annotations) == 4 + 5
    assert all("/URI" not in a.get("/A", {}) for a in annotations)


def test_figures_of_the_pdf_have_words(pdf):
    def walk(node: object) -> Iterator[str]:
        node = node.get_object() if hasattr(node, "get_object") else node
        if isinstance(node, dict):
            yield from [node["/Alt"]] if "/Alt" in node else []
            children = node.get("/K", [])
            for child in children if isinstance(children, list) else [children]:
                yield from walk(child)

    said = list(walk(pdf.trailer["/Root"]["/StructTreeRoot"]))
    assert any("Figure 2.1. A tall figure." in words for words in said)


def test_without_a_font_for_it_the_pdf_leaves_chinese_out(run):
    (report.TEMPLATES / "chinese_fonts.txt").write_text("No Such Font\n")
    report.render(run)
    written = "".join(s.extract_text() for s in pypdf.PdfReader(run / "report.pdf").pages)
    assert "摘要" in (run / "report.html").read_text(encoding="utf-8")
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
        ("template.md.j2", '{{ table("nowhere", "x") }}', "nowhere"),
        ("template.md.j2", '{{ ref("nowhere") }}', "nowhere"),
        ("template.md.j2", "{{ evaluation.correct }}", "correct"),
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


HOSTILE = """<img src="file:///etc/hostname"> `<script>alert(1)</script>`{=html} [x](javascript:x)
![](/etc/hostname) $\\input{/etc/hostname}$ #read("/etc/hostname") ⟦+figure:early⟧ | </pre> **b**"""


def test_texts_of_a_run_are_shown_as_they_are_and_obeyed_nowhere(run):
    folder = RunFolder(run)
    folder.numbers("data", title=HOSTILE)
    folder.table("long", pd.DataFrame({HOSTILE: [HOSTILE, "=1+1"]}))
    about = PngImagePlugin.PngInfo()
    about.add_text("Title", HOSTILE)
    Image.new("RGB", (300, 200)).save(run / "figures" / "early.png", pnginfo=about)
    (run / ".report-left").mkdir()
    report.render(run)
    assert not (run / ".report-left").exists()
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert not page.named("script") and len(page.named("img")) == 2
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.named("img"))
    assert not [a for _, a in page.tags if "javascript" in (a.get("href") or "")]
    shown = " ".join(HOSTILE.split())
    assert " ".join(page.words.split()).count(shown) >= 3  # title, header, cell
    assert "<img src=" in page.named("img")[0]["alt"]
    printed = "".join(p.extract_text() for p in pypdf.PdfReader(run / "report.pdf").pages)
    assert "/etc/hostname" in printed and "#read" in printed


@pytest.mark.skipif(os.name != "posix", reason="links and FIFOs")
@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/hostname"), os.mkfifo])
def test_a_run_with_a_link_or_a_device_is_refused(run, make):
    make(run / "figures" / "more.png")
    for act in (report.render, report.page, verify):
        with pytest.raises(LabError, match=r"more\.png is a link or a device"):
            act(run)
    assert (run / "report.html").read_text() == "the last good one"


@pytest.mark.parametrize(
    "content",
    [b"[]", b"null", b"[" * 100_000, b"1" * 6000, '{"a": 1}'.encode("utf-16"),
     b'{"data": {"title": 1}, "evaluation": {"accuracy": "x"}}', b'{"evaluation": null}'],
    ids=["list", "null", "deep", "long", "UTF-16", "text for a number", "no section"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["metrics.json", "provenance.json"])
def test_a_file_of_anything_else_is_one_error(run, name, content):
    (run / name).write_bytes(content)
    if name == "provenance.json" and content[:1] == b"{":
        report.page(run)  # nothing of it is in this text
    else:
        with pytest.raises(LabError, match=name.partition(".")[0] + "|the run's files hold"):
            report.render(run)
    assert (run / "report.html").read_text() == "the last good one"

"""The whole course on the bundled digits: one command, real notebooks, a report."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pypdf
import pytest
from browser import CHROMIUM, faults, look

from mnist_lab import report
from mnist_lab.data import PROJECT
from mnist_lab.errors import LabError

SIXTY_THOUSAND = re.compile(r"(?<![\d.])60,?000(?:\.0)?(?!\d|\.\d)")


class Page(HTMLParser):
    """What a page refers to, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.alts: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.ids.add(given.get("id") or "")
        if tag in ("img", "script", "link", "iframe"):
            self.sources.append(given.get("src") or given.get("href") or "")
        if tag == "img":
            self.alts.append(given.get("alt") or "")
        if tag == "a":
            self.links.append(given.get("href") or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def page(course) -> Page:
    return Page((course[0] / "report.html").read_text(encoding="utf-8"))


def test_it_says_where_the_report_is_and_its_headline(course):
    assert "Report: uci-digits-student/report.html" in course[1]
    assert "UCI digits: 1,497 training, 300 test images" in course[1]
    assert "95 % interval" in course[1]


def test_the_folder_holds_everything(course):
    folder = course[0]
    names = {path.name for path in folder.iterdir()}
    assert {"report.html", "report.pdf", "metrics.json", "provenance.json"} <= names
    assert "manifest.json" in names
    assert len(list((folder / "notebooks").glob("*.ipynb"))) == 5
    assert len(list((folder / "figures").glob("*.png"))) >= 15
    assert {"table_1.csv", "table_2.csv"} <= {p.name for p in (folder / "tables").iterdir()}


def test_tables_1_and_2_stand_beside_the_numbers_of_report_a(course):
    table_1 = pd.read_csv(course[0] / "tables" / "table_1.csv")
    table_2 = pd.read_csv(course[0] / "tables" / "table_2.csv")
    assert table_1["Report A"].tolist() == [0.982167, 0.98675, 0.982917, 0.98375, 0.985]
    assert table_1["this run"].between(0, 1).all() and len(table_1) == 5
    assert table_2["step"].tolist() == list(range(0, 1000, 100))
    assert 1.8 < table_2["this run"][0] < 2.8


@pytest.mark.parametrize("name", ["report_a", "report_b", "report_b_code", "fast"])
def test_scores_follow_from_the_stored_predictions(course, name):
    with np.load(course[0] / "predictions" / f"{name}.npz", allow_pickle=False) as stored:
        logits, seeds, labels = stored["logits"], stored["seeds"], stored["labels"]
    assert logits.dtype == np.float16 and logits.shape == (2, 300, 10)
    assert seeds.tolist() == [0, 1]
    accuracies = (logits.argmax(2) == labels).mean(1)
    table = pd.read_csv(course[0] / "tables" / "comparison.csv")
    place = ["report_a", "report_b", "report_b_code", "fast"].index(name)
    assert table["accuracy"][place] == pytest.approx(accuracies.mean(), abs=1e-6)
    if name == "report_a":
        metrics = json.loads((course[0] / "metrics.json").read_text(encoding="utf-8"))
        assert metrics["evaluation"]["accuracy"] == pytest.approx(accuracies[0])


def test_the_audit_gives_evidence_and_a_verdict_on_eight_claims(course):
    audit = pd.read_csv(course[0] / "tables" / "audit.csv")
    assert len(audit) == 8 and audit.notna().all(axis=None)
    assert set(audit["verdict"]) <= {"confirmed", "refuted", "cannot tell"}
    assert audit["claim"].is_unique and set(audit["report"]) == {"A", "B"}


def test_the_report_can_say_that_no_idea_helps(course, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(course[0], folder)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    none = ("helped", "hurt", "holds", "combined", "combinations_help")
    metrics["optimization"] |= {name: [] for name in none}
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    combinations = folder / "tables" / "combinations.csv"
    pd.read_csv(combinations).head(1).to_csv(combinations, index=False)
    text = report.page(folder)
    assert "After correction no idea can be shown to help" in text
    assert "there is nothing for" in text and "Shown to be better" not in text


def test_provenance_says_what_was_run(course):
    origin = json.loads((course[0] / "provenance.json").read_text(encoding="utf-8"))
    assert origin["dataset"]["name"] == "uci-digits"
    assert origin["profile"] == "student"
    assert origin["parameters"]["03_cnn_training"]["epochs"] == 1
    assert origin["parameters"]["05_optimization"]["seeds"] == 2
    assert origin["versions"]["torch"]


def test_nothing_claims_sixty_thousand_images(course, page):
    words = "".join(page.words)
    assert "These are not MNIST" in words and "1,497 training" in words
    assert not SIXTY_THOUSAND.search(words)
    for path in (course[0] / "notebooks").glob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                data = {k: v for k, v in output.get("data", {}).items() if "image" not in k}
                shown = json.dumps({**output, "data": data})
                assert not SIXTY_THOUSAND.search(shown)


def test_no_table_claims_sixty_thousand_images(course):
    for path in (*(course[0] / "tables").glob("*.csv"), course[0] / "metrics.json"):
        assert not SIXTY_THOUSAND.search(path.read_text(encoding="utf-8")), path.name


def test_the_page_is_one_file_that_needs_no_network(page):
    assert page.sources and all(source.startswith("data:") for source in page.sources)
    assert "script" not in page.tags
    assert all(page.alts)


def test_formulas_are_mathml_and_links_inside_the_page_resolve(page):
    assert page.tags.count("math") >= 5
    assert not re.search(r"\$[^$]*\\[a-z]+", "".join(page.words))
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert inside and set(inside) <= page.ids


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium or Chrome")
def test_a_browser_finds_no_fault_with_the_page(course):
    text = (course[0] / "report.html").read_text(encoding="utf-8")
    seen = look([(text, 1280), (text, 360)])
    assert [faults(one) for one in seen] == [[], []]
    assert seen[0]["console"] == []


def test_both_forms_are_small_enough_to_send(course):
    for name in ("report.html", "report.pdf"):
        assert (course[0] / name).stat().st_size < 4_000_000


def test_the_pdf_has_every_figure_table_and_number_of_the_page(course, page):
    metrics = json.loads((course[0] / "metrics.json").read_text(encoding="utf-8"))
    pages = pypdf.PdfReader(course[0] / "report.pdf").pages
    words = " ".join(" ".join(sheet.extract_text() for sheet in pages).split())
    captions = re.findall(r"(?:Figure|Table) [0-9A-Z]\.\d+\.", "".join(page.words))
    assert len(captions) > 30 and all(caption in words for caption in captions)
    assert report.percent(metrics["evaluation"]["accuracy"]) in words


def test_headline_numbers_on_the_page_are_those_of_the_run(course, page):
    metrics = json.loads((course[0] / "metrics.json").read_text(encoding="utf-8"))
    words = "".join(page.words)
    for section, name in (
        ("evaluation", "accuracy"),
        ("evaluation", "cv_mean"),
        ("training", "accuracy"),
    ):
        assert report.percent(metrics[section][name]) in words


def test_rendering_again_changes_with_the_numbers_and_executes_nothing(course, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("figures", "tables"):
        shutil.copytree(course[0] / name, folder / name)
    for name in ("metrics.json", "provenance.json"):
        (folder / name).write_bytes((course[0] / name).read_bytes())
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    metrics["evaluation"]["accuracy"] = 0.123456
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    assert "12.35" in report.render(folder).read_text(encoding="utf-8")


def test_the_command_renders_a_finished_run_again(course):
    forms = (course[0] / "report.html", course[0] / "report.pdf")
    before = [form.read_bytes() for form in forms]
    for form in forms:
        form.unlink()
    done = subprocess.run(
        [sys.executable, "-m", "mnist_lab", "report", str(course[0])],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert [form.read_bytes() for form in forms] == before


def test_the_command_says_which_data_is_found_where(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mnist_lab", "data", "--root", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "train-images-idx3-ubyte  missing" in done.stdout


def test_a_missing_number_is_named_and_leaves_the_page_alone(course, tmp_path):
    metrics = json.loads((course[0] / "metrics.json").read_text(encoding="utf-8"))
    del metrics["evaluation"]["correct"]
    (tmp_path / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (tmp_path / "provenance.json").write_bytes((course[0] / "provenance.json").read_bytes())
    (tmp_path / "report.html").write_text("the last good page", encoding="utf-8")
    for name in ("figures", "tables"):
        shutil.copytree(course[0] / name, tmp_path / name)
    with pytest.raises(LabError, match="correct"):
        report.render(tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "the last good page"


def test_one_notebook_runs_alone_from_any_folder(tmp_path):
    notebook = PROJECT / "notebooks" / "03_cnn_training.ipynb"
    command = [sys.executable, "-m", "papermill", str(notebook), "out.ipynb", "--no-progress-bar"]
    done = subprocess.run(
        [*command, "-p", "epochs", "2", "-p", "epochs_b", "1", "-p", "dataset", "uci-digits"],
        cwd=tmp_path,
        env={**os.environ, "MNIST_LAB_RUNS": str(tmp_path / "runs")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert {path.name for path in tmp_path.iterdir()} == {"out.ipynb", "runs"}

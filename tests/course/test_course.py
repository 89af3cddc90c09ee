"""The whole course on the bundled digits: one command, real notebooks, a report."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pypdf
import pytest
from browser import CHROMIUM, Page, faults, look

from mnist_lab.course import report
from mnist_lab.course.run import RunFolder
from mnist_lab.course.settings import NOTEBOOKS
from mnist_lab.data import PROJECT

SIXTY_THOUSAND = re.compile(r"(?<![\d.])60,?000(?:\.0)?(?!\d|\.\d)")
percent = report.FILTERS["percent"]


@pytest.fixture(scope="module")
def text(course) -> str:
    return (course[0] / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


@pytest.fixture(scope="module")
def run(course) -> RunFolder:
    return RunFolder(course[0])


@pytest.fixture
def copy(course, tmp_path) -> Path:
    return Path(shutil.copytree(course[0], tmp_path / "copy"))


def test_it_says_where_the_report_is_and_its_headline_and_the_folder_holds_everything(course):
    assert "Report: uci-digits-student/report.html" in course[1]
    assert "UCI digits: 1,497 training, 300 test images" in course[1]
    assert "95 % interval" in course[1]
    names = {p.relative_to(course[0]).as_posix() for p in course[0].rglob("*") if p.is_file()}
    assert {"report.html", "report.pdf", "metrics.json", "provenance.json"} <= names
    assert {"manifest.json", "tables/table_1.csv", "tables/table_2.csv"} <= names
    assert sum(name.endswith(".ipynb") for name in names) == len(NOTEBOOKS)
    assert sum(name.startswith("figures/") for name in names) >= 15


def test_tables_1_and_2_stand_beside_the_numbers_of_report_a(run):
    table_1, table_2 = run.read_table("table_1"), run.read_table("table_2")
    assert table_1["Report A"].tolist() == [0.982167, 0.98675, 0.982917, 0.98375, 0.985]
    assert table_1["this run"].between(0, 1).all() and len(table_1) == 5
    assert table_2["step"].tolist() == list(range(0, 1000, 100))
    assert 1.8 < table_2["this run"][0] < 2.8


def test_scores_follow_from_the_stored_predictions(run):
    table = run.read_table("comparison").set_index("network")
    for name in ("report_a", "report_b", "report_b_code", "fast"):
        kept = run.predictions[name]
        assert kept.logits.shape == (2, 300, 10) and kept.seeds.tolist() == [0, 1]
        accuracies = (kept.answers == kept.labels).double().mean(1)
        mean = table["accuracy"][kept.network]
        assert mean == pytest.approx(float(accuracies.mean()), abs=1e-6)
        if name == "report_a":
            assert run.metrics["evaluation"]["accuracy"] == pytest.approx(float(accuracies[0]))


def test_the_audit_judges_eight_claims_and_provenance_says_what_was_run(run):
    audit = run.read_table("audit")
    assert len(audit) == 8 and audit.notna().all(axis=None)
    assert set(audit["verdict"]) <= {"confirmed", "refuted", "cannot tell"}
    assert audit["claim"].is_unique and set(audit["report"]) == {"A", "B"}
    origin = run.provenance
    assert (origin["dataset"]["name"], origin["profile"]) == ("uci-digits", "student")
    assert origin["parameters"]["03_cnn_training"]["epochs"] == 1
    assert origin["parameters"]["05_optimization"]["seeds"] == 2
    assert origin["versions"]["torch"]


def test_nothing_claims_sixty_thousand_images(course, page):
    assert "These are not MNIST" in page.words and "1,497 training" in page.words
    said = {"report.html": page.words}
    for path in (*(course[0] / "tables").glob("*.csv"), course[0] / "metrics.json"):
        said[path.name] = path.read_text(encoding="utf-8")
    for path in (course[0] / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        outputs = json.dumps([cell.get("outputs", []) for cell in cells])
        said[path.name] = re.sub(r'"image/png": "[^"]*"', "", outputs)
    assert [name for name, words in said.items() if SIXTY_THOUSAND.search(words)] == []


def test_the_page_is_one_file_whose_links_resolve_and_formulas_are_mathml(page):
    images, tags = page.named("img"), [tag for tag, _ in page.tags]
    assert images and all(image["src"].startswith("data:") and image["alt"] for image in images)
    assert not {"script", "iframe"} & set(tags) and tags.count("math") >= 5
    assert not any("href" in link for link in page.named("link"))
    assert not re.search(r"\$[^$]*\\[a-z]+", page.words)
    inside = {a["href"][1:] for a in page.named("a") if (a.get("href") or "").startswith("#")}
    assert inside and inside <= {attributes.get("id") for _, attributes in page.tags}


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium or Chrome")
def test_a_browser_finds_no_fault_with_the_page(text):
    seen = look([(text, 1280), (text, 360)])
    assert [(faults(one), one["console"]) for one in seen] == [([], [])] * 2


def test_both_forms_have_every_figure_table_and_headline_number_and_can_be_sent(course, run, page):
    for name in ("report.html", "report.pdf"):
        assert (course[0] / name).stat().st_size < 4_000_000
    pages = pypdf.PdfReader(course[0] / "report.pdf").pages
    words = " ".join(" ".join(sheet.extract_text() for sheet in pages).split())
    captions = re.findall(r"(?:Figure|Table) [0-9A-Z]\.\d+\.", page.words)
    assert len(captions) > 30 and all(caption in words for caption in captions)
    evaluation, training = run.metrics["evaluation"], run.metrics["training"]
    for share in (evaluation["accuracy"], evaluation["cv_mean"], training["accuracy"]):
        number = percent(share)
        assert number in page.words and number in words


def test_the_report_can_say_that_no_idea_helps(copy):
    none = ("helped", "hurt", "holds", "combined", "combinations_help")
    RunFolder(copy).numbers("optimization", **{name: [] for name in none})
    combinations = copy / "tables" / "combinations.csv"
    pd.read_csv(combinations).head(1).to_csv(combinations, index=False)
    text = report.page(copy)
    assert "After correction no idea can be shown to help" in text
    assert "there is nothing for" in text and "Shown to be better" not in text


def test_rendering_again_gives_the_same_bytes_and_follows_the_numbers(copy):
    forms = (copy / "report.html", copy / "report.pdf")
    before = [form.read_bytes() for form in forms]
    for form in forms:
        form.unlink()
    command = [sys.executable, "-m", "mnist_lab", "report", copy]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert [form.read_bytes() for form in forms] == before
    RunFolder(copy).numbers("evaluation", accuracy=0.123456)
    assert "12.35" in report.page(copy)


def test_one_notebook_runs_alone_from_any_folder(tmp_path):
    notebook = PROJECT / "notebooks" / "03_cnn_training.ipynb"
    command = [sys.executable, "-m", "papermill", notebook, "out.ipynb", "--no-progress-bar"]
    done = subprocess.run(
        [*command, "-p", "epochs", "1", "-p", "epochs_b", "1", "-p", "dataset", "uci-digits"],
        cwd=tmp_path,
        env={**os.environ, "MNIST_LAB_RUNS": str(tmp_path / "runs")},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert {path.name for path in tmp_path.iterdir()} == {"out.ipynb", "runs"}

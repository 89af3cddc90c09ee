"""The rendered page in a real browser, where there is one."""

import re
from typing import Any

import pytest
from browser import CHROMIUM, faults, look

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium or Chrome")

WIDTHS = (1280, 390, 360)
BROKEN = {
    "network": ("<main", '<link rel="stylesheet" href="https://example.org/a.css"><main'),
    "error": ("<main", "<script>nothing.at.all</script><main"),
    "image": (' alt="Figure', ' alt="" title="Figure'),
    "layout jumps": (' height="200"', ""),
    "link": ('href="#figure-', 'href="#no-figure-'),
    "formula": ("<math", '<math style="display: none"'),
    "headings": (re.compile("<h3(.*?)</h3>"), r"<h4\1</h4>"),
    "too wide": ("<main", '<div style="width: 1300px">wide</div><main'),
    "no contents in view": ("</head>", "<style>nav, .to-contents { display: none }</style></head>"),
}


@pytest.fixture(scope="module")
def text(made_up_report) -> str:
    return (made_up_report / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def sound(text) -> list[dict[str, Any]]:
    return look([(text, width) for width in WIDTHS])


@pytest.mark.parametrize("place", range(len(WIDTHS)), ids=map(str, WIDTHS))
def test_the_page_has_no_fault(sound, place):
    assert not faults(sound[place])
    assert sound[place]["images"] and sound[place]["formulas"]


def test_the_console_stays_silent(sound):
    assert sound[0]["console"] == []


def test_each_fault_would_be_seen(text):
    pages = []
    for before, after in BROKEN.values():
        pattern = before if isinstance(before, re.Pattern) else re.compile(re.escape(before))
        broken, count = pattern.subn(after, text)
        assert count
        pages.append((broken, 1280))
    assert [faults(seen) for seen in look(pages)] == [[name] for name in BROKEN]

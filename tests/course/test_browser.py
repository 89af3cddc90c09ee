"""The rendered page in a real browser, where there is one."""

import re

import pytest
from browser import CHROMIUM, faults, look

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium or Chrome")

BROKEN = {
    "network": ("<main", '<link rel="stylesheet" href="https://example.org/a.css"><main'),
    "network: a script, refused like a request": ("<main", "<script>1</script><main"),
    "image": (' alt="Figure', ' alt="" title="Figure'),
    "layout jumps": (' height="200"', ""),
    "link": ('href="#figure-', 'href="#no-figure-'),
    "formula": ("<math", '<math style="display: none"'),
    "headings": (r"<h3(.*?)</h3>", r"<h4\1</h4>"),
    "too wide": ("<main", '<div style="width: 1300px">wide</div><main'),
    "no contents in view": ("</head>", "<style>nav, .to-contents { display: none }</style></head>"),
}


@pytest.fixture(scope="module")
def text(made_up_report) -> str:
    return (made_up_report / "report.html").read_text(encoding="utf-8")


def test_the_page_has_no_fault_at_any_width_and_the_console_stays_silent(text):
    for seen in look([(text, width) for width in (1280, 390, 360)]):
        assert faults(seen) == [] and seen["console"] == []
        assert seen["images"] and seen["formulas"]


def test_each_fault_would_be_seen(text):
    pages = []
    for pattern, replacement in BROKEN.values():
        broken, count = re.subn(pattern, replacement, text)
        assert count
        pages.append((broken, 1280))
    assert [faults(seen) for seen in look(pages)] == [[name.partition(":")[0]] for name in BROKEN]

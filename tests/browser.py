"""Pages looked at in a headless browser, all of them in one start of it."""

import html
import itertools
import json
import re
import shutil
import subprocess
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
HERE = Path(__file__).parent
OPTIONS = """
--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
--disable-background-networking --disable-component-update --host-resolver-rules=MAP_*_~NOTFOUND
--enable-logging=stderr --virtual-time-budget=10000 --dump-dom
"""


class Page(HTMLParser):
    """The start tags of a page with their attributes, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def look(pages: list[tuple[str, int]]) -> list[dict[str, Any]]:
    """What a browser says of each (HTML text, width in pixels), and its ``console`` of all.

    Raises:
        AssertionError: if the browser does not answer for each of them.
    """
    head = (HERE / "browser_head.html").read_text(encoding="utf-8")
    frames = (HERE / "browser_frames.html").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="browser-") as name:
        folder = Path(name)
        for number, (text, width) in enumerate(pages):
            watched = text.replace("<head>", f"<head>{head}", 1)
            (folder / f"{number}.html").write_text(watched, encoding="utf-8")
            frames += f'<iframe src="{number}.html" width="{width}" height="800"></iframe>\n'
        (folder / "frames.html").write_text(frames, encoding="utf-8")
        options = [option.replace("_", " ") for option in OPTIONS.split()]
        profile, start = f"--user-data-dir={folder / 'profile'}", (folder / "frames.html").as_uri()
        command = [str(CHROMIUM), *options, profile, start]
        done = subprocess.run(
            command, capture_output=True, timeout=60, encoding="utf-8", errors="replace"
        )
    found = re.search(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    seen = json.loads(html.unescape(found[1]) or "{}") if found else {}
    assert len(seen) == len(pages), done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return [{**seen[str(number)], "console": console} for number in range(len(pages))]


def faults(seen: dict[str, Any]) -> list[str]:
    """What is wrong with a page that ``look`` saw: a word for each kind of fault."""
    levels = seen["headings"]
    deeper = (below - above for above, below in itertools.pairwise(levels))
    wrong = {
        "network": seen["refused"] or seen["loaded"],
        "error": seen["errors"],
        "image": [i for i in seen["images"] if not (i["alt"] and i["natural"] and i["shown"] > 50)],
        "layout jumps": [i for i in seen["images"] if not i["reserved"]],
        "link": seen["dangling"],
        "formula": [height for height in seen["formulas"] if height < 5],
        "headings": levels[:1] != [1] or levels.count(1) != 1 or max(deeper, default=0) > 1,
        "too wide": seen["scrolled"] > seen["width"],
        "no contents in view": not seen["contents"],
    }
    return [name for name, fault in wrong.items() if fault]

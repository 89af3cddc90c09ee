"""Pages looked at in a headless browser, all of them in one start of it."""

import html
import itertools
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
# Whatever the page would load from elsewhere is refused and reported.
POLICY = (
    "default-src 'none'; img-src data:; font-src data:; "
    "style-src 'unsafe-inline' data:; script-src 'unsafe-inline'"
)
HEAD = f"""
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<script>
const refused = [], errors = [];
addEventListener("securitypolicyviolation", e => refused.push(e.blockedURI));
addEventListener("error", e => errors.push(e.message));
addEventListener("load", () => {{
  const all = selector => [...document.querySelectorAll(selector)];
  const boxes = elements => elements.map(e => e.getBoundingClientRect());
  const root = document.documentElement;
  parent.postMessage({{
    refused, errors,
    loaded: performance.getEntriesByType("resource").map(e => e.name)
      .filter(name => !name.startsWith("data:")),
    images: all("img").map(e => ({{
      alt: e.alt, natural: e.naturalWidth, shown: e.getBoundingClientRect().width,
      reserved: e.hasAttribute("width") && e.hasAttribute("height"),
    }})),
    dangling: all("a[href^='#']").map(e => e.getAttribute("href"))
      .filter(href => !document.getElementById(decodeURIComponent(href.slice(1)))),
    formulas: boxes(all("math")).map(box => box.height),
    headings: all("h1, h2, h3, h4, h5, h6").filter(e => !e.closest("nav"))
      .map(e => Number(e.tagName[1])),
    width: root.clientWidth, scrolled: root.scrollWidth,
    contents: boxes(all("nav, .to-contents")).filter(
      box => box.width && box.top < innerHeight && box.bottom > 0 && box.left < innerWidth).length,
  }}, "*");
}});
</script>
"""
FRAMES = """<!DOCTYPE html>
<script>
const seen = {};
addEventListener("message", e => {
  const all = [...document.querySelectorAll("iframe")];
  seen[all.findIndex(frame => frame.contentWindow === e.source)] = e.data;
  document.querySelector("pre").textContent = JSON.stringify(seen);
});
</script>
<pre></pre>
"""


def look(pages: list[tuple[str, int]]) -> list[dict[str, Any]]:
    """What a browser says of each (HTML text, width in pixels), and its ``console`` of all.

    Raises:
        AssertionError: if the browser does not answer for each of them.
    """
    with tempfile.TemporaryDirectory(prefix="browser-") as name:
        folder = Path(name)
        frames = FRAMES
        for number, (text, width) in enumerate(pages):
            watched = text.replace("<head>", "<head>" + HEAD, 1)
            (folder / f"{number}.html").write_text(watched, encoding="utf-8")
            frames += f'<iframe src="{number}.html" width="{width}" height="800"></iframe>\n'
        (folder / "frames.html").write_text(frames, encoding="utf-8")
        done = subprocess.run(
            [
                str(CHROMIUM),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--host-resolver-rules=MAP * ~NOTFOUND",
                f"--user-data-dir={folder / 'profile'}",
                "--enable-logging=stderr",
                "--virtual-time-budget=10000",
                "--dump-dom",
                (folder / "frames.html").as_uri(),
            ],
            capture_output=True,
            timeout=60,
        )
    dom = done.stdout.decode("utf-8", "replace")
    found = re.search(r"<pre>(.*?)</pre>", dom, re.DOTALL)
    seen = json.loads(html.unescape(found[1]) or "{}") if found else {}
    assert len(seen) == len(pages), done.stderr.decode("utf-8", "replace")[-2000:]
    said = done.stderr.decode("utf-8", "replace").splitlines()
    console = [line for line in said if ":CONSOLE" in line]
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

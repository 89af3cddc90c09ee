"""The pad: what its page sends in a real browser, what Python reads in that, and what is shown."""

import base64
import html
import io
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, OPTIONS
from PIL import Image

import mnist_lab as lab
from mnist_lab.handwriting import pad

MODULE = Path(pad.__file__).with_name("pad.js")
SEVEN = [[[80, 60], [200, 60], [120, 230]]]

# The pad in a page, its model replaced by one that writes down what it is given.
PAGE = """<!DOCTYPE html><body><pre></pre><script type="module">
const listeners = {}, sent = [];
const model = {
  state: STATE,
  get(name) { return this.state[name]; },
  set(name, value) { this.state[name] = value; listeners["change:" + name]?.(); },
  save_changes() { sent.push(structuredClone(this.state.strokes)); },
  on(name, listener) { listeners[name] = listener; },
  off(name) { delete listeners[name]; },
};
const el = document.body.appendChild(document.createElement("div"));
const { default: widget } = await import("data:text/javascript;base64,MODULE");
const remove = widget.render({ model, el });
const canvas = el.querySelector("canvas");
function point(type, x, y, also = {}) {
  const box = canvas.getBoundingClientRect();
  const at = { clientX: box.left + x, clientY: box.top + y };
  const pointer = { pointerId: 1, button: type === "pointermove" ? -1 : 0, bubbles: true };
  canvas.dispatchEvent(new PointerEvent(type, { ...pointer, ...at, ...also }));
}
const dark = () => canvas.getContext("2d")
  .getImageData(0, 0, canvas.width, canvas.height).data.filter((v, i) => i % 4 === 3 && v).length;
const said = [];
SCRIPT
const bars = [...el.querySelectorAll("[data-probability]")];
document.querySelector("pre").textContent = JSON.stringify({
  sent, said, words: el.innerText, bars: bars.map((bar) => Number(bar.dataset.probability)),
  images: [...el.querySelectorAll("img")].map((image) => image.src),
});
</script></body>"""
# One stroke, while a second finger touches the pad; then the button.
DRAW_AND_CLEAR = """
point("pointerdown", 80, 60); point("pointermove", 200, 60); point("pointermove", 120, 230);
point("pointerdown", 9, 9, { pointerId: 2 }); point("pointerup", 9, 9, { pointerId: 2 });
point("pointerup", 120, 230);
said.push(canvas.style.touchAction, dark(), canvas.toDataURL("image/png"));
el.querySelector("button").click(); said.push(dark());
remove(); said.push(Object.keys(listeners).length);
"""


def in_browser(tmp_path, state: dict, script: str) -> dict:
    """What the page holds after ``script``, with a pad of this ``state`` in it."""
    module = base64.b64encode(MODULE.read_bytes()).decode()
    text = PAGE.replace("STATE", json.dumps(state)).replace("MODULE", module)
    page = tmp_path / "pad.html"
    page.write_text(text.replace("SCRIPT", script), encoding="utf-8")
    options = [option.replace("_", " ") for option in OPTIONS.split()]
    command = [CHROMIUM, *options, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, timeout=60, encoding="utf-8")
    (found,) = re.findall(r"<pre>(.+?)</pre>", done.stdout, re.DOTALL) or [None]
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> dict:
    """What the page has sent and said when a stroke was drawn on it and taken away."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    state = {"side": pad.SIDE, "pen": pad.PEN, "strokes": [], "answer": {}}
    return in_browser(tmp_path_factory.mktemp("drawn"), state, DRAW_AND_CLEAR)


def test_a_stroke_drawn_in_a_browser_is_sent_and_clear_takes_it_away(drawn):
    touch_action, dark, _, dark_when_cleared, listeners_when_removed = drawn["said"]
    assert drawn["sent"][-2:] == [SEVEN, []]  # nothing of the second finger
    assert dark > 3000 and dark_when_cleared == 0
    assert touch_action == "none" and listeners_when_removed == 0
    assert "Draw a digit." in drawn["words"]


def test_the_browser_paints_the_picture_that_python_reads(drawn):
    png = base64.b64decode(drawn["said"][2].split(",")[1])
    painted = Image.open(io.BytesIO(png)).getchannel("A").resize((pad.SIDE, pad.SIDE))
    assert abs(255 - np.asarray(pad.draw(SEVEN), float) - np.asarray(painted)).mean() < 1


def test_what_a_browser_draws_is_read_in_python_and_shown_in_a_browser(drawn, tmp_path):
    widget = pad.Pad()
    widget.strokes = drawn["sent"][-2]
    assert widget.reading.lines == ("7",)
    state = {"side": pad.SIDE, "pen": pad.PEN, "strokes": SEVEN, "answer": widget.answer}
    shown = in_browser(tmp_path, state, "")
    assert "The network reads 7" in shown["words"]
    assert shown["bars"] == widget.answer["digits"][0]["probabilities"]
    assert sum(shown["bars"]) == pytest.approx(1) and len(shown["bars"]) == 10
    assert shown["images"] == [widget.answer["digits"][0]["image"]]


def test_the_image_shown_is_the_one_the_network_sees():
    widget = pad.Pad()
    widget.strokes = SEVEN
    (shown,) = widget.answer["digits"]
    png = base64.b64decode(shown["image"].removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), widget.reading.digits[0].image)
    assert lab.read(widget.picture).lines == widget.reading.lines


def test_an_empty_pad_has_no_reading_and_a_cleared_one_none_either():
    widget = pad.Pad()
    assert widget.reading is None
    widget.strokes = SEVEN
    widget.strokes = []
    assert widget.reading is None and widget.answer == {"digits": []}


def test_digits_side_by_side_are_each_answered():
    one, seven = [[60, 80], [60, 200]], [[140, 80], [230, 80], [170, 200]]
    widget = pad.Pad()
    widget.strokes = [one, seven]
    assert widget.reading.lines == ("17",) and len(widget.answer["digits"]) == 2

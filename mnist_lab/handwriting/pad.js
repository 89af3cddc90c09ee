// The pad in a notebook's page: strokes go to Python, which answers with what it reads in them.

const EVERY = 200; // milliseconds between two sendings while the pen moves

function tag(name, style, text = "") {
  const element = document.createElement(name);
  element.style.cssText = style;
  element.textContent = text;
  return element;
}

function render({ model, el }) {
  const side = model.get("side");
  const canvas = tag("canvas", `width: ${side}px; height: ${side}px; outline: 1px solid #888; margin: 1px;
    background: white; cursor: crosshair; touch-action: none`);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "Pad: draw a digit here");
  const clear = tag("button", "display: block; margin-top: 6px; padding: 4px 14px", "Clear");
  const said = tag("div", "font-size: 16px; margin-bottom: 8px");
  said.setAttribute("aria-live", "polite");
  const digits = tag("div", "display: flex; flex-wrap: wrap; gap: 20px");
  const left = tag("div", ""), right = tag("div", "flex: 1; min-width: 220px");
  left.append(canvas, clear);
  right.append(said, digits);
  const whole = tag("div", "display: flex; flex-wrap: wrap; gap: 20px; font-family: sans-serif");
  whole.append(left, right);
  el.append(whole);

  const pen = canvas.getContext("2d");
  let strokes = model.get("strokes").map((stroke) => [...stroke]);
  let sent = 0;

  function paint() {
    const fine = window.devicePixelRatio || 1;
    canvas.width = canvas.height = side * fine; // also wipes it
    pen.scale(fine, fine);
    pen.lineWidth = model.get("pen");
    pen.lineCap = pen.lineJoin = "round";
    for (const stroke of strokes) {
      pen.beginPath();
      pen.moveTo(...stroke[0]);
      for (const point of stroke) pen.lineTo(...point);
      pen.stroke();
    }
  }

  function send() {
    sent = Date.now();
    model.set("strokes", strokes.map((stroke) => [...stroke]));
    model.save_changes();
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    const inside = (share) => Math.round(10 * side * Math.min(1, Math.max(0, share))) / 10;
    return [
      inside((event.clientX - box.left) / box.width),
      inside((event.clientY - box.top) / box.height),
    ];
  }

  let drawing = null; // the pointer that draws: a second finger or a palm does not
  canvas.addEventListener("pointerdown", (event) => {
    if (drawing !== null || event.button !== 0) return;
    event.preventDefault();
    drawing = event.pointerId;
    try {
      canvas.setPointerCapture(drawing); // the stroke goes on outside the pad
    } catch { /* the pointer is up again already */ }
    strokes.push([place(event)]);
    paint();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== drawing) return;
    const between = event.getCoalescedEvents?.() ?? [];
    const stroke = strokes[strokes.length - 1];
    for (const step of between.length ? between : [event]) stroke.push(place(step));
    paint();
    if (Date.now() - sent > EVERY) send();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
      if (event.pointerId !== drawing) return;
      drawing = null;
      send();
    });
  }
  clear.addEventListener("click", () => {
    strokes = [];
    drawing = null;
    paint();
    send();
  });

  function show() {
    const found = model.get("answer").digits ?? [];
    const text = found.map((one) => (one.sure ? one.digit : "?")).join("");
    const likely = found.map((one) => one.digit).join("");
    const doubt = text === likely ? "" : ` (most likely ${likely})`;
    said.textContent = found.length ? `The network reads ${text}${doubt}` : "Draw a digit.";
    digits.replaceChildren(...found.map(panel));
  }

  function panel(one) {
    const seen = tag("img", "width: 84px; height: 84px; image-rendering: pixelated; display: block");
    seen.src = one.image;
    seen.alt = `The 28×28 image that the network sees, read as ${one.digit}`;
    const bars = tag("div", "margin-top: 6px; font-size: 12px; line-height: 16px");
    one.probabilities.forEach((p, digit) => {
      const row = tag("div", "display: flex; gap: 6px; align-items: center");
      row.dataset.probability = p;
      const colour = digit === one.digit ? "#0173b2" : "#949494";
      const track = tag("div", "width: 100px; background: #8883");
      track.append(tag("div", `width: ${100 * p}px; height: 10px; background: ${colour}`));
      row.append(tag("span", "", digit), track, tag("span", "", `${(100 * p).toFixed(1)} %`));
      bars.append(row);
    });
    const box = tag("div", "");
    box.append(seen, bars);
    return box;
  }

  // Another view of the same pad, or Python, may have changed what is drawn.
  function follow() {
    if (drawing !== null) return;
    strokes = model.get("strokes").map((stroke) => [...stroke]);
    paint();
  }

  model.on("change:answer", show);
  model.on("change:strokes", follow);
  paint();
  show();
  return () => {
    model.off("change:answer", show);
    model.off("change:strokes", follow);
  };
}

export default { render };

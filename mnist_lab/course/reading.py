"""The command line's ``read``: pictures read one by one, and said in a line each."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mnist_lab.files import LabError, replacing
from mnist_lab.handwriting.network import load_network
from mnist_lab.handwriting.pictures import open_picture
from mnist_lab.handwriting.reading import Reading, read


def read_pictures(
    pictures: Sequence[str],
    *,
    as_json: bool,
    out: Path | None,
    expected: int | None,
    allow: float,
    network: str,
    echo: Callable[[str], None],
) -> int:
    """Read the pictures and say what they say; the exit status.

    0 if all were read, 2 if one could not be, else 1 if one has not ``expected`` digits.
    """
    reader, status, found = load_network(network), 0, []
    for number, name in enumerate(pictures, 1):
        about: dict[str, Any] = {"file": name}
        try:
            picture = open_picture(name)
            reading = read(picture, reader, allow)
        except LabError as error:
            status, about["error"] = 2, str(error)
            line = str(error) if name in str(error) else f"{name}: {error}"
        else:
            about |= _as_plain(reading)
            line = f"{name}: {_in_one_line(reading)}{_doubts(reading)}"
            if expected not in (None, len(reading.digits)):
                status = max(status, 1)
                about["expected"] = expected
                line += f"; expected {expected} digits, found {len(reading.digits)}"
            if out:
                many = len(pictures) > 1
                path = out.with_stem(f"{out.stem}-{number}") if many else out
                _draw(path, picture, reading, f"{Path(name).name}: {_in_one_line(reading)}")
        found.append(about)
        if not as_json:
            echo(line)
    if as_json:
        echo(json.dumps(found, indent=2, ensure_ascii=False))
    return status


def _in_one_line(reading: Reading) -> str:
    return " / ".join(reading.text.splitlines())


def _doubts(reading: Reading) -> str:
    """Which digits are not sure, as words to follow what is read."""
    words = []
    for place, d in enumerate(reading.digits, 1):
        if not d.sure:
            percent = f"{100 * d.confidence:.0f}" if d.confidence < 0.995 else "above 99"
            words.append(f"digit {place}, perhaps {d.digit}: {percent} %")
    return f"  (unsure: {'; '.join(words)})" if words else ""


def _as_plain(reading: Reading) -> dict[str, Any]:
    line_of = [number for number, line in enumerate(reading.lines, 1) for _ in line]
    digits = [
        {
            "line": number,
            "digit": d.digit,
            "confidence": round(d.confidence, 6),
            "sure": d.sure,
            "box": list(d.box),
            "probabilities": [round(float(p), 6) for p in d.probabilities],
        }
        for number, d in zip(line_of, reading.digits, strict=True)
    ]
    return {"text": reading.text, "lines": list(reading.lines), "digits": digits}


def _draw(path: Path, picture: Any, reading: Reading, title: str) -> None:
    from mnist_lab.figures import reading_figure

    figure = reading_figure(picture, reading.digits, title=title)
    with replacing(path) as new:
        figure.savefig(new, dpi=120, format=path.suffix.lstrip(".") or "png")

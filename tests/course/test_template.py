"""The report's text holds no number typed by hand, but for those that are no results."""

import re

import pytest

from mnist_lab.course.report import TEMPLATES

# Of the assignment, of the networks' design and of the methods: no run can change them.
DESIGN = (
    "from 0 to 9", "[0, 1]", "256×256", "from 8×8", "divided by 255", "80/20", "the 1,797 that",
    "a half-turned 9", "first weights (0) to the trained ones (1)", "(cut to 0 and 100)",
    "cut at 100 %", "The digit 1 against", "says 90 % should", "or in 1,000", "one in 1,000",
    "turned by 15 degrees", "by 45 degrees", "Noise of 0.4", "reduced to 8×8", "that 2 is read",
    "stacks 64 of them", "arithmetic in 16 bits", "every 100th step", "the 2.3026 of",
    "95 % interval", "95 % Wilson", "95 % t-interval", "95 % confidence", "below 0.05",
    "±0.65", "more than 90 % confidence", "one error in 10,000", "one in 10,000",
    "of 45 pairs", "macro F1", "0 where a denominator is 0", "L1, L2", "strong L1 penalty",
    "accuracy, precision, recall, F1 with", "chance of 80 %",
    "floor of 1.46115", "Digit 2 has", "low recall of 2 by",
)  # fmt: skip
# What Report A or Report B prints, or names.
CITED = (
    "late 2024", "subtracts 0.5 and divides by 0.5", "Table 2", "Table 1", "Figure 3.1",
    "Figure 3.2", "starts at 2.3061", "last loss, 1.46442", "a loss of 1.464,",
    "waited 1,168 seconds for its 30 epochs", "stops at 1.464",
    "losses, 1.66 would fit two digits missing, 1.57 one, 1.49 and 1.467 none",
    "each with a probability of 0.3", "learning rate of 0.1 is",
    "3↔8 and 0↔6. Here 3 and 8", "0 and 6 for",
    "rates of 0.1 and 0.2 instead of 0.14", "accuracy at 0.14", "learning rate of 0.14",
    "learning rate 0.14", "against 0.14", "Report A's F1", 'an "F1" of', "an F1 of", "ten-class F1",
    "this run's F1", "run ten-class F1",
)  # fmt: skip


def prose(template: str) -> str:
    """The template's own words: no front matter, citations, expressions, formulas or code."""
    text = template.split("---\n", 2)[2]
    start = text.index("# References")
    text = text[:start] + text[text.index("# Appendix", start) :]
    strings = re.compile(r'"((?:[^"\\]|\\.)*)"')

    def captions(match: re.Match[str]) -> str:
        return "; ".join(words for words in strings.findall(match[0]) if len(words) >= 12)

    text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", captions, text, flags=re.S)
    text = re.sub(r"\[[^]]*\]\(#ref-\w+\)", " ", text)
    text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)|\{[#.][^}]*\}", " ", text, flags=re.S)
    text = re.sub(r"^#+ [\d.]+ |^\| \d ", " ", text, flags=re.M)
    return re.sub(r"\s+", " ", text)


def typed_numbers(text: str) -> list[str]:
    """Digits that are in no phrase known above, with the words around them."""
    for phrase in sorted((*DESIGN, *CITED), key=len, reverse=True):
        text = text.replace(phrase, " ")
    return [text[max(0, m.start() - 40) : m.end() + 20] for m in re.finditer(r"\d[\d.,]*", text)]


@pytest.fixture(scope="module")
def template() -> str:
    return (TEMPLATES / "template.md.j2").read_text(encoding="utf-8")


def test_no_number_is_typed_by_hand(template):
    assert typed_numbers(prose(template)) == []


@pytest.mark.parametrize(
    "typed", ["The accuracy is 98.9 %.", "It took 12 seconds.", "3 ideas help."]
)
def test_a_number_typed_by_hand_is_found(template, typed):
    where = "# 6 Conclusion"
    assert typed_numbers(prose(template.replace(where, f"{typed}\n\n{where}")))


def test_every_phrase_that_is_allowed_is_used(template):
    text = prose(template)
    unused = [phrase for phrase in (*DESIGN, *CITED) if phrase not in text]
    assert unused == []

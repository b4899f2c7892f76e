r"""Final answers: read off a response, and compared with the right one.

The text alone decides, by one rule for every method: what counts is in the last \boxed{…} that is closed and not
empty, whether the response ended by itself or was cut off after it. Of boxes in one another it is the innermost.
`\boxed 5` and \fbox are boxes too; "the answer is 5" is none.

Two answers are the same if they are the same text but for spaces, \left, \text, units, degrees, currency and thousands
separators, if they are the same number, or if they are equal as `expressions.py` has it: 1/2 and 0.5, \sqrt{8} and
2\sqrt{2}, sets in any order, pairs in theirs, x=5 and 5. 50\% is 0.5 and 50 both, for what a question asked for can't
be seen; 52_8 is 52 and not 52_7. Units are dropped, not compared. What is too large to be computed (`bounds.py`) is
only compared as text.
"""

import logging
import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

from opd_bench.tasks.bounds import excess

MARKS = re.compile(
    r"(?P<box>\\{1,2}(?:boxed|fbox)(?![a-zA-Z])\s*\{)|"
    r"\\{1,2}(?:boxed|fbox)(?![a-zA-Z])[ \t]*(?P<bare>[^\s{}$]+(?:\{[^\s{}$]*\})*)|"
    r"\\.|(?P<open>\{)|(?P<close>\})",
    re.DOTALL,
)
NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)")
GROUPED = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
BASE = re.compile(r"\d_\{?(\d+)\}?$")
WORDS = re.compile(r"(?:[^\W\d_]+[ -])*[^\W\d_]{3,}(?:[ -][^\W\d_]+)*")
SCIENTIFIC = re.compile(r"([-+]?[\d.]+)[eE]([-+]?\d{1,4})")
UNIT = r"(?:[ckm]m|[km]g|ft|in|lb|oz|mph|hr|min|sec|\s+[a-zA-Z]{3,}(?:\s+[a-zA-Z]+)*)(?:\s*\^\s*\{?[23]\}?)?"
CHANGES = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"\s+", " "),
        (r"\\!\s*", ""),  # before a space may part digits
        (r"(?<=\d)\\,(?=\d{3}(?!\d))", ""),
        (r"(?<!\\)\\[$,;: ]|\$|~|\\q?quad\b|\\(?:left|right|displaystyle)(?![a-zA-Z])", " "),
        (r"\{,\}", ","),
        (r"\\varnothing(?![a-zA-Z])", r"\\emptyset "),
        ("−", "-"),
        ("×", r"\\times "),
        ("π", r"\\pi "),
        ("∞", r"\\infty "),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\^\s*\{?\s*(?:\\circ|\\degree)\s*\}?|\\degree|°", ""),
        (r"\\(?:text|mbox)\s*\{\s*(?:and|or)\s*\}", ","),
        (r"(?<=[\d})])\s*\\(?:text|mbox|mathrm|textrm|textbf)\s*\{[^{}]*\}(?:\s*\^\s*\{?\d\}?)?\s*\.?\s*$", ""),
        (r"\\(?:text|mbox|mathrm|textrm|textbf|mathbf|mathit)\s*\{([^{}]*)\}", r"\1"),
        (rf"^(\s*[-+]?[\d.,]+)\s*{UNIT}\.?\s*$", r"\1"),
        (r"(?<![0-9a-zA-Z])\s+|\s+(?![0-9a-zA-Z])|(?<=\d)\s+(?=[a-zA-Z])|(?<=[a-zA-Z])\s+(?=\d)", ""),
        (r"\\(?=%)", ""),
        (r"[.,]$", ""),
    )
)


def boxed(text: str) -> str:
    """What is in the last box, empty if there is none."""
    opened: list[int | None] = []
    start, found = -1, ""
    for mark in MARKS.finditer(text):
        if mark["box"] or mark["open"]:
            opened.append(mark.end() if mark["box"] else None)
        elif mark["bare"]:
            start, found = mark.end(), mark["bare"]
        elif mark["close"] and opened and (begun := opened.pop()) is not None and begun > start:
            inside = text[begun : mark.start()].strip()
            start, found = (begun, inside) if inside else (start, found)
    return found


def same(answer: str, gold: str, tolerance: float = 0.0) -> tuple[bool, str]:
    """Whether an answer is the right one, numbers up to a relative tolerance, and why not, where that is not plain."""
    if answer == gold:
        return bool(gold), ""
    if reason := excess(answer) or excess(gold):
        return False, reason
    left, right = plain(answer), plain(gold)
    if left.endswith("%") != right.endswith("%"):
        rate, other = sorted((left, right), key=lambda text: not text.endswith("%"))
        return any(_equal(value, other, tolerance) for value in (rate[:-1], rf"\frac{{{rate[:-1]}}}{{100}}")), ""
    return _equal(left, right, tolerance), ""


@lru_cache(maxsize=4096)
def plain(text: str) -> str:
    """Without what does not change the meaning of an answer."""
    for pattern, new in CHANGES:
        text = pattern.sub(new, text)
    text = text.replace(",", "") if GROUPED.fullmatch(text) else text
    return SCIENTIFIC.sub(r"\1\\times10^{\2}", text) if SCIENTIFIC.fullmatch(text) else text


def _equal(left: str, right: str, tolerance: float) -> bool:
    """Of two plain answers, the second being the right one."""
    if left == right or not (left and right):
        return left == right != ""
    if NUMBER.fullmatch(left) and NUMBER.fullmatch(right):
        return abs(Fraction(left) - Fraction(right)) <= tolerance * abs(Fraction(right))
    if WORDS.fullmatch(left) or WORDS.fullmatch(right):
        return left.casefold() == right.casefold()  # of letters as factors, an anagram would be as good
    base, of = BASE.search(right), BASE.search(left)
    if of and (not base or of[1] != base[1]):
        return False
    return computed(left, right, tolerance)


def computed(left: str, right: str, tolerance: float) -> bool:
    """What needs a computer-algebra system; whatever that can't read or compute isn't equal."""
    from opd_bench.tasks.expressions import equal  # takes a second, and only some answers need it

    parse, verify = _math_verify()
    answer, gold = parse(left), parse(right)
    try:
        return bool(answer and gold) and equal(gold[0], answer[0], tolerance, verify)
    except Exception:  # sympy raises nearly any, and what it can't compute is not known to be right
        return False


@lru_cache(maxsize=1)
def _math_verify() -> tuple[Callable[[str], list[Any]], Callable[..., bool]]:
    """Its parser of plain answers and its comparison, both without time limits of their own: they'd take ours away."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that it has no time limit
    rules = NormalizationConfig(units=False, malformed_operators=True, nits=True, boxed="none")
    kinds = [LatexExtractionConfig(boxed_match_priority=-1, normalization_config=rules)]

    @lru_cache(maxsize=4096)
    def parsed(text: str) -> list[Any]:
        return list(parse(f"${text}$", kinds, fallback_mode="no_fallback", parsing_timeout=None))

    return parsed, verify

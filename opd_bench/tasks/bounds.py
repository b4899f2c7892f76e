"""What is too large for a computer-algebra system: found out from the text, before any of it is computed.

A limit of time does not help against 9^{9^{9^9}}: that is one call into C, which no signal interrupts.
"""

import math
import re
from collections.abc import Iterator

LONGEST = 300
"""Characters of an answer; the longest one of MATH-500 has 53."""
DEEPEST = 6
"""Brackets in one another."""
ITEMS = 50
"""Entries of a list, set or matrix."""
DIGITS = 1000.0
"""That a number may have once it is written out, such as 2^{3000}."""
QUOTIENTS = 10
"""Slashes: the time to parse a chain of them grows exponentially."""
TERMS = 30.0
"""Decimal exponents of what powers of sums multiply out to: (x+1)^{50} is allowed."""
COSTLY = re.compile(
    r"\\(?:sum|prod|i*int|oint|lim|limsup|liminf|gcd|lcm|det|mod|[bp]mod|choose|operatorname|phantom|cdots|[lvd]?dots|"
    r"xrightarrow|overset|underset|substack|sinh|cosh|tanh|coth|exp|Gamma|zeta)(?![a-zA-Z])|\)\s*_|gcd|lcm|rank|diag|eye|zeros|ones|hstack|vstack|svd|\}\s*!|\)\s*!|!\s*!"
)
SMALL_BINOMIAL = re.compile(r"\\[dt]?binom\s*\{\s*\w{1,3}\s*\}\s*\{\s*\w{1,3}\s*\}")
SEPARATORS = re.compile(r"[,;&]|\\\\")
TOKENS = re.compile(r"\d[\d.,]*(?:[eE][-+]?\d+)?|\\[a-zA-Z]+|\\.|[a-zA-Z]|[{}()\[\]^!]")
SIZE_OF_A_LETTER = 0.3


def excess(text: str) -> str:
    """In what an answer is beyond the bounds, empty if in nothing."""
    if len(text) > LONGEST:
        return f"more than {LONGEST} characters: compared as text only"
    if _depth(text) > DEEPEST or len(SEPARATORS.findall(text)) >= ITEMS or text.count("/") > QUOTIENTS:
        return (
            f"more than {DEEPEST} brackets in one another, {ITEMS} items or {QUOTIENTS} slashes: compared as text only"
        )
    if COSTLY.search(left := SMALL_BINOMIAL.sub("1", text)) or "binom" in left:
        return "a sum, product, integral or the like: compared as text only"
    if not _Sizes(left).total <= DIGITS:
        return f"more than {DIGITS:,.0f} digits: compared as text only"
    return ""


def _depth(text: str) -> int:
    """Most brackets open at once; one that is never closed counts, one that was never opened doesn't."""
    depth = deepest = 0
    for sign in text:
        depth = max(depth + (sign in "{([") - (sign in "})]"), 0)
        deepest = max(deepest, depth)
    return deepest


class _Sizes:
    """An upper bound on the digits of every number in an expression: factors and summands add up, powers multiply."""

    def __init__(self, text: str) -> None:
        self.terms = 0.0
        self.total, _ = self.group(iter(TOKENS.findall(text)))

    def group(self, tokens: Iterator[str]) -> tuple[float, bool]:
        """The size of what comes before the next closing bracket, and whether there are letters in it."""
        total, last, letters, inner = 0.0, 0.0, False, False
        for token in tokens:
            if token in "})]":
                break
            if token == "^":
                power = 10 ** min(self.item(next(tokens, ""), tokens)[0], 9)
                total, last = total + last * max(power - 1, 0), last * max(power, 1)
                self.terms += last if inner else 0
            elif token == "!":
                power = 10 ** min(last, 9)
                total, last = total + power * last, power * last
            else:
                last, inner = self.item(token, tokens)
                total, letters = total + last, letters or inner or token.isalpha()
        return (total if self.terms <= TERMS else math.inf), letters

    def item(self, token: str, tokens: Iterator[str]) -> tuple[float, bool]:
        """The size of a token or of the group that it opens, and whether that is one with letters."""
        if token and token in "{([":
            return self.group(tokens)
        if token[:1].isdigit():
            return _size(token), False
        return SIZE_OF_A_LETTER, False


def _size(number: str) -> float:
    """Digits of a written number; the logarithm to base 10, if it is a whole one."""
    digits, _, exponent = number.lower().partition("e")
    if len(exponent) > 5:
        return math.inf
    whole = digits.replace(",", "")
    size = math.log10(max(int(whole), 2)) if whole.isdigit() else float(len(whole))
    return size + abs(int(exponent or 0))

"""Whether two parsed expressions are equal, in bounded time.

math-verify simplifies and solves, which can take minutes on short expressions that are not equal. Here they are first
evaluated at a few points: what differs there is wrong at once, and formulas and equations that agree there are the
same. math-verify is left to compare numbers, sets, intervals and matrices whose values agree.
"""

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from sympy import And, Expr, FiniteSet, Float, Interval, MatrixBase, Tuple
from sympy.core.relational import Equality, Relational

POINTS = 6
DIGITS = 30
"""With which an expression is evaluated at a point."""
NEAR = 1e-12
"""Relative difference up to which values of formulas are the same."""
FAR = 2e-6
"""Relative difference from which numbers never are the same: math-verify rounds even the smallest to 6 decimals."""
NOTHING = Float("1e-60")
MIRRORED = {">": "<", ">=": "<="}

Verify = Callable[..., bool]


def equal(gold: Any, answer: Any, tolerance: float, verify: Verify) -> bool:
    """Whether an answer is the right one, numbers up to a relative tolerance."""
    stated, given = _parts(gold), _parts(answer)
    if stated and given:
        return len(stated) == len(given) and all(
            _same_relation(*pair, tolerance, verify) for pair in zip(stated, given, strict=True)
        )
    if given and isinstance(given[-1], Equality):  # x = 5 is 5
        return equal(gold, given[-1].rhs, tolerance, verify)
    if stated and isinstance(stated[-1], Equality) and _is_name(stated[-1].lhs):
        return equal(stated[-1].rhs, answer, tolerance, verify)
    if isinstance(gold, FiniteSet) and isinstance(answer, Tuple | Interval):
        gold, answer = answer, gold  # math-verify then heeds the order of a list without brackets
    values, found = _values(gold), _values(answer)
    alone = _is_formula(gold) and _is_formula(answer)
    if alone and (gold.free_symbols or answer.free_symbols):
        return _agree(values, found, NEAR)
    if alone and tolerance and _agree(values, found, tolerance):
        return True
    return _agree(values, found, FAR) and bool(verify(gold, answer, timeout_seconds=None))


def _parts(expression: Any) -> tuple[Any, ...]:
    """The relations of a chain such as 1 < x < 5, none if it is no relation."""
    parts = expression._unsorted_args if isinstance(expression, And) else (expression,)
    return tuple(parts) if all(isinstance(part, Relational) for part in parts) else ()


def _is_name(side: Any) -> bool:
    """Whether it is x or f(x)."""
    return bool(side.is_Symbol or (side.is_Function and all(part.is_Symbol for part in side.args)))


def _is_formula(expression: Any) -> bool:
    return isinstance(expression, Expr) and not getattr(expression, "is_Matrix", False)


def _same_relation(gold: Any, answer: Any, tolerance: float, verify: Verify) -> bool:
    """Whether the differences of the sides have one ratio everywhere, a positive one for inequalities."""
    if gold.lhs == answer.lhs and gold.rel_op == answer.rel_op:
        return equal(gold.rhs, answer.rhs, tolerance, verify)
    sides = (gold.lhs, gold.rhs, answer.lhs, answer.rhs)
    if MIRRORED.get(gold.rel_op, gold.rel_op) != MIRRORED.get(answer.rel_op, answer.rel_op):
        return False
    if not all(map(_is_formula, sides)):
        return False
    flips = -1 if (gold.rel_op in MIRRORED) != (answer.rel_op in MIRRORED) else 1
    ratios = [flips * _at(gold.lhs - gold.rhs, k) / _at(answer.lhs - answer.rhs, k) for k in range(POINTS)]
    signed = isinstance(gold, Equality) or all(ratio.is_positive for ratio in ratios)
    return (
        signed and all(not ratio.is_zero for ratio in ratios) and all(_near(*pair, NEAR) for pair in pairwise(ratios))
    )


def _values(expression: Any) -> list[Any]:
    """Of every formula in it, at all points, in one order whatever the order of a set."""
    found = [tuple(_at(formula, k) for k in range(POINTS)) for formula in _formulas(expression)]
    return [value for values in sorted(found, key=_order) for value in values]


def _formulas(expression: Any) -> list[Any]:
    """The entries of sets, pairs, intervals and matrices; of an equation its right side."""
    if _is_formula(expression):
        return [expression]
    if isinstance(expression, Equality):
        return _formulas(expression.rhs)
    inner = expression.flat() if isinstance(expression, MatrixBase) else getattr(expression, "args", ())
    return [formula for part in inner for formula in _formulas(part)]


def _order(values: tuple[Any, ...]) -> tuple[float, ...]:
    """Rounded, lest the noise of evaluation decides."""
    try:
        return tuple(float(f"{part:.9e}") for value in values for part in (complex(value).real, complex(value).imag))
    except (TypeError, ValueError, OverflowError):
        return (float("inf"),)


def _at(formula: Any, point: int) -> Any:
    """Its value at one of the points, which depend on the names of the symbols alone."""
    return formula.evalf(DIGITS, subs={symbol: _place(str(symbol), point) for symbol in formula.free_symbols})


def _place(name: str, point: int) -> Any:
    """Of either sign: |x| is not x. No fraction: their powers are exact, and take for ever."""
    draw = random.Random(f"{name} {point}")
    return Float(draw.choice((-1, 1)) * draw.uniform(0.5, 1.5), 2 * DIGITS)


def _agree(left: list[Any], right: list[Any], tolerance: float) -> bool:
    return len(left) == len(right) and all(_near(*pair, tolerance) for pair in zip(left, right, strict=True))


def _near(left: Any, right: Any, tolerance: float) -> bool:
    if left == right:
        return True
    gap = abs(left - right)
    return bool(gap.is_number and gap.is_finite and gap <= tolerance * abs(right) + NOTHING)

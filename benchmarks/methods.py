"""What each method costs: one training, whose method is another one at every step."""

from collections.abc import Callable
from typing import Any

from benchmarks.memory import Peak
from benchmarks.models import Place, Shape
from benchmarks.ours import Ours
from opd_bench.catalogue import load_method, method_names

REFERENCE = "opd"
BETWEEN = 6
"""Methods between two steps of the reference: each is divided by the mean of those around it."""
PUBLISHED = {"opd": 25.1, "opd_full": 77.7, "vopd_topk": 32.9}
"""Seconds per step at 4B on one H200, of vOPD's authors (arXiv:2605.07865)."""


def methods(
    shape: Shape, names: list[str] | None, rounds: int, place: Place, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Seconds by phase and peak memory of a step of each; the reference again and again in between."""
    chosen = names or method_names()
    order = [REFERENCE, REFERENCE]  # the first warms up
    for _ in range(rounds):
        for first in range(0, len(chosen), BETWEEN):
            order += [*chosen[first : first + BETWEEN], REFERENCE]
    side = Ours(REFERENCE, shape, len(order) + 1, place)
    found: dict[str, Any] = {
        name: {"steps": [], "at": [], "bytes": [], "cost": _cost(name)} for name in [*chosen, REFERENCE]
    }
    try:
        for number, name in enumerate(order):
            tell(f"{name}, step {number + 1} of {len(order)}")
            side.module.estimator, side.module.source = load_method(name)
            peak = Peak()
            row = side.step()
            if number:
                found[name]["steps"].append(row)
                found[name]["at"].append(number)
                found[name]["bytes"].append(peak.bytes())
    finally:
        side.close()
    return found


def _cost(name: str) -> dict[str, str]:
    return dict(load_method(name).estimator.claims.cost._asdict())

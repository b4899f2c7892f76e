"""Numbers of a report, from what was measured."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.clock import PHASES

CLOSE = {"fp32": 1e-4, "bf16": 2e-2}
"""By how much two losses of the same tokens may differ, of their size."""


class Spread(NamedTuple):
    """Of repeats."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Median, least and most."""
        return cls(statistics.median(values), min(values), max(values))

    def told(self, digits: int = 2) -> str:
        """For a table."""
        return f"{self.middle:.{digits}f} ({self.low:.{digits}f}–{self.high:.{digits}f})"


def unit_of(machine: dict[str, Any]) -> str:
    """Seconds of the processor where one thread does all; else those on the wall."""
    return "cpu" if machine["device"] == "cpu" and machine["threads"] == 1 else "wall"


def totals(side: dict[str, Any], unit: str) -> list[float]:
    """Of every counted step."""
    return [row[unit]["total"] for row in side["steps"]]


def phases(side: dict[str, Any], unit: str) -> dict[str, float]:
    """Medians."""
    return {phase: statistics.median(row[unit][phase] for row in side["steps"]) for phase in PHASES}


def best_peer(cell: dict[str, Any], unit: str) -> str | None:
    """The fastest of the others."""
    peers = [name for name in cell["sides"] if not name.startswith("ours")]
    return min(peers, key=lambda name: statistics.median(totals(cell["sides"][name], unit)), default=None)


def ratio(cell: dict[str, Any], unit: str, ours: str = "ours opd_full") -> Spread | None:
    """How many times our step the best peer's takes: of the medians, and the least and most of a repeat."""
    peer = best_peer(cell, unit)
    if peer is None:
        return None
    theirs, own = (totals(cell["sides"][name], unit) for name in (peer, ours))
    pairs = [one / other for one, other in zip(theirs, own, strict=True)]
    return Spread(statistics.median(theirs) / statistics.median(own), min(pairs), max(pairs))


def of_floor(cell: dict[str, Any], name: str, unit: str) -> float:
    """Percent: the floor's seconds over those measured."""
    return 100 * cell["floor"]["total"] / statistics.median(totals(cell["sides"][name], unit))


def beside(methods: dict[str, Any], name: str, reference: str, unit: str) -> Spread:
    """A method's steps over the means of the reference's last one before and first one after, itself left out."""
    known = dict(zip(methods[reference]["at"], totals(methods[reference], unit), strict=True))
    found = []
    for at, seconds in zip(methods[name]["at"], totals(methods[name], unit), strict=True):
        before = [place for place in known if place < at]
        after = [place for place in known if place > at]
        around = [known[place] for place in (*before[-1:], *after[:1])]
        found.append(seconds / statistics.mean(around))
    return Spread.of(found)


def apart(check: dict[str, float]) -> float:
    """By how much a peer's loss and ours differ, of their size."""
    return abs(check["theirs"] - check["ours"]) / max(1.0, abs(check["ours"]))


def failures(found: dict[str, Any]) -> list[str]:
    """Cells whose losses are not equal."""
    part = found.get("compare")
    if part is None:
        return []
    limit, lines = CLOSE[part["machine"]["precision"]], []
    for cell in part["found"]:
        for name, side in cell.get("sides", {}).items():
            is_peer = not name.startswith("ours")
            if is_peer and not (side["check"] and apart(side["check"]) <= limit):
                lines.append(f"{cell['name']}: the loss of {name} is not ours on the same tokens: {side['check']}")
    return lines

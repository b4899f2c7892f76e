"""What an evaluation comes to, from the verdicts on its responses alone."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opd_bench.reporting.statistics import clustered_error, pass_at_k

Line = Mapping[str, Any]
"""A problem and its responses, the greedy one first, as `files.packed_responses` writes them."""


def figures_of(lines: Sequence[Line]) -> dict[str, Any]:
    """The greedy responses count for `greedy`, the sampled ones for everything else."""
    sampled = {name: _of_sampled(lines, name) for name in ("correct", "formatted", "finished", "length")}
    samples = sampled["correct"].shape[1]
    return {
        "greedy": float(np.mean([line["responses"][0]["correct"] for line in lines])),
        "sampled": float(sampled["correct"].mean()),
        "formatted": float(sampled["formatted"].mean()),
        "truncated": float((1 - sampled["finished"]).mean()),
        "length": float(sampled["length"].mean()),
        f"pass@{samples}": float(pass_at_k(sampled["correct"].sum(1), samples, samples).mean()),
        **of_problems(lines),
    }


def of_problems(lines: Sequence[Line]) -> dict[str, Any]:
    """The standard error of `sampled`, problems being independent and a problem's samples not; and what it is made of.

    `solved` says of every problem, in order, how many of its samples solve it. `timed_out` counts responses, sampled
    and greedy, on which there was no verdict in time; absent if there are none.
    """
    correct = _of_sampled(lines, "correct")
    late = sum(response.get("timed_out", False) for line in lines for response in line["responses"])
    return {
        **({"timed_out": late} if late else {}),
        "sampled_error": clustered_error(correct.mean(1)),
        "solved": " ".join(str(int(count)) for count in correct.sum(1)),
    }


def by_task(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """Problems of one task together, in their order."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line["task"], []).append(line)
    return found


def _of_sampled(lines: Sequence[Line], name: str) -> NDArray[np.float64]:
    """One property of every sampled response [problems, samples]."""
    return np.array([[response[name] for response in line["responses"][1:]] for line in lines], dtype=float)

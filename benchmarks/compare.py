"""Our step and other trainers' steps, taken in turns in one process."""

import gc
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.clock import Side
from benchmarks.memory import Peak
from benchmarks.models import CPU, Place, Shape
from benchmarks.ours import Ours
from benchmarks.peers import PEERS, Peer
from opd_bench.catalogue import load_method
from opd_bench.models.network import Network
from opd_bench.scoring import Heads, ScoredBatch, batch_loss
from opd_bench.tokens import Origin

WARM = 2
"""Steps that are not counted; of long ones it is one."""
Tell = Callable[[str], None]


def compared(sides: Sequence[Side], repeats: int, tell: Tell = lambda _: None, warm: int = WARM) -> dict[str, Any]:
    """Steps of each side: the order is turned by one at every repeat."""
    rows: dict[str, list[Any]] = {side.name: [] for side in sides}
    peaks: dict[str, int] = {}
    for repeat in range(warm + repeats):
        first = repeat % len(sides)
        for side in [*sides[first:], *sides[:first]]:
            tell(f"{side.name}, step {repeat + 1} of {warm + repeats}")
            peak = Peak() if repeat == warm - 1 else None
            row = side.step()
            if peak is not None:
                peaks[side.name] = peak.bytes()
            if repeat >= warm:
                rows[side.name].append(row)
    return {
        side.name: {
            "steps": rows[side.name],
            "bytes": peaks[side.name],
            "losses": side.losses[: warm + repeats],
            "check": side.check,
        }
        for side in sides
    }


def cell(
    shape: Shape, makers: Sequence[Callable[..., Side]], repeats: int, place: Place = CPU, tell: Tell = lambda _: None
) -> dict[str, Any]:
    """One cell of the grid: sides are made, stepped and thrown away."""
    steps = WARM + repeats + 1
    sides = []
    for maker in makers:
        sides.append(side := maker(shape=shape, steps=steps, place=place))
        if isinstance(side, Peer):
            side.scored = rescored
    try:
        warm = WARM if is_short(shape) else 1
        return {"shape": shape_json(shape), "sides": compared(sides, repeats, tell, warm)}
    finally:
        for side in sides:
            side.close()
        sides.clear()
        gc.collect()


def rescored(
    side: Peer, ids: torch.Tensor, mask: torch.Tensor, response: torch.Tensor, theirs: float
) -> dict[str, float]:
    """A peer's loss, and ours of the very tokens and weights it was computed on."""
    networks = [Network(model) for model in (side.student, side.teacher)]
    with torch.no_grad(), torch.autocast(ids.device.type, torch.bfloat16, enabled=side.place.precision == "bf16"):
        states = [network.hidden(ids, mask)[:, :-1] for network in networks]
        zeros = torch.zeros(ids.shape[0], ids.shape[1] - 1, device=ids.device)
        origin = torch.full_like(ids[:, 1:], Origin.STUDENT)
        batch = ScoredBatch(*states, ids[:, 1:], response[:, 1:], origin, zeros, zeros)
        heads = Heads(*(network.head for network in networks))
        ours = float(batch_loss(load_method("opd_full").estimator, [batch], 0.0, 256, heads))
    return {"theirs": theirs, "ours": ours, "tokens": int(response.sum())}


def sides_of(methods: Sequence[str], measured: bool = True) -> list[Callable[..., Side]]:
    """Ours by method, and the peers between them."""
    ours: list[Callable[..., Side]] = [partial(Ours, method) for method in methods]
    more = [partial(Ours, methods[0], measured=True)] if measured else []
    return [*ours[:1], *PEERS, *ours[1:], *more]


def is_short(shape: Shape) -> bool:
    """A step takes seconds, not minutes."""
    return shape.batch * shape.new_tokens <= 256


def shape_json(shape: Shape) -> dict[str, Any]:
    """As kept."""
    return shape._asdict() | {"student": shape.student._asdict(), "teacher": shape.teacher._asdict()}


def median(rows: Sequence[Any], unit: str = "cpu", phase: str = "total") -> float:
    """Of one phase over steps."""
    return statistics.median(row[unit][phase] for row in rows)

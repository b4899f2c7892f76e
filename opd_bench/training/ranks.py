"""What all processes have together. With one process everything is returned as it is."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gathered(values: Tensor) -> tuple[Tensor, slice]:
    """The rows of all processes in their order, however many each has, and which of them are this one's."""
    if processes() == 1:
        return values, slice(0, len(values))
    lengths = _everyone(torch.tensor([len(values)], device=values.device))
    ends = torch.cat(lengths).cumsum(0).tolist()
    sizes = [int(length) for length in lengths]
    padded = values.new_zeros(max(sizes), *values.shape[1:])
    padded[: len(values)] = values
    rows = [piece[:size] for piece, size in zip(_everyone(padded), sizes, strict=True)]
    end = ends[dist.get_rank()]
    return torch.cat(rows), slice(end - len(values), end)


def summed(numbers: Mapping[str, float]) -> dict[str, float]:
    """Σ over processes, by name; a name may be missing in some of them."""
    if processes() == 1:
        return dict(numbers)
    parts: list[Any] = [None] * processes()
    dist.all_gather_object(parts, dict(numbers))
    totals: Counter[str] = Counter()
    for part in parts:
        totals.update(part)
    return dict(totals)


def _everyone(values: Tensor) -> list[Tensor]:
    """Each process's tensor of the same shape."""
    received = [torch.empty_like(values) for _ in range(processes())]
    dist.all_gather(received, values.contiguous())
    return received

"""What all processes have together. With one process everything is returned as it is."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Result = TypeVar("Result")


def processes() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that writes and speaks for all."""
    return processes() == 1 or dist.get_rank() == 0


def part(count: int) -> range:
    """Which of `count` things are this process's: about an equal part, without gaps, and perhaps none."""
    rank = dist.get_rank() if processes() > 1 else 0
    return range(count * rank // processes(), count * (rank + 1) // processes())


def collected(value: Result) -> list[Result]:
    """What each process has, in their order."""
    if processes() == 1:
        return [value]
    parts: list[Any] = [None] * processes()
    dist.all_gather_object(parts, value)
    return parts


def from_first(find: Callable[[], Result]) -> Result:
    """What the first process finds, in all of them; its error is everyone's too."""
    if processes() == 1:
        return find()
    box: list[Any] = [None, None]
    if is_first():
        try:
            box = [find(), None]
        except Exception as error:
            box = [None, error]
    dist.broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    found: Result = box[0]
    return found


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
    totals: Counter[str] = Counter()
    for part in collected(dict(numbers)):
        totals.update(part)
    return dict(totals)


def _everyone(values: Tensor) -> list[Tensor]:
    """Each process's tensor of the same shape."""
    received = [torch.empty_like(values) for _ in range(processes())]
    dist.all_gather(received, values.contiguous())
    return received

"""GPUs by what their vendor publishes of them. What a run reaches of it is less, and assumed."""

from typing import NamedTuple

import torch

GIB = 2**30
RESERVED, SPARE = 1.0, 0.9
"""GiB that CUDA and libraries take, and the share of the rest that can be used before fragments are in the way."""


class Card(NamedTuple):
    """Dense peaks, without sparsity."""

    name: str
    memory: float  # GiB; vendors print it as GB
    half: float  # TFLOP/s in bfloat16, added up in float32
    single: float  # TFLOP/s in float32, without TF32
    bandwidth: float  # TB/s

    def has_room(self, size: float) -> bool:
        """Whether so many bytes fit."""
        return size / GIB <= self.usable

    @property
    def usable(self) -> float:
        """GiB for a run."""
        return (self.memory - RESERVED) * SPARE


CARDS = (
    Card("RTX 4090", 24, 165, 82.6, 1.01),
    Card("A10G", 24, 70, 31.5, 0.60),
    Card("L40S", 48, 362, 91.6, 0.864),
    Card("A100 40GB", 40, 312, 19.5, 1.56),
    Card("A100 80GB", 80, 312, 19.5, 2.04),
    Card("H100", 80, 989, 67, 3.35),
    Card("H200", 141, 989, 67, 4.8),
    Card("B200", 180, 2250, 75, 7.7),
)
"""The SXM variants of those that have several; HGX boards leave 180 of a B200's 192 GB."""


def here() -> list[Card]:
    """The GPU of this machine, with its true memory and the peaks of its kind; nothing if it is of no known kind."""
    if not torch.cuda.is_available():
        return []
    found = torch.cuda.get_device_properties(0)
    memory = found.total_memory / GIB
    alike = [card for card in CARDS if card.name.split()[-1 if "RTX" in card.name else 0] in found.name]
    nearest = sorted(alike, key=lambda card: abs(card.memory - memory))[:1]
    return [card._replace(name=f"{found.name}, here", memory=memory) for card in nearest]

"""A seeded random sign sketch: gradients made short, with their inner products preserved on average."""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

BLOCK = 1 << 20
"""Coordinates that have random numbers at one time."""


class Sketch:
    """S g with (S g)_b = Σ s_k g_k over the coordinates k in bucket b: E⟨S a, S b⟩ = ⟨a, b⟩ over seeds (CountSketch).

    Bucket and sign s_k = ±1 of a coordinate depend on the seed and on its place alone. S is linear, so what is unbiased
    for g is unbiased for S g, whose tr Cov, ‖E g‖² and ‖E(g − h)‖² are each off by at most √(2/size) of themselves
    (a standard deviation over seeds). A gradient of no more than `size` coordinates stays as it is, followed by zeros.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed

    def of(self, gradients: Iterable[Tensor]) -> Tensor:
        """[size] in float64, where the gradients are, of one gradient given as its parameters' in their order."""
        blocks = [block for gradient in gradients for block in gradient.detach().flatten().split(BLOCK)]
        sketch = torch.zeros(self.size, dtype=torch.float64, device=blocks[0].device)
        places = self._places([len(block) for block in blocks])
        for block, (bucket, sign) in zip(blocks, places, strict=True):
            sketch.index_add_(0, bucket.to(sketch.device), block.to(sketch) * sign.to(sketch))
        return sketch

    def error(self, coordinates: int) -> float:
        """√(2/size), the most that a squared norm is off, as its relative standard deviation over seeds; 0 if all fits.

        Of an inner product: √((‖a‖²‖b‖² + ⟨a, b⟩²)/size).
        """
        return math.sqrt(2 / self.size) if coordinates > self.size else 0.0

    def _places(self, lengths: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Bucket and sign of every coordinate, block after block."""
        if sum(lengths) <= self.size:
            yield from ((places, torch.ones(())) for places in torch.arange(sum(lengths)).split(list(lengths)))
            return
        # One stream of whole numbers on the CPU, the same however it is cut: its last bit is the sign.
        generator = torch.Generator().manual_seed(self.seed)
        for length in lengths:
            drawn = torch.randint(2 * self.size, (length,), generator=generator)
            yield drawn >> 1, (drawn & 1) * 2 - 1

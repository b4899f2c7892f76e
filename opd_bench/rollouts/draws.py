"""The run's randomness: numbers that depend on the seed, a stream's name, the step and the row, and on nothing else."""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor


class Draws(NamedTuple):
    """Uniforms of one step. Every method sees the same ones; so does a resumed run, and any number of processes."""

    seed: int
    step: int
    first_row: int = 0  # of this process in the global batch

    def uniform(self, stream: str, rows: int, *shape: int) -> Tensor:  # [rows, *shape] in [0, 1)
        """One independent U(0, 1) a cell; a row's numbers don't depend on how many rows there are."""
        numbered = range(self.first_row, self.first_row + rows)
        made = [uniform_of(f"{self.seed} {stream} {self.step} {row}", *shape) for row in numbered]
        return torch.stack(made) if made else torch.empty(0, *shape)

    def once(self, stream: str) -> float:
        """One U(0, 1) for the whole global batch, the same in every process."""
        return float(uniform_of(f"{self.seed} {stream} {self.step}"))


def uniform_of(key: str, *shape: int) -> Tensor:
    """U(0, 1) by name."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    return torch.rand(shape, generator=generator)

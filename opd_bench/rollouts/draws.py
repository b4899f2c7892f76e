"""The run's randomness: numbers that depend on the seed, a stream's name, the step and the row, and on nothing else."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from opd_bench.tokens import Rollout


class Draws(NamedTuple):
    """Uniforms of one step. Every method sees the same ones; so does a resumed run, and any number of processes."""

    seed: int
    step: int
    first_row: int = 0  # of this process in the global batch
    all_rows: int | None = None  # of the global batch; None: this process has all of them

    def rows(self, count: int) -> range:
        """The numbers in the global batch of this process's `count` rows."""
        return range(self.first_row, self.first_row + count)

    def uniform(self, stream: str, rows: int, *shape: int) -> Tensor:  # [rows, *shape] in [0, 1)
        """One independent U(0, 1) a cell; a row's numbers don't depend on how many rows there are."""
        return self.at(stream, self.rows(rows), *shape)

    def at(self, stream: str, rows: Iterable[int], *shape: int) -> Tensor:  # [rows, *shape] in [0, 1)
        """The same numbers for rows of the global batch by their number, whichever process has them."""
        made = [uniform_of(f"{self.seed} {stream} {self.step} {row}", *shape) for row in rows]
        return torch.stack(made) if made else torch.empty(0, *shape)

    def of_tokens(self, stream: str, rollout: Rollout, limit: int) -> Tensor:  # [B, T]
        """One number for each response token, by its place in a response of at most `limit`; and for others, any."""
        place = (rollout.response.long().cumsum(-1) - 1).clamp_min(0)
        return self.at(stream, rollout.row.tolist(), limit).to(place.device).gather(-1, place)

    def once(self, stream: str) -> float:
        """One U(0, 1) for the whole global batch, the same in every process."""
        return float(uniform_of(f"{self.seed} {stream} {self.step}"))


def uniform_of(key: str, *shape: int) -> Tensor:
    """U(0, 1) by name."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    return torch.rand(shape, generator=generator)

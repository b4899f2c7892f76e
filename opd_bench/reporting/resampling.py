"""Resamples of n runs: all that there are, each with its probability, where they are few; else drawn ones."""

from collections.abc import Hashable, Sequence
from functools import lru_cache
from itertools import chain, combinations_with_replacement, product
from math import comb, factorial, prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RESAMPLES = 10_000


class Resamples(NamedTuple):
    """Which rows each resample takes, [resamples, n], and how probable it is; the probabilities sum to 1."""

    picks: NDArray[np.int64]
    probability: Array


@lru_cache(maxsize=64)
def resamples(sizes: tuple[int, ...], seed: int) -> Resamples:
    """Of strata that lie one after the other, `sizes` runs in each; every resample has as many of each stratum.

    There are Π C(2n − 1, n) of them, in no order: 126 of five runs, 6,435 of eight. The seed counts above 10,000.
    """
    few = prod(comb(2 * size - 1, size) for size in sizes) <= RESAMPLES
    found = _all(sizes) if few else _drawn(sizes, seed)
    for array in found:
        array.setflags(write=False)
    return found


def in_order(scores: Array, strata: Sequence[Hashable] | None) -> tuple[Array, tuple[int, ...]]:
    """The rows stratum by stratum, whatever order they came in, and the strata's sizes: no result depends on order."""
    labels = [None] * len(scores) if strata is None else strata
    groups: dict[Hashable, list[list[float]]] = {}
    for row, stratum in zip(scores.tolist(), labels, strict=True):
        groups.setdefault(stratum, []).append(row)
    ordered = sorted(sorted(group) for group in groups.values())
    return np.array(list(chain(*ordered))), tuple(map(len, ordered))


def _all(sizes: tuple[int, ...]) -> Resamples:
    kinds = [list(combinations_with_replacement(rows, len(rows))) for rows in _rows(sizes)]
    chances = [[_chance(kind) for kind in of_stratum] for of_stratum in kinds]
    picks = [list(chain(*parts)) for parts in product(*kinds)]
    return Resamples(np.array(picks, np.int64), np.array([prod(parts) for parts in product(*chances)]))


def _chance(kind: tuple[int, ...]) -> float:
    """n! / Π cᵢ! / nⁿ, row i being drawn cᵢ times."""
    arrangements = factorial(len(kind)) // prod(factorial(kind.count(row)) for row in set(kind))
    return float(arrangements / len(kind) ** len(kind))


def _drawn(sizes: tuple[int, ...], seed: int) -> Resamples:
    generator = np.random.default_rng(seed)
    parts = [generator.choice(rows, size=(RESAMPLES, len(rows))) for rows in _rows(sizes)]
    return Resamples(np.concatenate(parts, axis=1), np.full(RESAMPLES, 1 / RESAMPLES))


def _rows(sizes: tuple[int, ...]) -> list[range]:
    """The numbers of the rows of each stratum."""
    ends = np.cumsum(sizes).tolist()
    return [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]

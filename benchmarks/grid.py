"""Which sizes are measured."""

from typing import NamedTuple

from benchmarks.floor import Peaks, floor, peer_bytes
from benchmarks.memory import available
from benchmarks.models import Shape, Trunk

SMALL, MIDDLE, LARGE = Trunk(128, 4), Trunk(256, 4), Trunk(512, 8)
VOCABULARIES, LENGTHS = (512, 32_000, 151_936), (64, 256)
GRID = [
    Shape(student, teacher, vocabulary, batch, length)
    for student, teacher, batch in ((MIDDLE, LARGE, 4), (MIDDLE, LARGE, 16), (SMALL, MIDDLE, 16))
    for vocabulary in VOCABULARIES
    for length in LENGTHS
]
QUICK = [Shape(SMALL, MIDDLE, vocabulary, 4, 32) for vocabulary in (512, 32_000)]
HALF, ONE_AND_A_HALF = Trunk(896, 24, 14, 2, 4864), Trunk(1536, 28, 12, 2, 8960)
GPU = [Shape(HALF, ONE_AND_A_HALF, 151_936, 64, 512, (256, 256))]
"""As Qwen2.5's 0.5B and 1.5B are."""

METHODS = Shape(MIDDLE, LARGE, 151_936, 4, 64)
GROWTH = Shape(SMALL, MIDDLE, 8192, 4, 64)
SIZES = {
    "new_tokens": (32, 64, 128, 256, 512),
    "vocabulary": (512, 4096, 32_000, 151_936),
    "batch": (4, 8, 16, 32, 64),
}
QUICK_SIZES = {"new_tokens": (16, 32, 64), "vocabulary": (512, 4096, 32_000), "batch": (2, 4, 8)}

OVER = 4
"""A step takes about so many times the floor, where nothing is measured yet."""
LONGEST = 8.0
"""Seconds of a step, foretold, above which a cell waits for --all."""


class Amount(NamedTuple):
    """How much of everything is measured."""

    cells: list[Shape]
    repeats: int
    rounds: int  # of all methods
    sizes: dict[str, tuple[int, ...]]
    growing: Shape
    loss: dict[str, int]  # sizes of the loss alone, where they are others
    tokens: tuple[int, ...]
    of_methods: Shape
    probed: tuple[int, ...]
    steps: int  # of embedded runs


FULL = Amount(GRID, 5, 1, SIZES, GROWTH, {}, (2048, 4096), METHODS, (1, 2, 4, 8), 40)
BRIEF = Amount(
    QUICK,
    3,
    1,
    QUICK_SIZES,
    Shape(Trunk(64, 2), Trunk(64, 2), 512, 4, 32),
    {"hidden": 128, "vocabulary": 32_000},
    (1024, 2048),
    Shape(SMALL, MIDDLE, 8192, 4, 16),
    (1, 2),
    10,
)


def left_out(shape: Shape, peaks: Peaks, size: int, is_all: bool) -> dict[str, str]:
    """Sides, or all of them, that are not run, and why."""
    seconds, needed = OVER * floor(shape, peaks, size)["total"], peer_bytes(shape)
    found = {}
    if seconds > LONGEST and not is_all:
        found["all"] = f"about {seconds:.0f} s a step; `--all` runs it"
    if needed > available() / 2:
        found["TRL GKD"] = f"needs ~{needed / 2**30:.0f} GiB for logits"
    return found

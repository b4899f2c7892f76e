"""The least that a step can cost on this machine, from what it must compute and read and from measured peaks.

B sequences, P prompt tokens, T new ones, N = B·T, V vocabulary; n parameters of a trunk without embeddings and norms,
h hidden size, `s` the student's, `t` the teacher's; F multiplications and additions, and W bytes, in a second.

    generation       2 n_s B P / F, then for each of T tokens the larger of
                     2 B (n_s + V h_s) / F  and  (size · (n_s + V h_s) + keys and values) / W
    teacher          2 n_t B (P + T) / F
    student forward  2 n_s B (P + T) / F
    backward         4 n_s B (P + T) / F
    loss + heads     2 N V (3 h_s + h_t) / F: four products, of answer tokens alone. Both models' logits, and the
                     gradient in the student's hidden states and in its weight
    optimiser        28 bytes a parameter / W: AdamW reads four numbers and writes three

Attention's own products, norms, softmax and the divergence are left out: the floor is lower than what can be reached.
Proved by tests/test_benchmarks.py.
"""

from time import perf_counter
from typing import NamedTuple

import torch

from benchmarks.models import Shape, Trunk

PEER_COPIES = 8
"""Of [B, P + T, V] that GKD's reverse KL has at one time."""
SQUARE, READ, TIMES = 1536, 1 << 26, 20
GPU_SQUARE, GPU_READ = 8192, 1 << 30


class Peaks(NamedTuple):
    """What this machine does at best, as far as it has been seen."""

    flops: float  # a second, of a large square product
    bandwidth: float  # bytes a second, read by a large sum, or read and written by a copy

    def or_better(self, other: "Peaks") -> "Peaks":
        """Where others run too, the best of many looks."""
        return Peaks(*map(max, self, other))


def measured_peaks(device: str = "cpu", dtype: torch.dtype = torch.float32) -> Peaks:
    """With as many threads as torch has; the best of a few."""
    on_gpu = device == "cuda"
    side, numbers = (GPU_SQUARE, GPU_READ) if on_gpu else (SQUARE, READ)
    square = torch.randn(side, side, device=device, dtype=dtype)
    product = torch.empty_like(square)
    line = torch.ones(numbers, device=device)
    multiply = min(_seconds(lambda: torch.mm(square, square, out=product), on_gpu) for _ in range(TIMES))
    copy = torch.empty_like(line)
    read = min(_seconds(line.sum, on_gpu) for _ in range(TIMES))
    copied = min(_seconds(lambda: copy.copy_(line), on_gpu) for _ in range(TIMES))
    return Peaks(2 * side**3 / multiply, 4 * numbers / min(read, copied / 2))


def parameters(trunk: Trunk) -> int:
    """Of all layers, in matrices."""
    keys = trunk.hidden * trunk.key_value_heads // trunk.heads
    return trunk.layers * trunk.hidden * (2 * trunk.hidden + 2 * keys + 3 * trunk.width)


def floor(shape: Shape, peaks: Peaks, size: int = 4) -> dict[str, float]:
    """Seconds by phase and in all, with numbers of `size` bytes."""
    student, teacher = parameters(shape.student), parameters(shape.teacher)
    read = shape.batch * (shape.mean_prompt + shape.new_tokens)
    answers = shape.batch * shape.new_tokens
    head = shape.vocabulary * shape.student.hidden
    both = 3 * shape.student.hidden + shape.teacher.hidden
    found = {
        "generation": _generation(shape, peaks, size),
        "teacher": 2 * teacher * read / peaks.flops,
        "student forward": 2 * student * read / peaks.flops,
        "loss + heads": 2 * answers * shape.vocabulary * both / peaks.flops,
        "backward": 4 * student * read / peaks.flops,
        "optimiser": 28 * (student + head) / peaks.bandwidth,
    }
    return found | {"total": sum(found.values())}


def _generation(shape: Shape, peaks: Peaks, size: int) -> float:
    trunk = shape.student
    weights = parameters(trunk) + shape.vocabulary * trunk.hidden
    keys = trunk.hidden * trunk.key_value_heads // trunk.heads
    total = 2 * parameters(trunk) * shape.batch * shape.mean_prompt / peaks.flops
    for t in range(shape.new_tokens):
        cached = 2 * trunk.layers * keys * shape.batch * (shape.mean_prompt + t)
        total += max(2 * shape.batch * weights / peaks.flops, size * (weights + cached) / peaks.bandwidth)
    return total


def peer_bytes(shape: Shape, size: int = 4) -> float:
    """What GKD needs for logits and what it makes of them."""
    return PEER_COPIES * size * shape.batch * (shape.prompts[1] + shape.new_tokens) * shape.vocabulary


def _seconds(function: object, on_gpu: bool) -> float:
    if on_gpu:
        torch.cuda.synchronize()
    start = perf_counter()
    function()  # type: ignore[operator]
    if on_gpu:
        torch.cuda.synchronize()
    return perf_counter() - start

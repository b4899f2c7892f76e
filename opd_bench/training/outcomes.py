"""What becomes of a run, from what it was ended by."""

import torch
from torch.distributed import DistError

from opd_bench.training.health import StoppedError

FINAL = ("finished", "nan", "diverged")
"""Outcomes that another try would only repeat."""
UNTOLD = "killed", "still running, or killed without a chance to say so; the same command goes on"
"""Until the end is known."""
NO_MEMORY = ("out of memory", "DefaultCPUAllocator")
LOST = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe", "Socket Timeout")
"""What the exchange between processes says when one of them is gone."""


def outcome_of(error: BaseException) -> tuple[str, str]:
    """Status and reason."""
    text = f"{type(error).__name__}: {error}"
    match error:
        case StoppedError():
            return error.status, str(error)
        case torch.OutOfMemoryError() | MemoryError():
            return "out of memory", str(error) or "no more memory to be had"
        case RuntimeError() if any(word in text for word in NO_MEMORY):
            return "out of memory", str(error)
        case KeyboardInterrupt() | SystemExit():
            return "killed", "stopped from outside, at once; the same command goes on from its last checkpoint"
        case DistError() | RuntimeError() if isinstance(error, DistError) or any(word in text for word in LOST):
            return "killed", f"another process of the run is gone ({_line(error)}); the same command goes on"
    return "crash", text


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]

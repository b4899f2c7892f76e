"""What becomes of a run, from what it was ended by."""

from typing import NamedTuple

import torch
from torch.distributed import DistError

from opd_bench.training.health import StoppedError

FINAL = ("finished", "nan", "diverged")
"""Outcomes that another try would only repeat."""
NO_MEMORY = ("out of memory", "DefaultCPUAllocator")
LOST = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe", "Socket Timeout")
"""What the exchange between processes says when one of them is gone."""


class Outcome(NamedTuple):
    """What a record says, and whether somebody asked for it, who is then not to be given the next run of a sweep."""

    status: str
    reason: str = ""
    is_asked: bool = False


UNTOLD = Outcome("killed", "still running, or killed without a chance to say so; the same command goes on")
"""Until the end is known."""


def outcome_of(error: BaseException, step: int) -> Outcome:
    """Of a run that has come to this step."""
    text = f"{type(error).__name__}: {error}"
    match error:
        case StoppedError():
            return Outcome(error.status, str(error), is_asked=error.status == "killed")
        case torch.OutOfMemoryError() | MemoryError():
            return Outcome("out of memory", str(error) or "no more memory to be had")
        case RuntimeError() if any(word in text for word in NO_MEMORY):
            return Outcome("out of memory", str(error))
        case KeyboardInterrupt() | SystemExit():
            return Outcome(
                "killed", f"stopped from outside, at once, after step {step}; the same command goes on", True
            )
        case DistError() | RuntimeError() if isinstance(error, DistError) or any(word in text for word in LOST):
            return Outcome("killed", f"another process of the run is gone ({_line(error)}); the same command goes on")
    return Outcome("crash", text)


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]

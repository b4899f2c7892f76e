"""Verdicts within a time limit: whatever a response makes a verifier do, a run goes on."""

import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from opd_bench.tasks.base import Problem, Task, Verdict

Result = TypeVar("Result")
AGAIN = 0.5
"""Seconds until what has swallowed the end of its time is told once more."""
SHOWN = 200
"""Characters of a response in an error."""


class VerdictError(RuntimeError):
    """A verifier that raises: on which problem and which response."""


class TimeUpError(BaseException):
    """No Exception, for verifiers catch those."""


def limited_verdict(task: Task, problem: Problem, response: str, finished: bool, seconds: float) -> Verdict:
    """The task's verdict; wrong and `timed_out` if there is none after so many seconds, which is warned of."""
    try:
        return within(seconds, lambda: task.verdict(problem, response, finished))
    except TimeUpError:
        warnings.warn(
            f"no verdict on problem {problem.id} within evaluation.verdict_seconds={seconds:g}: counted as wrong",
            stacklevel=2,
        )
        return Verdict(correct=False, formatted=False, answer="", timed_out=True)
    except Exception as error:
        shown = response if len(response) <= SHOWN else f"{response[:SHOWN]}…"
        raise VerdictError(
            f"{type(task).__name__}.verdict raised {type(error).__name__}: {error}; "
            f"problem {problem.id}, response {shown!r}"
        ) from error


def within(seconds: float, function: Callable[[], Result]) -> Result:
    """What the function returns; TimeUpError if it runs for longer, be it a loop in Python or a regular expression.

    Without SIGALRM (Windows) and outside of the main thread there is no limit, nor inside of one call into C that never
    looks at signals. One limit may lie within another, and a timer that ran before goes on.
    """
    if math.isinf(seconds) or not hasattr(signal, "SIGALRM") or threading.current_thread() != threading.main_thread():
        return function()
    with _alarm(seconds):
        return function()


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """TimeUpError after so many seconds, or when the timer that is running already would ring."""
    running = True

    def ring(_: int, __: FrameType | None) -> None:
        if running:
            raise TimeUpError

    before, start = signal.signal(signal.SIGALRM, ring), time.monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    if 0 < left < seconds:
        signal.setitimer(signal.ITIMER_REAL, left, AGAIN)
    try:
        try:
            yield
        finally:
            running = False  # a ring before this line is for the outer `finally`
    finally:
        running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - start), 1e-6), interval)

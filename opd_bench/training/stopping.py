"""What ends a run before its last step: being asked to from outside, its time, or a student that has left its teacher.

Asked once, it ends after the step, with a checkpoint; asked twice, at once.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import lightning.pytorch as pl

from opd_bench.training.health import StoppedError
from opd_bench.training.ranks import collected

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""A person's Ctrl-C, a machine that is wanted back, and SLURM's warning that time is nearly up."""
_asked: list[str] = []


@contextmanager
def listening() -> Iterator[None]:
    """Signals are heard and kept, as long as this is the main thread."""
    _asked.clear()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    listen()
    try:
        yield
    finally:
        for number, handler in before.items():
            _handle(number, handler)


def listen() -> None:
    """Again, where a library has put its own handlers in place of these."""
    for number in SIGNALS:
        _handle(number, _hear)


def asked() -> str | None:
    """The signal by name, if there was one."""
    return _asked[0] if _asked else None


def leave_if_asked() -> None:
    """For long work between steps, whose result is not kept by halves."""
    if name := asked():
        raise StoppedError("killed", f"stopped from outside ({name}) while judging; the same command goes on")


def stopped(name: str, step: int, is_saved: bool = True) -> str:
    """The reason in a record."""
    back = "" if is_saved else ", from its last checkpoint"
    return f"stopped from outside ({name}) after step {step}; the same command goes on{back}"


class Limits(pl.Callback):
    """Ends a run, in all of its processes at once."""

    def __init__(self, divergence: float, seconds: float | None, save: Callable[[pl.Trainer], bool]):
        self.divergence, self.seconds, self.save = divergence, seconds, save

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Lightning has its own handlers by now, whose exchange between processes may wait for ever."""
        listen()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """After the step has been told and kept."""
        apart, step = module.metrics["train/reverse_kl"], trainer.global_step
        if apart > self.divergence:
            raise StoppedError(
                "diverged",
                f"reverse KL is {apart:.3g} nats a token after step {step}, watch.divergence is {self.divergence:g}",
            )
        told = collected((asked(), sum(module.seconds.values())))
        names, spent = [name for name, _ in told if name], told[0][1]
        if step == trainer.max_steps:  # all is done
            return
        if names:
            raise StoppedError("killed", stopped(names[0], step, self.save(trainer)))
        if self.seconds is not None and spent > self.seconds:
            self.save(trainer)
            raise StoppedError(
                "timeout",
                f"{spent:.0f} s after step {step}, watch.time_limit is {self.seconds:g}; "
                "a higher one lets the same command go on",
            )


def _hear(number: int, _: FrameType | None) -> None:
    _asked.append(signal.Signals(number).name)
    if len(_asked) > 1:
        raise KeyboardInterrupt


def _handle(number: int, handler: Any) -> None:
    if threading.current_thread() is threading.main_thread():  # no other can
        signal.signal(number, handler)

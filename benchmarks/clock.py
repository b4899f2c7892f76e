"""Phases of a step, in seconds of the processor and of the clock on the wall, and sides that take turns at stepping."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import Any, NamedTuple

import torch

PHASES = ("generation", "teacher", "student forward", "loss + heads", "backward", "optimiser", "other")


class Now(NamedTuple):
    """A reading."""

    cpu: float  # of all threads of this process
    wall: float

    @classmethod
    def read(cls) -> "Now":
        """Once all that was asked of a GPU is done."""
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return cls(process_time(), perf_counter())

    def since(self, start: "Now") -> "Now":
        """The time between."""
        return Now(self.cpu - start.cpu, self.wall - start.wall)


class Clock:
    """What a step's time went to: an inner phase's is not its outer one's, and all is `generation` inside of it."""

    def __init__(self) -> None:
        self.stack: list[str] = []
        self.spent: dict[str, list[float]] = {}
        self.last = Now.read()

    def start(self) -> None:
        """Of a step."""
        self.spent = {name: [0.0, 0.0] for name in PHASES}
        self.last = Now.read()

    def stop(self) -> dict[str, dict[str, float]]:
        """The step's seconds by phase and in all, {"cpu": …, "wall": …}."""
        self._count()
        found: dict[str, dict[str, float]] = {}
        for place, unit in enumerate(Now._fields):
            found[unit] = {name: values[place] for name, values in self.spent.items()}
            found[unit]["total"] = sum(found[unit].values())
        return found

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count this for one phase."""
        self._count()
        self.stack.append(name)
        try:
            yield
        finally:
            self._count()
            self.stack.pop()

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, counted for a phase."""

        def timed(*args: Any, **options: Any) -> Any:
            if "generation" in self.stack:
                return function(*args, **options)
            with self.phase(name):
                return function(*args, **options)

        return timed

    def _count(self) -> None:
        if not self.spent:
            return
        now = Now.read()
        name = "generation" if "generation" in self.stack else self.stack[-1] if self.stack else "other"
        for place, seconds in enumerate(now.since(self.last)):
            self.spent[name][place] += seconds
        self.last = now


class Closed(BaseException):
    """Nobody asks for more steps."""


class Side(ABC):
    """A trainer that runs in a thread of its own and waits at the end of every step until it is asked for one more.

    A trainer of one's own choosing keeps its loop: what a step costs is all that happens between two of its ends.
    """

    def __init__(self, name: str) -> None:
        self.name, self.clock = name, Clock()
        self.losses: list[float] = []
        self.check: dict[str, float] = {}
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._row: dict[str, dict[str, float]] = {}
        self._closing = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._whole, daemon=True)
        self._threads = torch.get_num_threads()

    @abstractmethod
    def run(self) -> None:
        """Train; call `pause` at the end of every step."""

    def step(self) -> dict[str, dict[str, float]]:
        """One step more, and what it took; of the first, the start of training too."""
        if not self._thread.is_alive():
            self._thread.start()
        self._go.release()
        self._done.acquire()
        if self._error is not None:
            raise RuntimeError(f"{self.name} failed") from self._error
        return self._row

    def close(self) -> None:
        """No more steps."""
        self._closing = True
        self._go.release()
        if self._thread.is_alive():
            self._thread.join()

    def pause(self) -> None:
        """A step has ended; go on when asked to."""
        self._row = self.clock.stop()
        self._done.release()
        self._wait()

    def _wait(self) -> None:
        self._go.acquire()
        if self._closing:
            raise Closed
        self.clock.start()

    def _whole(self) -> None:
        try:
            torch.set_num_threads(self._threads)
            self._wait()
            self.run()
            raise RuntimeError("training ended before it was asked to")
        except Closed:
            pass
        except BaseException as error:
            self._error = error
            self._done.release()

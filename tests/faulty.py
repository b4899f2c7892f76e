"""Sources with a fault in the last process at step 3, for runs whose processes can't be reached from a test."""

import time
from abc import abstractmethod
from typing import Any

import torch

from opd_bench.rollouts.sources import Student
from opd_bench.training.ranks import is_first, processes


class Faulty(Student):
    """The student's own responses, until then."""

    def draw(self, *given: Any) -> Any:
        if given[-1].step == 3 and (processes() == 1 or not is_first()):
            self.fault()
        return super().draw(*given)

    @abstractmethod
    def fault(self) -> None:
        """What goes wrong."""


class Mistaken(Faulty):
    def fault(self) -> None:
        raise KeyError("no such answer")


class Hungry(Faulty):
    def fault(self) -> None:
        torch.empty(2**60)


class Endless(Faulty):
    def fault(self) -> None:
        time.sleep(1000)

"""What a probe looks at: one frozen student, its teacher, and the prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from opd_bench.models.network import Network, learning
from opd_bench.rollouts.draws import Draws
from opd_bench.rollouts.policies import Writers
from opd_bench.scoring import Heads
from opd_bench.tokens import Origin, PromptBatch
from opd_bench.training.plan import Plan


@dataclass(eq=False)
class Subject:
    """Nothing here changes while it is probed."""

    student: Network
    teacher: Network
    prompts: PromptBatch
    end: Sequence[int]
    plan: Plan
    seed: int
    progress: float  # share of training that schedules are read at

    def __post_init__(self) -> None:
        self.student.model.eval()
        networks = {Origin.STUDENT: self.student, Origin.TEACHER: self.teacher}
        self.writers = Writers(networks, self.plan.response_limit, self.end, self.seed, self.plan.sampling)

    @property
    def heads(self) -> Heads:
        """Of both models."""
        return Heads(self.student.head, self.teacher.head)

    @property
    def parameters(self) -> list[Tensor]:
        """What the gradient is taken in."""
        return list(learning(self.student.model))

    @property
    def device(self) -> torch.device:
        """Where all of it is."""
        return self.prompts.ids.device

    @property
    def chunk(self) -> int:
        """For how many tokens the logits are there at once."""
        return self.plan.tokens_at_once(self.teacher.vocabulary, self.device.type)

    def draws(self, number: int) -> Draws:
        """The randomness of one rollout set."""
        return Draws(self.seed, number)

    def pieces(self, rows: int) -> list[slice]:
        """A set's rows, as many at a time as a training step computes at once."""
        size = -(-rows // self.plan.micro_batches)
        return [slice(first, first + size) for first in range(0, rows, size)]

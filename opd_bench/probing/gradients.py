"""A method's gradient in the student's parameters, on rollouts that are given: the gradient of a training step."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from opd_bench.estimators.base import Estimator
from opd_bench.maths.reduction import mean_of
from opd_bench.probing.bank import RolloutSet
from opd_bench.probing.subject import Subject
from opd_bench.scoring import ScoredBatch, Scorer

Kept = Callable[[Iterable[Tensor]], Tensor]
"""What is kept of a gradient, given parameter by parameter: [K] numbers, linear in it."""


class Version(NamedTuple):
    """One choice of a set's tokens: its pieces, their weights, and the denominator of all."""

    batches: list[ScoredBatch]  # with states where `weigh` must see them, and never with gradient
    weights: list[Tensor | None]
    denominator: Tensor


@dataclass(eq=False)
class Gradients:
    """Of one estimator at one student; `kept` says what is kept of each."""

    subject: Subject
    estimator: Estimator
    kept: Kept

    def __post_init__(self) -> None:
        self.scorer = Scorer(self.estimator, self.subject.heads, self.subject.chunk)

    def of(self, one: RolloutSet) -> Tensor:  # [D, K]
        """∇ Σ w ℓ / denominator for every version of the set's tokens; the student is run once for all of them."""
        pieces = self.subject.pieces(len(one.ids))
        versions = self._versions(one, pieces)
        shares = [
            self._share(versions, place, one.states(self.subject.student, rows)) for place, rows in enumerate(pieces)
        ]
        return torch.stack(shares).sum(0)

    def _share(self, versions: list[Version], place: int, states: Tensor) -> Tensor:  # [D, K]
        """One piece's share of the sum, for every version."""
        found = []
        for batches, weights, denominator in versions:
            batch = batches[place]._replace(student=states)
            scored = self.scorer.score(batch, weights[place], self.subject.progress)
            found.append(self.kept(self._slopes(mean_of([scored.numerator], denominator))))
        return torch.stack(found)

    def _slopes(self, loss: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss, self.subject.parameters, retain_graph=True, materialize_grads=True)

    @torch.no_grad()
    def _versions(self, one: RolloutSet, pieces: list[slice]) -> list[Version]:
        """What must be known of all pieces before the first is scored."""
        student = self.subject.student
        states = [one.states(student, rows) if self.estimator.signals else one.teacher[rows, :, :0] for rows in pieces]
        result = []
        for number in range(one.versions):
            batches = [one.batch(number, state, rows) for state, rows in zip(states, pieces, strict=True)]
            weights = list(self.scorer.weights(batches, self.subject.progress))
            result.append(Version(batches, weights, self.scorer.denominator(batches, weights)))
        return result

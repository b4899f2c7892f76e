"""A method's gradient in the student's parameters, on rollouts that are given: the gradient of a training step."""

from collections.abc import Callable, Iterable, Sequence
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

Slopes = Sequence[Tensor | None]
"""In the hidden states, and in each parameter as the head alone reads it."""


def contrasts(versions: int) -> Tensor:  # [C, D]
    """What is made of a set's D gradients: the one as written, and M − 1 orthonormal contrasts of the M redrawn ones.

    Σ ‖contrast‖² / (M − 1) is the unbiased tr Cov of the redrawn ones, for one way back through the trunk less, and
    for none where the method does not look at the token, so that contrasts are 0.
    """
    redrawn = versions - 1
    rows = torch.zeros(max(1, redrawn), versions, dtype=torch.float64)
    rows[0, 0] = 1
    for k in range(1, redrawn):
        rows[k, 1 : k + 1], rows[k, k + 1] = 1, -k
        rows[k] /= (k * (k + 1)) ** 0.5
    return rows


class Trunk:
    """One piece of a set behind the student's layers: run forward once, and backward for whoever asks."""

    def __init__(self, subject: Subject, one: RolloutSet, rows: slice):
        self.parameters = subject.parameters
        self.states = one.states(subject.student, rows)
        self.leaf = self.states.detach().requires_grad_()

    def back(self, slopes: Slopes) -> list[Tensor]:
        """From what the head says of states and parameters to the whole gradient."""
        of_states, *of_head = slopes
        found = torch.autograd.grad(self.states, self.parameters, of_states, retain_graph=True, materialize_grads=True)
        return [one if other is None else one + other for one, other in zip(found, of_head, strict=True)]


class Version(NamedTuple):
    """One choice of a set's tokens: its pieces, their weights, and the denominator of all."""

    batches: list[ScoredBatch]  # with states where `weigh` must see them, and never with gradient
    weights: list[Tensor | None]
    denominator: Tensor


@dataclass(eq=False)
class Gradients:
    """∇ Σ w ℓ / denominator of one estimator on one set, for every version of its tokens; `mix` [C, D] adds them up."""

    subject: Subject
    estimator: Estimator
    one: RolloutSet
    mix: Tensor

    def __post_init__(self) -> None:
        self.scorer = Scorer(self.estimator, self.subject.heads, self.subject.chunk)
        self.versions = self._versions()

    def share(self, place: int, trunk: Trunk, kept: Kept) -> Tensor:  # [C, K]
        """One piece's share of the sums."""
        versions = [self._slopes(version, place, trunk) for version in self.versions]
        rows: list[Tensor] = []
        for weights in self.mix.tolist():
            slopes = [_mixed(weights, parts) for parts in zip(*versions, strict=True)]
            is_zero = not any(bool(part.any()) for part in slopes if part is not None)
            rows.append(torch.zeros_like(rows[0]) if rows and is_zero else kept(trunk.back(slopes)))
        return torch.stack(rows)

    def _slopes(self, version: Version, place: int, trunk: Trunk) -> Slopes:
        batch = version.batches[place]._replace(student=trunk.leaf)
        scored = self.scorer.score(batch, version.weights[place], self.subject.progress)
        loss = mean_of([scored.numerator], version.denominator)
        found: Slopes = torch.autograd.grad(loss, [trunk.leaf, *trunk.parameters], allow_unused=True)
        return found

    @torch.no_grad()
    def _versions(self) -> list[Version]:
        """What must be known of all pieces before the first is scored."""
        one, result = self.one, []
        for number in range(one.versions):
            batches = [one.batch(number, rows) for rows in self.subject.pieces(len(one.ids))]
            weights = list(self.scorer.weights(batches, self.subject.progress))
            result.append(Version(batches, weights, self.scorer.denominator(batches, weights)))
        return result


def _mixed(weights: Sequence[float], parts: Sequence[Tensor | None]) -> Tensor | None:
    """Σ weight · part."""
    terms = [weight * part for weight, part in zip(weights, parts, strict=True) if weight and part is not None]
    return torch.stack(terms).sum(0) if len(terms) > 1 else terms[0] if terms else None

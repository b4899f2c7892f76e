"""What one method's gradients come to: inner products with each other and with the exact ones, and no more."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from opd_bench.catalogue import load_method
from opd_bench.estimators.base import Estimator
from opd_bench.maths.moments import StreamingMoments
from opd_bench.probing.bank import Bank, RolloutSet
from opd_bench.probing.gradients import Gradients, Kept
from opd_bench.probing.subject import Subject
from opd_bench.redraw import Prefixes
from opd_bench.scoring import Scorer
from opd_bench.tokens import Origin
from opd_bench.training.module import Seen
from opd_bench.training.moments import visited

EXACT = ("opd_full", "gkd_fkl")
"""The methods whose gradient at given prefixes is that of KL(p‖q) and of KL(q‖p), with nothing sampled."""
COLUMNS = 1 << 14
"""Numbers of every gradient that are widened to float64 at one time."""


class Products(NamedTuple):
    """Of R draws g and the exact gradients h and f on the same tokens."""

    inner: Tensor  # [3, R, 3, R]
    within: Tensor | None  # [R] unbiased tr Cov of g when the tokens are redrawn at fixed prefixes


@dataclass(eq=False)
class Measure:
    """Methods on one bank, one at a time: what is held is R gradients of one method, and the exact ones."""

    subject: Subject
    bank: Bank
    kept: Kept
    tick: Callable[[], None]  # called after every set

    def __post_init__(self) -> None:
        self._exact: dict[frozenset[Origin], list[Tensor]] = {}

    def products(self, estimator: Estimator) -> Products:
        """The method's draws, and their inner products."""
        writers = frozenset(self.source_origins & estimator.learns_from)
        if writers not in self._exact:
            self._exact = {writers: [self._on(writers, load_method(name).estimator) for name in EXACT]}
        own, within = self._draws(estimator)
        inner = gram([own, *self._exact[writers]])
        return Products(inner, torch.stack(within) if within else None)

    @property
    def source_origins(self) -> frozenset[Origin]:
        """Who may have written a token of this bank."""
        return frozenset(self.bank.source.origins)

    def _draws(self, estimator: Estimator) -> tuple[Tensor, list[Tensor]]:
        found, own, within = Gradients(self.subject, estimator, self.kept), [], []
        for one in self.bank:
            rows = found.of(one)
            own.append(self._stored(rows[0]))
            if len(rows) > 2:
                redrawn = StreamingMoments()
                redrawn.add(rows[1:].double())
                within.append(redrawn.unbiased_variance.cpu())
            self.tick()
        return torch.stack(own), within

    def _stored(self, row: Tensor) -> Tensor:
        """No wider than the gradients themselves, and off the device."""
        dtype = torch.promote_types(self.subject.parameters[0].dtype, torch.float32)
        return row.to("cpu", dtype)

    def _on(self, writers: frozenset[Origin], estimator: Estimator) -> Tensor:  # [R, K]
        """An exact gradient over these writers' tokens, as if the student had written them."""
        found = Gradients(self.subject, estimator, self.kept)
        rows = []
        for one in self.bank:
            rows.append(self._stored(found.of(as_students(one, writers))[0]))
            self.tick()
        return torch.stack(rows)


def as_students(one: RolloutSet, writers: frozenset[Origin]) -> RolloutSet:
    """The set as written, its tokens by `writers` alone, under the student's name."""
    chosen = torch.isin(one.origin, torch.tensor(sorted(writers), device=one.origin.device))
    first = {name: getattr(one, name)[:1] for name in ("token", "behaviour_logp", "uniform")}
    return one._replace(response=one.response & chosen, origin=torch.zeros_like(one.origin), **first)


def gram(families: Iterable[Tensor]) -> Tensor:  # [F, R, F, R]
    """Inner products, in float64, of families of vectors [R, K]."""
    rows = list(families)
    count = len(rows[0])
    total = torch.zeros(len(rows) * count, len(rows) * count, dtype=torch.float64)
    for first in range(0, rows[0].shape[-1], COLUMNS):
        wide = torch.cat([family[:, first : first + COLUMNS].double() for family in rows])
        total += wide @ wide.T
    return total.view(len(rows), count, len(rows), count)


@torch.no_grad()
def prefixes(subject: Subject, estimator: Estimator, bank: Bank, count: int) -> Prefixes:
    """About `count` of the prefixes where the estimator learns, spread over all sets, of the commonest writer's."""
    scorer, each = Scorer(estimator, subject.heads), -(-count // bank.sets)
    found = []
    for one in bank:
        states = [one.states(subject.student, rows) for rows in subject.pieces(len(one.ids))]
        seen = Seen(scorer, [torch.arange(len(one.ids))], [one.batch(0, torch.cat(states))], [])
        found.append(visited(seen, subject.student, each))
    writer = Counter(part.writer for part in found if len(part.student)).most_common(1)[0][0]
    same = [part for part in found if part.writer == writer]
    student, teacher = (torch.cat([getattr(part, model) for part in same]) for model in ("student", "teacher"))
    return Prefixes(student, teacher, writer)

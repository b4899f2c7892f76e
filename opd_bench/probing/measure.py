"""What methods' gradients come to: inner products with each other and with the exact ones, and no more."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from opd_bench.catalogue import load_method
from opd_bench.estimators.base import Estimator
from opd_bench.probing.bank import Bank
from opd_bench.probing.drawing import FAILURES, Drawing
from opd_bench.probing.gradients import Kept, Trunk
from opd_bench.probing.shelf import Found, Job, Shelf
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
    seconds: float  # that g took


@dataclass(eq=False)
class Measure:
    """Methods on one bank, together: the student runs once a set for `at_once` of them, whose gradients are held."""

    subject: Subject
    bank: Bank
    kept: Kept
    at_once: int
    tick: Callable[[int], None]  # called after every set with the number of jobs

    def __post_init__(self) -> None:
        self.shelf = Shelf(self.bank.folder / "gradients")
        self.failed: dict[str, Exception] = {}
        self._exact: dict[frozenset[Origin], list[Tensor]] = {}
        self._prefixes: dict[frozenset[Origin], Prefixes] = {}

    def jobs(self, estimators: Iterable[Estimator]) -> dict[str, Job]:
        """What they need, by name: the exact gradients on the tokens that they learn from, and their own."""
        found = [job for estimator in estimators for job in (*self._targets(self._writers(estimator)), Job(estimator))]
        return {job.name: job for job in found}

    def draw(self, estimators: Iterable[Estimator]) -> None:
        """Gradients of all on every set, but for those that are on the shelf. One that fails stops no other."""
        jobs = self.jobs(estimators)
        for number in range(self.bank.sets):
            missing = [job for name, job in jobs.items() if not self._is_settled(name, number)]
            for first in range(0, len(missing), self.at_once):
                self._add(number, missing[first : first + self.at_once])
            self.tick(len(jobs))

    def products(self, estimator: Estimator) -> Products:
        """Of one that was drawn; what it failed with is raised here."""
        writers, found = self._writers(estimator), self._found(Job(estimator))
        if writers not in self._exact:
            targets = [self._found(job) for job in self._targets(writers)]
            self._exact = {writers: [torch.stack([one.gradient for one in sets]) for sets in targets]}
        own, within = (torch.stack([getattr(one, field) for one in found]) for field in ("gradient", "within"))
        seconds = sum(float(one.seconds) for one in found)
        return Products(gram([own, *self._exact[writers]]), None if within.isnan().any() else within, seconds)

    def prefixes(self, estimator: Estimator, count: int) -> Prefixes:
        """About `count` of the prefixes where the estimator learns, spread over all sets, of the commonest writer's."""
        writers = self._writers(estimator)
        if writers not in self._prefixes:
            self._prefixes = {writers: _prefixes(self.subject, estimator, self.bank, count)}
        return self._prefixes[writers]

    def _writers(self, estimator: Estimator) -> frozenset[Origin]:
        """Of the tokens of this bank that it learns from."""
        return frozenset(self.bank.source.origins) & estimator.learns_from

    def _targets(self, writers: frozenset[Origin]) -> list[Job]:
        """The exact gradients on these writers' tokens; where the student alone writes, two methods are just that."""
        others = None if set(self.bank.source.origins) == {Origin.STUDENT} else writers
        return [Job(load_method(name).estimator, others) for name in EXACT]

    def _is_settled(self, name: str, number: int) -> bool:
        return name in self.failed or self.shelf.holds(name, number)

    def _add(self, number: int, jobs: Sequence[Job]) -> None:
        """One set's gradients, on the shelf. What fails for all is everyone's failure."""
        try:
            drawings = self._drawn(number, jobs)
        except FAILURES as error:
            self.failed |= dict.fromkeys((job.name for job in jobs), error)
            return
        for drawing in drawings:
            if drawing.error:
                self.failed[drawing.job.name] = drawing.error
            else:
                self.shelf.put(drawing.job.name, number, drawing.found())

    def _drawn(self, number: int, jobs: Sequence[Job]) -> list[Drawing]:
        one = self.bank[number]
        drawings = [Drawing(job, self.subject, one) for job in jobs]
        for place, rows in enumerate(self.subject.pieces(len(one.ids))):
            trunk = Trunk(self.subject, one, rows)
            for drawing in drawings:
                drawing.add(place, trunk, self.kept)
        return drawings

    def _found(self, job: Job) -> list[Found]:
        if job.name in self.failed:
            raise self.failed[job.name]
        return [self.shelf.get(job.name, number) for number in range(self.bank.sets)]


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
def _prefixes(subject: Subject, estimator: Estimator, bank: Bank, count: int) -> Prefixes:
    scorer, each = Scorer(estimator, subject.heads), -(-count // bank.sets)
    seen = (Seen(scorer, [torch.arange(len(one.ids))], [one.batch(0)], []) for one in bank)
    found = [visited(one, subject.student, each) for one in seen]
    writer = Counter(part.writer for part in found if len(part.student)).most_common(1)[0][0]
    same = [part for part in found if part.writer == writer]
    student, teacher = (torch.cat([getattr(part, model) for part in same]) for model in ("student", "teacher"))
    return Prefixes(student, teacher, writer)

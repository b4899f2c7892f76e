"""One job on one set, added up piece by piece."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from traceback import clear_frames

import torch
from torch import Tensor

from opd_bench.probing.bank import RolloutSet
from opd_bench.probing.gradients import Gradients, Kept, Trunk, contrasts
from opd_bench.probing.shelf import Found, Job
from opd_bench.probing.subject import Subject
from opd_bench.tokens import Origin

FAILURES = (ValueError, RuntimeError, ArithmeticError)
"""What one method may do without stopping the others."""


class Drawing:
    """The sum so far, the time that it took, and the error if there was one: then nothing more is done."""

    def __init__(self, job: Job, subject: Subject, one: RolloutSet):
        self.job, self.seconds = job, 0.0
        self.error: Exception | None = None
        self.rows: Tensor | None = None
        if job.writers is not None:
            one = as_students(one, job.writers)
        with self._noted():
            self.gradients = Gradients(subject, job.estimator, one, contrasts(one.versions))

    def add(self, place: int, trunk: Trunk, kept: Kept) -> None:
        """One piece's share."""
        if not self.error:
            with self._noted():
                share = self.gradients.share(place, trunk, kept).cpu()
                self.rows = share if self.rows is None else self.rows + share

    def found(self) -> Found:
        """The gradient no wider than the student's own numbers, float32 at least, and what redrawn tokens change."""
        assert self.rows is not None
        gradient, *redrawn = self.rows
        dtype = torch.promote_types(self.gradients.subject.parameters[0].dtype, torch.float32)
        within = torch.stack(redrawn).double().square().sum() / len(redrawn) if redrawn else torch.tensor(torch.nan)
        return Found(gradient.to(dtype), within.double(), torch.tensor(self.seconds))

    @contextmanager
    def _noted(self) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        except FAILURES as error:
            clear_frames(error.__traceback__)  # with what they hold of a device's memory
            self.error = error
        self.seconds += perf_counter() - started


def as_students(one: RolloutSet, writers: frozenset[Origin]) -> RolloutSet:
    """The set as written, its tokens by `writers` alone, under the student's name."""
    chosen = torch.isin(one.origin, torch.tensor(sorted(writers), device=one.origin.device))
    first = {name: getattr(one, name)[:1] for name in ("token", "behaviour_logp", "uniform")}
    return one._replace(response=one.response & chosen, origin=torch.zeros_like(one.origin), **first)

"""Variance and bias of the running method's gradient in the logits, at a few of the prefixes that a step has visited.

Neither model is run again: the step's hidden states are at hand, and the two heads are applied to a few rows.
"""

from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from opd_bench.redraw import Prefixes, moment_sums, relative
from opd_bench.scoring import ScoredBatch, Scorer, learnable
from opd_bench.tokens import Origin
from opd_bench.training.module import Distillation
from opd_bench.training.ranks import summed


class GradientMoments(pl.Callback):
    """Every so many steps; the totals of the run are ratios of sums, so that prefixes count by their size."""

    def __init__(self, every: int, prefixes: int, redraws: int):
        self.every, self.prefixes, self.redraws = every, prefixes, redraws
        self.sums: dict[str, float] = {}

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Any) -> None:
        """At prefixes spread evenly over the step's scored tokens, with the weights that scored them."""
        assert isinstance(module, Distillation)
        assert module.seen is not None
        if not self.every or trainer.global_step % self.every:
            return
        with module.timed("moments"):
            batch, look = module.seen.batches[0], partial(visited, module.seen.scorer, count=self.prefixes)
            places = module.pupil.in_head(lambda states: look(batch._replace(student=states)), batch.student)
            uniform = module.draws.uniform("moments", len(places.student), self.redraws, 2).to(places.student)
            found = summed(moment_sums(module.estimator, places, module.progress, uniform))
        for name, value in found.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        module.metrics |= {f"grad/{name}": value for name, value in relative(found).items()}

    def state_dict(self) -> dict[str, Any]:
        """The sums so far."""
        return dict(self.sums)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As saved."""
        self.sums = dict(state_dict)


@torch.no_grad()
def visited(scorer: Scorer, batch: ScoredBatch, count: int) -> Prefixes:
    """Both models' logits in float64 at `count` of the tokens that one writer wrote."""
    scored = learnable(scorer.estimator, batch.response, batch.origin)
    writer = batch.origin[scored].mode().values if scored.any() else torch.zeros((), dtype=torch.long)
    rows = (scored & (batch.origin == writer)).nonzero()
    kept = min(count, len(rows))
    rows = rows[((torch.arange(kept) + 0.5) * len(rows) / max(1, kept)).long()]  # the middles of equal stretches
    student, teacher = (
        _logits(head, states[rows[:, 0], rows[:, 1]])
        for head, states in ((scorer.heads.student, batch.student), (scorer.heads.teacher, batch.teacher))
    )
    return Prefixes(student, teacher, Origin(int(writer)))


def _logits(head: Any, states: Tensor) -> Tensor:
    logits: Tensor = head.logits(head.project(states)).double()
    return logits

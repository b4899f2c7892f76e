"""Variance and bias of the running method's gradient in the logits, at a few of the prefixes that a step has visited.

Neither model is run again: the step's hidden states are at hand, and the two heads are applied to a few rows.
"""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.nn.functional import pad

from opd_bench.models.network import Head, Network
from opd_bench.redraw import Prefixes, moment_sums, relative
from opd_bench.scoring import learnable
from opd_bench.tokens import Origin
from opd_bench.training.module import Distillation, Seen


class GradientMoments(pl.Callback):
    """Every so many steps; the totals of the run are ratios of sums, so that prefixes count by their size."""

    def __init__(self, every: int, prefixes: int, redraws: int):
        self.every, self.prefixes, self.redraws = every, prefixes, redraws
        self.sums: dict[str, float] = {}

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Any) -> None:
        """At prefixes spread evenly over the scored tokens of the global batch: the same in all processes."""
        assert isinstance(module, Distillation)
        assert module.seen is not None
        if not self.every or trainer.global_step % self.every:
            return
        with module.timed("moments"):
            places = visited(module.seen, module.pupil, self.prefixes)
            uniform = module.draws.at("moments", range(len(places.student)), self.redraws, 2).to(places.student)
            found = moment_sums(module.estimator, places, module.progress, uniform)
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
def visited(seen: Seen, pupil: Network, count: int) -> Prefixes:
    """Both models' logits in float64 at `count` of the global batch's tokens that one writer wrote.

    A process projects those that are its own. All must call: a sharded head is whole inside of `in_head` alone.
    """
    (scorer, rows, batches, _), heads = seen, seen.scorer.heads
    scored = [learnable(scorer.estimator, batch.response, batch.origin) for batch in batches]
    origin, own = scorer.gather(torch.cat([batch.origin[mask] for batch, mask in zip(batches, scored, strict=True)]))
    lengths = torch.cat([mask.sum(-1) for mask in scored])
    row, _ = scorer.gather(torch.cat(rows).repeat_interleave(lengths))
    writer = origin.bincount(minlength=len(Origin)).argmax()
    chosen = _spread(row, origin == writer, count)
    mine = ((chosen >= own.start) & (chosen < own.stop)).nonzero()[:, 0]
    place, order = chosen[mine] - own.start, scorer.gather(mine)[0].argsort()
    states = _states([batch.student for batch in batches], scored, place)
    student = pupil.in_head(lambda part: _logits(heads.student, part), states)
    teacher = _logits(heads.teacher, _states([batch.teacher for batch in batches], scored, place))
    found = [scorer.gather(logits)[0][order] for logits in (student, teacher)]
    return Prefixes(found[0], found[1], Origin(int(writer)))


def _spread(row: Tensor, wanted: Tensor, count: int) -> Tensor:
    """Which tokens are the middles of `count` equal stretches of those wanted, in the order of their rows' numbers."""
    order = row.argsort(stable=True)
    order = order[wanted[order]]
    kept = min(count, len(order))
    return order[((torch.arange(kept) + 0.5) * len(order) / max(1, kept)).long()]


def _states(states: Sequence[Tensor], scored: Sequence[Tensor], place: Tensor) -> Tensor:  # [N, H]
    """Of the tokens at these places among all that are scored in this process."""
    tokens = torch.cat([pad(mask.nonzero(), (1, 0), value=number) for number, mask in enumerate(scored)])
    found = [states[number][row, t] for number, row, t in tokens[place].tolist()]
    return torch.stack(found) if found else states[0][0, :0]


def _logits(head: Head, states: Tensor) -> Tensor:
    return head.logits(head.project(states)).double()

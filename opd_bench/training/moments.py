"""Variance and bias of the running method's gradient, exactly, at a few of the prefixes that a step has visited."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from opd_bench.enumeration import exact_moments
from opd_bench.maths.divergences import log_probs, reverse_kl_gradient
from opd_bench.scoring import ScoredBatch, Scorer, learnable
from opd_bench.training.module import Distillation, Seen

LARGEST_VOCABULARY = 4096
"""Enumeration is quadratic in the vocabulary."""


class GradientMoments(pl.Callback):
    """Every so many steps; the totals of the run are ratios of sums, so that prefixes count by their size."""

    def __init__(self, every: int, prefixes: int):
        self.every, self.prefixes = every, prefixes
        self.sums = dict.fromkeys(("variance", "target", "error"), 0.0)

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Any) -> None:
        """At prefixes spread evenly over the step's scored tokens, with the weights that scored them."""
        assert isinstance(module, Distillation)
        assert module.seen is not None
        step = trainer.global_step
        if not self.every or step % self.every or module.teacher.vocabulary > LARGEST_VOCABULARY:
            return
        with module.timed("moments"):
            found = self._measured(module.seen, module.progress)
        for name, value in found.items():
            self.sums[name] += value
        module.metrics |= {f"grad/{name}": value for name, value in relative(found).items()}

    def _measured(self, seen: Seen, progress: float) -> dict[str, float]:
        """Σ tr Cov, Σ ‖∇KL(p‖q)‖² and Σ ‖E g − ∇KL(p‖q)‖²."""
        student, teacher, writer = prefixes(seen.scorer, seen.batches[0], self.prefixes)
        if not len(student):
            return {}
        moments = exact_moments(seen.scorer.estimator, student, teacher, progress=progress, origin=writer)
        target = reverse_kl_gradient(log_probs(student), log_probs(teacher))
        return {
            "variance": float(moments.variance.sum()),
            "target": float(target.square().sum()),
            "error": float((moments.mean - target).square().sum()),
        }

    def state_dict(self) -> dict[str, Any]:
        """The sums so far."""
        return dict(self.sums)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As saved."""
        self.sums = dict(state_dict)


def relative(sums: dict[str, float]) -> dict[str, float]:
    """tr Cov/‖∇KL‖² and ‖E g − ∇KL‖/‖∇KL‖, of the gradient in the logits."""
    if not sums.get("target"):
        return {}
    return {"relative_variance": sums["variance"] / sums["target"], "bias": (sums["error"] / sums["target"]) ** 0.5}


@torch.no_grad()
def prefixes(scorer: Scorer, batch: ScoredBatch, count: int) -> tuple[Tensor, Tensor, str]:
    """Both models' logits in float64 at `count` of the tokens that one writer wrote, and that writer's name."""
    scored = learnable(scorer.estimator, batch.response, batch.origin)
    writer = batch.origin[scored].mode().values if scored.any() else torch.zeros((), dtype=torch.long)
    rows = (scored & (batch.origin == writer)).nonzero()
    rows = rows[torch.linspace(0, len(rows) - 1, min(count, len(rows))).long()]
    logits = []
    for head, states in ((scorer.heads.student, batch.student), (scorer.heads.teacher, batch.teacher)):
        logits.append(head.logits(head.project(states[rows[:, 0], rows[:, 1]])).double())
    return logits[0], logits[1], _NAMES[int(writer)]


_NAMES = ("student", "teacher", "data")

"""One optimiser step: rollouts, both models' states at the response tokens, one loss, one update."""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from opd_bench.catalogue import Method
from opd_bench.maths.reduction import mean_of
from opd_bench.models.network import Network, learning
from opd_bench.rollouts.draws import Draws
from opd_bench.rollouts.policies import Writers
from opd_bench.scoring import Heads, Scored, ScoredBatch, Scorer
from opd_bench.tokens import Origin, PromptBatch, Rollout
from opd_bench.training.data import Problems, PromptStream, pieces, share_of
from opd_bench.training.health import check_sampler, finite, of_sequences, of_tokens
from opd_bench.training.plan import Plan
from opd_bench.training.ranks import gathered, summed
from opd_bench.training.strategies import Update, prepare, shards_parameters, update_of

PHASES = ("rollout", "teacher", "student", "loss", "optimiser", "moments")
"""What a training step's seconds are counted under."""


class Seen(NamedTuple):
    """What a step's loss was made of, for callbacks."""

    scorer: Scorer
    rows: list[Tensor]  # of each batch: numbers of its sequences in the global batch
    batches: list[ScoredBatch]
    scored: list[Scored]

    def means(self) -> dict[str, float]:
        """Over all tokens of the global batch that were looked at, by tag; the device is waited for once."""
        looks = {f"train/{name}": [one.observed[name] for one in self.scored] for name in self.scored[0].observed}
        looks |= {f"estimator/{name}": [one.stats[name] for one in self.scored] for name in self.scored[0].stats}
        values = {tag: torch.cat(parts) for tag, parts in looks.items()}
        sums = torch.stack([value.double().sum() for value in values.values()]).tolist() if values else []
        found = summed(dict(zip(values, sums, strict=True)) | {f"{tag} count": len(values[tag]) for tag in values})
        return {tag: found[tag] / found[f"{tag} count"] if found[f"{tag} count"] else math.nan for tag in values}


class Distillation(pl.LightningModule):
    """A student, its frozen teacher and the method between them.

    The teacher and the rest of what must not be trained, sharded or saved are kept where Lightning does not look for
    modules: in `_networks`.
    """

    def __init__(self, student: Network, teacher: Network, method: Method, plan: Plan, problems: Problems):
        super().__init__()
        self.automatic_optimization = False
        self.student = student.model.train()
        self.strict_loading = all(value.requires_grad for value in self.student.parameters())  # the others aren't saved
        self.estimator, self.source = method
        self.plan, self.problems, self.seed = plan, problems, problems.seed
        self._networks = {Origin.STUDENT: student, Origin.TEACHER: teacher}
        self.writers = Writers(dict(self._networks), plan.response_limit, problems.words.end, self.seed, plan.sampling)
        self.update: Update
        self.rollout: Rollout | None = None
        self.numbers: Tensor | None = None
        self.seen: Seen | None = None
        self.metrics: dict[str, float] = {}
        self.seconds = dict.fromkeys(PHASES, 0.0)

    # ---------------------------------------------------------------- what Lightning asks for

    def configure_callbacks(self) -> list[pl.Callback]:
        """The estimator rides along; nothing of it depends on that."""
        return [self.estimator]

    def configure_optimizers(self) -> Any:
        """AdamW, its learning rate set by hand at every step."""
        plan = self.plan
        return torch.optim.AdamW(
            learning(self.student),
            lr=plan.learning_rate,
            betas=(plan.beta1, plan.beta2),
            weight_decay=plan.weight_decay,
            fused=True,
        )

    def train_dataloader(self) -> DataLoader[PromptBatch]:
        """Prompts from the step that the run has come to."""
        stream = PromptStream(self.problems, self.plan, self.share, lambda: self.global_step)
        return DataLoader(stream, batch_size=None)

    def setup(self, stage: str) -> None:
        """Before the strategy wraps or shards the student."""
        prepare(self.trainer, self.plan.clip)
        if shards_parameters(self.trainer) and self.writers.networks[Origin.STUDENT].model is self.student:
            self.write_with(copy.deepcopy(self.student))

    def on_fit_start(self) -> None:
        """The models that are not trained go where the student is."""
        self.update = update_of(self.trainer, self.student)
        if isinstance(plugin := self.trainer.precision_plugin, MixedPrecision):  # an engine's weights are of its type
            self.writers.precision = plugin.forward_context
        for network in self.writers.networks.values():
            network.move(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Weights that learn, and time spent so far; all else is in the optimiser and the callbacks."""
        checkpoint["seconds"] = dict(self.seconds)
        every = self.student.named_parameters(remove_duplicate=False)
        fixed = {f"student.{name}" for name, value in every if not value.requires_grad}
        if "state_dict" in checkpoint:  # of an engine there is none: it leaves them out by itself
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {name: value for name, value in state.items() if name not in fixed}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As saved."""
        self.seconds = dict(checkpoint["seconds"])

    def write_with(self, copied: PreTrainedModel) -> None:
        """Roll out from a whole copy of the student, which takes its weights before every use."""
        self.writers.networks = self._networks | {Origin.STUDENT: self.pupil._replace(model=copied)}

    # ---------------------------------------------------------------- a step

    @property
    def pupil(self) -> Network:
        """The student as a network."""
        return self._networks[Origin.STUDENT]

    @property
    def teacher(self) -> Network:
        """The frozen teacher."""
        return self._networks[Origin.TEACHER]

    @property
    def progress(self) -> float:
        """The share of optimiser steps done."""
        return self.global_step / self.plan.steps

    def on_train_batch_start(self, batch: PromptBatch, batch_idx: int) -> None:
        """Roll out, before the step proper: a sharded student may not be read inside of it."""
        self.seen = None  # the last step's states, which all callbacks have looked at
        torch.manual_seed(int(self.draws.once("dropout") * 2**31) + self.global_rank)
        with self.timed("rollout"):
            self.refresh()
            self.rollout, self.numbers = self.source.draw(self.writers, batch, self.progress, self.draws), batch.number

    def refresh(self) -> None:
        """The plain copy of a sharded student, which writes and is kept, gets the student's weights; all must call."""
        self.update.copy_to(self.writers.networks[Origin.STUDENT].model)
        self.writers.engine.renew()

    def training_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """One loss over the whole batch, in micro-batches, and one update."""
        assert self.rollout is not None
        optimiser, plan, progress = self.optimizers(), self.plan, self.progress
        for group in optimiser.param_groups:  # type: ignore[union-attr]
            group["lr"] = plan.learning_rate * plan.learning_rate_at(self.global_step)
        with self.timed("optimiser"):
            with self.update.accumulated():
                loss = self._backward(self.rollout, progress)
            finite("loss", loss, self.global_step)
            self.metrics = self._metrics(loss)
            if not plan.sampling and self.global_step == 0 and self.source.origins == (Origin.STUDENT,):
                check_sampler(self.metrics["train/sampler_gap"])
            check = partial(finite, "gradient norm", step=self.global_step)
            self.metrics["grad/norm"] = float(self.update.step(optimiser, plan.clip, check))

    def _backward(self, rollout: Rollout, progress: float) -> Tensor:
        """Gradients of Σ w ℓ / denominator over this process's micro-batches; the value of it over all processes'."""
        heads = Heads(self.pupil.head, self.teacher.head)
        scorer = Scorer(self.estimator, heads, self.chunk, of_tokens, self.plan.health_tokens, gathered)
        parts = pieces(rollout, self.rows, self.plan.rows, self.pieces)
        batches = self._batches(parts)
        with self.timed("loss"):
            weights = self._weights(scorer, batches, progress)
            denominator = scorer.denominator(batches, weights)
        seen = Seen(scorer, [part.row for part in parts], [], [])
        for batch, weight, part in zip(batches, weights, parts, strict=True):
            with self.timed("student"):
                states = batch.student if len(batches) == 1 else self._states(self.pupil, part, grad=True)
            with self.timed("loss"):
                score = partial(_score, scorer, batch, weight, progress)
                scored = self.pupil.in_head(score, states)
                loss = mean_of([scored.numerator], denominator)
            with self.timed("student"):
                self.manual_backward(loss * self.update.factor)
            seen.batches.append(batch._replace(student=states.detach()))
            seen.scored.append(scored)
        self.seen = seen
        return mean_of([scorer.total([scored.numerator.detach() for scored in seen.scored])], denominator)

    def _weights(self, scorer: Scorer, batches: list[ScoredBatch], progress: float) -> Sequence[Tensor | None]:
        """In the student's head only where it is read: elsewhere there is nothing to make whole."""
        if not self.estimator.signals:
            return [None] * len(batches)
        return self.pupil.in_head(lambda _: scorer.weights(batches, progress), batches[0].student.detach())

    def _batches(self, parts: list[Rollout]) -> list[ScoredBatch]:
        """Every micro-batch, aligned: what is at t scores the token at t + 1.

        A single one has the student's states with gradient. Of several, each is computed when its turn comes, and
        beforehand only if `weigh` must see them all.
        """
        with self.timed("teacher"), self.teacher.present():
            taught = [self._states(self.teacher, part) for part in parts]
        result = []
        for part, teacher in zip(parts, taught, strict=True):
            with self.timed("student"):
                first = len(parts) == 1 or self.estimator.signals
                student = self._states(self.pupil, part, grad=len(parts) == 1) if first else teacher[..., :0]
            uniform = self.draws.of_tokens("estimator", part, self.plan.response_limit)
            fields = (part.ids, part.response, part.origin, part.behaviour_logp, uniform)
            result.append(ScoredBatch(student, teacher, *(field[:, 1:] for field in fields)))
        return result

    @staticmethod
    def _states(network: Network, part: Rollout, grad: bool = False) -> Tensor:
        with torch.set_grad_enabled(grad):
            return network.hidden(part.ids, part.mask)[:, :-1]

    # ---------------------------------------------------------------- what is told

    def _metrics(self, loss: Tensor) -> dict[str, float]:
        assert self.rollout is not None
        assert self.seen is not None
        return {
            "train/loss": float(loss),
            **self.seen.means(),
            **{f"train/{name}": value for name, value in of_sequences(self.rollout, gathered).items()},
        }

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Count this time for one phase; what it contains of others counts for those."""
        start, others = perf_counter(), sum(self.seconds.values())
        yield
        self.seconds[phase] += perf_counter() - start - (sum(self.seconds.values()) - others)

    @property
    def chunk(self) -> int:
        """For how many tokens the logits are there at once."""
        return self.plan.tokens_at_once(self.teacher.vocabulary, self.device.type)

    @property
    def draws(self) -> Draws:
        """This step's randomness, of this process's rows."""
        return Draws(self.seed, self.global_step, self.rows.start, self.plan.rows)

    @property
    def pieces(self) -> int:
        """How many micro-batches this process has: as many as every other."""
        return -(-self.plan.micro_batches // self.trainer.world_size)

    @property
    def rows(self) -> range:
        """Which of a step's rollouts are this process's, other than extra ones."""
        return range(self.share.start * self.plan.rollouts, self.share.stop * self.plan.rollouts)

    @property
    def share(self) -> range:
        """Which of a step's prompts are this process's."""
        return share_of(self.plan.prompts, self.trainer.global_rank, self.trainer.world_size)


def _score(scorer: Scorer, batch: ScoredBatch, weight: Tensor | None, progress: float, states: Tensor) -> Scored:
    return scorer.score(batch._replace(student=states), weight, progress)

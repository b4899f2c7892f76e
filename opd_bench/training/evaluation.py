"""How good a student is: the same problems, the same uniforms and the same verdicts for every method."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric, MetricCollection

from opd_bench.rollouts.choices import NUMBERS, Alone, Choice, Greedy
from opd_bench.rollouts.draws import uniform_of
from opd_bench.rollouts.policies import Writers
from opd_bench.tasks.base import Problem, Verdict
from opd_bench.tokens import Origin, PromptBatch, Written
from opd_bench.training.data import Problems
from opd_bench.training.module import Distillation
from opd_bench.training.plan import Evaluation


class PassAtK(Metric):
    """The unbiased share of problems that k of n responses solve: mean of 1 − C(n − c, k)/C(n, k), c of n correct."""

    solved: Tensor
    problems: Tensor

    def __init__(self, k: int):
        super().__init__()
        self.k = k
        self.add_state("solved", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("problems", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, correct: Tensor) -> None:
        """Verdicts [B, n]."""
        n, wrong = correct.shape[-1], (~correct.bool()).sum(-1).double()
        drawn = torch.arange(self.k, device=correct.device, dtype=torch.float64)
        missed = ((wrong[:, None] - drawn).clamp_min(0) / (n - drawn)).prod(-1)
        self.solved += (1 - missed).sum()
        self.problems += len(correct)

    def compute(self) -> Tensor:
        """The share."""
        return self.solved / self.problems


class Response(NamedTuple):
    """One response and what became of it."""

    text: str
    finished: bool
    length: int
    verdict: Verdict


class Judged(NamedTuple):
    """All responses to some problems, the greedy one first, and their figures."""

    problems: list[Problem]
    responses: list[list[Response]]
    figures: dict[str, float]

    def save(self, path: Path) -> None:
        """One line a problem, compressed; written whole."""
        unfinished = path.with_suffix(".part")
        with gzip.GzipFile(unfinished, "wb", mtime=0) as file:
            for problem, responses in zip(self.problems, self.responses, strict=True):
                kept = [{"text": r.text, "finished": r.finished, "correct": r.verdict.correct} for r in responses]
                line = {"id": problem.id, "answer": problem.answer, "responses": kept}
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        unfinished.replace(path)


def judged(writers: Writers, problems: Problems, count: int, samples: int, plan: Evaluation) -> Judged:
    """A greedy response to each of `count` problems, and `samples` sampled ones."""
    device = next(writers.networks[Origin.STUDENT].model.parameters()).device
    responses: list[list[Response]] = [[] for _ in range(count)]
    metrics = _metrics(samples).to(device)
    asked = [problems.at(number) for number in range(count)]
    for first in range(0, count, plan.batch):
        numbers = list(range(first, min(first + plan.batch, count)))
        batch = PromptBatch(*(field.to(device) for field in problems.batch(numbers)))
        for sample in range(samples + 1):
            names = [f"{plan.seed} {problems.split} {number} {sample}" for number in numbers]
            uniform = torch.stack([uniform_of(name, writers.limit, NUMBERS) for name in names])
            choice: Choice = Alone(Origin.STUDENT) if sample else Greedy(Origin.STUDENT)
            written = writers.write(batch.ids, batch.mask, choice, uniform)
            judged_now = verdicts(problems, asked[first : first + plan.batch], written)
            for number, response in zip(numbers, judged_now, strict=True):
                responses[number].append(response)
    for row in responses:
        _update(metrics, row)
    return Judged(asked, responses, {name: float(value) for name, value in metrics.compute().items()})


def verdicts(problems: Problems, asked: list[Problem], written: Written) -> Iterator[Response]:
    """The verdict on every response."""
    kept = [row[:length] for row, length in zip(written.token.cpu(), written.length.tolist(), strict=True)]
    texts = problems.tokenizer.batch_decode(kept, skip_special_tokens=True)
    for problem, text, cut, row in zip(asked, texts, written.truncated.tolist(), kept, strict=True):
        yield Response(text, not cut, len(row), problems.task.verdict(problem, text, not cut))


def _metrics(samples: int) -> MetricCollection:
    means = ("greedy", "sampled", "formatted", "truncated", "length")
    return MetricCollection(
        dict[str, Metric | MetricCollection](
            {name: MeanMetric() for name in means} | {f"pass@{samples}": PassAtK(samples)}
        )
    )


def _update(metrics: MetricCollection, row: list[Response]) -> None:
    """The greedy response counts for `greedy`, the sampled ones for everything else."""
    greedy, sampled = row[0], row[1:]
    correct = torch.tensor([response.verdict.correct for response in sampled])
    metrics["greedy"].update(float(greedy.verdict.correct))
    metrics["sampled"].update(correct.double())
    metrics["formatted"].update(torch.tensor([response.verdict.formatted for response in sampled]).double())
    metrics["truncated"].update(torch.tensor([not response.finished for response in sampled]).double())
    metrics["length"].update(torch.tensor([response.length for response in sampled]).double())
    metrics[f"pass@{len(sampled)}"].update(correct[None])


def _tagged(family: str, figures: dict[str, float]) -> dict[str, float]:
    return {f"{family}{name}": value for name, value in figures.items()}


class Judge(pl.Callback):
    """Before the first step, on the validation split now and then, and after the last step."""

    def __init__(self, plan: Evaluation, test: Problems, validation: Problems, folder: Path):
        self.plan, self.test, self.validation, self.folder = plan, test, validation, folder
        self.before: dict[str, float] = {}
        self.after: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """The untrained student, unless the run is a resumed one and knows."""
        if not self.before:
            self.before = self._tested(module, "before")
            for logger in trainer.loggers:
                logger.log_metrics(_tagged("eval/test_", self.before), step=0)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """The step's own rollouts; validation every so often; the test at the end."""
        assert isinstance(module, Distillation)
        module.metrics |= self._of_rollout(module)
        step, every = trainer.global_step, self.plan.every
        if every and step % every == 0:
            figures = judged(module.writers, self.validation, self.plan.validation_problems, 1, self.plan).figures
            module.metrics |= _tagged("eval/", figures)
        if step == module.plan.steps:
            self.after = self._tested(module, "after")
            module.metrics |= _tagged("eval/test_", self.after)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run need not do again."""
        return {"before": self.before, "after": self.after}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As saved."""
        self.before, self.after = state_dict["before"], state_dict["after"]

    def _tested(self, module: pl.LightningModule, when: str) -> dict[str, float]:
        assert isinstance(module, Distillation)
        result = judged(module.writers, self.test, self.plan.problems, self.plan.samples, self.plan)
        result.save(self.folder / f"responses-{when}.jsonl.gz")
        return result.figures

    @staticmethod
    def _of_rollout(module: Distillation) -> dict[str, float]:
        """The share solved of the prompts' own rollouts that the student wrote alone; nothing if there are none."""
        rollout, numbers = module.rollout, module.numbers
        assert rollout is not None
        assert numbers is not None
        own = ((rollout.origin == Origin.STUDENT) | ~rollout.response).all(-1)[: len(numbers)]
        rows = own.nonzero()[:, 0]
        if not len(rows):
            return {}
        start = int(rollout.response.any(0).nonzero()[0])
        parts = (rollout.ids, rollout.origin, rollout.behaviour_logp)
        token, origin, logp = (part[rows, start:] for part in parts)
        written = Written(token, origin, logp, rollout.response[rows].sum(-1), rollout.truncated[rows])
        asked = [module.problems.at(number) for number in numbers[rows].tolist()]
        solved = [response.verdict.correct for response in verdicts(module.problems, asked, written)]
        return {"train/accuracy": sum(solved) / len(solved)}

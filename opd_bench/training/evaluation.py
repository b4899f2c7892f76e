"""How good a student is: the same problems, the same uniforms and the same verdicts for every method."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric, MetricCollection

from opd_bench.reporting.files import RESPONSES, packed_responses
from opd_bench.reporting.verdicts import of_problems
from opd_bench.rollouts.choices import NUMBERS, Alone, Choice, Greedy
from opd_bench.rollouts.draws import uniform_of
from opd_bench.rollouts.policies import Writers
from opd_bench.tasks.base import Problem, Verdict
from opd_bench.tasks.limits import limited_verdict
from opd_bench.tokens import Origin, PromptBatch, Written
from opd_bench.training.anchors import Anchors, Figures
from opd_bench.training.data import Problems
from opd_bench.training.module import Distillation
from opd_bench.training.plan import Evaluation
from opd_bench.training.ranks import collected, part, summed
from opd_bench.training.stopping import leave_if_asked


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

    def lines(self, task: str) -> Iterator[dict[str, Any]]:
        """One a problem, with all that a verdict needs."""
        for problem, responses in zip(self.problems, self.responses, strict=True):
            kept = [{"text": r.text, "finished": r.finished, "length": r.length, **r.verdict.kept()} for r in responses]
            own = {"id": problem.id, "prompt": problem.prompt, "answer": problem.answer}
            yield {"task": task, **own, "responses": kept}


class Asked(NamedTuple):
    """Who answers how many problems, how many times each beside greedily."""

    problems: Problems
    number: int
    samples: int
    who: Origin = Origin.STUDENT

    def at(self, numbers: range) -> list[Problem]:
        """Some of them."""
        return [self.problems.at(number) for number in numbers]


def judged(writers: Writers, asked: Asked, plan: Evaluation) -> Judged:
    """A greedy response to each problem, and the sampled ones: every process writes a part, and all know all."""
    responses = _answers(writers, asked, plan)
    everyone = [row for rows in collected(responses) for row in rows]
    return Judged(
        asked.at(range(asked.number)), everyone, _figures(responses, asked.samples, writers.device(asked.who))
    )


def _answers(writers: Writers, asked: Asked, plan: Evaluation) -> list[list[Response]]:
    """To each of this process's problems. Sampled ones are written together, no matter whose they are."""
    own, samples = part(asked.number), range(1, asked.samples + 1)
    greedy, sampled = [(number, 0) for number in own], [(number, sample) for sample in samples for number in own]
    found: dict[tuple[int, int], Response] = {}
    for places, choice in ((greedy, Greedy(asked.who)), (sampled, Alone(asked.who))):
        for first in range(0, len(places), plan.batch):
            some = places[first : first + plan.batch]
            found |= zip(some, _written(writers, asked, plan, some, choice), strict=True)
    return [[found[number, sample] for sample in (0, *samples)] for number in own]


def _written(
    writers: Writers, asked: Asked, plan: Evaluation, places: list[tuple[int, int]], choice: Choice
) -> list[Response]:
    """One batch of responses, each by the number of its problem and its own."""
    leave_if_asked()
    problems, device = asked.problems, writers.device(asked.who)
    batch = PromptBatch(*(field.to(device) for field in problems.batch([number for number, _ in places])))
    names = [f"{plan.seed} {problems.split} {number} {sample}" for number, sample in places]
    uniform = torch.stack([uniform_of(name, writers.limit, NUMBERS) for name in names])
    written = writers.write(batch.ids, batch.mask, choice, uniform)
    questions = [problems.at(number) for number, _ in places]
    return list(verdicts(problems, questions, written, plan.verdict_seconds))


def verdicts(problems: Problems, asked: list[Problem], written: Written, seconds: float) -> Iterator[Response]:
    """The verdict on every response."""
    kept = [row[:length] for row, length in zip(written.token.cpu(), written.length.tolist(), strict=True)]
    texts = problems.words.texts(kept)
    for problem, text, cut, row in zip(asked, texts, written.truncated.tolist(), kept, strict=True):
        yield Response(text, not cut, len(row), limited_verdict(problems.task, problem, text, not cut, seconds))


def _metrics(samples: int) -> MetricCollection:
    means = ("greedy", "sampled", "formatted", "truncated", "length")
    return MetricCollection(
        dict[str, Metric | MetricCollection](
            {name: MeanMetric() for name in means} | {f"pass@{samples}": PassAtK(samples)}
        )
    )


def _figures(responses: list[list[Response]], samples: int, device: torch.device) -> dict[str, float]:
    """Over all processes: the greedy response counts for `greedy`, the sampled ones for everything else."""
    metrics, sampled = _metrics(samples).to(device), [response for row in responses for response in row[1:]]
    correct = torch.tensor([response.verdict.correct for response in sampled])
    metrics["greedy"].update(torch.tensor([row[0].verdict.correct for row in responses]).double())
    metrics["sampled"].update(correct.double())
    metrics["formatted"].update(torch.tensor([response.verdict.formatted for response in sampled]).double())
    metrics["truncated"].update(torch.tensor([not response.finished for response in sampled]).double())
    metrics["length"].update(torch.tensor([response.length for response in sampled]).double())
    metrics[f"pass@{samples}"].update(correct.view(-1, samples))
    return {name: float(value) for name, value in metrics.compute().items()} | _scores(sampled)


def _scores(sampled: list[Response]) -> dict[str, float]:
    """Means of what verdicts say beside right and wrong, over all processes."""
    names = {name for names in collected([name for r in sampled for name in r.verdict.scores]) for name in names}
    count = summed({"responses": len(sampled)})["responses"]
    sums = summed({name: sum(r.verdict.scores.get(name, 0.0) for r in sampled) for name in sorted(names)})
    return {name: total / count for name, total in sums.items()}


def _tagged(family: str, figures: Mapping[str, Any]) -> dict[str, float]:
    return {f"{family}{name}": value for name, value in figures.items() if not isinstance(value, str)}


def tagged(family: str, evaluation: Figures) -> dict[str, float]:
    """Figures of every task for TensorBoard; the task is named where there are several."""
    prefix = {task: f"{task}_" if len(evaluation) > 1 else "" for task in evaluation}
    parts = [_tagged(f"{family}{prefix[task]}", figures) for task, figures in evaluation.items()]
    return {tag: value for part in parts for tag, value in part.items()}


class Judge(pl.Callback):
    """Before the first step, on the validation split now and then, and after the last step: there the teacher too."""

    def __init__(self, plan: Evaluation, tests: Mapping[str, Problems], validation: Problems, anchors: Anchors):
        self.plan, self.tests, self.validation, self.anchors = plan, tests, validation, anchors
        self.evaluation: dict[str, Figures] = {"before": {}, "after": {}, "teacher": {}}
        self.files: dict[str, bytes] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """The untrained student, unless the run is a resumed one and knows."""
        assert isinstance(module, Distillation)
        if not self.evaluation["before"]:
            self._anchored("before", module, Origin.STUDENT)
            for logger in trainer.loggers:
                logger.log_metrics(tagged("eval/test_", self.evaluation["before"]), step=0)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """The step's own rollouts; validation every so often; the test at the end."""
        assert isinstance(module, Distillation)
        module.metrics |= self._of_rollout(module)
        step, every = trainer.global_step, self.plan.every
        if every and step % every == 0:
            size = self.validation.task.size("validation")
            asked = Asked(self.validation, min(self.plan.validation_problems, size or sys.maxsize), 1)
            module.metrics |= _tagged("eval/", self._judged(module, asked).figures)
        if step == module.plan.steps:
            if not self.evaluation["teacher"]:  # it stays as it is, so that training need not wait for it
                self._anchored("teacher", module, Origin.TEACHER)
            self.evaluation["after"], self.files[RESPONSES] = self._tested(module, Origin.STUDENT)
            module.metrics |= tagged("eval/test_", self.evaluation["after"])

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run need not do again."""
        return {"evaluation": self.evaluation, "files": self.files}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As saved."""
        self.evaluation, self.files = state_dict["evaluation"], state_dict["files"]

    def _anchored(self, which: str, module: Distillation, who: Origin) -> None:
        """A model that no method trained."""
        self.evaluation[which] = self.anchors.figures(which, partial(self._tested, module, who))

    def _tested(self, module: Distillation, who: Origin) -> tuple[Figures, bytes]:
        """Figures and responses on every test."""
        figures, lines = {}, []
        for name, problems in self.tests.items():
            number = self.plan.number(problems.task.size(problems.split))
            samples = self.plan.samples_of.get(name, self.plan.samples)
            result = self._judged(module, Asked(problems, number, samples, who))
            own = list(result.lines(name))
            figures[name] = result.figures | of_problems(own)
            lines += own
        return figures, packed_responses(lines)

    def _judged(self, module: Distillation, asked: Asked) -> Judged:
        """With the student's weights as they are now, and the law and the length that evaluation has."""
        module.refresh()
        limit = self.plan.response_limit or module.plan.response_limit
        writers = replace(module.writers, limit=limit, sampling=dict.fromkeys(Origin, self.plan.sampling))
        return judged(writers, asked, self.plan)

    def _of_rollout(self, module: Distillation) -> dict[str, float]:
        """The share solved of the prompts' own rollouts that the student wrote alone; nothing if there are none."""
        own = _solved(module, self.plan.verdict_seconds)
        found = summed({"solved": sum(own), "asked": len(own)})
        return {"train/accuracy": found["solved"] / found["asked"]} if found["asked"] else {}


def _solved(module: Distillation, seconds: float) -> list[bool]:
    """Whether each of those of this process solves its problem."""
    rollout, numbers = module.rollout, module.numbers
    assert rollout is not None
    assert numbers is not None
    own = ((rollout.origin == Origin.STUDENT) | ~rollout.response).all(-1)[: len(numbers)]
    rows = own.nonzero()[:, 0]
    if not len(rows):
        return []
    start = int(rollout.response.any(0).nonzero()[0])
    parts = (rollout.ids, rollout.origin, rollout.behaviour_logp)
    token, origin, logp = (field[rows, start:] for field in parts)
    written = Written(token, origin, logp, rollout.response[rows].sum(-1), rollout.truncated[rows])
    asked = [module.problems.at(number) for number in numbers[rows].tolist()]
    return [response.verdict.correct for response in verdicts(module.problems, asked, written, seconds)]

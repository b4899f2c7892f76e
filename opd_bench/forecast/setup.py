"""All that a forecast depends on: a run as it is resolved, its models' outlines, and what its source asks of them."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from opd_bench.forecast.ledger import Asked, asked
from opd_bench.models.network import rows_of_head
from opd_bench.models.outline import Outline, outline
from opd_bench.models.reading import StudentReading, TeacherReading
from opd_bench.models.words import Words
from opd_bench.tasks.base import Split, Task
from opd_bench.tasks.dataset import Dataset
from opd_bench.tokens import Cost
from opd_bench.training.data import share_of
from opd_bench.training.layout import Layout
from opd_bench.training.plan import Evaluation, Plan
from opd_bench.training.run import Run

PROMPT = 256
"""Tokens of a prompt, where neither problems nor tokenizer are here to tell."""
PROBLEMS = 1000
"""Of a test that is not here, where all are asked for."""
LOOKED_AT = 64
"""Training problems whose prompts are measured."""


class Prompt(NamedTuple):
    """How long prompts are, and whether that is measured."""

    tokens: int
    is_measured: bool


class Test(NamedTuple):
    """Answers that are judged: problems, and responses to each."""

    name: str
    problems: int
    responses: int
    is_known: bool = True


class Setup(NamedTuple):
    """A run with outlines in place of models; a changed one is the forecast of another run."""

    plan: Plan
    evaluation: Evaluation
    layout: Layout
    student_reading: StudentReading
    teacher_reading: TeacherReading
    student: Outline
    teacher: Outline
    cost: Cost
    signals: bool  # the whole batch is seen before the loss
    noise: bool  # gradients are looked at part by part
    asked: Asked  # by the source, of one process in one step
    prompt: Prompt
    tests: tuple[Test, ...]
    validation: Test

    def changed(self, part: str, **fields: Any) -> "Setup":
        """With other settings in one of its parts."""
        return self._replace(**{part: replace(getattr(self, part), **fields)})

    @property
    def rows(self) -> int:
        """Rollouts of a process in a step, extra ones too."""
        return self.asked.rows

    @property
    def pieces(self) -> int:
        """Micro-batches of a process."""
        return -(-self.plan.micro_batches // self.layout.processes)

    @property
    def micro_batch(self) -> int:
        """Rollouts in one of them."""
        return -(-self.rows // self.pieces)

    @property
    def length(self) -> int:
        """The most tokens of a rollout, with its prompt."""
        return self.prompt.tokens + self.plan.response_limit

    @property
    def judged(self) -> int:
        """The most tokens of a response that is judged."""
        return self.evaluation.response_limit or self.plan.response_limit


def setup(run: Run) -> Setup:
    """Of a run that is made and not begun. Of a model, config.json is all that is read."""
    estimator, source = run.method
    readers, plan = run.readers, run.plan
    pupil = readers.student.pupil(readers.student.weightless(run.start), run.seed)
    master = readers.teacher.weightless(run.config["models"]["teacher"]).requires_grad_(False)
    prompt = _prompt(run, rows_of_head(pupil))
    share = share_of(plan.prompts, 0, run.layout.processes)
    return Setup(
        plan=plan,
        evaluation=run.evaluation,
        layout=run.layout,
        student_reading=readers.student,
        teacher_reading=readers.teacher,
        student=outline(pupil, readers.student.attention),
        teacher=outline(master, readers.teacher.attention),
        cost=estimator.claims.cost,
        signals=bool(estimator.signals),
        noise=bool(run.watch.noise_every) and plan.micro_batches > 1,
        asked=asked(source, plan, len(share) * plan.rollouts, prompt.tokens, run.seed),
        prompt=prompt,
        tests=tuple(_test(run.evaluation, name, task) for name, task in run.tasks.tests.items()),
        validation=_validation(run.evaluation, run.tasks.train),
    )


def _prompt(run: Run, vocabulary: int) -> Prompt:
    """The longest of some, if they can be read and rendered without a network."""
    task, reading, rendering = run.tasks.train, run.readers.student, run.readers.rendering
    if not _is_here(task, "train"):
        return Prompt(PROMPT, False)
    try:
        tokenizer = reading.tokenizer(run.start, local_files_only=True)
    except ValueError:
        return Prompt(PROMPT, False)
    if 2 * len(tokenizer) < vocabulary:  # transformers makes an empty one where there are no files
        return Prompt(PROMPT, False)
    rendering.check(tokenizer, run.start)
    words = Words(tokenizer, rendering, [])
    prompts: list[Tensor] = [words.prompt(task.problem("train", run.seed, n).prompt) for n in range(LOOKED_AT)]
    return Prompt(int(torch.tensor([len(prompt) for prompt in prompts]).max()), True)


def _is_here(task: Task, split: Split) -> bool:
    return not isinstance(task, Dataset) or task.is_here(split)


def _test(plan: Evaluation, name: str, task: Task) -> Test:
    responses = 1 + plan.samples_of.get(name, plan.samples)
    if _is_here(task, "test"):
        return Test(name, plan.number(task.size("test")), responses)
    return Test(name, plan.problems or PROBLEMS, responses, is_known=False)


def _validation(plan: Evaluation, task: Task) -> Test:
    size = task.size("validation") if _is_here(task, "validation") else None
    return Test("validation", min(plan.validation_problems, size or plan.validation_problems), 2)

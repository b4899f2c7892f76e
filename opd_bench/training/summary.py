"""A run's record, from what its parts have kept."""

import inspect
import platform
import resource
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from opd_bench.catalogue import Method
from opd_bench.models.network import learning, numbers
from opd_bench.redraw import relative
from opd_bench.reporting.record import short_digest
from opd_bench.tasks.base import Task
from opd_bench.tasks.overlap import overlap
from opd_bench.training.outcomes import Outcome
from opd_bench.training.series import Series, mean, norms

if TYPE_CHECKING:
    from opd_bench.training.run import Parts, Run

LAST = ("student_entropy", "length", "truncated", "overlap")
"""Figures of health whose value at the last step a record tells."""
LIBRARIES = ("opd-bench", "torch", "lightning", "transformers", "torchmetrics", "hydra-core", "numpy")


def summary(run: "Run", parts: "Parts", outcome: Outcome, seconds: float) -> dict[str, Any]:
    """Everything of a record but what `write_record` adds."""
    return {
        "status": outcome.status,
        "reason": outcome.reason,
        "protocol": run.protocol,
        "method": {"name": run.config["name"], **described(run.method)},
        "seed": run.seed,
        "start": run.start,
        "supersedes": None,
        "models": parts.weights,
        "tasks": run.judged_on,
        "budget": budget(parts.series) | flops(parts),
        "training": training(parts),
        "evaluation": parts.judge.evaluation,
        "anchors": dict(parts.judge.anchors.names),
        "config": dict(run.config),
        "environment": environment(run.config["trainer"]),
        "timing": timing(parts, seconds),
    }


def anchored(run: "Run") -> dict[str, Any]:
    """What the record of a model that no method trained says beside its figures."""
    same = {"protocol": run.protocol, "tasks": run.judged_on, "config": dict(run.config), "timing": {}}
    return same | {"environment": environment(run.config["trainer"])}


def tasks(run: "Run") -> dict[str, Any]:
    """What students are judged on: how many problems and samples, how they are drawn, and which problems.

    And how many of these are among the training prompts, word for word or nearly.
    """
    prompts = run.plan.steps * run.plan.prompts
    trained = run.tasks.train.questions("train", run.seed, prompts)
    return {name: _test(run, name, task, trained) for name, task in run.tasks.tests.items()}


def _test(run: "Run", name: str, task: Task, trained: list[str]) -> dict[str, Any]:
    plan, split = run.evaluation, run.split
    number = plan.number(task.size(split))
    asked = [task.problem(split, plan.seed, index) for index in range(number)]
    common = overlap(trained, task.questions(split, plan.seed, number))
    return {
        "version": task.version,
        "problems": len(asked),
        "samples": plan.samples_of.get(name, plan.samples),
        **plan.sampling._asdict(),
        "limit": plan.response_limit or run.plan.response_limit,
        "overlap": {"exact": common.exact, "near": common.near},
        "data": short_digest([[problem.prompt, problem.answer] for problem in asked]),
    }


def described(method: Method) -> dict[str, Any]:
    """What a method says of itself, and its settings."""
    estimator, source = method
    cost = estimator.claims.cost
    return {
        **estimator.about._asdict(),
        "formula": inspect.getdoc(type(estimator)) or "",
        "aim": estimator.claims.bias or f"∇ of {str(estimator.claims.target).replace('_', ' ')}",
        "deviations": list(estimator.about.deviations),
        "estimator": type(estimator).__name__,
        "settings": estimator.settings(),
        "source": {"name": type(source).__name__, **source.settings()},  # type: ignore[attr-defined]
        "cost": cost._asdict(),
    }


def budget(series: Series) -> dict[str, float]:
    """Steps done and tokens written, by whom."""
    tokens = {f"{writer}_tokens": sum(series.of(f"train/tokens_{writer}")) for writer in ("student", "teacher", "data")}
    return {"steps": len(series.rows), **tokens}


def flops(parts: "Parts") -> dict[str, float]:
    """An estimate: 2 N a token that N parameters read or write, 2 N more where a gradient goes back, and 2 to learn."""
    rows = parts.series
    module = parts.module
    pupil, teacher = (numbers(network.model.parameters()) for network in (module.pupil, module.teacher))
    learnt = numbers(learning(module.student))
    read = sum(rows.of("train/tokens_read"))
    written = [sum(rows.of(f"train/tokens_{writer}")) for writer in ("student", "teacher")]
    return {
        "tokens_read": read,
        "flops": read * (4 * pupil + 2 * learnt + 2 * teacher) + 2 * (written[0] * pupil + written[1] * teacher),
    }


def training(parts: "Parts") -> dict[str, Any]:
    """What became of the run on the way."""
    divergence = parts.series.of("train/reverse_kl")
    return {
        "auc": mean(parts.series.of("train/accuracy")),
        "sampler_gap": max(parts.series.of("train/sampler_gap"), default=0.0),
        "reverse_kl": {"first": divergence[0], "last": divergence[-1]} if divergence else {},
        "gradient_norm": norms(parts.series.of("grad/norm")),
        "gradient": relative(parts.moments.sums) | parts.noise.totals(),
        "last": {name: found[-1] for name in LAST if (found := parts.series.of(f"train/{name}"))},
    }


def environment(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """What ran it."""
    gpu = torch.cuda.get_device_name() if trainer["accelerator"] == "gpu" else None
    return {
        **_software(*LIBRARIES, *(["deepspeed"] if "zero" in trainer["strategy"] else [])),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "device": gpu or _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),  # what the last bits of a sum depend on
        **{name: value for name, value in trainer.items() if name != "_target_"},
    }


def _processor() -> str:
    """Its name; Python's own answer is empty, or the family alone, on Linux."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def timing(parts: "Parts", seconds: float) -> dict[str, Any]:
    """Seconds by phase of all tries together, of the last try in total, and the share spent on watching gradients."""
    phases = parts.module.seconds
    whole, written = max(sum(phases.values()), 1e-9), budget(parts.series)["student_tokens"]
    return {
        "seconds": {**phases, "total": seconds},
        "moments_share": phases["moments"] / whole,
        "tokens_per_second": written / whole,
        "peak_memory_mib": peak_memory() / 2**20,
    }


def peak_memory() -> float:
    """Bytes: of the GPU if there is one, else of this process since it began."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    try:  # a process begins with its parent's ru_maxrss on Linux
        told = Path("/proc/self/status").read_text()
        return float(told.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # macOS counts in bytes


@cache  # what is running stays as it was when it was read
def _software(*libraries: str) -> dict[str, str | None]:
    return {"commit": _commit(), "python": platform.python_version(), **{name: version(name) for name in libraries}}


def _commit() -> str | None:
    """Of the checkout, with a mark if it was changed; None if installed without one."""
    try:
        call = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--match="]
        return subprocess.run(
            call, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None

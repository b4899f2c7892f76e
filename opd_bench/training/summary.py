"""A run's record, from what its parts have kept."""

import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from opd_bench.catalogue import Method
from opd_bench.redraw import relative
from opd_bench.training.series import Series, mean, norms

if TYPE_CHECKING:
    from opd_bench.training.run import Parts, Run

LIBRARIES = ("opd-bench", "torch", "lightning", "transformers", "torchmetrics", "hydra-core", "numpy")


def summary(run: "Run", parts: "Parts", status: str, reason: str, seconds: float) -> dict[str, Any]:
    """Everything of a record but what `write_record` adds."""
    return {
        "status": status,
        "reason": reason,
        "protocol": run.protocol
        | {"task": run.task.name, "task_version": run.task.version, "setting": run.config["protocol"]},
        "method": {"name": run.config["name"], **described(run.method)},
        "seed": run.seed,
        "start": run.start,
        "models": parts.weights,
        "budget": budget(parts.series),
        "training": training(parts),
        "evaluation": {"before": parts.judge.before or None, "after": parts.judge.after or None},
        "config": dict(run.config),
        "environment": environment(run.config["trainer"]),
        "timing": timing(parts, seconds),
    }


def described(method: Method) -> dict[str, Any]:
    """What a method says of itself, and its settings."""
    estimator, source = method
    cost = estimator.claims.cost
    return {
        **estimator.about._asdict(),
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


def training(parts: "Parts") -> dict[str, Any]:
    """What became of the run on the way."""
    divergence = parts.series.of("train/reverse_kl")
    return {
        "auc": mean(parts.series.of("train/accuracy")),
        "reverse_kl": {"first": divergence[0], "last": divergence[-1]} if divergence else {},
        "gradient_norm": norms(parts.series.of("grad/norm")),
        "gradient": relative(parts.moments.sums) | parts.noise.totals(),
        "series": parts.series.columns(),
    }


def environment(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """What ran it."""
    gpu = torch.cuda.get_device_name() if trainer["accelerator"] == "gpu" else None
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "device": gpu or platform.processor() or platform.machine(),
        **dict(trainer),
    }


def timing(parts: "Parts", seconds: float) -> dict[str, Any]:
    """Seconds by phase of all tries together, of the last try in total, and the share spent on watching gradients."""
    phases = parts.module.seconds
    whole, written = max(sum(phases.values()), 1e-9), budget(parts.series)["student_tokens"]
    return {
        "seconds": {**phases, "total": seconds},
        "moments_share": phases["moments"] / whole,
        "tokens_per_second": written / whole,
    }


def _commit() -> str | None:
    """Of the checkout, with a mark if it was changed; None if installed without one."""
    try:
        call = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--match="]
        return subprocess.run(
            call, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None

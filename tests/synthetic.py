"""Records of runs that never were, as large as real ones, in worlds where the truth is known."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from opd_bench.reporting.files import SERIES, digests, packed_series
from opd_bench.reporting.record import Record, find_records

TASK, PROBLEMS, SAMPLES = "mini_gsm", 256, 4
PROTOCOL = {"name": "mini_gsm-standard", "version": "1.0", "digest": "abc123", "family": "fam123", "ruleset": "fixed"}
MODELS = {"teacher": "embedded/teacher", "starts": ["embedded/standard-0", "embedded/standard-1"]}


def written(folder: Path, records: list[dict[str, Any]]) -> list[Record]:
    """Each in a run folder of its own, with its series beside it; then found again."""
    for number, record in enumerate(records):
        place = folder / f"run-{number:05d}"
        place.mkdir(parents=True)
        (place / SERIES).write_bytes(series := SERIES_OF_ALL)
        content = record | {"files": digests({SERIES: series})}
        text = json.dumps(content, sort_keys=True, allow_nan=False)
        identity = hashlib.sha256(text.encode()).hexdigest()[:16]
        (place / "record.json").write_text(json.dumps(content | {"id": identity}))
    found, complaints = find_records([folder])
    assert not complaints
    return found


def runs(method: str, accuracies: list[float], **changes: Any) -> list[dict[str, Any]]:
    """One run a seed, with these accuracies."""
    return [run(method, seed, accuracy, **changes) for seed, accuracy in enumerate(accuracies)]


def run(method: str, seed: int, accuracy: float, **changes: Any) -> dict[str, Any]:
    """One finished run, everything about it made up but in its place."""
    start = f"embedded/standard-{seed % 2}"
    rng = np.random.default_rng(seed)
    return {
        "status": "finished",
        "reason": "",
        "schema": 2,
        "created": f"2026-01-01T00:00:{seed:02d}+00:00",
        "supersedes": None,
        "protocol": PROTOCOL,
        "method": _method(method),
        "seed": seed,
        "start": start,
        "models": {"student": {"name": start, "digest": "0" * 16}, "teacher": {"name": "teacher", "digest": "1" * 16}},
        "tasks": {TASK: {"version": "1", "problems": PROBLEMS, "samples": SAMPLES, "temperature": 1.0}},
        "budget": {"steps": 100, "student_tokens": 46_000.0, "teacher_tokens": 0.0, "data_tokens": 0.0},
        "training": {
            "auc": accuracy / 2,
            "reverse_kl": {"first": 0.7, "last": 0.1},
            "gradient_norm": {"median": 1 + accuracy, "p99": 5.0, "max": 9.0, "spikes": 0.0},
            "gradient": {"relative_variance": 2 - accuracy + seed / 10, "bias_reverse_kl": 0.25},
        },
        "evaluation": {
            "before": {TASK: _judged(0.2, rng)},
            "after": {TASK: _judged(accuracy, rng)},
            "teacher": {TASK: _judged(0.95, rng)},
        },
        "anchors": {},
        "files": {},
        "config": {"name": method, "start": None, "plan": {"learning_rate": 0.001, "steps": 100}, "models": MODELS},
        "environment": {"commit": "0" * 12, "python": "3.11"},
        "timing": {"seconds": {"rollout": 15.0, "total": 30.0 + seed}, "tokens_per_second": 2_000.0},
    } | changes


def _method(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "title": name.upper(),
        "paper": "none",
        "provenance": "made up",
        "deviations": [],
        "warning": "",
        "formula": "ℓ = 0",
        "aim": "nothing",
        "estimator": name.title(),
        "settings": {"k": 8},
        "source": {"name": "Student"},
        "cost": {"student": "sampled", "teacher": "sampled"},
    }


def _judged(accuracy: float, rng: np.random.Generator) -> dict[str, Any]:
    solved = rng.binomial(SAMPLES, min(max(accuracy, 0), 1), PROBLEMS)
    figures = {
        "sampled": accuracy,
        "greedy": accuracy,
        "sampled_error": 0.01,
        f"pass@{SAMPLES}": min(accuracy + 0.1, 1),
    }
    return figures | {"formatted": 1.0, "truncated": 0.0, "length": 28.5, "solved": " ".join(map(str, solved))}


def _series() -> bytes:
    """A hundred steps of forty figures, as a real run has."""
    rng = np.random.default_rng(0)
    names = ["train/accuracy", "grad/norm", *(f"train/figure_{number}" for number in range(38))]
    return packed_series({name: rng.random(100).tolist() for name in names})


SERIES_OF_ALL = _series()

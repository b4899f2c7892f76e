"""Seconds of a step of the embedded benchmark, from runs with all that a run has."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.floor import Peaks, floor
from benchmarks.models import Shape, Trunk

METHODS = ("opd", "opd_full", "tropd")
LITTLE = (
    "evaluation.problems=8",
    "evaluation.samples=1",
    "evaluation.validation_problems=8",
    "watch.samples_shown=0",
)
"""Of what is no step of training."""


def embedded(steps: int, peaks: Peaks, tell: Callable[[str], None]) -> dict[str, Any]:
    """By method; phases are seconds on the wall, as records have them."""
    found = {}
    with TemporaryDirectory() as folder:
        for method in METHODS:
            tell(f"a run of {method}, {steps} steps")
            options = [f"method={method}", f"results={folder}", f"plan.steps={steps}", *LITTLE]
            subprocess.run(
                [sys.executable, "-m", "opd_bench.bench", *options], check=True, capture_output=True, text=True
            )
        for path in Path(folder).rglob("record.json"):
            record = json.loads(path.read_text())
            found[record["config"]["name"]] = _told(record, steps, peaks)
    return {name: found[name] for name in METHODS}


def _told(record: dict[str, Any], steps: int, peaks: Peaks) -> dict[str, Any]:
    seconds = {name: value / steps for name, value in record["timing"]["seconds"].items() if name != "total"}
    rows = record["config"]["plan"]["prompts"] * record["config"]["plan"]["rollouts"]
    written = record["budget"]["student_tokens"] / (steps * rows)
    prompt = record["budget"]["tokens_read"] / (steps * rows) - written
    trunks = [_trunk(name) for name in (record["start"], record["config"]["models"]["teacher"])]
    shape = Shape(*trunks, record["models"]["pair"]["vocabulary"]["shared"], rows, round(written), (prompt, prompt))
    return {"steps": steps, "seconds": seconds, "total": sum(seconds.values()), "floor": floor(shape, peaks)["total"]}


def _trunk(name: str) -> Trunk:
    import opd_bench

    path = Path(opd_bench.__file__).parent / "models" / name / "config.json"
    config = json.loads(path.read_text())
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")
    return Trunk(*(config[key] for key in keys))

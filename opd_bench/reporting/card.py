"""What a folder with a trained student says of itself: a model card, from the run's record."""

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from opd_bench.reporting.cells import law
from opd_bench.reporting.record import Record

SPECIAL = re.compile(r"([\\`*_\[\]#|~$])")
"""What Markdown would take for its own."""
FIGURES = {
    "greedy": "solved, greedily",
    "sampled": "solved, sampled",
    "formatted": "well-formed",
    "truncated": "cut off",
    "length": "tokens of a response",
    "timed_out": "without a verdict in time",
}
DIGITS = {"length": 1, "timed_out": 0}
"""After the point, of what is no share."""
SIDES = {"before": "untrained student", "after": "this student", "teacher": "teacher"}
USE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("PATH/TO/THIS/FOLDER")
tokenizer = AutoTokenizer.from_pretrained("PATH/TO/THIS/FOLDER")
```"""


def card(record: Record, step: int, dtype: str) -> str:
    """The README.md of a student after `step` steps. Text of the record is shown as text, whatever it is."""
    parts = [
        _front_matter(record),
        f"# {plain(_title(record))}",
        *_unfinished(record, step),
        _facts(record, step, dtype),
    ]
    parts += ["## Evaluation", *_evaluation(record, step), "## Use", USE, "## Method", *_method(record)]
    parts += ["## Made by", _fenced(str(record["environment"].get("command", ""))), _origin(record)]
    return "\n\n".join(parts) + "\n"


def progress(record: Record, step: int) -> str:
    """How far training had come."""
    return f"step {step} of {steps_of(record)}"


def steps_of(record: Record) -> int:
    """How many steps the run was to have."""
    return int(record["config"]["plan"]["steps"])


def plain(value: Any) -> str:
    """Text that is nothing but text in Markdown and in HTML, on one line."""
    return SPECIAL.sub(r"\\\1", escape(" ".join(str(value).split()), quote=False))


def _title(record: Record) -> str:
    return f"{record['method']['name']} on {record['protocol']['name']}, seed {record['seed']}"


def _front_matter(record: Record) -> str:
    """YAML, of which JSON values are a part."""
    fields = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["opd_bench", "distillation", "on-policy-distillation", record["method"]["name"]],
    }
    return "\n".join(["---", *(f"{name}: {json.dumps(value)}" for name, value in fields.items()), "---"])


def _unfinished(record: Record, step: int) -> Iterator[str]:
    if step < steps_of(record):
        yield f"> **Not the end of training: {progress(record, step)}.** No evaluation is of these weights."


def _facts(record: Record, step: int, dtype: str) -> str:
    method, protocol = record["method"], record["protocol"]
    status = record["status"] + (f": {record['reason']}" if record["reason"] else "")
    facts = {
        "method": f"{method.get('title') or method['name']} (METHOD={method['name']})",
        "paper": method.get("paper"),
        "warning": method.get("warning"),
        "student began from": record["start"],
        "teacher": record["config"].get("models", {}).get("teacher"),
        "tasks": ", ".join(record["tasks"]),
        "protocol": f"{protocol['name']}-{protocol['digest']}, version {protocol['version']}",
        "seed": record["seed"],
        "weights": f"{progress(record, step)}, {dtype}",
        "the run": status,
    }
    rows = [f"| {name} | {plain(value)} |" for name, value in facts.items() if value not in (None, "")]
    return "\n".join(["| | |", "|---|---|", *rows])


def _evaluation(record: Record, step: int) -> Iterator[str]:
    """A table for each task; what the run came to in the end is not said of weights from before."""
    sides = [side for side in SIDES if side != "after" or step == steps_of(record)]
    for task in record["tasks"]:
        found = {side: record["evaluation"].get(side, {}).get(task, {}) for side in sides}
        names = [name for name in _named(found) if any(name in figures for figures in found.values())]
        words = FIGURES | {"sampled": f"{FIGURES['sampled']} at {law(record['config'])}"}
        cells = [(words.get(name, name), *(_figure(name, found[side].get(name)) for side in sides)) for name in names]
        rows = [f"| {' | '.join(map(plain, row))} |" for row in cells]
        head = [f"| {plain(task)} | {' | '.join(SIDES[side] for side in sides)} |", "|---|" + "---:|" * len(sides)]
        yield "\n".join([*head, *rows])


def _named(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Figures that are shown, in their order."""
    passes = sorted({name for figures in found.values() for name in figures if name.startswith("pass@")})
    first, second, *rest = FIGURES
    return [first, second, *passes, *rest]


def _figure(name: str, value: Any) -> str:
    if not isinstance(value, int | float):
        return "—"
    return f"{value:.1%}" if name not in DIGITS else f"{value:.{DIGITS[name]}f}"


def _method(record: Record) -> Iterator[str]:
    method = record["method"]
    yield _fenced(method.get("formula", ""))
    for deviation in method.get("deviations") or []:
        yield f"- {plain(deviation)}"
    yield "Settings:"
    yield _fenced(json.dumps({"estimator": method["settings"], "source": method["source"]}, indent=1))


def _fenced(text: str) -> str:
    """As it stands: in a fence that is longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _origin(record: Record) -> str:
    environment = record["environment"]
    versions = ", ".join(f"{name} {environment[name]}" for name in ("torch", "transformers") if name in environment)
    return (
        f"Trained by opd\\_bench (commit {plain(environment.get('commit') or 'unknown')}, {plain(versions)}). "
        f"All that is known of the run is in `opd_bench-record.json`, record {plain(record['id'])}."
    )

"""How a paper ran it, how it ran here, and what differs."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from opd_bench.reporting.published.files import applying, lines
from opd_bench.reporting.record import Record

FIELDS = (
    "student",
    "teacher",
    "training prompts",
    "trained parameters",
    "precision",
    "steps",
    "prompts per step",
    "rollouts per prompt",
    "learning rate",
    "optimiser",
    "schedule",
    "warm-up steps",
    "weight decay",
    "gradient clip",
    "response limit",
    "sampling temperature",
    "sampling top-p",
    "loss normalisation",
    "evaluation samples",
    "evaluation temperature",
    "evaluation top-p",
    "evaluation limit",
    "checkpoint",
    "hardware",
)
NOT_STATED, NOT_RECORDED, NOT_APPLICABLE = "not stated", "not recorded", "does not apply"
UNKNOWN = (NOT_STATED, NOT_RECORDED)
ALWAYS = {"optimiser": "AdamW", "loss normalisation": "tokens of the global batch", "checkpoint": "last"}
"""What every run here does and no record says: nothing in conf/ can change it."""


class Stated(NamedTuple):
    """What is known of one field of a paper's set-up. "not stated": by neither the paper nor the notes on its code."""

    value: str
    source: str
    note: str

    @property
    def text(self) -> str:
        """The value, where it is from if that is not the paper, and what there is to say."""
        source = f" [{self.source}]" if self.source not in ("", "paper") else ""
        return f"{self.value}{source}" + (f" ({self.note})" if self.note else "")


class Difference(NamedTuple):
    """A field that is not the same, or not known to be."""

    field: str
    paper: str
    here: str


def setup(paper: str, table: str, setting: str) -> dict[str, Stated]:
    """What is known of how a table's numbers came about."""
    columns = ("paper", "table", "setting", "field", *Stated._fields)
    known = {
        line["field"]: Stated(line["value"], line["source"], line["note"])
        for line in applying(lines("setups.csv", columns), (paper, table, setting))
    }
    return {field: known.get(field, Stated(NOT_STATED, "", "")) for field in FIELDS}


def here(record: Record) -> dict[str, str]:
    """The same fields of one of our runs, from its configuration, models and budget."""
    known = dict(_known(record)) if "plan" in _mapping(record.get("config")) else {}
    return {field: _text(known.get(field)) for field in FIELDS}


def differences(stated: Mapping[str, Stated], ours: Mapping[str, str]) -> list[Difference]:
    """Every field that differs or that one side does not say, in the order of `FIELDS`."""
    return [
        Difference(field, stated[field].text, ours[field])
        for field in FIELDS
        if stated[field].value != NOT_APPLICABLE and not _same(stated[field].value, ours[field])
    ]


def _known(record: Record) -> Iterator[tuple[str, Any]]:
    """Fields and values, None where the record has none. What older ones lack was as it is said to be here."""
    config = record["config"]
    plan, evaluation, trainer = (_mapping(config.get(name)) for name in ("plan", "evaluation", "trainer"))
    yield from ALWAYS.items()
    yield "student", _name(record, "student")
    yield "teacher", _teacher(record)
    yield "training prompts", _task(_mapping(config.get("task")))
    yield "trained parameters", _trained(_mapping(config.get("student")))
    yield "precision", _precision(config, trainer.get("precision"))
    yield "steps", _steps(plan.get("steps"), _mapping(record.get("budget")).get("steps"))
    yield "prompts per step", plan.get("prompts")
    yield "rollouts per prompt", plan.get("rollouts")
    yield "learning rate", plan.get("learning_rate")
    yield "schedule", _schedule(plan)
    yield "warm-up steps", plan.get("warmup")
    yield "weight decay", plan.get("weight_decay")
    yield "gradient clip", "none" if plan.get("clip", 0) is None else plan.get("clip")
    yield "response limit", plan.get("response_limit")
    yield "sampling temperature", plan.get("temperature", 1)
    yield "sampling top-p", plan.get("top_p", 1)
    yield "evaluation samples", _samples(evaluation, _mapping(config.get("tests")))
    yield "evaluation temperature", evaluation.get("temperature", 1)
    yield "evaluation top-p", _truncation(evaluation)
    yield "evaluation limit", evaluation.get("response_limit") or plan.get("response_limit")
    yield "hardware", _hardware(trainer)


def _name(record: Record, role: str) -> Any:
    return _mapping(_mapping(record.get("models")).get(role)).get("name")


def _teacher(record: Record) -> Any:
    """With the factor on its logits where there is one."""
    name, scale = _name(record, "teacher"), _mapping(record["config"].get("models")).get("teacher_scale", 1)
    return name if name is None or _same(_text(scale), "1") else f"{name}, logits × {_text(scale)}"


def _task(task: Mapping[str, Any]) -> str | None:
    """The class that makes the problems."""
    target = task.get("_target_")
    return None if target is None else str(target).rpartition(".")[2]


def _trained(student: Mapping[str, Any]) -> str:
    """All weights, or what is added to them."""
    rank, dropout, layers = (student.get(f"lora_{name}") for name in ("rank", "dropout", "layers"))
    if rank is None:
        return "all"
    more = [f"dropout {_text(dropout)}"] if dropout else []
    more += [f"of {_text(layers)}"] if layers != "all-linear" else []
    return ", ".join([f"LoRA of rank {_text(rank)}", f"alpha {_number(student.get('lora_alpha'))}", *more])


def _precision(config: Mapping[str, Any], computing: Any) -> Any:
    """What is computed in, and the type of both models' weights where that is another one."""
    kept = [_mapping(config.get(role)).get("dtype", "float32") for role in ("student", "teacher")]
    if computing is None or kept == ["float32", "float32"]:
        return computing
    if (computing, *kept) == ("bf16-mixed", "bfloat16", "bfloat16"):
        return "bf16"
    return f"{_text(computing)}; weights {_text(kept[0])} (student), {_text(kept[1])} (teacher)"


def _samples(evaluation: Mapping[str, Any], tests: Mapping[str, Any]) -> Any:
    """One number, or which tests have which."""
    usual, others = evaluation.get("samples"), _mapping(evaluation.get("samples_of"))
    of = {name: _text(others.get(name, usual)) for name in sorted(tests)}
    numbers = sorted({*of.values()}, key=lambda number: (len(number), number))
    if len(numbers) < 2:
        return next(iter(numbers), usual)
    return ", ".join(f"{number} ({', '.join(name for name in of if of[name] == number)})" for number in numbers)


def _truncation(evaluation: Mapping[str, Any]) -> Any:
    """The mass, and the number of tokens where that is limited too."""
    mass, number = evaluation.get("top_p", 1), evaluation.get("top_k")
    return f"{_text(mass)}, top-k {_text(number)}" if number else mass


def _hardware(trainer: Mapping[str, Any]) -> str | None:
    if not {"devices", "accelerator"} <= set(trainer):
        return None
    nodes = trainer.get("num_nodes", 1)
    return f"{trainer['devices'] or 'all'} × {trainer['accelerator']}" + (f" on {nodes} nodes" if nodes != 1 else "")


def _steps(planned: Any, done: Any) -> Any:
    """As planned, and how many of them where not all were done."""
    return planned if planned is None or done in (None, planned) else f"{planned} ({done} done)"


def _schedule(plan: Mapping[str, Any]) -> Any:
    """The shape, and where it ends unless that is 0."""
    decay, floor = plan.get("decay"), plan.get("floor")
    return decay if decay in (None, "constant") or not floor else f"{decay}, to {_text(floor)} of the learning rate"


def _same(paper: str, ours: str) -> bool:
    """Numbers as numbers, names in any case and without their owner; what is not known is not the same."""
    if paper in UNKNOWN or ours in UNKNOWN:
        return False
    try:
        return math.isclose(float(paper), float(ours))
    except ValueError:
        return _bare(paper) == _bare(ours)


def _bare(name: str) -> str:
    return name.rpartition("/")[2].casefold()


def _number(value: Any) -> str:
    """Without a fraction that is 0."""
    return f"{value:g}" if isinstance(value, int | float) else _text(value)


def _text(value: Any) -> str:
    """One line of what can be shown."""
    if value is None:
        return NOT_RECORDED
    return " ".join("".join(sign if sign.isprintable() else " " for sign in str(value)).split())


def _mapping(value: Any) -> Mapping[str, Any]:
    """Nothing, where a record has something else."""
    return value if isinstance(value, Mapping) else {}

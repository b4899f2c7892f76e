"""What is where in a record: one with the right hash may still come from anyone, and be anything."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

TEXT, NUMBERS = str, dict
WORDS: Mapping[type, str] = {str: "text", dict: "names and values", int: "a whole number", list: "a list"}
SHAPE: Mapping[str, type] = {
    **dict.fromkeys(("status", "reason", "created", "start", "id"), TEXT),
    "seed": int,
    **dict.fromkeys(("protocol", "method", "models", "tasks", "budget", "training", "evaluation", "timing"), NUMBERS),
    **dict.fromkeys(("config", "environment", "files", "anchors"), NUMBERS),
    **dict.fromkeys(("protocol.name", "protocol.version", "protocol.digest"), TEXT),
    **dict.fromkeys(("method.name", "method.warning"), TEXT),
    **dict.fromkeys(("method.settings", "method.source"), NUMBERS),
    "evaluation.after": NUMBERS,
    "tasks.*": NUMBERS,
    "evaluation.*": NUMBERS,
    "evaluation.*.*": NUMBERS,
    "files.*": TEXT,
    "anchors.*": TEXT,
    "models.*": NUMBERS,
}
"""Must be there, all of what a star stands for."""
MAY_BE: Mapping[str, type] = {
    **dict.fromkeys(("method.title", "method.paper", "method.provenance", "method.formula", "method.aim"), TEXT),
    "method.deviations": list,
    "method.deviations.*": TEXT,
    "method.cost": NUMBERS,
    **dict.fromkeys(("protocol.family", "protocol.ruleset"), TEXT),
    "protocol.tuned": NUMBERS,
    **dict.fromkeys(("config.plan", "config.models", "config.task", "config.evaluation", "config.trainer"), NUMBERS),
    "config.start": TEXT,
    **dict.fromkeys(("training.reverse_kl", "training.gradient_norm", "training.gradient", "training.last"), NUMBERS),
    "timing.seconds": NUMBERS,
    "supersedes": TEXT,
}
"""May be absent or null."""


def misshapen(record: Mapping[str, Any]) -> str:
    """What is not as it must be, or nothing."""
    for needed, shape in ((True, SHAPE), (False, MAY_BE)):
        for path, kind in shape.items():
            for name, value in _at(record, path.split(".")):
                if (value is not None or needed) and not isinstance(value, kind):
                    return f"{name} must be {WORDS[kind]}, got {value!r:.60}"
    for name, value in _at(record, ["evaluation", "*", "*", "sampled"]):
        if value is not None and not (isinstance(value, int | float) and 0 <= value <= 1):
            return f"{name} must be a share, got {value!r:.60}"
    return ""


def _at(value: Any, path: list[str]) -> Iterator[tuple[str, Any]]:
    """All that the path leads to, with its name; None where there is nothing."""
    if not path:
        yield "", value
        return
    first, *rest = path
    found: Iterable[tuple[Any, Any]]
    if first == "*":
        found = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    else:
        found = [(first, value.get(first) if isinstance(value, dict) else None)]
    for key, item in found:
        for name, inner in _at(item, rest):
            yield f"{key}.{name}".rstrip("."), inner

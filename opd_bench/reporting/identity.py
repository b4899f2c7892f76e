"""Which runs are of one row, which record of a run counts, and what a row is called."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from opd_bench.reporting.record import Record

USUAL = ("start=as usual", "run=official")
"""What a name doesn't say."""


def settings_of(record: Record) -> tuple[str, ...]:
    """The method's name, then every field of its estimator and its source as text, and what else may differ."""
    method = record["method"]
    source = {key: value for key, value in method["source"].items() if key != "name"}
    kinds = {"estimator": method.get("estimator"), "source": method["source"].get("name")}
    more = {**record["protocol"].get("tuned", {}), "start": other_start(record) or "as usual"}
    whose = {"run": "own" if is_own(record) else "official"}
    fields = [*kinds.items(), *method["settings"].items(), *source.items(), *more.items(), *whose.items()]
    return method["name"], *sorted(f"{key}={_text(value)}" for key, value in fields)


def names_of(records: list[Record]) -> dict[tuple[str, ...], str]:
    """The method's name, with the fields that differ where it ran at several settings."""
    result = {}
    for name, group in grouped({settings_of(record) for record in records}, lambda key: key[0]).items():
        common = set.intersection(*(set(key[1:]) for key in group))
        for key in group:
            differing = ", ".join(field for field in key[1:] if field not in common and field not in USUAL)
            result[key] = f"{name}[{differing}]" if differing else name
    return result


def newest_of(records: list[Record]) -> tuple[list[Record], list[str]]:
    """One record per method, settings and seed: the last that was made. A user's run takes no official one's place."""
    runs = grouped(records, lambda record: (settings_of(record), record["seed"]))
    newest = [max(group, key=lambda record: (record["created"], record["id"])) for group in runs.values()]
    older = len(records) - len(newest)
    return newest, [f"{older} older record(s) of the same runs left out"] if older else []


def distinct(records: Iterable[Record]) -> list[Record]:
    """Without copies; of an official record and a user's copy of it, the official one."""
    return list({record["id"]: record for record in sorted(records, key=is_own, reverse=True)}.values())


def is_own(record: Record) -> bool:
    """Whether it is a user's, found beside official ones."""
    return bool(record.get("own"))


def other_start(record: Record) -> str:
    """A model to begin from that is not among the protocol's starts."""
    return record["config"].get("start") or ""


def grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    """Items of one key together, by key."""
    groups: dict[Any, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return dict(sorted(groups.items()))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)

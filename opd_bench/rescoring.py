"""New verdicts on responses that are kept, without a model: for when what counts as solved has been mended."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from opd_bench.reporting.files import (
    RESPONSES,
    SERIES,
    packed_responses,
    read_anchor,
    read_responses,
    write_with_files,
)
from opd_bench.reporting.protocol import folder_of, protocol_of
from opd_bench.reporting.record import (
    ANCHOR,
    RUN,
    Kind,
    Record,
    RecordError,
)
from opd_bench.reporting.verdicts import Line, by_task, figures_of
from opd_bench.tasks.base import Problem
from opd_bench.tasks.chosen import Tasks, targets
from opd_bench.tasks.limits import VerdictError, limited_verdict

Lines = list[dict[str, Any]]
ANCHORS = ("before", "teacher")


class Rescored(NamedTuple):
    """What became of one record."""

    record: Record
    task_version: str
    changed: int  # verdicts
    evaluation: Mapping[str, Any]
    lines: Mapping[str, Lines]  # of "after", "before" and "teacher", with their new verdicts

    @property
    def is_new(self) -> bool:
        """Whether there is anything to write."""
        return self.task_version != str(self.record["protocol"]["task_version"])


def rescored(record: Record) -> Rescored:
    """The verdicts of the task as it is now. The record itself is left as it is."""
    if "weights" not in record["protocol"]:
        raise RecordError(f"{record['folder']}: a record of schema 1 doesn't keep what a new verdict needs")
    tasks = _tasks(record)
    old = {"after": read_responses(record) if RESPONSES in record["files"] else []}
    old |= {which: read_anchor(record, which)[1] for which in ANCHORS if record["evaluation"].get(which)}
    seconds = record["config"]["evaluation"].get("verdict_seconds", math.inf)  # older records have none
    try:
        new = {which: [_judged(tasks, line, seconds) for line in lines] for which, lines in old.items()}
    except VerdictError as error:
        raise RecordError(f"{record['folder']}: {error}") from error
    figures = {which: _figures(lines) for which, lines in new.items()}
    found = Rescored(record, tasks.version, _different(old, new), figures, new)
    if found.changed and not found.is_new:
        raise RecordError(
            f"{record['folder']}: {found.changed} verdicts differ, and the version of its tasks is {tasks.version!r} "
            "as it was: results of different verdicts need different versions"
        )
    return found


def write(found: Rescored) -> Path:
    """A new record where a new run would put it. It supersedes the old one, which stays."""
    old = found.record
    config, protocol = old["config"], old["protocol"]
    protocol = protocol_of(config, protocol["task"], found.task_version, protocol["weights"])
    place = Path(old["folder"]).parents[2] / folder_of(protocol, config)
    if (place / RUN.file).exists():
        raise RecordError(f"{place}: there is a record already")
    tasks = {name: {**task, "version": found.task_version} for name, task in old["tasks"].items()}
    for which in ANCHORS:
        if which in found.lines:
            _write_anchor(found, which, place.parents[1] / "anchors", {"protocol": protocol, "tasks": tasks})
    files = {SERIES: (Path(old["folder"]) / SERIES).read_bytes()}
    files |= {RESPONSES: packed_responses(found.lines["after"])} if found.lines["after"] else {}
    new = {"protocol": protocol, "tasks": tasks, "evaluation": found.evaluation, "supersedes": old["id"]}
    return _write(place, old | new, files, RUN)


def _write_anchor(found: Rescored, which: str, folder: Path, new: dict[str, Any]) -> None:
    place = folder / found.record["anchors"][which]
    if not (place / ANCHOR.file).exists():
        old, _ = read_anchor(found.record, which)
        content = old | new | {"evaluation": found.evaluation[which]}
        _write(place, content, {RESPONSES: packed_responses(found.lines[which])}, ANCHOR)


def _write(place: Path, content: Record, files: Mapping[str, bytes], kind: Kind) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    write_with_files(place, {key: value for key, value in content.items() if key not in ("id", "folder")}, files, kind)
    return place / kind.file


def _tasks(record: Record) -> Tasks:
    """A record may come from anyone, and names the classes to make: only tasks of this package are.

    What they would run or ask of others is not done because a file says so.
    """
    for config in targets(record["config"]):
        if not str(config.get("_target_")).startswith("opd_bench.tasks."):
            raise RecordError(f"{record['folder']}: no task of this package: {config.get('_target_')!r}")
        if wanted := [name for name in ("execute", "judge") if config.get(name)]:
            raise RecordError(f"{record['folder']}: verdicts by {wanted[0]}={config[wanted[0]]!r} are not made anew")
    try:
        return Tasks.of(record["config"])
    except (TypeError, ValueError) as error:
        raise RecordError(f"{record['folder']}: {error}") from error


def _judged(tasks: Tasks, line: Line, seconds: float) -> dict[str, Any]:
    task = tasks.tests[line["task"]]
    problem = Problem(line["prompt"], line["answer"], "")
    responses = []
    for kept in line["responses"]:
        verdict = limited_verdict(task, problem, kept["text"], kept["finished"], seconds)
        responses.append({key: kept[key] for key in ("text", "finished", "length")} | verdict.kept())
    return {**line, "responses": responses}


def _different(old: Mapping[str, Lines], new: Mapping[str, Lines]) -> int:
    """How many responses have another verdict."""
    pairs = [(a, b) for which in old for a, b in zip(_responses(old[which]), _responses(new[which]), strict=True)]
    return sum(a != b for a, b in pairs)


def _responses(lines: Sequence[Line]) -> list[Any]:
    return [response for line in lines for response in line["responses"]]


def _figures(lines: Lines) -> dict[str, Any]:
    return {task: figures_of(own) for task, own in by_task(lines).items()}

"""What all runs of a protocol share, and what was left out of its table."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from opd_bench.reporting.leaderboard import Table
from opd_bench.reporting.page.markup import Markup, tag
from opd_bench.reporting.page.values import distinct, listed, shown, within
from opd_bench.reporting.record import Record

GIST = ("tasks", "training", "learning rate")
SENTENCES = ("tasks", "training", "ruleset")
TELLING = ("learning rate", "training", "ruleset", "student", "gradient clipped at", "tasks")
RULESETS = {"fixed": "fixed: one learning rate for all", "tuned": "tuned: each method at its own best learning rate"}
RULESETS |= {"trials": "trials: the same few learning rates for each method"}
FOLDERS = re.compile(r"[^\n:']*/((?:[^/\n:']+/){3}[^/\n:']+)")
"""A path of more than four parts, of which the last four say which run it is."""


def facts(table: Table) -> Markup:
    """Facts of the protocol as pairs."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in _known(table).items()))


def gist(table: Table) -> str:
    """What is asked and how it is trained, in a line, and which protocol that is."""
    known = _known(table)
    return " · ".join([*_said(known, GIST), f"protocol {known['protocol']}"])


def apart(tables: Sequence[Table]) -> list[str]:
    """What tells each table from others of its name."""
    known = [_known(table) for table in tables]
    names = [table.protocol["name"] for table in tables]
    groups = {name: [own for own, other in zip(known, names, strict=True) if other == name] for name in names}
    return [
        " · ".join([*_said(own, _telling(groups[name])), f"protocol {own['protocol']}"])
        for own, name in zip(known, names, strict=True)
    ]


def _telling(known: Sequence[Mapping[str, str]]) -> list[str]:
    """As few facts as tell them apart, as far as facts can."""
    found: list[str] = []
    for name in TELLING:
        with_it = {tuple(own.get(one) for one in (*found, name)) for own in known}
        found += [name] if len(with_it) > len({tuple(own.get(one) for one in found) for own in known}) else []
    return found


def notes(table: Table) -> Markup:
    """What failed, and what else is to be known of the table."""
    return tag("ul", *(tag("li", note) for note in table.notes)) if table.notes else Markup()


def complained(complaints: Sequence[str]) -> Markup:
    """Files that were no records, without the folders that they happen to lie in here."""
    items = [tag("li", FOLDERS.sub(r"\1", complaint)) for complaint in complaints]
    return tag("ul", *items)


def _known(table: Table) -> dict[str, str]:
    runs = [run for row in table.rows for run in row.runs]
    protocol, finished = table.protocol, sum(run["status"] == "finished" for run in runs)
    usual = [run for row in table.rows for run in row.runs if not row.check]
    plans = [plan for run in runs if (plan := within(run, "config.plan"))]
    clips = [within(plan, "clip") for plan in plans]
    known = {
        "tasks": "; ".join(_task(name, task) for name, task in sorted(table.tasks.items())),
        "student": listed(distinct(usual, "models.student.name") or distinct(usual, "start")),
        "teacher": listed(distinct(runs, "models.teacher.name")),
        "training": _training(runs),
        "learning rate": listed(distinct(runs, "config.plan.learning_rate")),
        "gradient clipped at": listed(sorted({shown(value) for value in clips})) if clips else "",
        "ruleset": RULESETS.get(str(protocol.get("ruleset")), str(protocol.get("ruleset") or "")),
        "protocol": f"{protocol['digest']}, version {protocol['version']}",
        "runs": f"{len(runs)} attempted, {finished} finished",
        "measured on": listed(distinct(runs, "environment.device")),
        "code": _code(runs),
    }
    return {name: value for name, value in known.items() if value}


def _said(known: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """A number needs its name, and a sentence doesn't."""
    return [known[name] if name in SENTENCES else f"{name} {known[name]}" for name in names if name in known]


def _task(name: str, task: Any) -> str:
    version = f" {task['version']}" if task.get("version") else ""
    problems = f"{task['problems']:,} problems" if isinstance(task.get("problems"), int) else ""
    samples = f"{task['samples']} samples" if task.get("samples") else ""
    heat = f" at T = {task['temperature']:g}" if isinstance(task.get("temperature"), int | float) else ""
    limit = f"at most {task['limit']} tokens" if task.get("limit") else ""
    times = " × ".join(filter(None, [problems, samples])) + heat
    return ", ".join(filter(None, [f"{name}{version}", times, limit]))


def _training(runs: Sequence[Record]) -> str:
    steps, prompts, rollouts = (distinct(runs, f"config.plan.{key}") for key in ("steps", "prompts", "rollouts"))
    responses = f"{listed(rollouts)} response" + ("" if rollouts == ["1"] else "s")
    return f"{listed(steps)} steps of {listed(prompts)} prompts × {responses}" if steps and prompts else ""


def _code(runs: Sequence[Record]) -> str:
    versions, commits = (distinct(runs, f"environment.{key}") for key in ("opd-bench", "commit"))
    return ", ".join(filter(None, [listed(versions), f"commit {listed(commits)}" if commits else ""]))

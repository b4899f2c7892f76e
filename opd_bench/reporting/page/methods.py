"""A section per method: what it is, what came out, its runs, its curves, and what its student wrote."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from textwrap import dedent
from typing import Any

from opd_bench.reporting.figures import figures, number
from opd_bench.reporting.leaderboard import Row
from opd_bench.reporting.page.board import scrolling, tags
from opd_bench.reporting.page.columns import GROUPS, Column
from opd_bench.reporting.page.markup import Markup, joined, tag
from opd_bench.reporting.page.pictures import Picture, figure
from opd_bench.reporting.page.samples import samples
from opd_bench.reporting.page.values import (
    NONE,
    duration,
    ends,
    percent,
    plain,
    shown,
    within,
)
from opd_bench.reporting.record import Record

NOT_REPEATED = ("records", "where from", "reads student / teacher")
"""Columns that a section says in another place."""
RUNS = ("seed", "start", "outcome", "solved %", "‖g‖ median", "rel. variance", "time", "record")
TEXTS = ("seed", "start", "outcome", "record")
Written = Callable[[Sequence[Record]], Markup]
"""What is shown of what the students of some runs wrote."""


def section(
    row: Row, address: str, columns: Sequence[Column], curves: Sequence[Picture], written: Written = samples
) -> Markup:
    """Closed until somebody asks."""
    accuracy = f"{percent(row.accuracy.mean)} % {ends(row.accuracy)}" if row.accuracy.mean is not None else "no result"
    title = within(row.runs[0], "method.title") or ""
    head = [tag("h4", row.method), " ", tag("span", str(title), class_="title"), " ", tags(row)]
    summary = tag("summary", *head, " ", tag("span", accuracy, class_="brief"))
    parts = [_what(row.runs[0]), _numbers(row, columns), _runs(row.runs), _curves(curves), written(row.runs)]
    return tag("details", summary, tag("div", *parts, class_="inside"), class_="entry", id=address)


def prose(formula: str) -> Iterator[Markup]:
    """A docstring's paragraphs; what is indented keeps its layout."""
    for block in formula.strip("\n").split("\n\n"):
        lines = [line for line in block.split("\n") if line.strip()]
        if not lines:
            continue
        if any(line.startswith("  ") for line in lines[1:]) or lines[0].startswith("  "):
            yield tag("pre", dedent("\n".join(lines)), class_="formula")
        else:
            yield tag("p", " ".join(line.strip() for line in lines))


def _what(record: Record) -> Markup:
    method = record["method"]
    warning = method.get("warning")
    warned = tag("p", tag("strong", "⚠\ufe0e Known to be wrong: "), str(warning), class_="warning") if warning else ""
    formula = joined(prose(str(method.get("formula") or "")))
    words = formula or tag("p", "The record doesn't hold the formula.", class_="quiet")
    return tag("div", warned, tag("div", words, class_="prose"), _facts(method), class_="what")


def _facts(method: dict[str, Any]) -> Markup:
    cost = method.get("cost") or {}
    source = dict(method.get("source") or {})
    known = {
        "aims at": method.get("aim"),
        "reads": f"student: {cost.get('student')}, teacher: {cost.get('teacher')}" if cost else None,
        "tokens by": " ".join(filter(None, [str(source.pop("name", "")), shown(source) and f"({shown(source)})"])),
        "settings": shown(method.get("settings")) if method.get("settings") else None,
        "paper": method.get("paper"),
        "provenance": method.get("provenance"),
        "deviations": method.get("deviations"),
        "estimator": method.get("estimator"),
    }
    return _pairs([(name, _several(value)) for name, value in known.items() if value])


def _several(value: Any) -> str:
    if isinstance(value, list | tuple) and len(value) > 1:
        return tag("ul", *(tag("li", str(item)) for item in value))
    return shown(value)


def _numbers(row: Row, columns: Sequence[Column]) -> Markup:
    groups = []
    for group, name in GROUPS.items():
        own = [(column.name, column.cell(row).shown) for column in columns if _belongs(column, group)]
        known = [(what, value) for what, value in own if value != NONE]
        groups += [tag("div", tag("h5", name), _pairs(known))] if known else []
    return tag("div", *groups, class_="numbers")


def _belongs(column: Column, group: str) -> bool:
    return column.group == group and column.name not in NOT_REPEATED


def _runs(runs: Sequence[Record]) -> Markup:
    head = tag("tr", *(tag("th", name, scope="col", class_="text" if name in TEXTS else None) for name in RUNS))
    body = [tag("tr", *_run(run)) for run in runs]
    table = tag("table", tag("caption", "Runs by seed", class_="unseen"), tag("thead", head), tag("tbody", *body))
    return tag("div", tag("h5", "Runs"), scrolling(table, f"Runs of {runs[0]['method']['name']}", "scroll runs"))


def _run(run: Record) -> Iterator[Markup]:
    known = figures(run)
    solved = [value for name, value in known.items() if _is_solved(name)]
    failed = run["status"] != "finished"
    outcome = f"{run['status']}: {run['reason']}" if failed else "finished"
    yield tag("th", str(run["seed"]), scope="row")
    yield tag("td", str(run["start"]), class_="text")
    yield tag("td", outcome, class_="text failed" if failed else "text")
    yield tag("td", percent(sum(solved) / len(solved)) if solved else NONE)
    yield tag("td", plain(known.get("training.gradient_norm.median")))
    yield tag("td", plain(known.get("training.gradient.relative_variance")))
    yield tag("td", duration(number(within(run, "timing.seconds.total"))))
    yield tag("td", tag("code", str(run["id"])), class_="text")


def _is_solved(name: str) -> bool:
    return name.startswith("evaluation.after.") and name.endswith(".sampled")


def _curves(curves: Sequence[Picture]) -> Markup:
    return tag("div", *map(figure, curves), class_="pictures") if curves else Markup()


def _pairs(pairs: Iterable[tuple[str, str]]) -> Markup:
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs))

"""The columns of the table: what each is called and means, and what it shows of a row."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from opd_bench.reporting.leaderboard import WITH_INTERVALS, Row, Table
from opd_bench.reporting.page.markup import joined, tag
from opd_bench.reporting.page.scale import Scale, scale
from opd_bench.reporting.page.values import NONE, amount, distinct, duration, interval, percent, plain
from opd_bench.reporting.protocol import REFERENCE
from opd_bench.reporting.statistics import Estimate

Group = Literal["first", "results", "gradients", "health", "cost", "provenance"]
GROUPS: dict[Group, str] = {
    "first": "At a glance",
    "results": "Results",
    "gradients": "Gradients",
    "health": "Health",
    "cost": "Cost",
    "provenance": "Provenance",
}
"""The first is always shown, the others when somebody asks."""
UP: Literal["ascending"] = "ascending"
DOWN: Literal["descending"] = "descending"
SHORT = 8
"""Digits of a record's id that tell it from others of a table."""


class Cell(NamedTuple):
    """What is shown, and what is sorted by: a number, a text, or nothing."""

    shown: str = NONE
    value: float | str | None = None


class Column(NamedTuple):
    """One column."""

    name: str
    group: Group
    meaning: str
    cell: Callable[[Row], Cell]
    first: Literal["ascending", "descending"] = UP  # the first sorting's direction
    kind: Literal["number", "span", "text"] = "number"  # span: with an interval


def columns(table: Table) -> list[Column]:
    """All but the band and the method, group by group; of trials, the first group."""
    if table.of_trials:
        first = [_learning_rate(table), *_first(scale(table)), *_gradients(), *_cost()]
        return [column for column in first if column.group == "first"]
    found = [
        _learning_rate(table),
        *_first(scale(table)),
        *_results(table),
        *_gradients(),
        *_health(table),
        *_cost(),
        *_provenance(),
    ]
    return sorted(found, key=lambda column: list(GROUPS).index(column.group))


def _learning_rate(table: Table) -> Column:
    """Where each method has its own, it is seen at a glance."""
    return Column("learning rate", "first" if table.tuned else "provenance", "At its highest.", _rate)


def _first(on: Scale) -> Iterator[Column]:
    yield Column("seeds", "first", "Finished runs, of those attempted.", _seeds, DOWN)
    solved = "Share of sampled answers that are right, mean over seeds and tasks, with its 95 % interval over seeds."
    drawn = " The drawing has all methods on one scale; its upright lines are the untrained student and the teacher."
    yield Column("solved %", "first", solved + drawn, lambda row: _solved(row, on), DOWN, "span")
    to = f"Difference of that to {REFERENCE}'s, seed by seed, in points. A seed's start, problems and draws are shared,"
    yield Column(f"to {REFERENCE}", "first", f"{to} so this is the interval to compare by.", _difference, DOWN, "span")


def _results(table: Table) -> Iterator[Column]:
    p = "Of that difference, by flipping signs, Holm-adjusted for the number of ranked rows; five seeds allow"
    yield Column("p", "results", f"{p} none below 0.0625 before that.", lambda row: _number(row.p, _two))
    better = f"Probability that a run is better than one of {REFERENCE}, with its 95 % interval."
    yield Column(f"better than {REFERENCE} %", "results", better, lambda row: _estimate(row.better), DOWN, "span")
    middle = "Interquartile mean over runs and tasks, 0 being the untrained student and 1 the teacher."
    yield Column("normalised IQM", "results", middle, lambda row: _estimate(row.middle, per_cent=False), DOWN, "span")
    for task in sorted(table.tasks):
        yield from _of_task(table, task)
    auc = "Share of the run's own rollouts that are right, over all steps: who learns early has more."
    yield _percent("results", "AUC %", auc, "training.auc", DOWN)


def _of_task(table: Table, task: str) -> Iterator[Column]:
    """Its accuracies. With one task, the mean over tasks is its own, which is there already."""
    of, after = f"{task} " if len(table.tasks) > 1 else "", f"evaluation.after.{task}."
    known = sorted({name for row in (*table.rows, *table.anchors) for name in row.means if name.startswith(after)})
    samples = table.tasks[task].get("samples", "k")
    if len(table.tasks) > 1:
        average = "Mean share of right ones among the samples of a problem."
        yield _percent("results", f"{of}avg@{samples} %", average, f"{after}sampled", DOWN)
    for name in known:
        if (kind := name.removeprefix(after)).startswith("pass@"):
            meaning = "Share of problems of which at least one of so many samples is right."
            yield _percent("results", f"{of}{kind} %", meaning, name, DOWN)
    yield _percent("results", f"{of}greedy %", "Share of greedy answers that are right.", f"{after}greedy", DOWN)


def _gradients() -> Iterator[Column]:
    relative = "tr Cov / ‖∇KL(p‖q)‖² of the gradient in the logits at fixed prefixes, exact, with its 95 % interval."
    of = "training.gradient."
    yield _figure("first", "rel. variance", relative, f"{of}relative_variance")
    bias = "‖E g − ∇KL(p‖q)‖ / ‖∇KL(p‖q)‖ there. Variance ranks nothing without the bias beside it."
    yield _figure("first", "bias", bias, f"{of}bias_reverse_kl")
    cosine = "Of the mean gradient to ∇KL(p‖q)."
    yield _figure("gradients", "cosine", cosine, f"{of}cosine_reverse_kl", DOWN)
    yield _figure("gradients", "bias to KL(q‖p)", "The same as bias, to the forward KL.", f"{of}bias_forward_kl")
    yield _figure(
        "gradients", "cosine to KL(q‖p)", "The same as cosine, to the forward KL.", f"{of}cosine_forward_kl", DOWN
    )
    kl = "Exact KL(p‖q) on the last rollouts, nats a token."
    yield _figure("gradients", "reverse KL", kl, "training.reverse_kl.last")
    norm = "Norm of the gradient before clipping, over the steps:"
    of_norm = "training.gradient_norm."
    yield _figure("gradients", "‖g‖ median", f"{norm} median.", f"{of_norm}median")
    yield _figure("gradients", "‖g‖ p99", f"{norm} 99 % of the steps are below.", f"{of_norm}p99")
    yield _figure(
        "gradients", "spikes", f"{norm} how many are above ten times the median of all before.", f"{of_norm}spikes"
    )
    step = "Variance of a whole step's gradient in the weights, from its parts."
    yield _figure("gradients", "step variance", step, f"{of}step_variance")
    scale_ = "How many responses a step needs until its noise is as large as its signal."
    yield _figure("gradients", "noise scale", scale_, f"{of}noise_scale")


def _health(table: Table) -> Iterator[Column]:
    yield _figure("health", "entropy", "Of the student on the last rollouts, nats.", "training.last.student_entropy")
    overlap = "Share of the teacher's top 8 that are among the student's, on the last rollouts."
    yield _percent("health", "overlap %", overlap, "training.last.overlap", DOWN)
    for task in sorted(table.tasks):
        of, after = f"{task} " if len(table.tasks) > 1 else "", f"evaluation.after.{task}."
        yield _figure("health", f"{of}length", "Tokens of a sampled answer, mean.", f"{after}length")
        yield _percent("health", f"{of}cut off %", "Sampled answers that reached the limit.", f"{after}truncated")
        yield _percent(
            "health", f"{of}well-formed %", "Sampled answers with a final answer.", f"{after}formatted", DOWN
        )


def _cost() -> Iterator[Column]:
    seconds = "A run from its start to its end, with what is measured on the way. Compare on one machine alone."
    yield Column("time a run", "first", seconds, lambda row: _number(row.means.get("timing.seconds.total"), duration))
    reads = "The most that is read of each model's distribution at a position: the sampled token, the top k, or all."
    yield Column("reads student / teacher", "cost", reads, _reads, UP, "text")
    for kind, whose in (("student", "by the student"), ("teacher", "by the teacher")):
        yield _amount(f"tokens {whose}", f"Written {whose} in training.", f"budget.{kind}_tokens")
    yield _amount("tokens read", "Passed through the models for the loss.", "budget.tokens_read")
    yield _amount("FLOPs", "An estimate for the whole run.", "budget.flops")
    yield _amount("tokens/s", "Trained tokens a second.", "timing.tokens_per_second", DOWN)
    yield _amount("peak memory MiB", "The most that a run had.", "timing.peak_memory_mib")


def _provenance() -> Iterator[Column]:
    yield Column("failures", "provenance", "What became of runs that did not finish.", _failures, DOWN)
    yield Column("where from", "provenance", "Who wrote the method's code, after what.", _where_from, UP, "text")
    yield Column("records", "provenance", "The first digits of the records' ids, by seed.", _records, UP, "text")


def _percent(group: Group, name: str, meaning: str, key: str, first: Literal["ascending", "descending"] = UP) -> Column:
    return Column(name, group, meaning, lambda row: _number(row.means.get(key), percent), first)


def _amount(name: str, meaning: str, key: str, first: Literal["ascending", "descending"] = UP) -> Column:
    return Column(name, "cost", meaning, lambda row: _number(row.means.get(key), amount), first)


def _figure(group: Group, name: str, meaning: str, key: str, first: Literal["ascending", "descending"] = UP) -> Column:
    """With its interval where it has one."""

    def cell(row: Row) -> Cell:
        found = row.estimates.get(key)
        return _number(row.means.get(key), plain) if found is None else _estimate(found, per_cent=False)

    return Column(name, group, meaning, cell, first, "span" if key in WITH_INTERVALS else "number")


def _number(value: float | None, shown: Callable[[float | None], str]) -> Cell:
    return Cell(shown(value), value)


def _two(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g}"


def _estimate(value: Estimate, signed: str = "", per_cent: bool = True) -> Cell:
    return Cell() if value.mean is None else Cell(interval(value, signed, per_cent), value.mean)


def _solved(row: Row, on: Scale) -> Cell:
    if row.accuracy.mean is None:
        return Cell()
    kind = "anchor" if not row.runs else "ranked" if row.ranked else "wrong" if row.warning else "unranked"
    return Cell(tag("div", interval(row.accuracy), on.drawn(row.accuracy, kind), class_="solved"), row.accuracy.mean)


def _difference(row: Row) -> Cell:
    if row.name == REFERENCE and not row.check and row.runs and row.difference.mean is None:
        return Cell("the reference")
    return _estimate(row.difference, "+")


def _seeds(row: Row) -> Cell:
    if not row.attempted:
        return Cell("")
    shown = str(row.finished) if row.finished == row.attempted else f"{row.finished} of {row.attempted}"
    return Cell(shown, row.finished)


def _method(row: Row) -> dict[str, Any]:
    return row.runs[0]["method"] if row.runs else {}


def _reads(row: Row) -> Cell:
    cost = _method(row).get("cost") or {}
    words = f"{cost.get('student', NONE)} / {cost.get('teacher', NONE)}"
    return Cell(words, words) if cost else Cell()


def _rate(row: Row) -> Cell:
    found = distinct(row.runs, "config.plan.learning_rate")
    return Cell(", ".join(found), found[0]) if found else Cell()


def _failures(row: Row) -> Cell:
    counts = Counter(run["status"] for run in row.runs if run["status"] != "finished")
    shown = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    return Cell(shown or "0", sum(counts.values())) if row.runs else Cell()


def _where_from(row: Row) -> Cell:
    found = str(_method(row).get("provenance") or "")
    return Cell(tag("span", found, class_="long"), found) if found else Cell()


def _records(row: Row) -> Cell:
    ids = [tag("code", run["id"][:SHORT]) for run in row.runs]
    return Cell(joined(ids, " "), row.runs[0]["id"]) if ids else Cell()

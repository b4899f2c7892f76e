"""What a table says, in sentences made from its numbers: which method, how sure, at what cost."""

from collections.abc import Sequence

from opd_bench.reporting.leaderboard import Row, Table
from opd_bench.reporting.page.markup import Markup, joined, tag
from opd_bench.reporting.page.values import distinct, duration, ends, listed, percent, within
from opd_bench.reporting.protocol import RANKED, REFERENCE

NAMED = 4
"""Methods of a band that a sentence names."""
TIME = "timing.seconds.total"
READS = {"sampled": "the sampled token", "top-k": "the top k", "full": "the whole vocabulary"}


def answer(table: Table) -> Markup:
    """Three short answers."""
    ranked = [row for row in table.rows if row.ranked]
    if not ranked:
        return tag("div", _answered("Which method", [_unranked(table)]), class_="answer")
    parts = [
        _answered("Which method", [_first_band(ranked), _next_band(ranked), _between(table)]),
        _answered("How sure", [_over_reference(table, ranked[0]), _seeds(ranked)]),
        _answered("At what cost", [_cost(table, ranked)]),
    ]
    return tag("div", *parts, class_="answer")


def leaders(table: Table) -> Markup:
    """The first band in a few words, for who looks for the protocol."""
    first = [row for row in table.rows if row.band == 1]
    if table.of_trials:
        return Markup("trials, no results")
    if not first:
        return Markup("no method ranked yet")
    return joined([_some(first), f" first, {percent(first[0].accuracy.mean)} %"])


def reference(table: Table) -> Row | None:
    """The row that differences are taken to."""
    return next((row for row in table.rows if row.method == REFERENCE and not row.check), None)


def _answered(question: str, sentences: Sequence[str]) -> Markup:
    return tag("div", tag("h3", question), tag("p", joined([one for one in sentences if one], " ")))


def _first_band(ranked: Sequence[Row]) -> Markup:
    first = [row for row in ranked if row.band == 1]
    best = tag("strong", _percent(ranked[0]))
    if len(first) == 1:
        return joined([_named(first[0]), " is alone in the first band: it solves ", best, "."])
    if len(first) == 2:
        both = joined([best, " and ", _percent(first[1])])
        return joined([_some(first), " share the first band: they solve ", both, "."])
    return joined([_some(first), " share the first band, from ", best, " to ", _percent(first[-1]), "."])


def _next_band(ranked: Sequence[Row]) -> str:
    second = [row for row in ranked if row.band == 2]
    return joined(["Next: ", _some(second), ", ", _percent(second[0]), "."]) if second else ""


def _between(table: Table) -> str:
    before, teacher = (next((row for row in table.anchors if word in row.method), None) for word in ("stud", "teach"))
    words = [("the untrained student", before), ("the teacher", teacher)]
    known = [
        f"{name} solves {percent(row.accuracy.mean)} %" for name, row in words if row and row.accuracy.mean is not None
    ]
    return f"{listed(known)[:1].upper()}{listed(known)[1:]}." if known else ""


def _over_reference(table: Table, best: Row) -> str:
    base = reference(table)
    if base is not None and base.method == best.method:
        return joined(["No method does better than the reference ", _named(base), "."])
    if best.difference.mean is None:
        return f"There are no differences to {REFERENCE} in this table."
    points = percent(abs(best.difference.mean))
    way = "above" if best.difference.mean >= 0 else "below"
    said = joined(["Seed by seed, ", _named(best), " is ", tag("strong", f"{points} points"), f" {way} {REFERENCE}"])
    spread = ends(best.difference, "+")
    chance = "" if best.p is None or best.p >= 1 else f", adjusted p = {best.p:.3g}"
    return joined([said, f" {spread}{chance}." if spread or chance else "."])


def _seeds(ranked: Sequence[Row]) -> str:
    fewest = min(row.finished for row in ranked)
    least = 2.0 ** (1 - fewest)
    limit = (
        f", and with {fewest} no p is below {least:.3g} even before it is adjusted for the number of methods"
        if least > 0.01
        else ""
    )
    return f"Brackets are 95 % intervals over seeds; every ranked row has at least {fewest}{limit}."


def _cost(table: Table, ranked: Sequence[Row]) -> str:
    """Of methods that can't be told apart by accuracy, the quickest."""
    timed = [row for row in ranked if row.band == 1 and TIME in row.means]
    if not timed:
        return "The records don't say."
    best, base = min(timed, key=lambda row: row.means[TIME]), reference(table)
    other = None if base is None or base.method == best.method else base
    quickest = [" is the quickest of the first band: a run"] if len(timed) > 1 else ["’s run"]
    said = [_named(best), *quickest, " takes ", tag("strong", duration(best.means[TIME]))]
    if other and other.means.get(TIME):
        said += [", ", _named(other), f"’s {duration(other.means[TIME])}"]
    devices = listed(distinct([run for row in table.rows for run in row.runs], "environment.device"))
    said += [f" on {devices}" * bool(devices), ", by the clock and with whatever else ran there. ", _reads(best, other)]
    return joined(said)


def _reads(best: Row, other: Row | None) -> str:
    own, theirs = _reading(best), _reading(other) if other else ""
    if not own:
        return ""
    more = f", as {REFERENCE} does" if own == theirs else f"; {REFERENCE} reads {theirs}" if theirs else ""
    return f"At every position it reads {own}{more}."


def _reading(row: Row) -> str:
    cost = within(row.runs[0], "method.cost") or {}
    student, teacher = (READS.get(str(cost.get(model)), "") for model in ("student", "teacher"))
    if not student or not teacher:
        return ""
    return f"{student} of both models" if student == teacher else f"{student} of the student, {teacher} of the teacher"


def _unranked(table: Table) -> Markup:
    known = [row for row in table.rows if row.accuracy.mean is not None and not row.warning and not row.check]
    said = f"No method is ranked yet: that takes {RANKED} finished seeds."
    if not known:
        return joined([said, " No competitor has finished a run."])
    seeds = f" with {known[0].finished} seed{'s' if known[0].finished > 1 else ''}."
    return joined([said, " Highest so far: ", _named(known[0]), ", ", _percent(known[0]), seeds])


def _some(rows: Sequence[Row]) -> Markup:
    names = [_named(row) for row in rows[:NAMED]]
    more = len(rows) - len(names)
    listed_names = [*names, Markup(f"{more} more")] if more else names
    *first, last = listed_names
    return joined([joined(first, ", "), " and ", last]) if first else last


def _named(row: Row) -> Markup:
    return tag("b", row.method, class_="name")


def _percent(row: Row) -> Markup:
    return tag("span", f"{percent(row.accuracy.mean)} % {ends(row.accuracy)}".strip(), class_="value")

"""Tables of records: a pure function of the records and a seed. Rows of one table ran under one protocol."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from opd_bench.reporting.figures import figures, means, number
from opd_bench.reporting.identity import distinct, grouped, is_own, names_of, newest_of, other_start, settings_of
from opd_bench.reporting.protocol import RANKED, REFERENCE, TRIALS
from opd_bench.reporting.record import Record, standing
from opd_bench.reporting.resampling import Array
from opd_bench.reporting.statistics import (
    Estimate,
    bands,
    holm,
    improvement,
    interval,
    iqm,
    normalised,
    paired,
    sign_flip,
)

SEED = 0
"""Of the resamples, where nobody says another."""
ANCHORS = (("(student before)", "before"), ("(teacher)", "teacher"))
WITH_INTERVALS: tuple[str, ...] = (
    "training.gradient.relative_variance",
    "training.gradient.bias_reverse_kl",
    "training.gradient.cosine_reverse_kl",
    "training.gradient_norm.median",
    "timing.seconds.total",
)
"""Figures, beside accuracy, whose intervals over runs are shown."""


class Row(NamedTuple):
    """One method at one setting of its fields, or a model that no method trained and no run belongs to."""

    method: str
    warning: str = ""
    check: str = ""  # what is checked, if the row is a check and no competitor
    runs: Sequence[Record] = ()  # attempted, by seed
    accuracy: Estimate = Estimate(None)  # sampled, mean over tasks
    middle: Estimate = Estimate(None)  # interquartile mean of normalised accuracy
    difference: Estimate = Estimate(None)  # of accuracy to the reference's, seed by seed
    p: float | None = None  # of that difference, adjusted for the number of rows
    better: Estimate = Estimate(None)  # probability that a run is better than one of the reference
    band: int | None = None
    estimates: Mapping[str, Estimate] = {}
    means: Mapping[str, float] = {}  # of every figure, over the finished runs

    @property
    def finished(self) -> int:
        """Runs that came to their end."""
        return len(_finished(self.runs))

    @property
    def attempted(self) -> int:
        """Runs, whatever became of them."""
        return len(self.runs)

    @property
    def name(self) -> str:
        """The METHOD, without settings."""
        return str(self.runs[0]["method"]["name"]) if self.runs else self.method

    @property
    def ranked(self) -> bool:
        """Whether there are seeds enough, and the row is a competitor: not known to be wrong, no check, no trial."""
        trial = bool(self.runs) and _is_trial(self.runs[0]["protocol"])
        return self.finished >= RANKED and not self.warning and not self.check and not trial

    @property
    def rate(self) -> float | None:
        """The learning rate of its runs."""
        return number((self.runs[0]["config"].get("plan") or {}).get("learning_rate")) if self.runs else None


class Table(NamedTuple):
    """All rows of a protocol, the ranked ones first; then the student as it was, and the teacher."""

    title: str
    protocol: Mapping[str, Any]
    tasks: Mapping[str, Mapping[str, Any]]  # by name: problems, samples, version
    rows: list[Row]
    anchors: list[Row]
    notes: list[str]

    @property
    def start(self) -> Estimate:
        """Accuracy before training."""
        return self.anchors[0].accuracy

    @property
    def tuned(self) -> bool:
        """Whether each method has a learning rate of its own."""
        return bool(self.protocol.get("tuned"))

    @property
    def of_trials(self) -> bool:
        """Whether its runs choose a learning rate, and are no results."""
        return _is_trial(self.protocol)


class Runs(NamedTuple):
    """The finished runs of one row as numbers."""

    seeds: list[int]
    starts: list[str]
    scores: Array  # [runs, tasks]
    normal: Array  # the same, 0 being the untrained student and 1 the teacher


def tables(records: Iterable[Record], seed: int = SEED) -> list[Table]:
    """One table per protocol, trials last. Neither the order of the records nor a copy of one changes anything."""
    protocols = grouped(standing(distinct(records)), _protocol)
    return sorted((_table(group, seed) for group in protocols.values()), key=lambda table: table.of_trials)


def _protocol(record: Record) -> tuple[str, ...]:
    return tuple(record["protocol"][key] for key in ("name", "version", "digest"))


def title(protocol: Mapping[str, Any]) -> str:
    """What two records must share to be in one table."""
    trials = "; trials: judged on validation, no results" if _is_trial(protocol) else ""
    return f"{protocol['name']} ({protocol['digest']}, protocol {protocol['version']}{trials})"


def _is_trial(protocol: Mapping[str, Any]) -> bool:
    return protocol.get("ruleset") == TRIALS


def _table(records: list[Record], seed: int) -> Table:
    newest, notes = newest_of(records)
    names = names_of(newest)
    tasks = {name: task for record in newest for name, task in record["tasks"].items()}
    methods = grouped(newest, lambda record: names[settings_of(record)])
    numbers = {name: _numbers(group, sorted(tasks)) for name, group in methods.items()}
    reference, more = _reference(newest, names)
    rows = [_row(name, group, numbers[name], numbers.get(reference), seed) for name, group in methods.items()]
    rows = _banded(_adjusted(rows), numbers, seed)
    rows.sort(key=lambda row: (not row.ranked, bool(row.check), -(row.accuracy.mean or 0)))  # of equal ones, by name
    failed = [record for record in newest if record["status"] != "finished"]
    notes += [] if _is_trial(newest[0]["protocol"]) else more
    notes += [f"{names[settings_of(r)]}, seed {r['seed']}: {r['status']}, {r['reason']}" for r in failed]
    protocol = newest[0]["protocol"]
    return Table(title(protocol), protocol, tasks, rows, _anchors(newest, sorted(tasks)), notes)


def _row(name: str, records: list[Record], own: Runs, reference: Runs | None, seed: int) -> Row:
    method, finished = records[0]["method"], _finished(records)
    check = f"begins from {records[0]['start']}" if other_start(records[0]) else ""
    row = Row(
        method=name,
        warning=method["warning"],
        check=check,
        runs=records,
        accuracy=within(interval(own.scores, seed, strata=own.starts), 0.0),
        middle=interval(own.normal, seed, iqm, own.starts),
        estimates=_estimates(finished, seed),
        means=means(finished),
    )
    if reference is None or method["name"] == REFERENCE or check:
        return row
    ours, theirs, starts = _common(own, reference)
    return row._replace(
        difference=paired(ours, theirs, seed, starts),
        p=sign_flip((ours - theirs).mean(-1), seed),
        better=improvement(own.scores, reference.scores),
    )


def _numbers(records: list[Record], tasks: list[str]) -> Runs:
    """Of the finished runs that were judged on every task."""
    found = [
        r for r in _finished(records) if all("sampled" in r["evaluation"]["after"].get(task, {}) for task in tasks)
    ]
    low, scores, high = (_accuracy(found, when, tasks) for when in ("before", "after", "teacher"))
    seeds, starts = ([record[key] for record in found] for key in ("seed", "start"))
    return Runs(seeds, starts, scores, normalised(scores, low, high))


def _accuracy(records: list[Record], when: str, tasks: list[str]) -> Array:
    judged = [record["evaluation"].get(when, {}) for record in records]
    values = [[judgement.get(task, {}).get("sampled", np.nan) for task in tasks] for judgement in judged]
    return np.array(values, dtype=float).reshape(len(records), len(tasks))


def _common(ours: Runs, theirs: Runs) -> tuple[Array, Array, list[str]]:
    """The rows of the seeds that both have, in one order, and the students that they began from."""
    seeds = sorted({*ours.seeds} & {*theirs.seeds})
    one, other = (runs.scores[[runs.seeds.index(number) for number in seeds]] for runs in (ours, theirs))
    return one, other, [ours.starts[ours.seeds.index(number)] for number in seeds]


def _estimates(finished: list[Record], seed: int) -> dict[str, Estimate]:
    known = [figures(record) for record in finished]
    columns = {name: [own[name] for own in known if name in own] for name in WITH_INTERVALS}
    found = {name: interval(np.array(values)[:, None], seed) for name, values in columns.items() if values}
    return {name: within(own, -1.0) if "cosine" in name else positive(own) for name, own in found.items()}


def within(value: Estimate, least: float) -> Estimate:
    """No end of the interval of a share or a cosine is outside of what it can be, which is at most 1."""
    if value.low is None or value.high is None:
        return value
    return value._replace(low=max(value.low, least), high=min(value.high, 1.0))


def positive(value: Estimate) -> Estimate:
    """The interval of what can't be negative, as far on the log scale: m e^(±r/m)."""
    if not value.mean or value.low is None or value.high is None:
        return value
    far = Decimal((value.high - value.low) / 2 / value.mean)  # whose exp is the same everywhere, unlike math's
    return Estimate(value.mean, value.mean * float((-far).exp()), value.mean * float(far.exp()))


def _adjusted(rows: list[Row]) -> list[Row]:
    """The p-values of the competitors, adjusted for their number."""
    ps = holm([row.p if row.ranked else None for row in rows])
    return [row._replace(p=None if p is None or np.isnan(p) else p) for row, p in zip(rows, ps, strict=True)]


def _banded(rows: list[Row], numbers: Mapping[str, Runs], seed: int) -> list[Row]:
    ranked = [row.method for row in rows if row.ranked]
    scores = {name: dict(zip(numbers[name].seeds, numbers[name].scores, strict=True)) for name in ranked}
    starts = {number: start for name in ranked for number, start in zip(*numbers[name][:2], strict=True)}
    found = bands({name: own for name, own in scores.items() if own}, seed, starts)
    return [row._replace(band=found.get(row.method)) for row in rows]


def _anchors(records: list[Record], tasks: list[str]) -> list[Row]:
    """The untrained student, once per start and not once per run: methods share their starts. The teacher is one."""
    rows = []
    for name, when in ANCHORS:
        judged = [record for record in records if record["evaluation"].get(when) and not other_start(record)]
        found = {record["start"] if when == "before" else name: record for record in reversed(judged)}
        own = [found[key] for key in sorted(found)]
        if own or when == "before":
            figures_of_own = [_as_after(record, when) for record in own]
            accuracy = _accuracy(own, when, tasks)
            mean = float(accuracy.mean()) if accuracy.size else None
            rows.append(Row(name, accuracy=Estimate(mean), means=means(figures_of_own)))
    return rows


def _as_after(record: Record, when: str) -> Record:
    """Nothing but one evaluation, in the place where a finished run has its last."""
    return {"budget": {}, "training": {}, "timing": {}, "evaluation": {"after": record["evaluation"][when]}}


def _reference(records: list[Record], names: Mapping[tuple[str, ...], str]) -> tuple[str, list[str]]:
    """The row that differences are taken to, the official one first: none, if it could be one or another."""
    found = [record for record in records if record["method"]["name"] == REFERENCE and not other_start(record)]
    official = [record for record in found if not is_own(record)]
    own = {names[settings_of(record)] for record in official or found}
    if len(own) > 1:
        return "", [f"{REFERENCE} ran at several settings, so there are no differences to it"]
    return next(iter(own), ""), []


def _finished(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record["status"] == "finished"]

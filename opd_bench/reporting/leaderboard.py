"""Tables of records: a pure function of the records and a seed. Rows of one table ran under one protocol."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from opd_bench.reporting.figures import figures, means
from opd_bench.reporting.protocol import RANKED, REFERENCE
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
        """Whether there are seeds enough, and the row is a competitor: neither known to be wrong nor a check."""
        return self.finished >= RANKED and not self.warning and not self.check


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


class Runs(NamedTuple):
    """The finished runs of one row as numbers."""

    seeds: list[int]
    starts: list[str]
    scores: Array  # [runs, tasks]
    normal: Array  # the same, 0 being the untrained student and 1 the teacher


def tables(records: Iterable[Record], seed: int = SEED) -> list[Table]:
    """One table per protocol. Neither the order of the records nor a copy of one changes anything."""
    distinct = {record["id"]: record for record in records}
    protocols = _grouped(standing(distinct.values()), _protocol)
    return [_table(group, seed) for group in protocols.values()]


def _protocol(record: Record) -> tuple[str, ...]:
    return tuple(record["protocol"][key] for key in ("name", "version", "digest"))


def title(protocol: Mapping[str, Any]) -> str:
    """What two records must share to be in one table."""
    return f"{protocol['name']} ({protocol['digest']}, protocol {protocol['version']})"


def _table(records: list[Record], seed: int) -> Table:
    newest, notes = _newest(records)
    names = _names(newest)
    tasks = {name: task for record in newest for name, task in record["tasks"].items()}
    methods = _grouped(newest, lambda record: names[settings_of(record)])
    numbers = {name: _numbers(group, sorted(tasks)) for name, group in methods.items()}
    reference, more = _reference(newest, names)
    rows = [_row(name, group, numbers[name], numbers.get(reference), seed) for name, group in methods.items()]
    rows = _banded(_adjusted(rows), numbers, seed)
    rows.sort(key=lambda row: (not row.ranked, bool(row.check), -(row.accuracy.mean or 0)))  # of equal ones, by name
    failed = [record for record in newest if record["status"] != "finished"]
    notes += more + [f"{names[settings_of(r)]}, seed {r['seed']}: {r['status']}, {r['reason']}" for r in failed]
    protocol = newest[0]["protocol"]
    return Table(title(protocol), protocol, tasks, rows, _anchors(newest, sorted(tasks)), notes)


def _row(name: str, records: list[Record], own: Runs, reference: Runs | None, seed: int) -> Row:
    method, finished = records[0]["method"], _finished(records)
    check = f"begins from {records[0]['start']}" if _other_start(records[0]) else ""
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
    far = (value.high - value.low) / 2 / value.mean
    return Estimate(value.mean, value.mean * math.exp(-far), value.mean * math.exp(far))


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
        judged = [record for record in records if record["evaluation"].get(when) and not _other_start(record)]
        distinct = {record["start"] if when == "before" else name: record for record in reversed(judged)}
        own = [distinct[key] for key in sorted(distinct)]
        if own or when == "before":
            figures_of_own = [_as_after(record, when) for record in own]
            accuracy = _accuracy(own, when, tasks)
            mean = float(accuracy.mean()) if accuracy.size else None
            rows.append(Row(name, accuracy=Estimate(mean), means=means(figures_of_own)))
    return rows


def _as_after(record: Record, when: str) -> Record:
    """Nothing but one evaluation, in the place where a finished run has its last."""
    return {"budget": {}, "training": {}, "timing": {}, "evaluation": {"after": record["evaluation"][when]}}


def _newest(records: list[Record]) -> tuple[list[Record], list[str]]:
    """One record per method, settings and seed: the last that was made."""
    runs = _grouped(records, lambda record: (settings_of(record), record["seed"]))
    newest = [max(group, key=lambda record: (record["created"], record["id"])) for group in runs.values()]
    older = len(records) - len(newest)
    return newest, [f"{older} older record(s) of the same runs left out"] if older else []


def _reference(records: list[Record], names: Mapping[tuple[str, ...], str]) -> tuple[str, list[str]]:
    """The row that differences are taken to: none, if it could be one or another."""
    own = {names[settings_of(r)] for r in records if r["method"]["name"] == REFERENCE and not _other_start(r)}
    if len(own) > 1:
        return "", [f"{REFERENCE} ran at several settings, so there are no differences to it"]
    return next(iter(own), ""), []


def _other_start(record: Record) -> str:
    """A model to begin from that is not among the protocol's starts."""
    return record["config"].get("start") or ""


def settings_of(record: Record) -> tuple[str, ...]:
    """The method's name, then every field of its estimator and its source as text, and what else may differ."""
    method = record["method"]
    source = {key: value for key, value in method["source"].items() if key != "name"}
    kinds = {"estimator": method.get("estimator"), "source": method["source"].get("name")}
    more = {**record["protocol"].get("tuned", {}), "start": _other_start(record) or "as usual"}
    fields = [*kinds.items(), *method["settings"].items(), *source.items(), *more.items()]
    return method["name"], *sorted(f"{key}={_text(value)}" for key, value in fields)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _names(records: list[Record]) -> dict[tuple[str, ...], str]:
    """The method's name, with the fields that differ where it ran at several settings."""
    result = {}
    for name, group in _grouped({settings_of(record) for record in records}, lambda key: key[0]).items():
        common = set.intersection(*(set(key[1:]) for key in group))
        for key in group:
            differing = ", ".join(field for field in key[1:] if field not in common and field != "start=as usual")
            result[key] = f"{name}[{differing}]" if differing else name
    return result


def _finished(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record["status"] == "finished"]


def _grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return dict(sorted(groups.items()))

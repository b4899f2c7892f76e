"""Tables of records: a pure function of the records and a seed. Rows of one table ran under one protocol."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from opd_bench.reporting.figures import Estimate, estimate, figures, means
from opd_bench.reporting.record import Record

RANKED = 5
"""Finished seeds that a row needs to be ranked."""
REFERENCE = "opd"
SEED = 0
"""Of the bootstrap, where nobody says another."""
SAMPLED = "evaluation.after.sampled"
ANCHORS = (("(student before)", "before"), ("(teacher)", "teacher"))


class Row(NamedTuple):
    """One method at one setting of its fields, or a model that no method trained and no run belongs to."""

    method: str
    warning: str
    runs: Sequence[Record]  # attempted, by seed
    sampled: Estimate
    difference: Estimate  # of sampled accuracy to the reference's, seed by seed
    means: Mapping[str, float]  # of every figure, over the finished runs

    @property
    def finished(self) -> int:
        """Runs that came to their end."""
        return len(_finished(self.runs))

    @property
    def attempted(self) -> int:
        """Runs, whatever became of them."""
        return len(self.runs)

    @property
    def ranked(self) -> bool:
        """Whether there are seeds enough, and nothing is known to be wrong with the method."""
        return self.finished >= RANKED and not self.warning


class Table(NamedTuple):
    """All rows of a protocol, the ranked ones first; then the student as it was, and the teacher if it was judged."""

    title: str
    rows: list[Row]
    anchors: list[Row]
    notes: list[str]

    @property
    def start(self) -> Estimate:
        """Sampled accuracy before training."""
        return self.anchors[0].sampled


def tables(records: Iterable[Record], seed: int = SEED) -> list[Table]:
    """One table per protocol. Neither the order of the records nor a copy of one changes anything."""
    distinct = {record["id"]: record for record in records}.values()
    protocols = _grouped(distinct, lambda record: (record["protocol"]["name"], record["protocol"]["digest"]))
    return [_table(f"{name} ({digest})", group, seed) for (name, digest), group in protocols.items()]


def _table(title: str, records: list[Record], seed: int) -> Table:
    newest, notes = _newest(records)
    reference, more = _reference(newest)
    names = _names(newest)
    methods = _grouped(newest, lambda record: names[_settings(record)])
    rows = [_row(name, group, reference, seed) for name, group in methods.items()]
    rows.sort(key=lambda row: (not row.ranked, -(row.sampled.mean or 0)))  # of equal ones, by name as they are
    failed = [record for record in newest if record["status"] != "finished"]
    notes += more + [f"{names[_settings(r)]}, seed {r['seed']}: {r['status']}, {r['reason']}" for r in failed]
    return Table(title, rows, _anchors(newest, seed), notes)


def _row(name: str, records: list[Record], reference: Mapping[int, float], seed: int) -> Row:
    method, sampled = records[0]["method"], _sampled(records)
    paired = [value - reference[s] for s, value in sampled.items() if s in reference]
    return Row(
        method=name,
        warning=method["warning"],
        runs=records,
        sampled=estimate(list(sampled.values()), seed),
        difference=Estimate(None) if method["name"] == REFERENCE else estimate(paired, seed),
        means=means(_finished(records)),
    )


def _anchors(records: list[Record], seed: int) -> list[Row]:
    """The untrained student, once per start and not once per run: methods share their starts. The teacher is one."""
    rows = []
    for name, when in ANCHORS:
        judged = [record for record in records if record["evaluation"].get(when)]
        distinct = {record["start"] if when == "before" else name: record for record in reversed(judged)}
        own = [_as_after(distinct[key], when) for key in sorted(distinct)]
        if own or when == "before":
            accuracy = [figures(one)[SAMPLED] for one in own if SAMPLED in figures(one)]
            rows.append(Row(name, "", (), estimate(accuracy, seed), Estimate(None), means(own)))
    return rows


def _as_after(record: Record, when: str) -> Record:
    """Nothing but one evaluation, in the place where a finished run has its last."""
    return {"budget": {}, "training": {}, "timing": {}, "evaluation": {"after": record["evaluation"][when]}}


def _newest(records: list[Record]) -> tuple[list[Record], list[str]]:
    """One record per method, settings and seed: the last that was made."""
    runs = _grouped(records, lambda record: (_settings(record), record["seed"]))
    newest = [max(group, key=lambda record: (record["created"], record["id"])) for group in runs.values()]
    older = len(records) - len(newest)
    return newest, [f"{older} older record(s) of the same runs left out"] if older else []


def _reference(records: list[Record]) -> tuple[dict[int, float], list[str]]:
    """What differences are taken to, seed by seed: nothing, if it could be one thing or another."""
    own = [record for record in records if record["method"]["name"] == REFERENCE]
    if len({_settings(record) for record in own}) > 1:
        return {}, [f"{REFERENCE} ran at several settings, so there are no differences to it"]
    return _sampled(own), []


def _settings(record: Record) -> tuple[str, ...]:
    """The method's name, then every field of its estimator and its source as text."""
    method = record["method"]
    source = {key: value for key, value in method["source"].items() if key != "name"}
    kinds = {"estimator": method.get("estimator"), "source": method["source"].get("name")}
    fields = [*kinds.items(), *method["settings"].items(), *source.items()]
    return method["name"], *sorted(f"{key}={_text(value)}" for key, value in fields)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _names(records: list[Record]) -> dict[tuple[str, ...], str]:
    """The method's name, with the fields that differ where it ran at several settings."""
    result = {}
    for name, group in _grouped({_settings(record) for record in records}, lambda key: key[0]).items():
        common = set.intersection(*(set(key[1:]) for key in group))
        for key in group:
            differing = ", ".join(field for field in key[1:] if field not in common)
            result[key] = f"{name}[{differing}]" if differing else name
    return result


def _finished(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record["status"] == "finished"]


def _sampled(records: Iterable[Record]) -> dict[int, float]:
    """Sampled accuracy of the finished runs, by seed."""
    known = {record["seed"]: figures(record).get(SAMPLED) for record in _finished(records)}
    return {seed: value for seed, value in sorted(known.items()) if value is not None}


def _grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return dict(sorted(groups.items()))

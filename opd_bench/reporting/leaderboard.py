"""Tables of records: a pure function of the records and a seed. Rows of one table ran under one protocol."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from opd_bench.reporting.record import Record

RANKED = 5
"""Finished seeds that a row needs to be ranked."""
RESAMPLES = 10_000
REFERENCE = "opd"


class Estimate(NamedTuple):
    """A mean over seeds and its 95 % bootstrap interval, which one seed does not have."""

    mean: float | None
    low: float | None = None
    high: float | None = None


class Row(NamedTuple):
    """One method at one setting of its fields."""

    method: str
    warning: str
    finished: int
    attempted: int
    sampled: Estimate
    greedy: float | None
    auc: float | None
    difference: Estimate  # of sampled accuracy to the reference's, seed by seed
    norm: float | None
    variance: float | None
    bias: float | None
    seconds: float | None

    @property
    def ranked(self) -> bool:
        """Whether there are seeds enough, and nothing is known to be wrong with the method."""
        return self.finished >= RANKED and not self.warning


class Table(NamedTuple):
    """All rows of a protocol, the ranked ones first, then the student as it was."""

    title: str
    rows: list[Row]
    start: Estimate  # sampled accuracy before training
    notes: list[str]


def tables(records: Iterable[Record], seed: int = 0) -> list[Table]:
    """One table per protocol. The order of the records changes nothing."""
    protocols = _grouped(records, lambda record: (record["protocol"]["name"], record["protocol"]["digest"]))
    return [_table(f"{name} ({digest})", group, seed) for (name, digest), group in protocols.items()]


def _table(title: str, records: list[Record], seed: int) -> Table:
    newest, notes = _newest(records)
    names = _names(newest)
    methods = _grouped(newest, lambda record: names[_settings(record)])
    reference = _by_seed(methods.get(REFERENCE, []), "sampled")
    rows = [_row(name, group, reference, seed) for name, group in methods.items()]
    rows.sort(key=lambda row: (not row.ranked, -(row.sampled.mean or 0), row.method))
    before = [record["evaluation"]["before"]["sampled"] for record in newest if record["evaluation"]["before"]]
    failed = [record for record in newest if record["status"] != "finished"]
    notes += [f"{names[_settings(r)]}, seed {r['seed']}: {r['status']}, {r['reason']}" for r in failed]
    return Table(title, rows, estimate(sorted(before), seed), notes)


def _row(name: str, records: list[Record], reference: Mapping[int, float], seed: int) -> Row:
    done = [record for record in records if record["status"] == "finished"]
    sampled = _by_seed(records, "sampled")
    paired = [sampled[s] - reference[s] for s in sorted(sampled) if s in reference]
    trained = [record["training"] for record in done]
    return Row(
        method=name,
        warning=records[0]["method"]["warning"],
        finished=len(done),
        attempted=len(records),
        sampled=estimate([sampled[s] for s in sorted(sampled)], seed),
        greedy=_mean(_by_seed(records, "greedy").values()),
        auc=_mean(training["auc"] for training in trained),
        difference=Estimate(None) if name == REFERENCE else estimate(paired, seed),
        norm=_mean(training["gradient_norm"].get("median") for training in trained),
        variance=_mean(training["gradient"].get("relative_variance") for training in trained),
        bias=_mean(training["gradient"].get("bias") for training in trained),
        seconds=_mean(record["timing"]["seconds"]["total"] for record in done),
    )


def estimate(values: Sequence[float], seed: int) -> Estimate:
    """The mean and its percentile interval over resampled seeds."""
    if len(values) < 2:
        return Estimate(values[0] if values else None)
    sample = np.asarray(values)
    picks = np.random.default_rng(seed).integers(len(sample), size=(RESAMPLES, len(sample)))
    low, high = np.percentile(sample[picks].mean(-1), [2.5, 97.5])
    return Estimate(float(sample.mean()), float(low), float(high))


def _newest(records: list[Record]) -> tuple[list[Record], list[str]]:
    """One record per method, settings and seed: the last that was made."""
    runs = _grouped(records, lambda record: (_settings(record), record["seed"]))
    newest = [max(group, key=lambda record: (record["created"], record["id"])) for group in runs.values()]
    older = len(records) - len(newest)
    return newest, [f"{older} older record(s) of the same runs left out"] if older else []


def _settings(record: Record) -> tuple[str, str]:
    method = record["method"]
    fields = {**method["settings"], **{k: v for k, v in method["source"].items() if k != "name"}}
    return method["name"], ", ".join(f"{key}={value}" for key, value in sorted(fields.items()))


def _names(records: list[Record]) -> dict[tuple[str, str], str]:
    """The method's name, with the fields that differ where it ran at several settings."""
    result = {}
    for name, group in _grouped(sorted({_settings(record) for record in records}), lambda key: key[0]).items():
        fields = [set(text.split(", ")) for _, text in group]
        common = set.intersection(*fields)
        for key, own in zip(group, fields, strict=True):
            differing = ", ".join(sorted(own - common))
            result[key] = f"{name}[{differing}]" if differing else name
    return result


def _by_seed(records: Iterable[Record], figure: str) -> dict[int, float]:
    return {
        record["seed"]: record["evaluation"]["after"][figure] for record in records if record["status"] == "finished"
    }


def _mean(values: Iterable[Any]) -> float | None:
    known = sorted(value for value in values if isinstance(value, int | float))
    return float(np.mean(known)) if known else None


def _grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return dict(sorted(groups.items()))

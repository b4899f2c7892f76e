"""A run's record beside that of the same run made again: bit for bit, or within what seeds differ by."""

import gzip
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from opd_bench.reporting.figures import number
from opd_bench.reporting.files import RESPONSES, SERIES, read_series
from opd_bench.reporting.identity import grouped
from opd_bench.reporting.record import Record, outcome

CODE = ("commit", "command", "opd-bench")
"""Of an environment, what is the code and how it was started: that must not change an outcome."""
PLACES = ("config.results", "config.again", "config.dry", "supersedes")
"""Of an outcome, what says where it is kept, not what it is."""
ANYWHERE = ("protocol", "method", "seed", "start", "models", "tasks", "config", "anchors")
"""Of an outcome, what no environment may change."""
COVERED = 0.99
"""Of two seeds' differences, how many are as small as one that is let pass."""
ALIKE = 0.01
"""How far a figure may be off, of its size, where all responses are the same."""
PACKER = "how zlib packs"
"""A record doesn't name zlib; that it packs other bytes shows."""

UNTRAINED = (("evaluation", "before"), ("evaluation", "teacher"))


class Difference(NamedTuple):
    """One field in both records."""

    field: str
    official: Any
    here: Any


class Figure(NamedTuple):
    """One number in both records, and how far they may be apart; None where too few seeds tell."""

    name: str
    official: float
    here: float
    reach: float | None

    @property
    def fits(self) -> bool:
        """Whether it is near enough."""
        return self.reach is not None and abs(self.here - self.official) <= self.reach

    @property
    def apart(self) -> float:
        """Of its size, how far off it is."""
        return abs(self.here - self.official) / max(abs(self.official), 1e-12)


def environments(official: Record, here: Record) -> list[Difference]:
    """What the last bits of a figure may depend on, where it is not the same."""
    found = _different(*(_flat("", record["environment"]) for record in (official, here)))
    packer = [] if packs_alike(official) else [Difference(PACKER, "other bytes", "")]
    return [one for one in found if one.field not in CODE] + packer


def differences(official: Record, here: Record) -> list[Difference]:
    """All that is not the same bit for bit. Packed files are compared by what is in them, or if zlib packs alike."""
    ours, theirs = (_outcome(record) for record in (official, here))
    if not packs_alike(official):
        ours, theirs = ({name: value for name, value in own.items() if name[:6] != "files."} for own in (ours, theirs))
    return _different(ours, theirs) + list(_steps(official, here))


def contradictions(official: Record, here: Record, others: Sequence[Record]) -> list[Difference]:
    """What no environment may change; a run may end as any seed of its method has ended."""
    ours, theirs = (_outcome(record) for record in (official, here))
    known = {record["status"] for record in (official, *others)}
    found = [one for one in _different(ours, theirs) if one.field.partition(".")[0] in ANYWHERE]
    if here["status"] not in known:
        found.append(Difference("status", " or ".join(sorted(known)), here["status"]))
    if official["status"] == here["status"] == "finished":
        found += [one for one in _different(ours, theirs) if one.field == "budget.steps"]
    return found


def judged(official: Record, here: Record, others: Sequence[Record]) -> list[Figure]:
    """What a method comes to, and what it began from, with how far apart two environments may be.

    One other last bit makes another token and so another path: a run made elsewhere is like one of another seed. The
    difference of two draws of a law with standard deviation s is within t √2 s, where s is of the method's other
    official seeds, each around the mean of its start, and t Student's, of as many degrees of freedom as they have.
    Untrained models have no path: they stay within one standard error over problems, which is also the least that a
    trained one's share may be off.
    """
    finished = [record for record in others if record["status"] == "finished"]
    both = official["status"] == here["status"] == "finished"
    found = []
    for name in (name for name in _names(official) if both or name[:2] in UNTRAINED):
        ours, theirs = (number(_at(record, name)) for record in (official, here))
        if ours is None or theirs is None:
            continue
        error = _error(official, name, ours)
        reach = error if name[:2] in UNTRAINED else _reach(_by_start(finished, name), error)
        found.append(Figure(".".join(name), ours, theirs, reach))
    return found


def same_responses(official: Record, here: Record) -> bool:
    """Whether all that both students answered is the same, word for word."""
    digest = official["files"].get(RESPONSES)
    return digest is not None and digest == here["files"].get(RESPONSES)


def packs_alike(record: Record) -> bool:
    """Whether the series beside a record, packed here, would be the same bytes."""
    try:
        packed = (Path(record["folder"]) / SERIES).read_bytes()
        return gzip.compress(gzip.decompress(packed), mtime=0) == packed
    except (OSError, EOFError, zlib.error):  # whoever reads the series says what is wrong with it
        return True


def _names(record: Record) -> Iterator[tuple[str, ...]]:
    for when, task in ((when, task) for when in ("after", "before", "teacher") for task in record["tasks"]):
        yield "evaluation", when, task, "sampled"
        yield "evaluation", when, task, "greedy"
    yield "training", "reverse_kl", "last"
    yield "training", "gradient_norm", "median"


def _at(record: Any, name: Sequence[str]) -> Any:
    for key in name:
        record = record.get(key) if isinstance(record, Mapping) else None
    return record


def _by_start(records: Sequence[Record], name: Sequence[str]) -> list[list[float]]:
    groups = grouped(records, lambda record: record["start"]).values()
    return [[value for record in group if (value := number(_at(record, name))) is not None] for group in groups]


def _reach(groups: Sequence[Sequence[float]], least: float) -> float | None:
    apart = np.concatenate([[], *(np.subtract(group, np.mean(group)) for group in groups if group)])
    freedom = len(apart) - sum(map(bool, groups))
    if freedom < 1 or not np.isfinite(apart).all():
        return None
    spread = math.sqrt(float(np.square(apart).sum()) / freedom)
    return max(float(stdtrit(freedom, (1 + COVERED) / 2)) * math.sqrt(2) * spread, least)


def _error(record: Record, name: Sequence[str], share: float) -> float:
    """Standard error over problems of a share that was measured on them, one problem at least; 0 of all else."""
    if name[0] != "evaluation":
        return 0.0
    problems = int(record["tasks"][name[2]]["problems"])
    clustered = number(_at(record, (*name[:-1], "sampled_error")))
    error = clustered if name[-1] == "sampled" else math.sqrt(share * (1 - share) / problems)
    return max(error or 0.0, 1 / problems)


def _outcome(record: Record) -> dict[str, Any]:
    """By dotted name, without what says where it is kept; the series is compared by what is in it."""
    left_out = {*PLACES, f"files.{SERIES}"}
    return {name: value for name, value in _flat("", outcome(record)).items() if name not in left_out}


def _steps(official: Record, here: Record) -> Iterator[Difference]:
    """For every figure of the series the first step at which it differs."""
    ours, theirs = read_series(official), read_series(here)
    for name in dict.fromkeys(chain(ours, theirs)):
        if name not in ours or name not in theirs:
            yield Difference(f"series, {name}", name in ours, name in theirs)
            continue
        one, other = ours[name], theirs[name]
        if len(one) != len(other):
            yield Difference(f"series, steps with {name}", len(one), len(other))
            continue
        apart = np.flatnonzero(~((one == other) | (np.isnan(one) & np.isnan(other))))
        if len(apart):
            step = int(apart[0])
            yield Difference(f"series, {name} of step {step + 1}", float(one[step]), float(other[step]))


def _different(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Difference]:
    names = dict.fromkeys(chain(ours, theirs))
    return [
        Difference(n, ours.get(n), theirs.get(n))
        for n in names
        if (n in ours, ours.get(n)) != (n in theirs, theirs.get(n))
    ]


def _flat(name: str, value: Any) -> dict[str, Any]:
    """Dotted names and what is there; a list is one value."""
    if isinstance(value, Mapping) and (value or not name):
        return {
            key: item for own, inner in value.items() for key, item in _flat(f"{name}.{own}".lstrip("."), inner).items()
        }
    return {name: value}

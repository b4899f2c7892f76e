"""The published numbers table by table, with what the papers' names are called here."""

from collections.abc import Iterable
from typing import NamedTuple

from opd_bench.reporting.published.files import applying, lines
from opd_bench.reporting.published.results import Published, numbers
from opd_bench.reporting.published.setups import Stated, setup


class Counterpart(NamedTuple):
    """What a paper's method is called here. No METHOD: there is none, and the note says why."""

    paper: str
    name: str  # the paper's
    method: str  # METHOD, or "(student before)" or "(teacher)" as in the leaderboard
    changes: str  # fields that must differ from METHOD as it ships
    note: str  # what else differs

    @property
    def ours(self) -> str:
        """METHOD, or METHOD[field=value] where the paper's needs other fields, as the leaderboard names such rows."""
        return f"{self.method}[{self.changes}]" if self.changes else self.method


class Metric(NamedTuple):
    """What a column is."""

    metric: str
    task: str  # empty: of no single task
    figure: str  # such as avg@8; empty: an accuracy with no more said
    unit: str  # percent | share | seconds | number
    meaning: str


class Group(NamedTuple):
    """One table of a paper at one setting, as it was printed."""

    paper: str
    table: str
    setting: str
    sources: list[str]
    methods: list[str]  # as the paper calls them, in its order
    metrics: list[str]
    values: list[list[float | None]]  # methods × metrics
    counterparts: list[Counterpart]  # of the methods
    setup: dict[str, Stated]
    remarks: list[str]

    @property
    def title(self) -> str:
        """Paper, table, setting."""
        return f"{self.paper}, {self.table}" + (f": {self.setting}" if self.setting else "")

    @property
    def our_names(self) -> list[str]:
        """Of the methods; empty where there is none."""
        return [counterpart.ours for counterpart in self.counterparts]


def counterparts() -> dict[tuple[str, str], Counterpart]:
    """By paper and the paper's name."""
    found = [Counterpart(**line) for line in lines("methods.csv", Counterpart._fields)]
    return {(one.paper, one.name): one for one in found}


def metrics() -> dict[str, Metric]:
    """By name."""
    return {line["metric"]: Metric(**line) for line in lines("metrics.csv", Metric._fields)}


def groups(found: Iterable[Published] | None = None) -> list[Group]:
    """Some numbers, or all, table by table in the order of the file."""
    places: dict[tuple[str, str, str], list[Published]] = {}
    for number in numbers() if found is None else found:
        places.setdefault((number.paper, number.table, number.setting), []).append(number)
    return [_group(place, own) for place, own in places.items()]


def _group(place: tuple[str, str, str], own: list[Published]) -> Group:
    known, values = counterparts(), {(number.method, number.metric): number.value for number in own}
    methods, columns = (list(dict.fromkeys(names)) for names in zip(*values, strict=True))
    return Group(
        *place,
        sources=list(dict.fromkeys(number.source for number in own)),
        methods=methods,
        metrics=columns,
        values=[[values.get((method, metric)) for metric in columns] for method in methods],
        counterparts=[known[place[0], method] for method in methods],
        setup=setup(*place),
        remarks=_remarks(place),
    )


def _remarks(place: tuple[str, str, str]) -> list[str]:
    return [line["remark"] for line in applying(lines("remarks.csv", ("paper", "table", "setting", "remark")), place)]

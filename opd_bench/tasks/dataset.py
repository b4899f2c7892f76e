"""Tasks whose problems are read: from a file in the public format, or by name from the Hugging Face Hub."""

import gzip
import json
import os
import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from opd_bench.settings import Count, NoneOrMore
from opd_bench.tasks.base import Problem, Split, Task

DATA = "OPD_BENCH_DATA"
"""The environment variable that names a folder of data sets: what is there is not asked of the Hub."""
Row = Mapping[str, Any]


class Place(NamedTuple):
    """Where a split is: under $OPD_BENCH_DATA, and on the Hub."""

    file: str  # below the folder, as in gsm8k/train.jsonl
    split: str  # as the Hub calls it
    config: str | None = None  # of the data set on the Hub


@dataclass(kw_only=True, eq=False)
class Dataset(Task):
    """Problems in a fixed order: training ones are shuffled anew in every epoch, the others once."""

    source: str  # a name on the Hub, or a file or folder of yours
    revision: str | None  # of the data set on the Hub: a commit, tag or branch
    prompt: str  # what is asked, {question} being the problem's own
    rows: Count | None  # read at most so many, from the top; null: all
    held_out: NoneOrMore  # training problems that are for validation instead

    places: ClassVar[Mapping[str, Place]]
    """Of "train" and "test", as far as there are such."""

    @abstractmethod
    def read(self, row: Row) -> Problem | None:
        """A row of the data as a problem, its prompt being the bare question; None if it is none of this task's."""

    def size(self, split: Split) -> int:
        """How many problems there are."""
        return len(self.problems(split))

    def problem(self, split: Split, seed: int, index: int) -> Problem:
        """Number `index` of the seed's order. Training goes on with another order after the last one."""
        found = self.problems(split)
        epoch, place = divmod(index, len(found))
        if epoch and split != "train":
            raise ValueError(f"{self.name} has {len(found):,} {split} problems, number {index:,} was asked for")
        problem = found[_order(f"{self.name} {split} {seed} {epoch}", len(found))[place]]
        return problem._replace(prompt=self.prompt.replace("{question}", problem.prompt))

    def problems(self, split: Split) -> list[Problem]:
        """All of a split, in the order of the file, with bare questions; validation is a part of the training rows."""
        if split == "test":
            return self._read("test")
        found = self._read("train")
        held = set(_order(f"{self.name} held out", len(found))[: self.held_out])
        kept = [problem for number, problem in enumerate(found) if (number in held) == (split == "validation")]
        if not kept:
            raise ValueError(f"{self.name} has no {split} problems: held_out={self.held_out} of {len(found):,}")
        return kept

    def rows_of(self, which: str) -> Iterator[Row]:
        """The rows of "train" or "test"."""
        return rows(self.source, self.places[which], self.revision)

    def _read(self, which: str) -> list[Problem]:
        if which not in self.places:
            raise ValueError(f"{self.name} has no {which} split; it has {', '.join(self.places)}")
        if which not in self._known:
            self._known[which] = list(islice(self._told(which), self.rows))
            if not self._known[which]:
                raise ValueError(f"{self.name}: no problems in {self.source!r} ({which})")
        return self._known[which]

    def _told(self, which: str) -> Iterator[Problem]:
        """Of rows that ask the same question, the first alone: else it could be in two splits."""
        asked = set()
        for number, row in enumerate(self.rows_of(which), 1):
            try:
                problem = self.read(row)
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                raise ValueError(f"{self.name}: row {number:,} of the {which} split can't be read: {error}") from error
            if problem and problem.id not in asked:
                asked.add(problem.id)
                yield problem

    @cached_property
    def _known(self) -> dict[str, list[Problem]]:
        """What was read."""
        return {}


def field(row: Row, *names: str) -> str:
    """What a row has under the first of the names that it has; ValueError if that is no text and no number."""
    name = next((name for name in names if row.get(name) is not None), None)
    if name is None:
        raise ValueError(
            f"it has no field {' or '.join(map(repr, names))}; it has {', '.join(map(repr, row)) or 'none'}"
        )
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"its field {name!r} is no text: {str(value)[:80]!r}")
    return value.strip() if isinstance(value, str) else str(int(value) if value == int(value) else value)


def rows(source: str, place: Place, revision: str | None) -> Iterator[Row]:
    """Of a file of one's own, of the one below $OPD_BENCH_DATA, or of the Hub, whichever comes first."""
    file = _file(source, place)
    try:
        yield from _of_file(file) if file else _of_hub(source, place, revision)
    except (OSError, ValueError, ImportError, LookupError) as error:
        where = str(file) if file else f"{source!r} on the Hugging Face Hub"
        remedy = f"name a file as its source, or put one at ${DATA}/{place.file}"
        raise ValueError(f"{where} can't be read: {type(error).__name__}: {error}; {remedy}") from error


def _file(source: str, place: Place) -> Path | None:
    own, shared = Path(source), Path(os.environ.get(DATA, "")) / place.file
    if own.is_dir():
        own /= Path(place.file).name
    if own.is_file() or own.is_absolute() or source.startswith("."):
        return own
    return shared if os.environ.get(DATA) and shared.is_file() else None


def _of_file(file: Path) -> Iterator[Row]:
    """JSON (an array), JSON lines, either of them compressed, parquet or CSV."""
    kind = file.name.removesuffix(".gz").rpartition(".")[2].lower()
    if kind not in ("json", "jsonl"):
        yield from _loaded({"parquet": "parquet", "csv": "csv"}[kind], data_files=str(file), split="train")
        return
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rt", encoding="utf-8") as text:
        if kind == "json":
            yield from json.load(text)
            return
        for number, line in enumerate(text, 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise ValueError(f"line {number}: {error}") from error


def _of_hub(source: str, place: Place, revision: str | None) -> Iterator[Row]:
    """One after the other as they come: of a large data set, no more is fetched than is read."""
    yield from _loaded(source, name=place.config, split=place.split, revision=revision, streaming=True)


def _loaded(path: str, **options: Any) -> Iterator[Row]:
    from datasets import load_dataset  # takes seconds, and is only for data that is not made here

    yield from load_dataset(path, **options)


@lru_cache(maxsize=64)
def _order(name: str, size: int) -> list[int]:
    """A permutation by name."""
    return random.Random(name).sample(range(size), size)

"""Tasks whose problems are read: from a file in the public format, or by name from the Hugging Face Hub."""

import csv
import gzip
import json
import os
import random
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
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
    split: str | None  # as the Hub calls it; None: it is not there
    config: str | None = None  # of the data set on the Hub
    gated: bool = False  # the Hub wants its terms accepted first


@dataclass(kw_only=True, eq=False)
class Dataset(Task):
    """Problems in a fixed order: training ones are shuffled anew in every epoch, the others once."""

    source: str  # a name on the Hub, or a file or folder of yours
    revision: str | None  # of the data set on the Hub: a commit, tag or branch
    prompt: str  # what is asked, {question} being the problem's own
    rows: Count | None  # read at most so many, from the top; null: all
    held_out: NoneOrMore  # training problems that are for validation instead

    places: ClassVar[Mapping[str, Place]]
    """Of "train", "test" and "validation", as far as there are such."""

    @abstractmethod
    def read(self, row: Row) -> Problem | None:
        """A row of the data as a problem, its prompt being the bare question; None if it is none of this task's."""

    def cases(self, row: Row) -> Iterable[Row]:
        """What a row of the data stands for: itself, unless it holds several problems."""
        return (row,)

    def size(self, split: Split) -> int:
        """How many problems there are."""
        return len(self.problems(split))

    def is_here(self, split: Split) -> bool:
        """Whether a split can be read without a network."""
        own = split if split in self.places else "train"
        return own in self._known or _file(self.source, self.places[own]) is not None

    def problem(self, split: Split, seed: int, index: int) -> Problem:
        """Number `index` of the seed's order. Training goes on with another order after the last one."""
        found = self.problems(split)
        epoch, place = divmod(index, len(found))
        if epoch and split != "train":
            raise ValueError(f"{self.name} has {len(found):,} {split} problems, number {index:,} was asked for")
        problem = found[_order(f"{self.name} {split} {seed} {epoch}", len(found))[place]]
        return problem._replace(prompt=self.prompt.replace("{question}", problem.prompt))

    def problems(self, split: Split) -> list[Problem]:
        """All of a split, in the order of the file, with bare questions.

        Validation is a part of the training rows where it has no place of its own.
        """
        if split == "test" or (split == "validation" and split in self.places):
            return self._read(split)
        found = self._read("train")
        held = set(_order(f"{self.name} held out", len(found))[: self.held_out])
        kept = [problem for number, problem in enumerate(found) if (number in held) == (split == "validation")]
        if not kept:
            raise ValueError(f"{self.name} has no {split} problems: held_out={self.held_out} of {len(found):,}")
        return kept

    def _read(self, which: str) -> list[Problem]:
        if which not in self.places:
            raise ValueError(f"{self.name} has no {which} split; it has {', '.join(self.places)}")
        if which not in self._known:
            self._known[which] = list(islice(self._found(which), self.rows))
            if not self._known[which]:
                raise ValueError(f"{self.name}: no problems in {self.source!r} ({which})")
        return self._known[which]

    def _found(self, which: str) -> Iterator[Problem]:
        """Row by row; one that can't be read is named."""
        for number, row in enumerate(rows(self.source, self.places[which], self.revision), 1):
            try:
                problems = [problem for case in self.cases(row) if (problem := self.read(case))]
            except (LookupError, TypeError, AttributeError, ValueError) as error:
                where = f"{self.name}: row {number:,} of {which}, {str(row)[:80]}…"
                raise ValueError(f"{where}: {type(error).__name__}: {error}") from error
            yield from problems

    @cached_property
    def _known(self) -> dict[str, list[Problem]]:
        """What was read."""
        return {}


def text(row: Row, field: str) -> str:
    """What a field says, without the blanks around it; ValueError if it says nothing."""
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{field!r} must be text, got {value!r:.80}")
    return value.strip()


def rows(source: str, place: Place, revision: str | None) -> Iterator[Row]:
    """Of a file of one's own, of the one below $OPD_BENCH_DATA, or of the Hub, whichever comes first."""
    file = _file(source, place)
    try:
        yield from _of_file(file) if file else _of_hub(source, place, revision)
    except (OSError, ValueError, ImportError, LookupError) as error:
        where = str(file) if file else f"{source!r} on the Hugging Face Hub"
        remedy = f"name a file as its source, or put one at ${DATA}/{place.file}"
        if place.gated and not file:
            remedy = f"its terms must be accepted there first, and `hf auth login` or HF_TOKEN say who did; or {remedy}"
        raise ValueError(f"{where} can't be read: {type(error).__name__}: {error}; {remedy}") from error


def _file(source: str, place: Place) -> Path | None:
    own, shared = Path(source), Path(os.environ.get(DATA, "")) / place.file
    if own.is_dir():
        own /= Path(place.file).name
    if own.is_file() or own.is_absolute() or source.startswith("."):
        return own
    return shared if os.environ.get(DATA) and shared.is_file() else None


def _of_file(file: Path) -> Iterator[Row]:
    """JSON (an array), JSON lines or CSV, any of them compressed, or parquet."""
    kind = file.name.removesuffix(".gz").rpartition(".")[2].lower()
    if kind == "parquet":
        yield from _loaded(kind, data_files=str(file), split="train")
        return
    if kind not in ("csv", "json", "jsonl"):
        raise ValueError("its name must end in .json, .jsonl, .csv (or these and .gz) or .parquet")
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rt", encoding="utf-8", newline="") as text:
        if kind != "jsonl":
            yield from json.load(text) if kind == "json" else csv.DictReader(text)
            return
        for number, line in enumerate(text, 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise ValueError(f"line {number}: {error}") from error


def _of_hub(source: str, place: Place, revision: str | None) -> Iterator[Row]:
    """One after the other as they come: of a large data set, no more is fetched than is read."""
    if place.split is None:
        raise LookupError("it has no copy there")
    yield from _loaded(source, name=place.config, split=place.split, revision=revision, streaming=True)


def _loaded(path: str, **options: Any) -> Iterator[Row]:
    from datasets import load_dataset  # takes seconds, and is only for data that is not made here

    yield from load_dataset(path, **options)


@lru_cache(maxsize=64)
def _order(name: str, size: int) -> list[int]:
    """A permutation by name."""
    return random.Random(name).sample(range(size), size)

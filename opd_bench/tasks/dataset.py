"""Tasks whose problems are read: from a file in the public format, or by name from the Hugging Face Hub."""

import csv
import gzip
import json
import os
import random
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
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

    def cases(self, row: Row, split: str) -> Iterable[Row]:
        """What a row of the data stands for: itself, or several problems, or none of this split's."""
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

    def questions(self, split: Split, seed: int, count: int) -> list[str]:
        """All of the split: which come first is nothing that a comparison depends on."""
        return [problem.prompt for problem in self.problems(split)]

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

    def joined(self, same: Sequence[Problem]) -> Problem:
        """Of rows that ask the same question, which could be in two splits: the first."""
        return same[0]

    def rows_of(self, which: str) -> Iterator[Row]:
        """The rows of "train" or "test"."""
        return rows(self.source, self.places[which], self.revision)

    def _read(self, which: str) -> list[Problem]:
        if which not in self.places:
            raise ValueError(f"{self.name} has no {which} split; it has {', '.join(self.places)}")
        if which not in self._known:
            found: dict[str, list[Problem]] = {}
            for problem in self._told(which):
                found.setdefault(problem.prompt, []).append(problem)
                if len(found) == self.rows:
                    break
            if not found:
                raise ValueError(f"{self.name}: no problems in {self.source!r} ({which})")
            self._known[which] = [self.joined(same) for same in found.values()]
        return self._known[which]

    def _told(self, which: str) -> Iterator[Problem]:
        """Row by row; one that can't be read is named."""
        for number, row in enumerate(self.rows_of(which), 1):
            try:
                yield from [problem for case in self.cases(row, which) if (problem := self.read(case))]
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                what = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
                raise ValueError(
                    f"{self.name}: row {number:,} of the {which} split can't be read: {what}. It is {str(row)[:80]}"
                ) from error

    @cached_property
    def _known(self) -> dict[str, list[Problem]]:
        """What was read."""
        return {}


def text(row: Row, *fields: str) -> str:
    """What a row says in the first of these fields that it has; ValueError if that is no text and no number."""
    name = next((name for name in fields if row.get(name) is not None), None)
    if name is None:
        raise ValueError(
            f"it has no field {' or '.join(map(repr, fields))}; it has {', '.join(map(repr, row)) or 'none'}"
        )
    value = row[name]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(int(value) if value == int(value) else value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"its field {name!r} must be text, got {value!r:.80}")
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

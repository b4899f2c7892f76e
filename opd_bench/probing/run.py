"""A probe from its configuration to its record: every method asked for, at one student, on one bank."""

import json
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from opd_bench.catalogue import Method, load_method, method_names
from opd_bench.configs import made
from opd_bench.estimators.base import Estimator
from opd_bench.maths.sketch import Sketch
from opd_bench.models.load import digest
from opd_bench.models.pair import Readers
from opd_bench.probing.bank import Bank
from opd_bench.probing.content import content
from opd_bench.probing.drawing import FAILURES
from opd_bench.probing.measure import Measure
from opd_bench.probing.plan import ProbePlan
from opd_bench.probing.shelf import described
from opd_bench.probing.subject import Subject
from opd_bench.redraw import moment_sums, relative
from opd_bench.reporting.protocol import REFERENCE
from opd_bench.reporting.record import PROBE, Record, read_record, short_digest, write_record, write_whole
from opd_bench.rollouts.sources import Student
from opd_bench.tokens import Origin, PromptBatch
from opd_bench.training.data import Problems
from opd_bench.training.kept import kept, progress_of
from opd_bench.training.plan import Plan

HELD = 1 << 30
"""Bytes of one set's gradients, of several methods, that are held at one time."""


class Row(NamedTuple):
    """A method on the common rollouts, or on those of its own source."""

    name: str
    method: Method
    own: bool

    @property
    def key(self) -> str:
        """As in the record."""
        return f"{self.name} (own)" if self.own else self.name

    @property
    def learns(self) -> bool:
        """Whether there is anything in the common rollouts that the estimator learns from."""
        return self.own or Origin.STUDENT in self.method.estimator.learns_from

    def file(self, ending: str) -> str:
        """Its name depends on all settings, and on the code of both parts: one that is changed is measured anew."""
        estimator, source = (described(part) for part in self.method)
        return f"{self.key.replace(' ', '-')}-{short_digest([estimator, source])}{ending}"


@dataclass(eq=False)
class Probe:
    """One student. What an interrupted probe has measured is kept, and not measured again."""

    config: Mapping[str, Any]
    checkpoint: str | None
    console: Console
    bar: bool

    def __post_init__(self) -> None:
        config = self.config
        if config["trainer"]["strategy"] != "one":
            raise ValueError(f"a probe has one process, got trainer.strategy={config['trainer']['strategy']}")
        torch.set_num_threads(config["trainer"]["threads"])
        self.task, self.plan, self.lab = made(config["task"]), made(config["plan"]), made(config["probe"])
        self.readers = Readers.of(config)
        assert isinstance(self.plan, Plan)
        assert isinstance(self.lab, ProbePlan)
        self.seed: int = config["seed"]
        starts = config["models"]["starts"]
        self.name = self.checkpoint or starts[self.seed % len(starts)]
        self.step, progress = progress_of(Path(self.name))
        self.progress: float = progress if config["progress"] is None else config["progress"]
        self.rows = list(_rows(config["methods"], config["rollouts"]))
        self.sketch = Sketch(min(self.lab.numbers, self.parameters), self.seed)

    # ---------------------------------------------------------------- what is probed

    @cached_property
    def subject(self) -> Subject:
        """The models, where the trainer says, and the prompts that training would come to after its last step."""
        models, plan = self.config["models"], self.plan
        device = "cuda" if self.config["trainer"]["accelerator"] == "gpu" else "cpu"
        pair = self.readers.pair(self.name, models["teacher"], models["teacher_scale"], torch.device(device))
        for network in (pair.student, pair.teacher):
            network.move(torch.device(device))
        problems = Problems(self.task, pair.words, "train", self.seed)
        first = plan.steps * plan.prompts
        numbers = [n for n in range(first, first + plan.prompts) for _ in range(plan.rollouts)]
        prompts = PromptBatch(*(field.to(device) for field in problems.batch(numbers)))
        subject = Subject(pair.student, pair.teacher, prompts, pair.words.end, plan, self.seed, self.progress)
        subject.writers.engine = made(self.config["rollout"])
        return subject

    @property
    def parameters(self) -> int:
        """How many numbers a gradient has."""
        return sum(value.numel() for value in self.subject.parameters)

    @cached_property
    def folder(self) -> Path:
        """By protocol, name and content of all that the figures depend on, other than the methods."""
        config = self.config
        setup = f"{self.task.name}-{config['protocol']}"
        return (
            Path(config["results"])
            / setup
            / f"{Path(self.name).name}-{short_digest([self.protocol, self.student, self.progress])}"
        )

    @cached_property
    def protocol(self) -> str:
        """What stands for all that the figures depend on, but the student."""
        config, teacher = self.config, digest(self.subject.teacher.model)
        same = [config["task"], self.task.version, config["models"]["teacher_scale"], config["plan"], config["probe"]]
        return short_digest([*same, teacher, self.seed])

    @cached_property
    def student(self) -> str:
        """The digest of its weights."""
        return digest(self.subject.student.model)

    def bank(self, row: Row | None = None) -> Bank:
        """The common rollouts, or a method's own; only tokens of the student alone can be redrawn by its law."""
        if row is None:
            return Bank(self.folder / "bank", self.subject, _STUDENT, self.lab.sets, self.lab.redraws)
        return Bank(self.folder / "bank" / row.file(""), self.subject, row.method.source, self.lab.sets, 0)

    # ---------------------------------------------------------------- measuring

    def perform(self) -> Record:
        """Measure what is not measured yet, and record all that was asked for."""
        started = time.time()
        self.folder.mkdir(parents=True, exist_ok=True)
        parts = {row.key: part for row in self.rows if (part := self._kept(row))}
        missing = [row for row in self.rows if row.key not in parts]
        with self._progress() as bar:
            task = bar.add_task("")
            measures = list(self._measures(missing, partial(bar.advance, task)))
            jobs = sum(len(measure.jobs(estimators(rows))) + len(rows) for measure, rows in measures)
            bar.update(task, total=jobs * self.lab.sets)
            for measure, rows in measures:
                measure.draw(estimators(rows))
                for row in rows:
                    parts[row.key] = self._measured(row, measure)
                    bar.advance(task, self.lab.sets)  # as much as drawing it, more or less
                measure.shelf.clear()
        ordered = {row.key: parts[row.key] for row in self.rows}
        return read_record(write_record(self.folder, content(self, ordered, time.time() - started), PROBE), PROBE)

    def _measures(self, rows: list[Row], tick: Callable[[int], None]) -> Iterator[tuple[Measure, list[Row]]]:
        """Every bank with those who are measured on it: the common one with many, a method's own with one."""
        common = [row for row in rows if not row.own]
        banks = [(self.bank(), common)] if common else []
        banks += [(self.bank(row), [row]) for row in rows if row.own]
        at_once = max(1, HELD // (8 * self.sketch.size * self.lab.redraws))
        for bank, some in banks:
            measure = Measure(self.subject, bank, self.sketch.of, at_once, tick)
            if self.config["again"]:
                measure.shelf.clear()
            yield measure, some

    def _measured(self, row: Row, measure: Measure) -> dict[str, Any]:
        """A method's part. One that fails does not stop the others, and is tried again next time."""
        complaint = self.folder / row.file(".error.txt")
        if not row.learns:
            return {"status": "nothing to learn", "reason": "its estimator learns from no token of the student"}
        try:
            part = {"status": "measured", "reason": "", **self._figures(row, measure)}
        except FAILURES as error:
            complaint.write_text(traceback.format_exc())
            return {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
        complaint.unlink(missing_ok=True)
        write_whole(self._path(row), json.dumps(part))
        return part

    def _figures(self, row: Row, measure: Measure) -> dict[str, Any]:
        started, estimator = time.time(), row.method.estimator
        inner, within, seconds = measure.products(estimator)
        where = measure.prefixes(estimator, self.lab.prefixes)
        uniform = self.subject.draws(self.lab.sets).uniform("moments", len(where.student), self.lab.redraws, 2)
        sums = moment_sums(estimator, where, self.progress, uniform.to(where.student))
        return {
            "products": inner.tolist(),
            "within": None if within is None else within.tolist(),
            "exact": relative(sums),
            "seconds": seconds + time.time() - started,
        }

    def _path(self, row: Row) -> Path:
        folder = self.folder / "parts"
        folder.mkdir(exist_ok=True)
        return folder / row.file(".json")

    def _kept(self, row: Row) -> dict[str, Any] | None:
        try:
            part: dict[str, Any] = json.loads(self._path(row).read_text())
        except (OSError, ValueError):  # not there, or not whole
            return None
        return None if self.config["again"] else part

    # ---------------------------------------------------------------- what is told

    def _progress(self) -> Progress:
        return Progress(
            TextColumn(f"probing {Path(self.name).name}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.bar,
        )


def estimators(rows: Iterable[Row]) -> list[Estimator]:
    """Of those who learn something."""
    return [row.method.estimator for row in rows if row.learns]


def _rows(asked: list[str], rollouts: str) -> Iterator[Row]:
    """The reference first: others are compared with it."""
    if rollouts not in (choices := ("common", "own", "both")):
        raise ValueError(f"rollouts must be one of {', '.join(choices)}, got {rollouts!r}")
    names = method_names() if asked == ["all"] else asked
    for name in dict.fromkeys([REFERENCE, *names]):
        method = load_method(name)
        other = not isinstance(method.source, Student)
        if rollouts != "own" or not other:
            yield Row(name, method, own=False)
        if rollouts != "common" and other:
            yield Row(name, method, own=True)


_STUDENT = Student()


def students(checkpoint: str | None, setting: str) -> list[str | None]:
    """Every student that a run's folder keeps, or the one model that `checkpoint` is."""
    folder = Path(checkpoint or "")
    of_run = (folder / "checkpoints").is_dir() or (folder / "record.json").exists()
    if checkpoint is None or not of_run:
        return [checkpoint]
    if not (found := kept(folder)):
        raise ValueError(f"{folder} keeps no students; run it anew with watch.weights_every=25 again=true")
    theirs = json.loads((folder / "config.json").read_text())["protocol"]
    if theirs != setting:
        raise ValueError(f"{folder} is a run of setting={theirs}, and the probe's is {setting}")
    return [str(path) for path in found]

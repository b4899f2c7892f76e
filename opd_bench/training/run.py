"""A run from its configuration to its record: whatever happens in between, there is one, or the run can go on."""

import json
import shutil
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from transformers import PreTrainedModel

from opd_bench.catalogue import Method, made_method
from opd_bench.configs import listed, made
from opd_bench.models.load import digest, fingerprint
from opd_bench.models.network import recomputing
from opd_bench.models.pair import Pair, Readers
from opd_bench.reporting.files import SERIES, packed_series, write_with_files
from opd_bench.reporting.protocol import folder_of, protocol_of, split_of
from opd_bench.reporting.published import referred
from opd_bench.reporting.record import RUN, Record, RecordError, read_record, short_digest, write_whole
from opd_bench.rollouts.answers import Answers
from opd_bench.rollouts.engine import ignored_settings
from opd_bench.tasks.chosen import Tasks
from opd_bench.training.anchors import Anchors
from opd_bench.training.board import Board, log_outcome
from opd_bench.training.checkpoints import STATE, Checkpoints, Spread, check_fits, manifest, newest
from opd_bench.training.data import Problems, share_of
from opd_bench.training.evaluation import Judge
from opd_bench.training.kept import KeptWeights
from opd_bench.training.layout import Layout
from opd_bench.training.lock import locked
from opd_bench.training.memory import memory_hint
from opd_bench.training.module import Distillation
from opd_bench.training.moments import GradientMoments
from opd_bench.training.noise import GradientNoise
from opd_bench.training.outcomes import FINAL, UNTOLD, Outcome, outcome_of
from opd_bench.training.plan import Evaluation, Plan, Watch
from opd_bench.training.progress import ProgressBar
from opd_bench.training.ranks import from_first, is_first
from opd_bench.training.series import Series
from opd_bench.training.stopping import Limits, listening
from opd_bench.training.strategies import sharded_loading, shards_parameters
from opd_bench.training.summary import anchored, summary, tasks
from opd_bench.training.twins import twin


@dataclass(eq=False)
class Run:
    """One configuration, resolved."""

    config: Mapping[str, Any]
    console: Console
    bar: bool

    def __post_init__(self) -> None:
        config = self.config
        self.method: Method = made_method(config["method"])
        self.plan: Plan = made(config["plan"])
        self.evaluation: Evaluation = made(config["evaluation"])
        self.watch: Watch = made(config["watch"])
        self.layout: Layout = made(config["trainer"])
        share_of(self.plan.prompts, 0, self.layout.processes)  # can they be shared equally?
        self.seed: int = config["seed"]
        self.readers = Readers.of(config)
        self.tasks = Tasks.of(config)
        for task in (self.tasks.train, *self.tasks.tests.values()):
            task.ready()
        for name in self.evaluation.samples_of:
            if name not in self.tasks.tests:
                known = listed(list(self.tasks.tests))
                raise ValueError(f"evaluation.samples_of names a test that there is not, {name!r}; there are {known}")
        starts = config["models"]["starts"]
        self.start: str = config["start"] or starts[self.seed % len(starts)]
        weights = [fingerprint(name) for name in (config["models"]["teacher"], *starts)]
        if config["published"]:
            referred(config["published"])
        self.split = split_of(config["ruleset"])
        self.protocol = protocol_of(config, self.tasks.train.name, self.tasks.version, weights)
        self.folder = Path(config["results"]) / folder_of(self.protocol, config)

    def record(self) -> Record | None:
        """What an earlier try left for good."""
        path = self.folder / RUN.file
        if self.config["again"]:
            return None
        if not path.exists():
            return twin(self) if self.layout.processes == 1 else None  # of several, all would have to find it
        found = read_record(path)
        return found if found["status"] in FINAL else None

    def perform(self, is_claimed: bool = False) -> Record:
        """Train, judge, record. Whatever becomes of a run is a record; one that was stopped goes on where it was."""
        is_claimed = is_claimed or self.layout.place.rank > 0
        with nullcontext() if is_claimed else self.claimed(), listening():
            return self._performed()

    @contextmanager
    def claimed(self) -> Iterator[IO[str]]:
        """The folder can be written, and is this run's alone."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = locked(self.folder)
            write_whole(self.folder / "config.json", json.dumps(self.config, indent=1))
        except OSError as error:
            raise RecordError(
                f"{self.folder} can't be written: {error}. Choose another place with results=FOLDER"
            ) from error
        with lock:
            if self.config["again"]:
                for name in ("checkpoints", "tensorboard"):
                    shutil.rmtree(self.folder / name, ignore_errors=True)
            yield lock

    @cached_property
    def judged_on(self) -> dict[str, Any]:
        """The tests, for records."""
        return tasks(self)

    # ---------------------------------------------------------------- steps of that

    def _performed(self) -> Record:
        started = time.time()
        torch.set_num_threads(self.layout.threads)
        trainer = self._trainer()
        parts = self._parts(trainer)
        checkpoint = from_first(self._checkpoint)
        if is_first() and not (self.folder / RUN.file).exists():  # for the case that nothing can be written later
            self._write(parts, summary(self, parts, UNTOLD, 0.0))
        outcome = Outcome("finished")
        try:
            self._fit(trainer, parts, checkpoint)
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            outcome = self._told_by(error, parts)
        content = summary(self, parts, outcome, time.time() - started)
        if not is_first():
            return content
        record = self._write(parts, content)
        if outcome.is_asked:
            raise SystemExit(self.told(outcome.reason))
        log_outcome(record | {"folder": str(self.folder)}, self.watch.samples_shown)
        return record

    def _told_by(self, error: BaseException, parts: "Parts") -> Outcome:
        """With sizes where memory ran out, and a traceback kept where nobody knows better."""
        outcome = outcome_of(error, len(parts.series.rows))
        if outcome.status == "out of memory":
            return outcome._replace(reason=f"{outcome.reason}; {memory_hint(parts.module)}")
        if outcome.status == "crash":
            which = "" if is_first() else f"-process-{self.layout.place.rank}"
            with suppress(OSError):  # the record has the error in a line, and must be tried too
                (self.folder / f"error{which}.txt").write_text(traceback.format_exc())
        return outcome

    def told(self, reason: str) -> str:
        """A line that ends a command."""
        return f"{self.config['name']}, seed {self.seed}: {reason}"

    def _trainer(self) -> pl.Trainer:
        return self.layout.trainer(max_steps=self.plan.steps, default_root_dir=self.folder)

    def _parts(self, trainer: pl.Trainer | None = None) -> "Parts":
        models = self.config["models"]
        device = trainer.strategy.root_device if trainer else torch.device("cpu")
        pair = self.readers.pair(self.start, models["teacher"], models["teacher_scale"], device)
        start = pair.student.model
        weights = {
            "student": _weights(self.start, start) | {"vocabulary": pair.student.vocabulary},
            "teacher": _weights(models["teacher"], pair.teacher.model),
            "pair": pair.agreed,
        }
        student = self._student(start, trainer)
        train = Problems(self.tasks.train, pair.words, "train", self.seed)
        if self.evaluation.every:
            self.tasks.train.size("validation")  # now, for a task may have none
        module = Distillation(pair.student._replace(model=student), pair.teacher, self.method, self.plan, train)
        module.writers.kept = Answers(self._answers(pair, weights["teacher"]))
        module.writers.engine = made(self.config["rollout"])
        if student is not start:
            module.write_with(start)
        untrained = {"before": weights["student"], "teacher": weights["teacher"]}
        anchors = Anchors(self.folder.parents[1] / "anchors", anchored(self), untrained)
        seed = self.evaluation.seed
        tests = {name: Problems(task, pair.words, self.split, seed) for name, task in self.tasks.tests.items()}
        judge = Judge(self.evaluation, tests, train._replace(split="validation", seed=seed), anchors)
        moments = GradientMoments(self.watch.moments_every, self.watch.prefixes, self.watch.redraws)
        return Parts(module, judge, moments, GradientNoise(self.watch.noise_every), Series(), weights)

    def _student(self, start: PreTrainedModel, trainer: pl.Trainer | None) -> PreTrainedModel:
        """What learns: the start itself with its additions, or the same read straight into shards."""
        reading = self.readers.student
        student = reading.pupil(start, self.seed)
        if trainer and shards_parameters(trainer):
            with sharded_loading(trainer):
                student = reading.pupil(reading.model(self.start, self.layout.dtype), self.seed)
        if self.layout.gradient_checkpointing:
            recomputing(student)
        return student

    def _answers(self, pair: Pair, teacher: Mapping[str, Any]) -> Path:
        """Where the teacher's answers are, for all runs: by its weights and all else that they depend on."""
        same = [teacher["digest"], pair.teacher.logit_scale, pair.teacher.vocabulary, pair.words.end]
        digest = short_digest([*same, self.plan.response_limit, self.seed])
        return Path(self.config["results"]) / "answers" / f"{Path(teacher['name']).name}-{digest}"

    def _checkpoint(self) -> Path | None:
        """From which to go on."""
        found, complaints = newest(self.folder / "checkpoints")
        for complaint in complaints:
            warnings.warn(f"{complaint}. Going on from {found.name if found else 'the beginning'}", stacklevel=2)
        if found:
            check_fits(found, self._spread)
        return found

    def _fit(self, trainer: pl.Trainer, parts: "Parts", checkpoint: Path | None) -> None:
        # what an earlier try has told later than this, TensorBoard is to forget
        purge = manifest(checkpoint)["step"] + 1 if checkpoint else 0
        trainer.loggers = [TensorBoardLogger(self.folder, name=None, version="tensorboard", purge_step=purge)]
        trainer.callbacks += [*parts.callbacks, Board(self.watch.histograms_every), *self._extras()]  # type: ignore[attr-defined]
        trainer.fit(parts.module, ckpt_path=checkpoint / STATE if checkpoint else None, weights_only=True)

    def _extras(self) -> list[pl.Callback]:
        title = f"{self.config['name']}, seed {self.seed}"
        found: list[pl.Callback] = [ProgressBar(self.console, title)] if self.bar else []
        if self.watch.weights_every:
            found.append(KeptWeights(self.folder / "weights", self.watch.weights_every))
        watch = self.watch
        keeper = Checkpoints(self.folder / "checkpoints", watch.checkpoint_every, watch.checkpoints_kept, self._spread)
        return [*found, Limits(watch.divergence, watch.time_limit, keeper.save), keeper]

    @property
    def _spread(self) -> Spread:
        return Spread(self.layout.strategy, self.layout.processes)

    def _write(self, parts: "Parts", content: Mapping[str, Any]) -> Record:
        """Where the run is kept, or, if that can't be, where it can."""
        files = parts.judge.files | {SERIES: packed_series(parts.series.columns())}
        try:
            return write_with_files(self.folder, content, files)
        except (RecordError, OSError) as error:
            spare = Path(tempfile.mkdtemp(prefix="opd_bench-"))
            write_with_files(spare, content, files)
            raise RecordError(
                f"{error}\nThe record is safe in {spare / RUN.file}; the same command writes it again."
            ) from error


@dataclass(eq=False)
class Parts:
    """What a run is made of, once it is made."""

    module: Distillation
    judge: Judge
    moments: GradientMoments
    noise: GradientNoise
    series: Series
    weights: dict[str, dict[str, Any]]

    @property
    def callbacks(self) -> list[pl.Callback]:
        """In the order in which they see a step."""
        return [self.moments, self.noise, self.judge, self.series]


def _weights(name: str, model: PreTrainedModel) -> dict[str, Any]:
    """Which weights they were, and what of their own sampling settings was not followed."""
    return {"name": name, "digest": digest(model), "sampling_settings_ignored": ignored_settings(model)}

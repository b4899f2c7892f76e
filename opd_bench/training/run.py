"""A run from its configuration to its record: whatever happens in between, there is one, or the run can go on."""

import json
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from transformers import PreTrainedModel

from opd_bench.catalogue import Method, made_method
from opd_bench.configs import made
from opd_bench.models.load import causal_lm, digest, fingerprint, tokenizer
from opd_bench.models.network import Network, frozen
from opd_bench.reporting.files import SERIES, packed_series, write_with_files
from opd_bench.reporting.protocol import folder_of, protocol_of
from opd_bench.reporting.published import referred
from opd_bench.reporting.record import RUN, Record, RecordError, read_record
from opd_bench.rollouts.engine import ignored_settings
from opd_bench.tasks.base import Task
from opd_bench.training.anchors import Anchors
from opd_bench.training.board import Board, log_outcome
from opd_bench.training.checkpoints import WholeCheckpointIO, keeper, newest
from opd_bench.training.data import Problems
from opd_bench.training.evaluation import Judge
from opd_bench.training.health import Limits, StoppedError
from opd_bench.training.kept import KeptWeights
from opd_bench.training.module import Distillation
from opd_bench.training.moments import GradientMoments
from opd_bench.training.noise import GradientNoise
from opd_bench.training.plan import Evaluation, Plan, Watch
from opd_bench.training.progress import ProgressBar
from opd_bench.training.series import Series
from opd_bench.training.summary import anchored, summary

FINAL = ("finished", "nan", "diverged")
"""Outcomes that another try would only repeat."""
UNTOLD = "killed", "still running, or killed without a chance to say so; the same command goes on"
"""Until the end is known."""


@dataclass(eq=False)
class Run:
    """One configuration, resolved."""

    config: Mapping[str, Any]
    console: Console
    bar: bool

    def __post_init__(self) -> None:
        config = self.config
        self.method: Method = made_method(config["method"])
        self.task: Task = made(config["task"])
        self.plan: Plan = made(config["plan"])
        self.evaluation: Evaluation = made(config["evaluation"])
        self.watch: Watch = made(config["watch"])
        self.seed: int = config["seed"]
        starts = config["models"]["starts"]
        self.start: str = config["start"] or starts[self.seed % len(starts)]
        weights = [fingerprint(name) for name in (config["models"]["teacher"], *starts)]
        if config["published"]:
            referred(config["published"])
        self.protocol = protocol_of(config, self.task.name, self.task.version, weights)
        self.folder = Path(config["results"]) / folder_of(self.protocol, config)

    def record(self) -> Record | None:
        """What an earlier try left for good."""
        path = self.folder / RUN.file
        if self.config["again"] or not path.exists():
            return None
        found = read_record(path)
        return found if found["status"] in FINAL else None

    def perform(self) -> Record:
        """Train, judge, record. Whatever becomes of a run is a record; one that was stopped goes on where it was."""
        self._prepare_folder()
        started = time.time()
        parts = self._parts()
        if not (self.folder / RUN.file).exists():  # for the case that nothing can be written later
            self._write(parts, summary(self, parts, *UNTOLD, 0.0))
        status, reason = "finished", ""
        try:
            self._fit(parts)
        except StoppedError as error:
            status, reason = error.status, str(error)
        except (torch.OutOfMemoryError, MemoryError) as error:
            status, reason = "out of memory", str(error) or "no more memory to be had"
        except Exception as error:
            status, reason = "crash", f"{type(error).__name__}: {error}"
            (self.folder / "error.txt").write_text(traceback.format_exc())
        except (KeyboardInterrupt, SystemExit):  # Lightning makes these of SIGINT and SIGTERM
            reason = f"stopped from outside after step {len(parts.series.rows)}; the same command goes on"
            self._write(parts, summary(self, parts, "killed", reason, time.time() - started))
            raise SystemExit(f"{self.config['name']}, seed {self.seed}: {reason}") from None
        content = summary(self, parts, status, reason, time.time() - started)
        record = self._write(parts, content)
        log_outcome(record | {"folder": str(self.folder)}, self.watch.samples_shown)
        return record

    # ---------------------------------------------------------------- steps of that

    def _prepare_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self.config, indent=1)
            (self.folder / "config.json").write_text(text)
        except OSError as error:
            raise RecordError(
                f"{self.folder} can't be written: {error}. Choose another place with results=FOLDER"
            ) from error
        if self.config["again"]:
            for path in [*self.folder.glob("checkpoints/*"), *self.folder.glob("tensorboard/*")]:
                path.unlink()

    def _parts(self) -> "Parts":
        torch.set_num_threads(self.config["trainer"]["threads"])
        words = tokenizer(self.start)
        teacher = Network(frozen(causal_lm(self.config["models"]["teacher"])), self.config["models"]["teacher_scale"])
        train = Problems(self.task, words, "train", self.seed)
        test = Problems(self.task, words, "test", self.evaluation.seed)
        student = causal_lm(self.start)
        weights = {
            "student": _weights(self.start, student) | {"vocabulary": len(words)},
            "teacher": _weights(self.config["models"]["teacher"], teacher.model),
        }
        module = Distillation(student, teacher, self.method, self.plan, train)
        untrained = {"before": weights["student"], "teacher": weights["teacher"]}
        anchors = Anchors(self.folder.parents[1] / "anchors", anchored(self), untrained)
        judge = Judge(self.evaluation, {self.task.name: test}, test._replace(split="validation"), anchors)
        moments = GradientMoments(self.watch.moments_every, self.watch.prefixes, self.watch.redraws)
        return Parts(module, judge, moments, GradientNoise(self.watch.noise_every), Series(), weights)

    def _fit(self, parts: "Parts") -> None:
        checkpoint = newest(self.folder / "checkpoints")
        trainer = pl.Trainer(
            **{key: self.config["trainer"][key] for key in ("accelerator", "devices", "precision")},
            max_steps=self.plan.steps,
            callbacks=[*parts.callbacks, Board(self.watch.histograms_every), *self._extras()],
            logger=TensorBoardLogger(self.folder, name=None, version="tensorboard", purge_step=_step_of(checkpoint)),
            plugins=[WholeCheckpointIO()],
            default_root_dir=self.folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=self.watch.checkpoint_every > 0,
            use_distributed_sampler=False,
            log_every_n_steps=1,
        )
        if trainer.world_size > 1:  # checkpoints, evaluation and records are those of one process
            raise ValueError(f"a run has one process for now, got trainer.devices={trainer.world_size}")
        trainer.fit(parts.module, ckpt_path=checkpoint, weights_only=True)

    def _extras(self) -> list[pl.Callback]:
        title = f"{self.config['name']}, seed {self.seed}"
        bars: list[pl.Callback] = [ProgressBar(self.console, title)] if self.bar else []
        if self.watch.weights_every:
            bars.append(KeptWeights(self.folder / "weights", self.watch.weights_every))
        bars.append(Limits(self.watch.divergence, self.watch.time_limit))
        every = self.watch.checkpoint_every
        return [*bars, keeper(self.folder / "checkpoints", every)] if every else bars

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


def _step_of(checkpoint: Path | None) -> int:
    """From which step on TensorBoard is to forget what an earlier try has told."""
    return int(checkpoint.stem.removeprefix("step")) + 1 if checkpoint else 0

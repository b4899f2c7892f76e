"""Small trainings on the embedded benchmark, composed without hydra-core: what a step takes and comes to."""

import gc
import logging
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
import yaml
from torch.profiler import ProfilerActivity

from opd_bench.catalogue import made_method
from opd_bench.configs import conf_dir, known, made
from opd_bench.models.pair import Readers
from opd_bench.training.data import Problems
from opd_bench.training.layout import Layout
from opd_bench.training.module import Distillation
from opd_bench.training.summary import peak_memory

WRITERS = ("student", "teacher", "data")
SHOWN = 10
"""Operations in a profile's table."""


class Work(NamedTuple):
    """What is trained."""

    method: str
    steps: int
    prompts: int


class Place(NamedTuple):
    """Where, and how numbers are kept."""

    accelerator: str
    precision: Any  # as Lightning names it
    stage: int = 0  # of ZeRO; 0: without DeepSpeed


class Timed(NamedTuple):
    """Speed without the first step, which is a warm-up; norm and loss of the first step."""

    step_seconds: float
    tokens_per_second: float
    peak_mib: float | None  # of the GPU; of the CPU it would be that of all trainings so far
    norm: float
    loss: float


class Watch(pl.Callback):
    """Every step's seconds, tokens and figures; all steps but the first are profiled."""

    def __init__(self, profiler: torch.profiler.profile | None = None):
        self.profiler = profiler
        self.seconds: list[float] = []
        self.metrics: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Before the rollout."""
        if self.profiler and trainer.global_step == 1:
            self.profiler.start()
        self.start = _now()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """After the update."""
        self.seconds.append(_now() - self.start)
        self.metrics.append(dict(module.metrics))
        if self.profiler and trainer.global_step == trainer.max_steps:
            self.profiler.stop()


def timed(work: Work, place: Place) -> Timed:
    """One training, measured."""
    on_gpu, watch = place.accelerator == "gpu", Watch()
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    _train(work, place, watch)
    first, *rest = watch.metrics
    tokens = sum(row[f"train/tokens_{writer}"] for row in rest for writer in WRITERS)
    return Timed(
        step_seconds=statistics.median(watch.seconds[1:]),
        tokens_per_second=tokens / sum(watch.seconds[1:]),
        peak_mib=peak_memory() / 2**20 if on_gpu else None,
        norm=first["grad/norm"],
        loss=first["train/loss"],
    )


def profiled(work: Work, place: Place, trace: Path) -> str:
    """A table of the most expensive operations of one training; `trace` is for chrome://tracing."""
    on_gpu = place.accelerator == "gpu"
    profiler = torch.profiler.profile(
        activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])],
        acc_events=True,
    )
    _train(work, place, Watch(profiler))
    profiler.export_chrome_trace(str(trace))
    column = f"self_{'cuda' if on_gpu else 'cpu'}_time_total"
    return str(profiler.key_averages().table(sort_by=column, row_limit=SHOWN, max_name_column_width=50))


def _train(work: Work, place: Place, watch: Watch) -> None:
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    strategy = f"zero{place.stage}" if place.stage else "one"
    where = {"accelerator": place.accelerator, "precision": place.precision, "strategy": strategy}
    layout: Layout = made(_read(known("trainer", "cpu")) | where)
    trainer = layout.trainer(max_steps=work.steps, callbacks=[watch])
    trainer.fit(_module(work))


def _module(work: Work) -> Distillation:
    """As a run of seed 0 makes it, of the setting `standard`."""
    setting = _read(conf_dir() / "setting" / "standard.yaml")
    task = made(_read(conf_dir() / "task" / "mini_gsm.yaml"))
    models, start = setting["models"], setting["models"]["starts"][0]
    readers = Readers.of(setting)
    pair = readers.pair(start, models["teacher"], models["teacher_scale"], torch.device("cpu"))
    plan = made(setting["plan"] | {"steps": work.steps, "prompts": work.prompts})
    problems = Problems(task, pair.words, "train", 0)
    return Distillation(pair.student, pair.teacher, made_method(_read(known("method", work.method))), plan, problems)


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _now() -> float:
    """When all that was asked of the GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()

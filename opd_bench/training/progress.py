"""What a person sees while a run goes on."""

from copy import copy
from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from opd_bench.training.module import Distillation

SHOWN = {
    "loss": ("train/loss", "{:.2g}"),
    "KL": ("train/reverse_kl", "{:.2g}"),
    "solved": ("train/accuracy", "{:.0%}"),
    "‖g‖": ("grad/norm", "{:.2g}"),
}


class ProgressBar(pl.Callback):
    """One line: step, loss, exact reverse KL, solved rollouts, gradient norm, tokens a second, time left."""

    def __init__(self, console: Console, title: str):
        self.console, self.title = console, title
        whole = Column(no_wrap=True, min_width=7)  # where space is short, the figures are cut and not these
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=8),
            MofNCompleteColumn(table_column=whole),
            TimeRemainingColumn(compact=True, table_column=copy(whole)),
            TextColumn("{task.fields[told]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=console,
            transient=True,
        )

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """The start student is judged first."""
        assert isinstance(module, Distillation)
        self.tokens, self.told = 0, "training"
        self.task = self.bar.add_task(self.title, total=module.plan.steps, told="judging the start")
        self.bar.start()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """A resumed run has spent time on tokens that are not counted here."""
        assert isinstance(module, Distillation)
        self.before = sum(module.seconds.values())

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Training proper, perhaps from the middle."""
        assert isinstance(module, Distillation)
        last = trainer.global_step == module.plan.steps - 1
        told = "the last step, then judging the result" if last else self.told
        self.bar.update(self.task, completed=trainer.global_step, told=told)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """One step further."""
        assert isinstance(module, Distillation)
        assert module.rollout is not None
        self.tokens += int(module.rollout.response.sum())
        found = module.metrics
        shown = [f"{name} {style.format(found[key])}" for name, (key, style) in SHOWN.items() if key in found]
        self.told = " ".join(
            [*shown, f"{self.tokens / max(sum(module.seconds.values()) - self.before, 1e-9):.0f} tok/s"]
        )
        self.bar.update(self.task, completed=trainer.global_step, told=self.told)

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Leave the line to others."""
        self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Also when it goes wrong."""
        self.bar.stop()

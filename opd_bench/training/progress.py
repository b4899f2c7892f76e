"""What a person sees while a run goes on."""

from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from opd_bench.training.module import Distillation

SHOWN = {
    "loss": ("train/loss", "{:.3g}"),
    "KL": ("train/reverse_kl", "{:.3g}"),
    "solved": ("train/accuracy", "{:.0%}"),
    "‖g‖": ("grad/norm", "{:.3g}"),
}


class ProgressBar(pl.Callback):
    """One line: step, loss, exact reverse KL, solved rollouts, gradient norm, tokens a second, time left."""

    def __init__(self, console: Console, title: str):
        self.console, self.title = console, title
        columns = (
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
        )
        self.bar = Progress(TextColumn("{task.description}"), *columns, console=console, transient=True)

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """The start student is judged first."""
        assert isinstance(module, Distillation)
        self.tokens = 0
        self.task = self.bar.add_task(f"{self.title}: judging the start", total=module.plan.steps, told="")
        self.bar.start()

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Training proper, perhaps from the middle."""
        self.bar.update(self.task, description=self.title, completed=trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """One step further."""
        assert isinstance(module, Distillation)
        assert module.rollout is not None
        self.tokens += int(module.rollout.response.sum())
        told = [
            f"{name} {style.format(module.metrics[key])}"
            for name, (key, style) in SHOWN.items()
            if key in module.metrics
        ]
        told.append(f"{self.tokens / max(sum(module.seconds.values()), 1e-9):.0f} tokens/s")
        last = trainer.global_step == module.plan.steps
        description = f"{self.title}: judging the result" if last else self.title
        self.bar.update(self.task, completed=trainer.global_step, told=" · ".join(told), description=description)

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Leave the line to others."""
        self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Also when it goes wrong."""
        self.bar.stop()

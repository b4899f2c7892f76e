"""Students on the way, as folders that transformers loads: what a probe is given."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from opd_bench.models.lora import merged
from opd_bench.tokens import Origin
from opd_bench.training.module import Distillation
from opd_bench.training.ranks import from_first

PROGRESS = "progress.json"
"""Beside the weights: the step they are from, and how many there are in all."""


class KeptWeights(pl.Callback):
    """Every so many steps, the first before step 1, in `folder`/stepNNNNNN."""

    def __init__(self, folder: Path, every: int):
        self.folder, self.every = folder, every

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """The start."""
        self._keep(trainer, module)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """After a step."""
        self._keep(trainer, module)

    def _keep(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Distillation)
        if trainer.global_step % self.every == 0:
            module.refresh()
            from_first(partial(self._write, module, trainer.global_step))

    def _write(self, module: Distillation, step: int) -> None:
        place = self.folder / f"step{step:06d}"
        unfinished = place.with_suffix(".part")
        for old in (unfinished, place):
            shutil.rmtree(old, ignore_errors=True)
        merged(module.writers.networks[Origin.STUDENT].model).save_pretrained(unfinished)
        module.problems.words.tokenizer.save_pretrained(unfinished)
        (unfinished / PROGRESS).write_text(json.dumps({"step": step, "steps": module.plan.steps}))
        unfinished.rename(place)


def kept(folder: Path) -> list[Path]:
    """The students of a run, in the order of their steps."""
    return sorted(path for path in (folder / "weights").glob("step*") if (path / PROGRESS).exists())


def progress_of(folder: Path) -> tuple[int, float]:
    """The step of a kept student and the share of training that it had behind it; 0 for any other folder."""
    path = folder / PROGRESS
    found = json.loads(path.read_text()) if path.exists() else {"step": 0, "steps": 1}
    return found["step"], found["step"] / found["steps"]

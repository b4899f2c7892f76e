"""Checkpoints that are whole or not there, and the newest that can be read."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint


class WholeCheckpointIO(TorchCheckpointIO):
    """Written beside its place and moved there, so that a killed process leaves no half a checkpoint."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """To a temporary name, to disk, then to `path`."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(".part")
        try:
            with unfinished.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise


def keeper(folder: Path, every: int) -> ModelCheckpoint:
    """The two newest, one every `every` steps."""
    return ModelCheckpoint(
        dirpath=folder,
        filename="step{step:06d}",
        auto_insert_metric_name=False,
        monitor="step",
        mode="max",
        save_top_k=2,
        every_n_train_steps=every,
        save_on_train_epoch_end=False,
    )


def newest(folder: Path) -> Path | None:
    """The latest checkpoint that is whole, if there is one."""
    found = sorted(folder.glob("*.ckpt"), reverse=True)
    return next((path for path in found if zipfile.is_zipfile(path)), None)

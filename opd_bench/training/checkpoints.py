"""Checkpoints that are whole or not there, and the newest that can be read.

One is a folder, stepNNNNNN, of what the strategy saved and a manifest: its files and their sizes, the step, and over
how many processes it is spread. It is written beside its place and moved there last of all. torch's files have a
checksum for every part, which is looked at before a run goes on from them.
"""

import json
import os
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from torch import nn

from opd_bench.models.network import learning, numbers
from opd_bench.reporting.record import write_whole
from opd_bench.training.ranks import from_first
from opd_bench.training.strategies import shards_optimiser

MANIFEST = "manifest.json"
STATE = "state.ckpt"
"""What the strategy saved: a file, or DeepSpeed's folder."""
TORCH = (".ckpt", ".pt")
"""How files end that torch has written: zip archives."""
ROOM = 1.1
"""Free space that a checkpoint must find, as a multiple of its size."""


class CheckpointFile(TorchCheckpointIO):
    """Lightning's, without a second copy of everything in memory."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Straight to disk: what is half written has no manifest."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("wb") as file:
            torch.save(checkpoint, file)


class Spread(NamedTuple):
    """How a checkpoint is spread over processes, which must be the same for one that goes on from it."""

    strategy: str
    processes: int

    @property
    def is_sharded(self) -> bool:
        """Whether each process has a part."""
        return self.strategy.startswith("zero")


class Checkpoints(pl.Callback):
    """Every so many steps, after the last and when a run has to stop; of these, the newest few."""

    def __init__(self, folder: Path, every: int, kept: int, spread: Spread):
        self.folder, self.every, self.kept, self.spread = folder, every, kept, spread

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """When all others have seen the step."""
        if self.every and (trainer.global_step % self.every == 0 or trainer.global_step == trainer.max_steps):
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> bool:
        """Whether there is one of this step now; there is none where they are not wanted or have no room."""
        if not self.every:
            return False
        place = self.folder / f"step{trainer.global_step:06d}"
        unfinished = place.with_suffix(".part")
        needed = size_of(trainer)
        todo = from_first(lambda: self._begun(place, unfinished, needed))
        if todo == "save":
            trainer.save_checkpoint(unfinished / STATE)
            about = {"step": trainer.global_step, "steps": trainer.max_steps, **self.spread._asdict()}
            from_first(lambda: self._ended(place, unfinished, about))
        return todo != "no room"

    def _begun(self, place: Path, unfinished: Path, needed: int) -> str:
        """What is to be done, once there is room for it."""
        if place.exists() and not damage(place):
            return "is there"
        for left in self.folder.glob("*.part"):
            shutil.rmtree(left)
        unfinished.mkdir(parents=True)
        if (free := shutil.disk_usage(unfinished).free) > ROOM * needed:
            return "save"
        unfinished.rmdir()
        warnings.warn(
            f"no checkpoint of {place.name}: it needs {needed / 2**20:,.0f} MiB, and {self.folder} has "
            f"{free / 2**20:,.0f}. The run goes on; stopped, it would go back to {_last(self.folder)}",
            stacklevel=2,
        )
        return "no room"

    def _ended(self, place: Path, unfinished: Path, about: dict[str, Any]) -> None:
        """All of it on disk, in its place, and older ones away."""
        files = {str(path.relative_to(unfinished)): path.stat().st_size for path in _files(unfinished)}
        for name in files:
            with (unfinished / name).open("rb") as file:
                os.fsync(file.fileno())
        write_whole(unfinished / MANIFEST, json.dumps({**about, "files": files}, indent=1))
        shutil.rmtree(place, ignore_errors=True)
        unfinished.rename(place)
        for old in _folders(self.folder)[self.kept :]:
            shutil.rmtree(old)


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """The latest checkpoint that is whole, if there is one, and what is wrong with later ones."""
    complaints: list[str] = []
    for place in _folders(folder):
        if not (wrong := damage(place)):
            return place, complaints
        complaints.append(f"{place} is damaged: {wrong}")
    return None, complaints


def damage(place: Path) -> str:
    """What is wrong with a checkpoint, or nothing."""
    try:
        for name, size in manifest(place)["files"].items():
            if (found := (place / name).stat().st_size) != size:
                return f"{name} has {found:,} bytes of {size:,}"
            if name.endswith(TORCH):
                with zipfile.ZipFile(place / name) as parts:
                    if part := parts.testzip():
                        return f"{part} in {name} is not what was written"
    except (OSError, ValueError, KeyError, TypeError, zlib.error, zipfile.BadZipFile) as error:
        return str(error)
    return ""


def manifest(place: Path) -> dict[str, Any]:
    """What a checkpoint says of itself."""
    found: dict[str, Any] = json.loads((place / MANIFEST).read_text())
    return found


def check_fits(place: Path, spread: Spread) -> None:
    """Refuse one that can't be gone on from over these processes."""
    found = manifest(place)
    saved = Spread(found["strategy"], found["processes"])
    if saved != spread and (saved.is_sharded or spread.is_sharded):
        raise ValueError(
            f"{place} was saved by trainer.strategy={saved.strategy} over {saved.processes} processes, and this run "
            f"has {spread.strategy} over {spread.processes}. Go on with the same ones, or begin anew with again=true, "
            f"or take its weights out with python -m opd_bench.export {place.parents[1]} OUT and start from them with "
            "start=OUT"
        )


def size_of(trainer: pl.Trainer) -> int:
    """Bytes, about: weights as they are, and with ZeRO the optimiser's own copy, and its two averages in float32."""
    student: nn.Module = trainer.lightning_module.student  # type: ignore[assignment]
    saved = learning(student)
    return numbers(saved) * (saved[0].element_size() + (12 if shards_optimiser(trainer) else 8))


def _folders(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("step*") if path.is_dir() and path.suffix != ".part"), reverse=True)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _last(folder: Path) -> str:
    found, _ = newest(folder)
    return found.name if found else "the beginning"

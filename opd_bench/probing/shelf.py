"""Gradients in files, one of a job and a set, until all sets have come."""

import shutil
import sys
from inspect import getsource
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from opd_bench.estimators.base import Estimator
from opd_bench.reporting.record import short_digest
from opd_bench.tokens import Origin


class Job(NamedTuple):
    """An estimator, on sets as they are, or on some writers' tokens as if the student had written them."""

    estimator: Estimator
    writers: frozenset[Origin] | None = None

    @property
    def name(self) -> str:
        """By settings and code: the same gradients have the same name, whichever methods ask for them."""
        part = type(self.estimator).__name__
        return f"{part}-{short_digest([described(self.estimator), self.writers and sorted(self.writers)])}"


class Found(NamedTuple):
    """What is kept of a job on one set."""

    gradient: Tensor  # [K] as written
    within: Tensor  # unbiased tr Cov when the tokens are redrawn at fixed prefixes; NaN where they are not
    seconds: Tensor


class Shelf:
    """Where they are, by job and set."""

    def __init__(self, folder: Path):
        self.folder = folder

    def holds(self, name: str, number: int) -> bool:
        """Whether it is there, and whole."""
        try:
            with safe_open(self._path(name, number), "pt"):
                return True
        except (OSError, SafetensorError):
            return False

    def put(self, name: str, number: int, found: Found) -> None:
        """Whole or not at all."""
        path = self._path(name, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        save_file({field: value.contiguous() for field, value in found._asdict().items()}, unfinished)
        unfinished.replace(path)

    def get(self, name: str, number: int) -> Found:
        """As it was put."""
        return Found(**load_file(self._path(name, number)))

    def clear(self) -> None:
        """Everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str, number: int) -> Path:
        return self.folder / name / f"set-{number:03d}.safetensors"


def described(part: Any) -> list[Any]:
    """An estimator or a source: its settings, and the file that it is written in."""
    return [type(part).__name__, part.settings(), getsource(sys.modules[type(part).__module__])]

"""Parts of a measurement, each to a file of its own: a part that is measured again replaces its file alone."""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers.utils import logging as transformers_logging

from benchmarks import grid
from benchmarks.clock import Side
from benchmarks.compare import cell, is_short, shape_json, sides_of
from benchmarks.embedded import embedded
from benchmarks.floor import Peaks, floor, measured_peaks
from benchmarks.growth import growth, probe
from benchmarks.memory import losses
from benchmarks.methods import methods
from benchmarks.models import Place, Shape
from benchmarks.peers import GKD

MAIN, MORE = "opd_full", ("opd", "vopd")
"""What peers are compared with, and what else of ours is shown where steps are short."""
LIBRARIES = ("torch", "transformers", "trl", "accelerate", "lightning")


def lent(asked: argparse.Namespace) -> str:
    """What is missing, and what to do; nothing if nothing is."""
    if (asked.gpu or asked.device == "cuda") and not torch.cuda.is_available():
        return "--gpu and --device cuda need a GPU, and torch finds none here"
    if find_spec("trl") is None:
        return (
            "trl is not installed, which is compared with; `make perf` installs it, and so does pip install '.[perf]'"
        )
    return ""


class Performance:
    """Everything that was asked for, on one machine."""

    def __init__(self, asked: argparse.Namespace):
        self.asked = asked
        self.amount = grid.BRIEF if asked.quick else grid.FULL
        if asked.gpu:
            self.amount = self.amount._replace(cells=grid.GPU)
            asked.device, asked.precision = "cuda", "bf16"
        self.place = Place(asked.device, asked.precision)
        self.size = 2 if asked.precision == "bf16" else 4
        self.console = Console(stderr=True)
        self.peaks = Peaks(0.0, 0.0)
        torch.set_num_threads(asked.threads)
        transformers_logging.set_verbosity_error()
        asked.out.mkdir(parents=True, exist_ok=True)

    def part(self, name: str) -> None:
        """Measure and keep it."""
        start = time.time()
        self._look()
        with self.console.status(name) as status:
            found = getattr(self, f"_{name}")(lambda words: status.update(f"{name}: {words}"))
        self._look()
        self._keep(name, found, time.time() - start)
        self.console.print(f"{name}: {time.time() - start:.0f} s", highlight=False)

    def _keep(self, name: str, found: Any, seconds: float | None = None) -> None:
        content = {"machine": self.machine(), "seconds": seconds, "found": found}
        (self.asked.out / f"{name}.json").write_text(json.dumps(content, indent=1), encoding="utf-8")

    def machine(self) -> dict[str, Any]:
        """What ran it, as far as seconds depend on it."""
        return {
            "processor": torch.cuda.get_device_name() if self.place.device == "cuda" else _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load": round(os.getloadavg()[0], 1),
            **self.place._asdict(),
            "peaks": self.peaks._asdict(),
            "python": platform.python_version(),
            **{name: _version(name) for name in LIBRARIES},
            "date": time.strftime("%Y-%m-%d"),
            "quick": self.asked.quick,
        }

    def _look(self) -> None:
        self.peaks = self.peaks.or_better(measured_peaks(self.place.device, self.place.dtype))

    def _compare(self, tell: Callable[[str], None]) -> list[dict[str, Any]]:
        kept = {row["name"]: row for row in self._measured("compare")}
        for number, shape in enumerate(cells := self._cells()):
            out = grid.left_out(shape, self.peaks, self.size, self.asked.all or self.asked.gpu)
            row: dict[str, Any] = {"shape": shape_json(shape), "name": shape.name, "left out": out}
            if "all" not in out:
                self._look()
                words = f"{number + 1} of {len(cells)}, {shape.name}: "
                row |= cell(shape, self._makers(shape, out), self.amount.repeats, self.place, _after(words, tell))
            row["floor"] = floor(shape, self.peaks, self.size)
            if "sides" in row or "sides" not in kept.get(shape.name, {}):
                kept[shape.name] = row
            self._keep("compare", list(kept.values()))
        ordered = [kept.pop(shape.name) for shape in self.amount.cells if shape.name in kept]
        return [*ordered, *kept.values()]

    def _cells(self) -> list[Shape]:
        """Those that were asked for by a part of their name."""
        names = self.asked.cells or [""]
        return [shape for shape in self.amount.cells if any(name in shape.name for name in names)]

    def _measured(self, part: str) -> list[dict[str, Any]]:
        """What there is from before, of sizes that are measured now, if only some of them are measured anew."""
        path = self.asked.out / f"{part}.json"
        return json.loads(path.read_text(encoding="utf-8"))["found"] if self.asked.cells and path.exists() else []

    def _makers(self, shape: Shape, out: dict[str, str]) -> list[Callable[..., Side]]:
        short = is_short(shape)
        makers = sides_of([MAIN, *MORE] if short else [MAIN, MORE[0]], measured=short)
        skipped = [GKD] if self.asked.gpu or GKD.label in out else []
        return [maker for maker in makers if maker not in skipped]

    def _memory(self, tell: Callable[[str], None]) -> list[dict[str, Any]]:
        return losses(self.amount.tokens, tell, **self.amount.loss)

    def _growth(self, tell: Callable[[str], None]) -> dict[str, Any]:
        amount = self.amount
        steps = growth(amount.growing, amount.sizes, 2, self.place, tell)
        return {"steps": steps, "probe": probe(amount.probed, tell)}

    def _methods(self, tell: Callable[[str], None]) -> dict[str, Any]:
        shape = self.amount.of_methods
        found = methods(shape, self.asked.names, self.amount.rounds, self.place, tell)
        return {"name": shape.name, "shape": shape_json(shape), "methods": found}

    def _embedded(self, tell: Callable[[str], None]) -> dict[str, Any]:
        return embedded(self.amount.steps, self.peaks, tell)


def _after(words: str, tell: Callable[[str], None]) -> Callable[[str], None]:
    return partial(lambda before, text: tell(before + text), words)


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in path.read_text().splitlines() if "model name" in line]
        if path.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

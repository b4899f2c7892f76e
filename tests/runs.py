"""Runs of a few steps on the shipped models, in this process."""

import subprocess
import time
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console

from opd_bench.configs import conf_dir
from opd_bench.reporting.files import read_series
from opd_bench.reporting.record import find_records
from opd_bench.training.run import Run

SMALL = (
    "plan.steps=6",
    "plan.prompts=8",
    "evaluation.problems=16",
    "evaluation.samples=2",
    "evaluation.every=3",
    "evaluation.validation_problems=8",
    "watch.moments_every=2",
    "watch.prefixes=2",
    "watch.checkpoint_every=2",
)


def configured(folder: Path, method: str, *overrides: str) -> dict[str, Any]:
    """The configuration of a small run."""
    return composed("bench", f"method={method}", f"name={method}", f"results={folder}", *SMALL, *overrides)


def composed(name: str, *overrides: str) -> dict[str, Any]:
    """The configuration that the command line would make; only where its results go is put in afterwards."""
    places = [one for one in overrides if one.startswith("results=")]
    config = deepcopy(_composed(name, tuple(one for one in overrides if one not in places)))
    return config | ({"results": places[-1].removeprefix("results=")} if places else {})


@cache
def _composed(name: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config: Any = OmegaConf.to_container(compose(name, overrides=list(overrides)), resolve=True)
    return config


def series_of(run: Run) -> dict[str, list[float | None]]:
    """What is kept beside a run's record, None where a step has no value."""
    found = read_series(find_records([run.folder])[0][0])
    return {name: [None if value != value else value for value in values.tolist()] for name, values in found.items()}


def wait_for(process: subprocess.Popen, folder: Path, pattern: str) -> None:
    """Until there is such a file, as long as the process lives and at most two minutes."""
    deadline = time.monotonic() + 120
    while not list(folder.glob(pattern)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def small_run(folder: Path, method: str, *overrides: str) -> Run:
    return Run(configured(folder, method, *overrides), Console(quiet=True), bar=False)

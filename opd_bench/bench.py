"""One run, or with -m many: python -m opd_bench.bench --help."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from tempfile import TemporaryDirectory
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from opd_bench.configs import check_choices, conf_dir
from opd_bench.reporting.formats import terminal
from opd_bench.reporting.leaderboard import tables
from opd_bench.reporting.record import RecordError, find_records


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="bench")
def bench(config: DictConfig) -> None:
    """Perform the run that the configuration describes, unless it is done already."""
    from opd_bench.forecast.telling import told
    from opd_bench.training.closing import closing  # what follows takes seconds to import, --help must not
    from opd_bench.training.launch import end_with_sweep, quiet, supervised
    from opd_bench.training.run import Run
    from opd_bench.tuning import with_rate

    quiet()
    end_with_sweep()
    many = HydraConfig.get().mode == RunMode.MULTIRUN
    if many:
        gc.collect()  # of the run before this one, the models: they are in cycles, and in a GPU's memory
    resolved: Any = OmegaConf.to_container(config, resolve=True)
    console = Console()
    try:
        if not isinstance(resolved["dry"], bool):
            raise ValueError(f"dry must be true or false, got {resolved['dry']!r}")
        run = Run(with_rate(resolved), console, bar=not many)
        place = run.layout.place
        if resolved["dry"]:
            if place.rank == 0:
                told(console, run, brief=many)
            return
        done = run.record()
        record = done or (run.perform() if place.is_started else supervised(run))
    except (ValueError, TypeError, RecordError) as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        status = "no run"
    else:
        if place.rank == 0:
            closing(console, run, record, brief=many, done=done is not None)
        for table in [] if many or place.rank else tables(find_records([run.folder.parents[1]])[0]):
            console.print(terminal(table, console.width))
        status = record["status"]
    if status != "finished" and not many:  # of many, one that fails does not stop the rest
        sys.exit(1)


@contextmanager
def _leaving_nothing() -> Iterator[None]:
    """Hydra writes down what a sweep is, in a folder of its own: of a dry one, in a folder that goes."""
    with TemporaryDirectory(prefix="opd_bench-") as folder:
        sys.argv.append(f"hydra.sweep.dir={folder}")
        yield


def main() -> None:
    """Names that don't exist are refused before anything else, with suggestions."""
    try:
        check_choices(sys.argv[1:])
        with _leaving_nothing() if "dry=true" in map(str.lower, sys.argv) else nullcontext():
            bench()
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

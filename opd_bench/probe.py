"""Variance and bias of every method's gradient at a frozen student: python -m opd_bench.probe --help."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from opd_bench.configs import check_choices, conf_dir
from opd_bench.reporting.record import Record, RecordError, write_whole


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="probe")
def probe(config: DictConfig) -> None:
    """Probe the student that the configuration names, or all that a run kept; write and show what was found."""
    from opd_bench.probing.run import Probe, students  # takes seconds to import, --help must not

    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    resolved: Any = OmegaConf.to_container(config, resolve=True)
    console = Console()
    records = []
    try:
        for checkpoint in students(resolved["checkpoint"], resolved["protocol"]):
            found = Probe(resolved, checkpoint, console, bar=console.is_terminal)
            records.append(found.perform())
            show(console, found.folder, records[-1])
        curves(console, found.folder.parent, records)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on where it was")
    except (ValueError, TypeError, OSError, RecordError) as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)


def show(console: Console, folder: Path, record: Record) -> None:
    """The table here; table, figures and plots beside the record."""
    from opd_bench.reporting.probe_plots import save
    from opd_bench.reporting.probe_tables import as_csv, markdown, terminal

    plots = save(record, folder)
    write_whole(folder / "probe.md", markdown(record, [path.name for path in plots if path.suffix == ".svg"]))
    write_whole(folder / "probe.csv", as_csv(record))
    console.print(terminal(record, console.width))
    names = ["probe.json", "probe.md", "probe.csv", *(path.name for path in plots)]
    console.print(f"written to {folder}: {', '.join(names)}", highlight=False, markup=False, soft_wrap=True)


def curves(console: Console, folder: Path, records: list[Record]) -> None:
    """Of several students of one run, what becomes of the methods' gradients on the way."""
    from opd_bench.reporting.drawing import write
    from opd_bench.reporting.probe_curves import over_training

    if figure := over_training(records):
        name = f"over_training-{Path(records[0]['checkpoint']['name']).parents[1].name}"
        console.print(f"over training: {', '.join(map(str, write(figure, folder, name)))}", soft_wrap=True)


def main() -> None:
    """Names that don't exist are refused before anything else, with suggestions."""
    try:
        check_choices(sys.argv[1:])
        probe()
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

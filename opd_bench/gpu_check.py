"""Whether training on this GPU is what it is on the CPU, and how fast: python -m opd_bench.gpu_check --help.

Needs neither hydra-core nor a network.
"""

import argparse
import json
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from opd_bench.configs import known
from opd_bench.reporting.cells import figure, grid

if TYPE_CHECKING:
    from opd_bench.training.trial import Place, Timed, Work

TOLERANCES = {"32-true": 1e-3, "bf16-mixed": 0.1}
"""How far a gradient's norm and a loss may be off, relatively; in bfloat16 some tokens are drawn otherwise."""
ABSENT = "deepspeed is not installed"
FINE = ("reference", "ok", ABSENT)
COLUMNS = ("run", "status", "s/step", "tokens/s", "peak MiB", "norm off", "loss off")
CAPTION = (
    "the first step's gradient norm and loss: how far off those of the CPU, relatively; it deviates from more than "
    + ", ".join(f"{tolerance:g} ({precision})" for precision, tolerance in TOLERANCES.items())
)


class Row(NamedTuple):
    """One training: what became of it, what was measured, and how far it is off the reference."""

    name: str
    status: str
    timed: "Timed | None" = None
    norm_off: float | None = None
    loss_off: float | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all that could be tried agrees with the CPU."""
    parser = _parser()
    options = parser.parse_args(arguments)
    accelerator, out = options.accelerator, options.out
    if options.steps < 2:
        parser.error(f"--steps must be ≥ 2, for the first is a warm-up, got {options.steps}")
    try:
        known("method", options.method)
    except ValueError as error:
        parser.error(f"--method: {error}")
    if accelerator == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"  # read when DeepSpeed is first imported
    warnings.simplefilter("ignore")  # libraries say of each small training what they say of any

    import torch

    from opd_bench.training.trial import Work

    if accelerator == "gpu" and not torch.cuda.is_available():
        parser.exit(1, "error: torch sees no GPU; --accelerator cpu is a dry run of all of it\n")
    out.mkdir(parents=True, exist_ok=True)
    (out / "errors.txt").unlink(missing_ok=True)
    work, console = Work(options.method, options.steps, options.prompts), Console()
    device = torch.cuda.get_device_name() if accelerator == "gpu" else "a dry run on the CPU"
    rows, table = all_rows(work, accelerator, out)
    console.print(grid(f"{options.method} on {device}", CAPTION, COLUMNS, map(_cells, rows)))
    console.print(table, markup=False, highlight=False, soft_wrap=True)
    (out / "gpu_check.json").write_text(json.dumps([_plainly(row) for row in rows], indent=1))
    written = ", ".join(sorted(path.name for path in out.iterdir()))
    console.print(f"written to {out}: {written}", markup=False, highlight=False, soft_wrap=True)
    return 0 if all(row.status in FINE for row in rows) else 1


def all_rows(work: "Work", accelerator: str, out: Path) -> tuple[list[Row], str]:
    """With the profile's table, which is of the last plain training."""
    from opd_bench.training.trial import profiled

    rows, table = list(checked(work, _plain(accelerator), out)), ""
    try:
        table = profiled(work, _plain(accelerator)[-1][1], out / "trace.json")
    except Exception as error:
        rows.append(Row("profile", _failure("profile", error, out)))
    rows += checked(work, _sharded(accelerator), out, rows[0])  # last: ZeRO-3 changes torch's own functions for good
    return rows, table


def checked(
    work: "Work", places: "Sequence[tuple[str, Place]]", out: Path, reference: Row | None = None
) -> Iterator[Row]:
    """A row for each, compared with the first of all."""
    for name, place in places:
        row = tried(name, work, place, out)
        if reference is None:
            reference = row._replace(status="reference" if row.timed else row.status)
            yield reference
        else:
            yield compared(row, reference, TOLERANCES[place.precision])


def tried(name: str, work: "Work", place: "Place", out: Path) -> Row:
    """What is measured, or why nothing is; a traceback is kept."""
    from opd_bench.training.trial import timed

    if place.stage and not find_spec("deepspeed"):
        return Row(name, ABSENT)
    try:
        return Row(name, "ok", timed(work, place))
    except Exception as error:  # any failure is a row, and the others go on
        return Row(name, _failure(name, error, out))


def compared(row: Row, reference: Row, tolerance: float) -> Row:
    """With how far it is off, and whether that is too much or not a number."""
    if row.timed is None:
        return row
    if reference.timed is None:
        return row._replace(status="nothing to compare it with")
    norm = _off(row.timed.norm, reference.timed.norm)
    loss = _off(row.timed.loss, reference.timed.loss)
    agrees = norm <= tolerance and loss <= tolerance
    return row._replace(status="ok" if agrees else "deviates", norm_off=norm, loss_off=loss)


def _failure(name: str, error: Exception, out: Path) -> str:
    """In a line; the traceback is kept."""
    with (out / "errors.txt").open("a") as file:
        file.write(f"{name}\n{traceback.format_exc()}\n")
    return f"failed: {type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def _off(value: float, reference: float) -> float:
    return abs(value - reference) / max(abs(reference), 1e-9)


def _plain(accelerator: str) -> "list[tuple[str, Place]]":
    """Without DeepSpeed, the reference first."""
    from opd_bench.training.trial import Place

    same = [(f"{accelerator} {precision}", Place(accelerator, precision)) for precision in TOLERANCES]
    return [("cpu 32-true", Place("cpu", "32-true")), *same]


def _sharded(accelerator: str) -> "list[tuple[str, Place]]":
    """DeepSpeed's stages in one process."""
    from opd_bench.training.trial import Place

    return [(f"{accelerator} bf16 ZeRO-{stage}", Place(accelerator, "bf16-mixed", stage)) for stage in (1, 2, 3)]


def _cells(row: Row) -> tuple[str, ...]:
    measured = row.timed[:3] if row.timed else (None, None, None)
    return row.name, row.status, *map(figure, (*measured, row.norm_off, row.loss_off))


def _plainly(row: Row) -> dict[str, object]:
    return row._asdict() | {"timed": row.timed and row.timed._asdict()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m opd_bench.gpu_check",
        description="Small trainings on one GPU beside the same on the CPU: agreement, speed, memory, and a profile.",
    )
    parser.add_argument("--method", default="opd_full", metavar="METHOD", help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=6, metavar="N", help="of each training (default: %(default)s)")
    parser.add_argument("--prompts", type=int, default=16, metavar="N", help="of a step (default: %(default)s)")
    parser.add_argument("--accelerator", choices=("gpu", "cpu"), default="gpu", help="cpu: a dry run of all of it")
    parser.add_argument(
        "--out", type=Path, default=Path("results/gpu-check"), metavar="FOLDER", help="default: %(default)s"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

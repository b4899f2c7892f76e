"""A run's student as a folder that transformers loads: python -m opd_bench.export --help."""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

from opd_bench.reporting.card import card, progress
from opd_bench.reporting.record import RUN, Record, RecordError, read_record

RECORD = "opd_bench-record.json"
"""The run's record, beside the weights."""
EXAMPLES = """examples:
  python -m opd_bench.export results/runs/mini_gsm-standard-1a2b3c/tropd-4d5e6f/seed-0 my-student
  python -m opd_bench.export RUN my-student --step 50 --dtype bfloat16

The folder has the weights as safetensors, tokenizer, configuration, a model card made from the run's record and the
record itself. Nothing of opd_bench is needed to load it: AutoModelForCausalLM.from_pretrained("my-student")."""


class Asked(NamedTuple):
    """Which student, and in what form."""

    run: Path
    step: int | None  # None: the newest
    dtype: Literal["float32", "bfloat16"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Export what is asked for and say what it is."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        _check_place(given.out, given.force)
        said = export(Asked(given.run, given.step, given.dtype), given.out)
    except (ValueError, RecordError) as error:
        parser.exit(1, f"error: {error}\n")
    except OSError as error:
        parser.exit(1, f"error: {error.filename or given.out} can't be written: {error.strerror or error}\n")
    print(said)
    return 0


def export(asked: Asked, out: Path) -> str:
    """Write the folder beside its place and move it there; what it has, for people."""
    record = _record(asked.run)
    checkpoint = _checkpoint(asked)  # before what follows, which takes seconds to import

    from transformers.utils import logging

    from opd_bench.training.checkpoints import manifest

    logging.disable_progress_bar()
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed, once imported, says that there is no GPU
    step = int(manifest(checkpoint)["step"])
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{out.name}.", suffix=".part", dir=out.parent) as beside:
        unfinished = Path(beside) / "new"
        _write_model(checkpoint, record, asked.dtype, unfinished)
        (unfinished / "README.md").write_text(card(record, step, asked.dtype), encoding="utf-8")
        shutil.copyfile(asked.run / RUN.file, unfinished / RECORD)
        if out.exists():
            out.rename(Path(beside) / "old")
        unfinished.rename(out)
    return f"{out}: {progress(record, step)}, {asked.dtype}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m opd_bench.export",
        description="A run's student as one Hugging Face folder.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder: results/runs/PROTOCOL/METHOD/seed-N")
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to make")
    parser.add_argument("--step", type=int, metavar="N", help="of which checkpoint (default: the newest)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="default: %(default)s")
    parser.add_argument("--force", action="store_true", help="replace an earlier export in OUT")
    return parser


def _check_place(out: Path, force: bool) -> None:
    """OUT is free, or an earlier export that may go."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"OUT is a file: {out}; name a folder")
    if not out.exists() or not any(out.iterdir()):
        return
    if not force:
        raise ValueError(f"OUT is not empty: {out}; choose another folder, or --force replaces an earlier export")
    if not (out / RECORD).exists():
        raise ValueError(f"OUT is no earlier export, which is all that --force replaces: {out} has no {RECORD}")


def _record(run: Path) -> Record:
    """The run's record, which there is from its first moment on."""
    if not (run / "config.json").is_file():
        hint = next((f"; there is one in {path.parent}" for path in sorted(run.rglob("config.json"))), "")
        known = hint or "; a run's folder is results/runs/PROTOCOL/METHOD/seed-N"
        raise ValueError(f"no run in {run}: it has no config.json{known}")
    return read_record(run / RUN.file)


def _checkpoint(asked: Asked) -> Path:
    """The one that was asked for, or the newest that is whole; damaged ones are told."""
    from opd_bench.training.checkpoints import damage, newest

    folder = asked.run / "checkpoints"
    steps = sorted(int(path.name.removeprefix("step")) for path in folder.glob("step" + 6 * "[0-9]"))
    if not steps:
        raise ValueError(
            f"no checkpoints in {folder}; watch.checkpoint_every is the number of steps between two, and 0 keeps none"
        )
    if asked.step is not None:
        if asked.step not in steps:
            raise ValueError(f"no checkpoint of step {asked.step} in {folder}; there are {', '.join(map(str, steps))}")
        place = folder / f"step{asked.step:06d}"
        if wrong := damage(place):
            raise ValueError(f"{place} is damaged: {wrong}")
        return place
    found, complaints = newest(folder)
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    if found is None:
        raise ValueError(f"no checkpoint in {folder} is whole; the run's own command makes new ones")
    return found


def _write_model(checkpoint: Path, record: Record, dtype: str, folder: Path) -> None:
    """Weights, configuration and tokenizer."""
    import torch

    from opd_bench.configs import made
    from opd_bench.training.weights import student_of

    reading = made(record["config"]["student"])
    student: Any = student_of(checkpoint, record["start"], reading).to(getattr(torch, dtype))
    student.save_pretrained(folder)
    reading.tokenizer(record["start"]).save_pretrained(folder)


if __name__ == "__main__":
    sys.exit(main())

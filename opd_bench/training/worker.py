"""One process of several that make a run: what `launch` starts."""

import json
import os
import sys
import threading
from pathlib import Path

import torch.distributed as dist
from rich.console import Console

from opd_bench.reporting.record import RecordError
from opd_bench.training.launch import NO_RUN, quiet
from opd_bench.training.outcomes import outcome_of
from opd_bench.training.run import Run


def main() -> None:
    """Perform this process's part, and leave word of what became of it."""
    room, lifeline = Path(sys.argv[1]), int(sys.argv[2])
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    quiet()
    task = json.loads((room / "task.json").read_text())
    sys.orig_argv[:] = task["command"]  # what somebody typed: the record tells it
    rank = int(os.environ["RANK"])
    outcome = {"status": NO_RUN, "reason": ""}
    try:
        run = Run(task["config"], Console(quiet=rank > 0), bar=task["bar"] and rank == 0)
        record = run.perform(is_claimed=True)
        outcome = {"status": record["status"], "reason": record["reason"]}
    except SystemExit as stop:
        outcome = {"status": "killed", "reason": str(stop).partition(": ")[2]}
    except (ValueError, TypeError, RecordError) as error:
        outcome["reason"] = str(error)  # told by the parent, once
    except Exception as error:
        outcome = outcome_of(error, 0)._asdict()
        raise
    finally:
        (room / f"{rank}.outcome").write_text(json.dumps(outcome))
    sys.exit(outcome["status"] != "finished")


def _end_with_parent(lifeline: int) -> None:
    """The other end of the pipe is the parent's alone: when it is closed, there is none."""
    os.read(lifeline, 1)
    os._exit(1)


if __name__ == "__main__":
    try:
        main()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()

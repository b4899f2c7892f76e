"""One run in several processes of this machine, started, watched and ended together.

Where all processes are started from outside, by torchrun or SLURM, nothing of this is used.
"""

import json
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import IO, Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from opd_bench.reporting.record import RUN, Record, RecordError, read_record, write_record
from opd_bench.training.layout import Layout
from opd_bench.training.outcomes import FINAL
from opd_bench.training.run import Run
from opd_bench.training.stopping import asked, listening, stopped

WORKER = "opd_bench.training.worker"
Outcome = Mapping[str, Any]
"""What a process has left word of: status and reason."""
NO_RUN = "no run"
"""The outcome of a process that could not even begin."""
NOISE = (
    ".*LeafSpec.*",
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*torch.distributed.* is deprecated.*",
    ".*When saving the DeepSpeed Stage 3 checkpoint.*",
    ".*gradient_checkpointing_enable. is deprecated.*",
)
"""Warnings of libraries about what is meant to be so."""
LOOK = 0.05
"""Seconds between looks at the processes."""


def supervised(run: Run) -> Record:
    """The record of a run whose processes are children of this one."""
    path = run.folder / RUN.file
    claim = nullcontext(None) if run.layout.place.node else run.claimed()
    with claim as lock, listening(), tempfile.TemporaryDirectory(prefix="opd_bench-") as room:
        before = path.read_bytes() if path.exists() else None
        with _started(run, lock, Path(room)) as workers:
            codes = _watched(workers, run)
        outcomes = {int(told.stem): json.loads(told.read_text()) for told in Path(room).glob("*.outcome")}
        refused = [outcome["reason"] for outcome in outcomes.values() if outcome["status"] == NO_RUN]
        if refused:
            raise RecordError(refused[0])
        if run.layout.place.node:  # the first node's command has the record
            return dict(min(outcomes.items())[1]) if outcomes else {"status": "killed", "reason": ""}
        record = _settled(run, codes, outcomes, is_new=path.exists() and path.read_bytes() != before)
        if record["status"] == "killed" and asked():
            raise SystemExit(run.told(record["reason"]))
        return record


def quiet() -> None:
    """Libraries' words about what is meant to be so are not shown."""
    for message in NOISE:
        warnings.filterwarnings("ignore", message)
    for name in ("lightning.pytorch", "lightning.fabric", "DeepSpeed"):
        logging.getLogger(name).setLevel(logging.WARNING)


@cache
def end_with_sweep() -> None:
    """A sweep's job in a process of its own ends when the sweep does, however it does: joblib's would wait for more."""
    if multiprocessing.current_process().name != "MainProcess":
        threading.Thread(target=_end_without, args=(os.getppid(),), daemon=True).start()


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


@contextmanager
def _started(run: Run, lock: IO[str] | None, room: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """All processes. They hold the lock too, and end when this process does, however it does."""
    read, write = os.pipe()
    (room / "task.json").write_text(json.dumps({"config": run.config, "bar": run.bar, "command": sys.orig_argv}))
    names = _names(run.layout)
    logs = run.folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for local in range(run.layout.local):
            rank = run.layout.place.rank + local
            with (logs / f"process-{rank}.txt").open("w") as log:
                workers.append(
                    subprocess.Popen(
                        [sys.executable, "-m", WORKER, str(room), str(read)],
                        env={**os.environ, **names, "RANK": str(rank), "LOCAL_RANK": str(local)},
                        stdout=log if rank else None,
                        stderr=log if rank else None,
                        pass_fds=(read, lock.fileno()) if lock else (read,),
                        start_new_session=True,  # a terminal's Ctrl-C comes here, and is passed on
                    )
                )
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        os.close(read)
        os.close(write)


def _names(layout: Layout) -> dict[str, str]:
    """What tells all processes of this node how many there are and where they find one another: torchrun's names."""
    same = {"WORLD_SIZE": str(layout.processes), "NODE_RANK": str(layout.place.node)}
    if layout.num_nodes == 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return {**same, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    if SLURMEnvironment.detect() and "MASTER_ADDR" not in os.environ:
        slurm = SLURMEnvironment()
        return {**same, "MASTER_ADDR": slurm.main_address, "MASTER_PORT": str(slurm.main_port)}
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ValueError(
            f"trainer.num_nodes={layout.num_nodes} needs {' and '.join(missing)} in the environment, the same on every "
            "node, and NODE_RANK=0, 1, … to tell them apart; or start it with torchrun or srun"
        )
    return same


def _watched(workers: list[subprocess.Popen[bytes]], run: Run) -> list[int | None]:
    """How all have ended: by themselves, told to stop as this process was, or, None, because they had to be."""
    deadline, told = float("inf"), 0
    while any(worker.poll() is None for worker in workers) and time.monotonic() < deadline:
        try:
            time.sleep(LOOK)
            if asked() and not told:
                told = _tell(workers)
                run.console.print("stopping after this step; once more stops at once", style="yellow")
        except KeyboardInterrupt:
            told += _tell(workers)
            deadline = min(deadline, time.monotonic() + (run.layout.grace if told < 3 else 0))
        if any(worker.poll() not in (None, 0) for worker in workers):
            deadline = min(deadline, time.monotonic() + run.layout.grace)
    return [worker.poll() for worker in workers]


def _tell(workers: list[subprocess.Popen[bytes]]) -> int:
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(signal.SIGTERM)
    return 1


def _settled(run: Run, codes: list[int | None], outcomes: Mapping[int, Outcome], is_new: bool) -> Record:
    """The record, which knows what became of the processes that could not say so there themselves."""
    path = run.folder / RUN.file
    record = read_record(path) if path.exists() else None
    if record and all(code == 0 for code in codes):
        return record
    status, reason = _fate(codes, outcomes, record["budget"]["steps"] if record else 0)
    if record is None or (record["status"] in FINAL and not is_new):
        raise RecordError(f"{reason}. {path} is {'what it was' if record else 'not written yet'}")
    if record["status"] not in FINAL and (record["status"], record["reason"]) != (status, reason):
        write_record(run.folder, {**record, "status": status, "reason": reason})
    return read_record(path)


def _fate(codes: list[int | None], outcomes: Mapping[int, Outcome], steps: int) -> tuple[str, str]:
    """The first thing that went wrong: an error in a process, else the end of one, else what they were told."""
    for rank, outcome in sorted(outcomes.items()):
        if outcome["status"] not in ("killed", "finished"):
            return outcome["status"], f"{outcome['reason']} (in process {rank} of {len(codes)})"
    for rank, code in enumerate(codes):
        if rank in outcomes or asked():
            continue
        how = "did not answer and had to be ended" if code is None else f"was ended by {_name(code)}"
        return "killed", f"process {rank} of {len(codes)} {how} after step {steps}; the same command goes on"
    told: Any = next(iter(outcomes.values()), None)
    return "killed", told["reason"] if told else stopped(asked() or "it is not known how", steps)


def _name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"itself, with code {code}"

"""What may happen to a run of several processes, with real processes, signals and engines: nothing hangs or is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from opd_bench.reporting.record import find_records, outcome
from tests.runs import SMALL, wait_for

ROOT = Path(__file__).parents[1]
LONG = (*SMALL, "plan.steps=4000", "evaluation.every=0", "trainer.grace=3")
WORKER = "opd_bench.training.worker"


def started(folder: Path, *arguments: str) -> subprocess.Popen:
    """A command in a session of its own, so that what it leaves behind can be found."""
    command = [sys.executable, "-m", "opd_bench.bench", "method=opd", f"results={folder}", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **pipes)


def workers(folder: Path) -> list[int]:
    """Processes that hold the lock of a run below this folder, other than those that started them, in their order."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if WORKER in (entry / "cmdline").read_text() and str(folder) in _open_files(entry):
                names = dict(line.split("=", 1) for line in (entry / "environ").read_text().split("\0") if "=" in line)
                found[int(names["RANK"])] = int(entry.name)
    return [found[rank] for rank in sorted(found)]


def _open_files(entry: Path) -> str:
    return " ".join(os.readlink(link) for link in (entry / "fd").iterdir())


def record_of(folder: Path) -> dict:
    (record,), complaints = find_records([folder])
    assert not complaints
    return record


def begun(process: subprocess.Popen, folder: Path) -> list[int]:
    """The processes, once the run has a checkpoint."""
    wait_for(process, folder, "*/*/*/checkpoints/step*/manifest.json")
    return workers(folder)


def ended(process: subprocess.Popen, folder: Path, seconds: float = 60) -> str:
    """What a command said on stderr; it and its processes are gone."""
    _, said = process.communicate(timeout=seconds)
    assert not workers(folder)
    return said


@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_process_is_killed_the_others_end_and_the_record_says_so(tmp_path, victim):
    process = started(tmp_path, *LONG, "trainer=cpu_zero1")
    os.kill(begun(process, tmp_path)[victim], signal.SIGKILL)
    start = time.monotonic()
    ended(process, tmp_path)
    assert time.monotonic() - start < 20
    assert process.returncode == 1
    record = record_of(tmp_path)
    assert record["status"] == "killed"
    assert f"ended by SIGKILL after step {record['budget']['steps']} (in process {victim} of 2)" in record["reason"]
    assert json.loads(json.dumps(outcome(record)))

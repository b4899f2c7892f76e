"""Sweeps whose processes are killed again and again end with every record right and nothing left running."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from opd_bench.reporting.record import find_records, outcome
from tests.runs import SMALL

ROOT = Path(__file__).parents[1]
TINY = (*SMALL, "plan.steps=3", "plan.prompts=4", "evaluation.problems=8", "evaluation.every=0", "trainer.grace=2")
SWEEPS = (
    ("method=opd,vopd", "trainer=cpu", f"seed={','.join(map(str, range(23)))}"),
    ("method=opd,vopd", "trainer=cpu_ddp", "seed=23,24"),
)
"""46 runs of one process and 4 of two."""
KILLS = 12
MARK = "OPD_BENCH_SOAK"
LIBRARY = "joblib.externals.loky", "resource_tracker"


def swept(folder: Path, sweep: tuple[str, ...]) -> subprocess.Popen:
    """A sweep, two runs at once. Its processes carry a mark, and so do theirs."""
    arguments = ("-m", f"results={folder}", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *sweep, *TINY)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-m", "opd_bench.bench", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, MARK: str(folder)}, start_new_session=True, **quiet)


def marked(folder: Path) -> list[int]:
    """All living processes of a sweep."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{MARK}={folder}\0" in (entry / "environ").read_text():
                found.append(int(entry.name))
    return sorted(found)


def outcomes(folder: Path) -> dict[tuple[str, int], str]:
    records, complaints = find_records([folder])
    assert not complaints
    for record in records:
        del record["config"]["results"]
    return {(record["config"]["name"], record["seed"]): json.dumps(outcome(record)) for record in records}


def is_idle(process: int) -> bool:
    """A worker of joblib's that had no job yet when its sweep was killed; it ends by itself after five minutes."""
    with suppress(OSError):
        command = Path(f"/proc/{process}/cmdline").read_text()
        return any(word in command for word in LIBRARY) and "/lock" not in _open_files(process)
    return False


def _open_files(process: int) -> str:
    return " ".join(os.readlink(link) for link in Path(f"/proc/{process}/fd").iterdir())


def finished(folder: Path) -> int:
    return sum(record["status"] == "finished" for record in find_records([folder])[0])


@pytest.mark.slow
def test_sweeps_under_random_kills_end_with_every_record_right_and_no_orphans(tmp_path):
    chance, kills = random.Random(0), 0
    undisturbed, soaked = tmp_path / "undisturbed", tmp_path / "soaked"
    for sweep in SWEEPS:
        assert swept(undisturbed, sweep).wait(600) == 0
        for _ in range(30):
            process, wanted = swept(soaked, sweep), KILLS * (SWEEPS.index(sweep) + 1) // 2
            next_kill = time.monotonic() + chance.uniform(6, 12)
            while process.poll() is None:
                time.sleep(0.1)
                if kills < wanted and time.monotonic() > next_kill:
                    with suppress(OSError):  # it has just ended by itself
                        os.kill(chance.choice(marked(soaked)), chance.choice([signal.SIGKILL, signal.SIGTERM]))
                        kills += 1
                    next_kill = time.monotonic() + chance.uniform(2, 8)
            if finished(soaked) == finished(undisturbed):
                break
        assert process.returncode == 0
    assert kills >= KILLS // 2
    deadline = time.monotonic() + 30
    while left := [process for process in marked(soaked) if not is_idle(process)]:
        assert time.monotonic() < deadline, [Path(f"/proc/{process}/cmdline").read_text() for process in left]
        time.sleep(0.2)
    for process in marked(soaked):
        os.kill(process, signal.SIGKILL)
    found, expected = outcomes(soaked), outcomes(undisturbed)
    assert len(expected) == 50
    assert found == expected
    assert finished(soaked) == 50

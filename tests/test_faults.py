"""What may happen to a run of several processes, with real processes, signals and engines: nothing hangs or is lost."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from opd_bench.reporting.record import find_records, outcome, read_record
from tests.ranks import free_port
from tests.runs import SMALL, wait_for

ROOT = Path(__file__).parents[1]
QUICK = (*SMALL, "evaluation.every=0", "evaluation.problems=4", "evaluation.samples=1")
LONG = (*QUICK, "plan.steps=4000", "trainer.grace=3")
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


@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_when_one_process_is_killed_the_others_end_and_the_record_says_so(tmp_path, victim):
    process = started(tmp_path, *LONG, "trainer=cpu_ddp")
    os.kill(begun(process, tmp_path)[victim], signal.SIGKILL)
    start = time.monotonic()
    ended(process, tmp_path)
    assert time.monotonic() - start < 20
    assert process.returncode == 1
    record = record_of(tmp_path)
    steps = record["budget"]["steps"]
    reason = f"process {victim} of 2 was ended by SIGKILL after step {steps}; the same command goes on"
    assert (record["status"], record["reason"]) == ("killed", reason)


@pytest.mark.slow
def test_a_terminated_run_saves_its_last_step_and_goes_on_to_the_bit(tmp_path):
    options = (*QUICK, "plan.steps=25", "trainer=cpu_zero3")
    process = started(tmp_path / "cut", *options)
    begun(process, tmp_path / "cut")
    process.send_signal(signal.SIGTERM)
    said = ended(process, tmp_path / "cut")
    record = record_of(tmp_path / "cut")
    steps = record["budget"]["steps"]
    assert 2 <= steps < 25
    assert record["reason"] == f"stopped from outside (SIGTERM) after step {steps}; the same command goes on"
    assert record["reason"] in said
    assert list((tmp_path / "cut").glob(f"*/*/*/checkpoints/step{steps:06d}/manifest.json"))
    for name in ("cut", "whole"):
        process = started(tmp_path / name, *options)
        ended(process, tmp_path / name, 120)
        assert process.returncode == 0
    records = [outcome(record_of(tmp_path / name)) for name in ("cut", "whole")]
    for record in records:
        del record["config"]["results"]
    assert records[0] == records[1]


@pytest.mark.slow
def test_once_more_stops_at_once_and_the_record_is_written(tmp_path):
    process = started(tmp_path, *LONG, "trainer=cpu_ddp", "watch.checkpoint_every=1", "plan.micro_batches=8")
    begun(process, tmp_path)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    said = ended(process, tmp_path)
    assert "Traceback" not in said
    record = record_of(tmp_path)
    assert record["status"] == "killed"
    assert "stopped from outside" in record["reason"]
    assert record["budget"]["steps"] > 0


@pytest.mark.slow
def test_where_the_command_itself_is_killed_nothing_is_left_running(tmp_path):
    process = started(tmp_path, *LONG, "trainer=cpu_zero3")
    assert len(begun(process, tmp_path)) == 2
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while workers(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    record = record_of(tmp_path)
    assert (record["status"], "the same command goes on" in record["reason"]) == ("killed", True)


@pytest.mark.slow
def test_a_second_run_in_the_same_folder_says_so_and_stops(tmp_path):
    first = started(tmp_path, *LONG, "trainer=cpu_zero1")
    begun(first, tmp_path)
    kept = record_of(tmp_path)
    for trainer in ("cpu", "cpu_zero1"):
        second = started(tmp_path, *LONG, f"trainer={trainer}")
        _, said = second.communicate(timeout=60)
        assert second.returncode == 1
        assert f"is in use by process {first.pid} on " in said
        assert "Traceback" not in said
    assert record_of(tmp_path)["id"] == kept["id"]
    first.send_signal(signal.SIGTERM)
    ended(first, tmp_path)
    assert record_of(tmp_path)["status"] == "killed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("Mistaken", "crash", "KeyError: 'no such answer' (in process 1 of 2)"),
        ("Hungry", "out of memory", "(in process 1 of 2)"),
        (
            "Endless",
            "killed",
            "process 1 of 2 did not answer and had to be ended after step 3; the same command goes on",
        ),
    ],
)
def test_what_goes_wrong_in_one_process_ends_all_and_is_told(tmp_path, fault, status, words):
    options = ("trainer=cpu_zero2", "trainer.timeout=4", f"method.source._target_=tests.faulty.{fault}")
    start = time.monotonic()
    process = started(tmp_path, *LONG, *options)
    said = ended(process, tmp_path, 120)
    assert time.monotonic() - start < 60
    assert process.returncode == 1
    record = record_of(tmp_path)
    assert (record["status"], record["budget"]["steps"]) == (status, 3), said
    assert words in record["reason"]
    if fault == "Mistaken":
        (trace,) = tmp_path.rglob("error-process-1.txt")
        assert "in fault" in trace.read_text()


@pytest.mark.slow
def test_what_can_t_begin_is_one_error_and_no_record(tmp_path):
    process = started(tmp_path, *SMALL, "trainer=cpu_ddp", "plan.prompts=7")
    said = ended(process, tmp_path)
    assert said.strip().splitlines()[-1].startswith("error: ")
    assert "plan.prompts must be a multiple of the number of processes, 2, got 7" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_folder_that_vanishes_under_a_run_does_not_take_its_result_along(tmp_path):
    process = started(tmp_path, *QUICK, "plan.steps=60", "trainer=cpu")
    wait_for(process, tmp_path, "*/*/*/checkpoints/step*/manifest.json")
    shutil.rmtree(tmp_path / next(path.name for path in tmp_path.iterdir()))
    said = ended(process, tmp_path, 120)
    assert process.returncode == 1
    kept = read_record(Path(said.split("The record is safe in ")[1].split(";")[0]))
    assert (kept["status"], kept["budget"]["steps"] > 1) == ("crash", True)
    assert "No such file or directory" in kept["reason"]


# ---------------------------------------------------------------- started from outside


FEW = (*QUICK, "plan.steps=2", "watch.checkpoint_every=0")


def ended_well(folder: Path, *given: tuple[list[str], dict[str, str]]) -> None:
    """Several commands make one run together, with one record, told once."""
    start = [sys.executable, "-m"]
    options = ["method=opd", f"results={folder}", *FEW]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    commands = [
        subprocess.Popen([*start, *words, *options], cwd=ROOT, env={**os.environ, **names}, text=True, **pipes)
        for words, names in given
    ]
    said = [command.communicate(timeout=120) for command in commands]
    assert [command.returncode for command in commands] == [0] * len(given), said
    assert sum(out.count("next    the same") for out, _ in said) == 1
    assert record_of(folder)["status"] == "finished"


@pytest.mark.slow
def test_torchrun_starts_the_processes(tmp_path):
    words = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "opd_bench.bench"]
    ended_well(tmp_path, ([*words, "trainer=cpu_zero1"], {}))


@pytest.mark.slow
def test_the_same_command_on_two_nodes_is_one_run(tmp_path):
    """Two nodes of one process each, here both on this machine."""
    words = ["opd_bench.bench", "trainer=cpu_zero3", "trainer.num_nodes=2", "trainer.devices=1"]
    alone = subprocess.run(
        [sys.executable, "-m", *words, f"results={tmp_path}", *FEW], cwd=ROOT, capture_output=True, text=True
    )
    assert alone.returncode == 1
    assert "trainer.num_nodes=2 needs MASTER_ADDR and MASTER_PORT in the environment" in alone.stderr
    same = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ended_well(tmp_path, *((words, {**same, "NODE_RANK": str(node)}) for node in range(2)))


@pytest.mark.slow
def test_slurm_starts_the_processes(tmp_path):
    """What srun tells its tasks; there is no SLURM here."""
    same = {"SLURM_NTASKS": "2", "SLURM_NODELIST": "127.0.0.1", "SLURM_JOB_NAME": "opd", "SLURM_NODEID": "0"}
    same |= {"SLURM_NTASKS_PER_NODE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    words = ["opd_bench.bench", "trainer=cpu_ddp"]
    tasks = ({**same, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)} for task in range(2))
    ended_well(tmp_path, *((words, names) for names in tasks))

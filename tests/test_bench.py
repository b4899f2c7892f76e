"""The command: what it offers, what it refuses, and that a killed one goes on where it was."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opd_bench import method_names
from opd_bench.bench import main
from opd_bench.reporting import record as record_module
from opd_bench.reporting.record import RecordError, find_records, outcome, read_record
from opd_bench.training.run import Run
from tests.commands import ended
from tests.runs import SMALL, small_run, wait_for

ROOT = Path(__file__).parents[1]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "opd_bench.bench", *arguments]


def output(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=ROOT, timeout=300)


def test_help_lists_every_choice_and_is_quick():
    start = time.perf_counter()
    shown = output("--help").stdout
    assert time.perf_counter() - start < 10  # two on a quiet machine
    assert all(name in shown for name in [*method_names(), "mini_gsm", "standard", "mismatch", "cpu", "gpu", "compare"])
    assert "plan" in shown


def test_a_process_that_is_refused_fails_in_a_line_and_at_once(tmp_path):
    start = time.perf_counter()
    result = output("method=tropdd", f"results={tmp_path}")
    assert time.perf_counter() - start < 10
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("method=tropdd", "no method 'tropdd', did you mean tropd"),
        ("method=opd,vopdd", "no method 'vopdd', did you mean vopd"),
        ("setting=standart", "no setting 'standart', did you mean standard"),
        ("task=minigsm", "no task 'minigsm', did you mean mini_gsm"),
        ("trainer=cup", "no trainer 'cup', did you mean cpu"),
        ("experiment=compar", "no experiment 'compar', did you mean compare"),
        ("plan.steps=-3", "Plan.steps must be ≥ 1, got -3"),
        ("method.estimator.k=0", "TrOPD.k must be ≥ 1, got 0"),
        ("models.teacher=embedded/teache", "no model 'embedded/teache' in the package; there are embedded/mismatch-0"),
        ("results=/dev/null/here", "Choose another place with results=FOLDER"),
    ],
)
def test_what_can_t_be_is_refused_by_name_and_without_a_traceback(argument, message, tmp_path, capsys):
    result = ended(main, capsys, argument, *([] if "results" in argument else [f"results={tmp_path}"]))
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_run_ends_with_a_table_its_record_and_what_to_do_next(tmp_path, capsys):
    result = output("method=vopd", f"results={tmp_path}", *SMALL)
    assert result.returncode == 0, result.stderr
    for word in (
        "sampled",
        "greedily",
        "before",
        "after",
        "teacher",
        "gradient norm",
        "variance",
        "rollout",
        "record.json",
        "make",
    ):
        assert word in result.stdout
    assert result.stderr == ""
    again = ended(main, capsys, "method=vopd", f"results={tmp_path}", *SMALL)
    assert "finished before" in again.stdout


def test_a_killed_command_goes_on_and_ends_with_the_record_of_an_uncut_one(tmp_path, capsys):
    longer = [*SMALL, "plan.steps=12", "evaluation.every=0", "evaluation.problems=4"]
    assert ended(main, capsys, "method=tropd", f"results={tmp_path / 'whole'}", *longer).returncode == 0
    process = subprocess.Popen(command("method=tropd", f"results={tmp_path / 'cut'}", *longer), cwd=ROOT)
    wait_for(process, tmp_path, "cut/*/*/*/checkpoints/step000004/manifest.json")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (record,), _ = find_records([tmp_path / "cut"])
    assert (record["status"], record["evaluation"]["after"]) == ("killed", {})
    assert "the same command goes on" in record["reason"]
    assert output("method=tropd", f"results={tmp_path / 'cut'}", *longer).returncode == 0
    records = [outcome(find_records([tmp_path / name])[0][0]) for name in ("whole", "cut")]
    for record in records:
        record["config"].pop("results")
    assert json.dumps(records[0], sort_keys=True) == json.dumps(records[1], sort_keys=True)


def test_a_sweep_runs_several_at_once_skips_what_is_done_and_survives_a_failure(tmp_path, capsys):
    arguments = ["-m", "method=opd,vopd", f"results={tmp_path}", *SMALL]
    arguments += ["plan.learning_rate=0.001,1e30", "plan.clip=null"]
    first = output(*arguments, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert first.returncode == 0, first.stderr
    records, complaints = find_records([tmp_path])
    assert not complaints
    assert sorted(record["status"] for record in records) == ["finished"] * 2 + ["nan"] * 2
    second = ended(main, capsys, *arguments)
    assert second.stdout.count("done before") == 4
    assert {record["id"] for record in find_records([tmp_path])[0]} == {record["id"] for record in records}


def test_when_the_disk_is_full_at_the_end_nothing_is_lost(tmp_path, monkeypatch):
    full, real = [False], os.fsync

    def fsync(descriptor):
        """Full where the run is kept, not elsewhere."""
        if full[0] and os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(tmp_path)):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(record_module.os, "fsync", fsync)
    run, fit = small_run(tmp_path, "opd", "watch.checkpoint_every=0"), Run._fit

    def full_from_now_on(*given):
        fit(*given)
        full[0] = True

    monkeypatch.setattr(Run, "_fit", full_from_now_on)
    with pytest.raises(RecordError, match="No space left on device") as caught:
        run.perform()
    assert read_record(run.folder / "record.json")["status"] == "killed"  # as before the end was known
    spare = Path(str(caught.value).split("safe in ")[1].split(";")[0])
    assert read_record(spare)["status"] == "finished"
    full[0] = False
    monkeypatch.setattr(Run, "_fit", fit)
    assert outcome(run.perform()) == outcome(read_record(spare))

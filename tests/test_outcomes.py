"""What may become of a run: each is a record with a reason."""

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from opd_bench.reporting.files import RESPONSES, SERIES, read_anchor, read_responses
from opd_bench.reporting.leaderboard import tables
from opd_bench.reporting.record import STATUSES, find_records
from opd_bench.training import run as run_module
from tests.runs import SMALL, series_of, small_run, wait_for

ROOT = Path(__file__).parents[1]


class After(pl.Callback):
    """Raises something after the second step."""

    def __init__(self, error):
        self.error = error

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 2:
            raise self.error


@pytest.mark.parametrize(
    ("error", "status", "reason", "is_final"),
    [
        (torch.OutOfMemoryError("tried to allocate 80 GiB"), "out of memory", "tried to allocate 80 GiB", False),
        (MemoryError(), "out of memory", "no more memory to be had", False),
        (OSError(28, "No space left on device"), "crash", "OSError: [Errno 28] No space left on device", False),
        (KeyboardInterrupt(), "killed", "stopped from outside, at once, after step 2; the same command goes on", False),
    ],
)
def test_what_ends_a_run_is_in_its_record(tmp_path, monkeypatch, error, status, reason, is_final):
    extras = run_module.Run._extras
    monkeypatch.setattr(run_module.Run, "_extras", lambda run: [*extras(run), After(error)])
    run = small_run(tmp_path, "opd")
    with nullcontext() if status != "killed" else pytest.raises(SystemExit):
        run.perform()
    ((record,), complaints) = find_records([tmp_path])
    assert not complaints
    assert record["status"] == status
    if status == "out of memory":
        assert record["reason"].startswith(f"{reason}; a step had 8 responses of up to 40 tokens")
        assert record["reason"].endswith("or shard with TRAINER=zero3_offload")
    else:
        assert record["reason"] == reason
    assert (run.record() is not None) is is_final
    assert record["budget"]["steps"] == len(series_of(run)["train/loss"]) == 2
    monkeypatch.undo()
    assert small_run(tmp_path, "opd").perform()["status"] == "finished"
    ((record,), _) = find_records([tmp_path])
    assert record["status"] == "finished"


def test_a_student_that_has_left_its_teacher_has_diverged(tmp_path):
    run = small_run(tmp_path, "opd", "watch.divergence=0.01")
    record = run.perform()
    assert record["status"] == "diverged"
    assert record["reason"].endswith("nats a token after step 1, watch.divergence is 0.01")
    assert run.record()["id"] == record["id"]


def test_time_that_is_up_ends_a_run_and_more_of_it_goes_on(tmp_path):
    short = small_run(tmp_path, "opd", "watch.time_limit=0.001", "watch.checkpoint_every=1")
    record = short.perform()
    assert record["status"] == "timeout"
    assert "after step 1, watch.time_limit is 0.001; a higher one lets the same command go on" in record["reason"]
    assert short.record() is None
    longer = small_run(tmp_path, "opd", "watch.time_limit=1e6", "watch.checkpoint_every=1")
    assert longer.folder == short.folder
    assert longer.perform()["status"] == "finished"


def test_an_infinite_loss_is_told_from_one_that_is_no_number():
    from opd_bench.training.health import StoppedError, finite

    for value, status in ((torch.inf, "diverged"), (-torch.inf, "diverged"), (torch.nan, "nan")):
        with pytest.raises(StoppedError, match=f"loss is {float(value)} at step 7") as caught:
            finite("loss", torch.tensor(value), 7)
        assert caught.value.status == status
    finite("loss", torch.tensor(1.0), 7)


def test_a_terminated_command_says_so_in_its_record(tmp_path):
    arguments = [sys.executable, "-m", "opd_bench.bench", "method=opd", f"results={tmp_path}", *SMALL]
    process = subprocess.Popen(
        [*arguments, "plan.steps=4000", "evaluation.every=0"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    wait_for(process, tmp_path, "*/*/*/checkpoints/*/manifest.json")
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the same command goes on" in said
    ((record,), _) = find_records([tmp_path])
    assert record["status"] == "killed"
    assert record["reason"].startswith("stopped from outside (SIGTERM) after step ")
    assert record["budget"]["steps"] > 0


def test_a_run_again_that_is_killed_leaves_the_finished_record(tmp_path, monkeypatch):
    first = small_run(tmp_path, "opd").perform()
    monkeypatch.setattr(run_module.Run, "_fit", lambda *_: os._exit(9))
    child = os.fork()
    if not child:
        small_run(tmp_path, "opd", "again=true").perform()
    os.waitpid(child, 0)
    ((record,), _) = find_records([tmp_path])
    assert record["id"] == first["id"]


def test_models_that_no_method_trained_are_judged_once_for_all_runs(tmp_path, monkeypatch):
    from opd_bench.training import evaluation

    judged, count = evaluation.judged, []
    monkeypatch.setattr(evaluation, "judged", lambda *given: count.append(given[1].problems.split) or judged(*given))
    runs = [small_run(tmp_path, method, f"seed={seed}") for method in ("opd", "vopd") for seed in (0, 2)]
    records = [run.perform() for run in runs]
    assert count.count("test") == 2 + 4  # the start, the teacher, and each run at its end
    assert len({str(record["evaluation"]["before"]) for record in records}) == 1
    assert records[0]["evaluation"]["teacher"]["mini_gsm"]["sampled"] > 0.9
    assert records[0]["evaluation"]["teacher"]["mini_gsm"]["greedy"] > 0.9
    (_, *rest) = found = find_records([tmp_path])[0]
    assert len(rest) == 3
    _, lines = read_anchor(found[0], "teacher")
    assert len(lines) == 16
    anchors = sorted(path.parent.name for path in tmp_path.rglob("anchor.json"))
    assert [name.rpartition("-")[0] for name in anchors] == ["standard-0", "teacher"]
    (path,) = tmp_path.rglob("teacher-*/anchor.json")
    path.write_text("damaged")
    count.clear()
    small_run(tmp_path, "gkd").perform()
    assert count.count("test") == 2  # what can't be read is judged again
    assert read_anchor(found[0], "teacher")[1] == lines


def test_the_files_beside_a_record_are_those_that_it_names(tmp_path):
    run = small_run(tmp_path, "opd")
    record = run.perform()
    assert record["files"].keys() == {RESPONSES, SERIES}
    ((found,), _) = find_records([tmp_path])
    solved = [sum(response["correct"] for response in line["responses"][1:]) for line in read_responses(found)]
    assert record["evaluation"]["after"]["mini_gsm"]["solved"] == " ".join(map(str, solved))


def test_a_run_from_another_start_is_a_check_and_no_competitor(tmp_path):
    record = small_run(tmp_path, "opd", "start=embedded/teacher").perform()
    small_run(tmp_path, "opd").perform()
    assert abs(record["training"]["reverse_kl"]["first"]) < 1e-5
    (table,) = tables(find_records([tmp_path])[0])
    assert [(row.method, row.check, row.ranked) for row in table.rows] == [
        ("opd", "", False),
        ("opd[start=embedded/teacher]", "begins from embedded/teacher", False),
    ]
    assert table.rows[0].runs[0]["start"] == "embedded/standard-0"
    assert all(record["status"] in STATUSES for row in table.rows for record in row.runs)

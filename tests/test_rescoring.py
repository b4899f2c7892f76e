"""New verdicts on kept responses, without a model."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from opd_bench import report
from opd_bench.reporting.files import RESPONSES, read_anchor, read_responses, read_series
from opd_bench.reporting.leaderboard import tables
from opd_bench.reporting.record import RecordError, find_records, standing
from opd_bench.rescoring import rescored, write
from opd_bench.tasks.mini_gsm import MiniGSM
from tests.runs import small_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run, and one that was not a number."""
    place = tmp_path_factory.mktemp("runs")
    small_run(place, "opd").perform()
    small_run(place, "vopd", "seed=2").perform()
    return place


@pytest.fixture
def lenient(monkeypatch):
    """The next version of the task: whatever ends by itself is right."""
    real = MiniGSM.verdict
    monkeypatch.setattr(MiniGSM, "version", "2")
    monkeypatch.setattr(MiniGSM, "verdict", lambda *given: real(*given)._replace(correct=given[-1]))


def found_in(folder):
    return standing(find_records([folder])[0])


def test_the_same_verdicts_change_nothing(folder):
    for record in found_in(folder):
        same = rescored(record)
        assert (same.changed, same.is_new) == (0, False)
        for which in ("before", "after", "teacher"):
            assert same.evaluation[which]["mini_gsm"] == pytest.approx(record["evaluation"][which]["mini_gsm"])


def test_a_new_version_is_a_new_record_in_a_new_protocol_that_a_new_run_would_have_too(folder, lenient, tmp_path):
    old = {record["id"]: record for record in found_in(folder)}
    paths = [write(rescored(record)) for record in old.values()]
    both, complaints = find_records([folder])
    new = found_in(folder)
    assert (len(both), len(new), complaints) == (4, 2, [])
    for record in new:
        before, files = old[record["supersedes"]], Path(record["folder"])
        assert (
            record["evaluation"]["after"]["mini_gsm"]["sampled"] > before["evaluation"]["after"]["mini_gsm"]["sampled"]
        )
        assert record["training"] == before["training"]
        assert record["tasks"]["mini_gsm"]["version"] == record["protocol"]["task_version"] == "2"
        assert record["protocol"]["digest"] != before["protocol"]["digest"]
        assert read_series(record)["train/loss"].tolist() == read_series(before)["train/loss"].tolist()
        finished = [response["finished"] for line in read_responses(record) for response in line["responses"]]
        assert finished == [response["correct"] for line in read_responses(record) for response in line["responses"]]
        for which in ("before", "teacher"):
            anchor, lines = read_anchor(record, which)
            assert anchor["evaluation"] == record["evaluation"][which]
            assert all(r["correct"] == r["finished"] for line in lines for r in line["responses"])
        run = small_run(folder, record["method"]["name"], f"seed={record['seed']}")
        assert run.folder == files
        assert run.record()["id"] == record["id"]  # done, as far as a new run is concerned
    (table,) = tables(both)
    assert {run["id"] for row in table.rows for run in row.runs} == {record["id"] for record in new}
    for path in paths:
        for file in path.parent.iterdir():
            file.unlink()


def test_verdicts_may_not_change_under_one_version(folder, lenient, monkeypatch):
    monkeypatch.setattr(MiniGSM, "version", "1")
    with pytest.raises(RecordError, match=r"\d+ verdicts differ, and the version of its tasks is '1' as it was"):
        rescored(found_in(folder)[0])


def test_responses_that_are_not_those_of_the_record_are_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = Path(found_in(tmp_path)[0]["folder"]) / RESPONSES
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(RecordError, match="not the file that the record beside it was written with"):
        rescored(found_in(tmp_path)[0])
    path.unlink()
    with pytest.raises(RecordError, match=r"can't be read: .*No such file"):
        rescored(found_in(tmp_path)[0])


def test_a_record_from_anywhere_can_make_nothing_but_tasks_of_the_package(folder, tmp_path, monkeypatch):
    record = dict(found_in(folder)[0])
    for target in ("subprocess.Popen", "opd_bench.tasks.base.Problem", "opd_bench.tasks.mini_gsm.random.Random"):
        task = record["config"]["task"] | {"_target_": target}
        with pytest.raises((RecordError, ValueError, TypeError)):
            rescored(record | {"config": record["config"] | {"task": task}})
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "not_ours.py").write_text("class Task: pass")
    foreign = record["config"] | {"task": {"_target_": "not_ours.Task"}}
    with pytest.raises(RecordError, match=r"no task of this package: 'not_ours.Task'"):
        rescored(record | {"config": foreign})
    assert "not_ours" not in sys.modules
    with pytest.raises(RecordError, match="no anchor 'before'"):
        rescored(record | {"anchors": {"before": "../../../elsewhere", "teacher": "x"}})


def test_the_command_says_what_would_change_and_then_does_it(folder, lenient, capsys):
    assert report.main(["rescore", str(folder), "--dry"]) == 0
    assert "would be written" in capsys.readouterr().out
    assert len(find_records([folder])[0]) == 2
    assert report.main(["rescore", str(folder)]) == 0
    assert "Judged anew" in capsys.readouterr().out
    assert len(find_records([folder])[0]) == 4
    assert report.main(["rescore", str(folder)]) == 0  # once is enough
    assert len(find_records([folder])[0]) == 4


def test_neither_torch_nor_a_model_is_needed(folder):
    code = f"""
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("torch", "lightning", "transformers", "hydra", "omegaconf"):
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
from opd_bench.report import main
sys.exit(main(["rescore", {str(folder)!r}, "--dry"]))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

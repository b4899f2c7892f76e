"""Verifiers that never end, and verifiers that raise."""

import re
import signal
import threading
import time

import pytest

from opd_bench import report
from opd_bench.reporting.files import read_responses
from opd_bench.reporting.record import find_records
from opd_bench.reporting.verdicts import figures_of
from opd_bench.rescoring import rescored
from opd_bench.tasks.limits import TimeUpError, VerdictError, limited_verdict, within
from opd_bench.tasks.mini_gsm import MiniGSM
from tests.runs import small_run
from tests.test_tasks import SETTINGS

HARD = 3
"""The test problem that makes a verifier go astray."""


def looping() -> None:
    while True:
        pass


def backtracking() -> None:
    re.fullmatch(r"(a+)+b", 60 * "a")


def sleeping() -> None:
    time.sleep(60)


def catching() -> None:
    while True:
        try:
            looping()
        except Exception:
            continue


def catching_all() -> None:
    for _ in range(3):
        try:
            looping()
        except:  # noqa: E722
            continue


class Astray(MiniGSM):
    """On one problem, each kind in its own way: `goes`."""

    def verdict(self, problem, response, finished):
        if problem.prompt == self.problem("test", 0, HARD).prompt:
            self.goes()
        return super().verdict(problem, response, finished)


class Looping(Astray):
    def goes(self):
        catching()


class Backtracking(Astray):
    def goes(self):
        backtracking()


class Raising(Astray):
    def goes(self):
        raise ValueError("no such unit")


@pytest.mark.parametrize("function", [looping, backtracking, catching, sleeping])
def test_what_runs_for_too_long_is_ended(function):
    before, start = signal.getsignal(signal.SIGALRM), time.monotonic()
    with pytest.raises(TimeUpError):
        within(0.1, function)
    assert 0.1 <= time.monotonic() - start < 5
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_who_catches_everything_is_told_again():
    start = time.monotonic()
    assert within(0.1, catching_all) is None  # gave up by itself
    assert 1.1 <= time.monotonic() - start < 10
    assert within(5, lambda: "in time") == "in time"


def test_limits_lie_within_one_another_and_other_timers_go_on():
    def inner() -> str:
        with pytest.raises(TimeUpError):
            within(0.1, looping)
        return "after it"

    assert within(5, inner) == "after it"
    start = time.monotonic()
    with pytest.raises(TimeUpError):
        within(0.2, lambda: within(30, looping))
    assert time.monotonic() - start < 5
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(time.monotonic()))
    try:
        start = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        inner()
        assert not rung
        time.sleep(0.5)
        assert 0.3 <= rung[0] - start < 1
    finally:
        signal.signal(signal.SIGALRM, before)


def test_in_another_thread_there_is_no_limit():
    found = []
    thread = threading.Thread(target=lambda: found.append(within(0.05, lambda: time.sleep(0.2) or "late")))
    thread.start()
    thread.join()
    assert found == ["late"]


@pytest.mark.filterwarnings("ignore:no verdict on problem")
@pytest.mark.parametrize("name", ["Looping", "Backtracking"])
def test_a_run_goes_on_and_its_figures_are_right(tmp_path, name):
    usual = small_run(tmp_path, "opd").perform()
    astray = (f"task._target_=tests.test_limits.{name}", "evaluation.verdict_seconds=0.05")
    start = time.monotonic()
    run = small_run(tmp_path, "opd", *astray)
    record = run.perform()
    assert record["status"] == "finished"
    assert 9 * 0.05 <= time.monotonic() - start < 30
    for which in ("before", "after", "teacher"):
        same, found = (known["evaluation"][which]["mini_gsm"] for known in (usual, record))
        solved = same["solved"].split()
        solved[HARD] = "0"
        assert found["solved"] == " ".join(solved)
        assert found["sampled"] == pytest.approx(sum(map(int, solved)) / 32)
        assert found["timed_out"] == 3
        assert "timed_out" not in same
    ((found,), _) = find_records([run.folder])
    assert [line["responses"][0].get("timed_out") for line in read_responses(found)][HARD - 1 :][:2] == [None, True]
    assert figures_of(read_responses(found)) == pytest.approx(record["evaluation"]["after"]["mini_gsm"])


@pytest.mark.filterwarnings("ignore:no verdict on problem")
def test_kept_answers_are_judged_in_the_same_time(tmp_path, monkeypatch):
    run = small_run(tmp_path, "opd", "evaluation.verdict_seconds=0.05")
    run.perform()
    ((record,), _) = find_records([run.folder])
    monkeypatch.setattr(MiniGSM, "version", "2")
    real = MiniGSM.verdict
    hard = run.task.problem("test", 0, HARD).prompt
    monkeypatch.setattr(MiniGSM, "verdict", lambda *given: looping() if given[1].prompt == hard else real(*given))
    assert rescored(record).evaluation["after"]["mini_gsm"]["timed_out"] == 3


def test_what_a_verifier_raises_is_said_with_problem_and_response(tmp_path, monkeypatch, capsys):
    run = small_run(tmp_path, "opd", "task._target_=tests.test_limits.Raising")
    record = run.perform()
    problem = run.task.problem("test", 0, HARD)
    assert record["status"] == "crash"
    assert f"Raising.verdict raised ValueError: no such unit; problem {problem.id}, response '" in record["reason"]
    with pytest.raises(VerdictError, match=r"response 'x{200}…'"):
        limited_verdict(Raising(**SETTINGS), problem, 300 * "x", True, 1.0)
    usual = small_run(tmp_path, "opd")
    usual.perform()
    monkeypatch.setattr(MiniGSM, "verdict", lambda *_: 1 / 0)
    assert report.main(["rescore", str(usual.folder)]) == 1
    assert "MiniGSM.verdict raised ZeroDivisionError" in capsys.readouterr().err


def test_a_timed_out_verdict_is_warned_of_by_name():
    problem = MiniGSM(**SETTINGS).problem("test", 0, HARD)
    with pytest.warns(UserWarning, match=f"{problem.id} within evaluation.verdict_seconds=0.05: counted as wrong"):
        verdict = limited_verdict(Looping(**SETTINGS), problem, "#### 1", True, 0.05)
    assert verdict[:4] == (False, False, "", True)

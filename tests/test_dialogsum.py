"""Summaries: ROUGE over all references, and a judge behind a real server that is right, wrong, slow or not there."""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest
import yaml

from opd_bench.configs import conf_dir, made
from opd_bench.reporting.record import RecordError
from opd_bench.rescoring import _tasks
from opd_bench.tasks import judge as judging
from opd_bench.tasks.base import Problem
from opd_bench.tasks.dataset import DATA
from opd_bench.tasks.dialogsum import rouge
from opd_bench.tasks.judge import Judge, JudgeError
from opd_bench.tasks.limits import VerdictError, limited_verdict

CONFIG = yaml.safe_load((conf_dir() / "task" / "dialogsum.yaml").read_text())
ANSWER = json.dumps({"name": "test_0", "references": ["Tom is late because of his bus."]})
PROBLEM = Problem("#Person1#: You are late, Tom.\n#Person2#: My bus broke down.", ANSWER, "")


def task(**changes):
    return made(CONFIG | changes)


def reply(text) -> tuple[int, bytes]:
    return 200, json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def summaries(question: str) -> tuple[str, str]:
    return tuple(re.search(rf"<{mark}>\n(.*?)\n</{mark}>", question, re.DOTALL)[1] for mark in "AB")


@pytest.fixture
def service(monkeypatch):
    """A judge's server: `answers` makes of a question a status and a body."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(judging, "PAUSES", (0.01, 0.02, 0.03))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.asked.append((self.path, dict(self.headers), content))
            status, body = self.server.answers(content["messages"][0]["content"])
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"{self.server.url}/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.server.asked.append((self.path, dict(self.headers), None))

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    server.asked, server.url = [], f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def judge(service, **changes) -> dict:
    return {"url": service.url, "model": "wise", "key": None, "seconds": 5.0, "rival": None} | changes


def better(word: str):
    """Prefers whichever has the word, whatever its place."""

    def answer(question):
        a, b = (word in summary for summary in summaries(question))
        return reply("TIE" if a == b else "A" if a else "B")

    return answer


def test_rouge_is_f1_of_stems_and_the_mean_over_references():
    assert rouge("Tom is late.", ["tom is late"]) == {"rouge1": 1, "rouge2": 1, "rougeL": 1}
    assert rouge("parties", ["party"])["rouge1"] == 1
    assert rouge("late is Tom", ["Tom is late"]) == pytest.approx({"rouge1": 1, "rouge2": 0, "rougeL": 1 / 3})
    assert rouge("one two", ["one two", "three four"]) == {"rouge1": 0.5, "rouge2": 0.5, "rougeL": 0.5}
    assert rouge("one two three", ["one"])["rouge1"] == pytest.approx(0.5)  # precision 1/3, recall 1
    assert rouge("", ["one"]) == {"rouge1": 0, "rouge2": 0, "rougeL": 0}


@pytest.mark.parametrize(
    ("response", "correct", "formatted"),
    [
        ("Tom is late because of his bus.", True, True),
        (" Tom's late because of the bus ", True, True),
        ("The weather has been fine for the time of the year.", False, True),
        ("", False, False),
        (" \n", False, False),
    ],
)
def test_a_summary_is_correct_from_the_bar_on(response, correct, formatted):
    verdict = task().verdict(PROBLEM, response, True)
    assert (verdict.correct, verdict.formatted) == (correct, formatted)
    assert list(verdict.scores) == ["rouge1", "rouge2", "rougeL"]
    half = "one two three four"
    exactly = task(bar=0.5).verdict(
        PROBLEM._replace(answer='{"name": "", "references": ["one two five six"]}'), half, True
    )
    assert exactly.correct
    assert exactly.scores["rougeL"] == 0.5
    assert not task(bar=0).verdict(PROBLEM, "", True).correct


def test_the_public_files_are_read_and_their_summaries_hold(real_data):
    found = task()
    assert (found.size("validation"), found.size("test")) == (500, 500)
    for split, references in (("validation", 1), ("test", 3)):
        problems = [found.problem(split, 0, index) for index in range(500)]
        assert len({problem.id for problem in problems}) == 500
        for problem in problems[:100]:
            known = json.loads(problem.answer)
            assert len(known["references"]) == references
            assert problem.solution == known["references"][0]
            assert re.fullmatch(r"(dev|test)_\d+", known["name"])
            assert "#Person1#" in problem.prompt
            verdict = found.verdict(problem, problem.solution, True)
            assert verdict.correct
            assert verdict.scores["rougeL"] == pytest.approx(1) if references == 1 else verdict.scores["rougeL"] > 1 / 3
        others = [found.verdict(one, other.solution, True) for one, other in pairwise(problems[:101])]
        assert sum(verdict.correct for verdict in others) <= 5
        assert sum(verdict.scores["rougeL"] for verdict in others) / 100 < 0.2
    with pytest.raises(ValueError, match=rf"put one at \${DATA}/dialogsum/train.jsonl"):
        task(source=str(real_data / "dialogsum")).problems("train")


def test_a_reference_a_row_as_the_hub_has_it_makes_the_same_problems(tmp_path, real_data):
    three = [json.loads(line) for line in (real_data / "dialogsum" / "test.jsonl").read_text().splitlines()[:20]]
    rows = [
        {"id": f"{row['fname']}_{n}", "dialogue": row["dialogue"], "summary": row[f"summary{n}"], "topic": ""}
        for n in (1, 2, 3)
        for row in three
    ]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert task(source=str(tmp_path)).problems("test") == task(rows=20).problems("test")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"fname": "test_1", "dialogue": "#Person1#: Hi ."}, "there is no summary"),
        ({"fname": "test_1", "dialogue": "#Person1#: Hi .", "summary": None}, "it has no field 'summary'"),
        ({"fname": "test_1", "summary": "Hi ."}, "it has no field 'dialogue'"),
        ({"dialogue": "#Person1#: Hi .", "summary": "Hi ."}, "it has no field 'id'"),
    ],
)
def test_a_dirty_row_is_named(tmp_path, row, message):
    good = {"fname": "test_0", "dialogue": "#Person1#: Ho .", "summary": "Ho ."}
    (tmp_path / "test.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(row)}\n")
    with pytest.raises(ValueError, match=rf"dialogsum: row 2 of the test split can't be read: {message}"):
        task(source=str(tmp_path)).problems("test")


def test_the_better_summary_wins_wherever_it_stands(service):
    service.answers = better("bus")
    found = task(judge=judge(service))
    for number in range(20):
        problem = PROBLEM._replace(
            prompt=f"{number}", answer=json.dumps({"name": "test_0", "references": ["He's late.", "A bus."]})
        )
        won, lost = (found.verdict(problem, text, True) for text in ("Tom's bus broke down {x}.", "Tom is late."))
        assert (won.scores["win"], won.correct) == (1, True)
        assert (lost.scores["win"], lost.correct) == (0.5, False)
        other = problem._replace(answer=json.dumps({"name": "test_0", "references": ["The bus."]}))
        assert found.verdict(other, "Tom is late.", True).scores["win"] == 0
    assert set(won.scores) == {"rouge1", "rouge2", "rougeL", "win"}
    asked = len(service.asked)
    assert found.verdict(PROBLEM, " ", True)[:2] == (False, False)
    assert len(service.asked) == asked  # an empty one is not asked about


def test_who_always_says_the_first_gives_half_and_the_order_is_the_prompt_s(service):
    service.answers = lambda _: reply("A")
    found = task(judge=judge(service))
    prompts = [PROBLEM._replace(prompt=f"Dialogue {number}") for number in range(300)]
    wins = [found.verdict(problem, "Tom is late.", True).scores["win"] for problem in prompts]
    assert set(wins) == {0, 1}
    assert 0.4 < sum(wins) / len(wins) < 0.6
    again = [found.verdict(problem, "Quite another one.", True).scores["win"] for problem in prompts[:50]]
    assert again == wins[:50]


def test_what_is_sent_is_the_prompt_and_the_two_with_the_key_of_the_environment(service, monkeypatch):
    service.answers = lambda _: reply("TIE")
    monkeypatch.setenv("JUDGE_KEY", " open sesame\n")
    task(judge=judge(service, url=service.url + "/", key="JUDGE_KEY")).verdict(PROBLEM, "Tom is late.", True)
    ((path, headers, content),) = service.asked
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer open sesame"
    assert (content["model"], content["temperature"]) == ("wise", 0)
    assert f"<task>\n{PROBLEM.prompt}\n</task>" in content["messages"][0]["content"]
    assert set(summaries(content["messages"][0]["content"])) == {"Tom is late.", "Tom is late because of his bus."}
    task(judge=judge(service)).verdict(PROBLEM, "Tom is late.", True)
    assert "Authorization" not in service.asked[1][1]


def test_a_rival_s_summaries_are_found_by_name(service, tmp_path):
    service.answers = better("slow")
    file = tmp_path / "rival.jsonl"
    file.write_text('{"fname": "test_0", "response": "a slow one"}\n\n')
    found = task(judge=judge(service, rival=str(file)))
    assert found.verdict(PROBLEM, "Tom is late.", True).scores["win"] == 0
    with pytest.raises(JudgeError, match=r"rival.jsonl' has no response to 'test_1'"):
        found.verdict(PROBLEM._replace(answer=ANSWER.replace("test_0", "test_1")), "Tom is late.", True)
    file.write_text('{"fname": "test_0"}\n')
    with pytest.raises(JudgeError, match=r"rival.jsonl' can't be read: KeyError: 'response'"):
        task(judge=judge(service, rival=str(file))).verdict(PROBLEM, "Tom is late.", True)


@pytest.mark.parametrize(
    ("said", "choice"),
    [("A", "A"), (" b.", None), ("**B**", "B"), ("tie", "TIE"), ("It's a Tie!", "TIE"), ("Summary A", "A"),
     ("<think>B? no, A.</think>\nB", "B"), ("A is better than B", None), ("banana", None), ("", None), (None, None)],
)  # fmt: skip
def test_a_reply_is_one_of_three_or_none(service, said, choice):
    service.answers = lambda _: reply(said)
    asked = Judge(**judge(service))
    if choice:
        assert asked.choice("?") == choice
    else:
        with pytest.raises(JudgeError, match=r"and 4 tries; it replied '.*', and should have with A, B or TIE"):
            asked.choice("?")
        assert len(service.asked) == 4


@pytest.mark.parametrize("first", [(500, b"oh"), (429, b"later"), (200, b"<html>"), (200, b"{}"), reply("banana")])
def test_what_passes_is_tried_again(service, first):
    replies = iter([first, first, reply("TIE")])
    service.answers = lambda _: next(replies)
    assert task(judge=judge(service)).verdict(PROBLEM, "Tom is late.", True).scores["win"] == 0.5
    assert len(service.asked) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_what_does_not_pass_is_an_error_at_once_and_never_shows_the_key(service, monkeypatch, status):
    monkeypatch.setenv("JUDGE_KEY", "sesame")
    service.answers = lambda _: (status, b"no such key: sesame")
    with pytest.raises(JudgeError) as caught:
        task(judge=judge(service, key="JUDGE_KEY")).verdict(PROBLEM, "Tom is late.", True)
    assert str(caught.value) == f"the judge 'wise' at {service.url}: status {status}: no such key: …"
    assert len(service.asked) == 1  # and no redirection is followed


def test_what_never_passes_is_an_error_that_names_the_judge(service, monkeypatch):
    service.answers = lambda _: (503, b"asleep")
    with pytest.raises(JudgeError, match=rf"'wise' at {service.url}: .* 4 tries; status 503: asleep"):
        task(judge=judge(service)).verdict(PROBLEM, "Tom is late.", True)
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(JudgeError, match=r"judge\.key: there is no environment variable JUDGE_KEY"):
        task(judge=judge(service, key="JUDGE_KEY")).verdict(PROBLEM, "Tom is late.", True)
    with pytest.raises(JudgeError, match=r"at http://127.0.0.1:9/v1: .*Connection refused"):
        task(judge=judge(service, url="http://127.0.0.1:9/v1")).verdict(PROBLEM, "Tom is late.", True)


def test_a_judge_that_never_answers_is_an_error_and_not_a_wrong_response(service):
    going = threading.Event()
    service.answers = lambda _: (going.wait(30), reply("A"))[1]
    start = time.monotonic()
    with pytest.raises(JudgeError, match=r"no judgement within 0.3 seconds .*timed out"):
        task(judge=judge(service, seconds=0.3)).verdict(PROBLEM, "Tom is late.", True)
    with pytest.raises(VerdictError, match=r"evaluation\.verdict_seconds were over before it had replied"):
        limited_verdict(task(judge=judge(service)), PROBLEM, "Tom is late.", True, 0.3)
    assert time.monotonic() - start < 5
    going.set()


def test_without_a_judge_no_connection_is_made(monkeypatch):
    monkeypatch.setattr(judging, "build_opener", None)
    monkeypatch.setattr("socket.socket", None)
    assert task().verdict(PROBLEM, "Tom is late.", True).formatted


def test_a_record_of_anyone_s_sends_nothing():
    config = {"_target_": "opd_bench.tasks.dialogsum.DialogSum"} | CONFIG
    assert _tasks({"folder": "here", "config": {"task": config}}).train.judge is None
    asking = config | {"judge": {"url": "http://elsewhere", "key": "HOME"}}
    for wanted in ({"task": asking}, {"task": config, "tests": {"summaries": asking}}):
        with pytest.raises(RecordError, match=r"here: verdicts by judge=.* are not made anew"):
            _tasks({"folder": "here", "config": wanted})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bar": 30}, r"DialogSum.bar must be in \[0, 1\], got 30"),
        ({"held_out": 5}, "DialogSum.held_out must be 0, for it has validation problems, got 5"),
        ({"judge": "gpt"}, "DialogSum.judge must be a mapping or null, got 'gpt'"),
        ({"judge": {"url": "http://x"}}, "DialogSum.judge: .*missing 4 required .*'model'"),
        ({"judge": {"uri": "http://x"}}, "DialogSum.judge: .*unexpected keyword argument 'uri'"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        task(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "file:///etc/passwd"}, "Judge.url must start with http:// or https://, got 'file:///etc/passwd'"),
        ({"seconds": 0}, "Judge.seconds must be > 0, got 0"),
        ({"key": "sk-abc"}, "^Judge.key must be the name of an environment variable, and not the key itself$"),
    ],
)
def test_a_judge_s_settings_are_checked_when_the_task_is_made(change, message):
    fine = {"url": "http://127.0.0.1:9", "model": "wise", "key": None, "seconds": 5.0, "rival": None}
    with pytest.raises(ValueError, match=message):
        task(judge=fine | change)

"""Code tasks: what is taken from a response, and verdicts on solutions that are known to be right or wrong."""

import gzip
import json
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from textwrap import indent

import pytest
from omegaconf import OmegaConf

from opd_bench.configs import conf_dir, made
from opd_bench.tasks import sandbox
from opd_bench.tasks.base import Problem
from opd_bench.tasks.code import Checks, program_of
from opd_bench.tasks.humaneval import HumanEval
from opd_bench.tasks.limits import VerdictError, limited_verdict
from opd_bench.tasks.mbpp import MBPP
from tests.test_sandbox import needs_landlock

DATASET = {"revision": None, "rows": None, "held_out": 0, "execute": True, "seconds": 20.0, "memory_mib": 512}
HUMANEVAL = DATASET | {"source": "openai/openai_humaneval", "prompt": "{question}"}
MBPP_PROMPT = "You are an expert Python programmer, and here is your task: {question}\n"
HEADER = """from typing import List

def twice(n):
    return 2 * n

def four(n: int) -> List[int]:
    ''' >>> four(1) '''
"""
CHECKS = Checks("four", "assert four(1) == [4] and twice(3) == 6", HEADER)
QUESTION = Problem(HEADER, str(CHECKS), "")
BODY = "    return [twice(twice(n))]\n"
WHOLE = "def four(n: int) -> List[int]:\n    return [2 * twice(n)]\n"
WRONG = "def four(n):\n    return 0\n"


def humaneval(**changes) -> HumanEval:
    return HumanEval(**HUMANEVAL | changes)


@pytest.mark.parametrize(
    "response",
    [
        BODY,
        f"\n{BODY}\n\ndef other(n):\n    retu",
        f"{BODY}\nclass Other:\n",
        f"{BODY}\nif __name__ == '__main__':\n    1 / 0",
        f"{BODY}\nprint(four(",
        f"{BODY}# that is all\n1 / 0",
        f"{BODY}```\nThis works, for it doubles twice.",
        f"{BODY}\nThis works.",
        "    return [\n        twice(\n            twice(n)\n)\n]\n",
        WHOLE,
        f"```python\n{WHOLE}```",
        f"Sure!\n\n```python\n{WHOLE}```\n\nIt doubles twice:\n\n```python\nprint(four(1), 1 / 0)\n```\n",
        f"```\n{WHOLE}```",
        f"```Python3 \n{WHOLE}",
        f"First try:\n```python\n{WRONG}```\nbetter:\n```python\n{WHOLE}```",
        f"1. Like this:\n\n{indent(f'```python{chr(10)}{WHOLE}```', '    ')}\n",
        f"```python\nfrom __future__ import annotations\n{WHOLE}```",
        f"```python\n{BODY}```",
        f"The body:\n```python\n{BODY}```\nHave fun.",
        f"{HEADER}{BODY}",
        f"```python\n{HEADER}{BODY}```",
        f"Here it is:\n{WHOLE}\nprint(four(2)",
        f"{WHOLE}\nThis works.",
        f"import math\nLIMIT = 3\n\n{WHOLE}\n# an example\nif __name__ == '__main__':\n    1 / 0",
        f"{WHOLE}\ndef main():\n    1 / ",
        f"{WHOLE}\nassert four(1) == 5",
        f"def help(n):\n    return 4 * n\n\n@staticmethod\n{WHOLE}",
        "```python\nfour = lambda n: [4 * n]\n```",
        "```python\nclass four(list):\n    def __init__(self, n):\n        self.append(4 * n)\n```",
    ],
)
@needs_landlock
def test_code_is_found_and_passes(response):
    verdict = humaneval().verdict(QUESTION, response, finished=False)
    assert verdict.correct, (program_of(response, CHECKS), verdict.reason)
    assert verdict.formatted
    assert verdict.answer
    assert not verdict.reason


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (WRONG, r"raised AssertionError at `assert four\(1\) == \[4\] and twice\(3\) == 6`"),
        (f"```python\n{WHOLE}```\nor\n```python\n{WRONG}```", "raised AssertionError"),
        ("    return [4 * n", "raised SyntaxError: '\\[' was never closed"),
        ("    raise SystemExit(0)\n", "raised SystemExit: 0"),
        ("    while True:\n        n += 1\n", "no end after 1 s"),
        (f"def twice(n):\n    return 0\n\n{WHOLE}", "raised AssertionError"),
        ("    import socket\n    socket.socket()\n", "raised PermissionError"),
    ],
)
@needs_landlock
def test_wrong_code_is_wrong_and_it_is_said_why(response, reason):
    verdict = humaneval(seconds=1.0).verdict(QUESTION, response, finished=True)
    assert (verdict.correct, verdict.formatted, verdict.timed_out) == (False, True, False)
    assert re.match(reason, verdict.reason), verdict.reason
    assert verdict.kept() == {"correct": False, "formatted": True, "reason": verdict.reason}


@pytest.mark.parametrize("response", ["", "\n \n", "I can't.", "```python\nprint(3)\n```", "return 3"])
@needs_landlock
def test_what_is_no_code_is_not_run(response, monkeypatch):
    monkeypatch.setattr(sandbox, "run", None)
    verdict = humaneval().verdict(QUESTION, response, finished=True)
    assert (verdict.correct, verdict.formatted, verdict.answer, verdict.reason) == (False, False, "", "no code")


def test_nothing_is_run_unless_it_is_allowed(monkeypatch):
    task = humaneval(execute=False)
    monkeypatch.setattr(sandbox, "run", None)
    for asked in (task.ready, lambda: task.verdict(QUESTION, BODY, finished=True)):
        with pytest.raises(ValueError, match=r"humaneval\.execute must be true: .* run_code=true allows that"):
            asked()
    monkeypatch.setattr(sandbox, "lacking", lambda: "there is no lock")
    with pytest.raises(ValueError, match="humaneval: there is no lock"):
        humaneval().ready()
    with pytest.raises(VerdictError, match="humaneval: there is no lock"):
        limited_verdict(humaneval(), QUESTION, BODY, True, 10.0)


@needs_landlock
def test_where_it_is_allowed_and_can_be_had_there_is_a_verdict():
    assert humaneval().ready() is None
    assert limited_verdict(humaneval(), QUESTION, BODY, True, 10.0).correct


@pytest.mark.filterwarnings("ignore:no verdict on problem")
@needs_landlock
def test_a_verdict_s_time_ends_a_program_s():
    response = "    while True:\n        pass\n"
    assert limited_verdict(humaneval(), QUESTION, response, True, 0.3).timed_out


@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_the_yaml_makes_the_task_and_allows_nothing_by_itself(name):
    config = OmegaConf.create({"run_code": False, "task": OmegaConf.load(conf_dir() / "task" / f"{name}.yaml")})
    task = made(OmegaConf.to_container(config, resolve=True)["task"])
    assert (task.name, task.execute) == (name, False)
    for entry in ("bench", "probe"):
        assert OmegaConf.load(conf_dir() / f"{entry}.yaml").run_code is False


@pytest.fixture
def problems(real_data):
    """All of HumanEval, in the order of the file."""
    if not (real_data / "humaneval" / "HumanEval.jsonl.gz").is_file():
        pytest.skip("no HumanEval")
    return humaneval().problems("test")


def test_all_problems_are_read(problems):
    task = humaneval()
    assert task.size("test") == len(problems) == len({problem.id for problem in problems}) == 164
    seen = [task.problem("test", 0, index) for index in range(164)]
    assert sorted(seen) == sorted(problems) != seen
    assert seen == [humaneval().problem("test", 0, index) for index in range(164)]
    with pytest.raises(ValueError, match="humaneval has 164 test problems, number 164 was asked for"):
        task.problem("test", 0, 164)
    with pytest.raises(ValueError, match="humaneval has no train split; it has test"):
        task.problem("train", 0, 0)
    asked = humaneval(prompt="Complete:\n{question}", rows=3)
    assert asked.size("test") == 3
    assert asked.problem("test", 0, 0).prompt.startswith("Complete:\n")
    assert problems[2].prompt.startswith("\n\ndef truncate_number(number: float) -> float:\n")
    assert problems[2].solution == "    return number % 1.0\n"
    assert json.loads(problems[2].answer).keys() == {"entry", "code", "header"}


def entry_of(problem) -> str:
    return json.loads(problem.answer)["entry"]


def as_body(problem) -> str:
    return f"{problem.solution}\n\ndef unfinished(n):\n    return (n"


def as_block(problem) -> str:
    """The function alone, without imports and helpers of the prompt."""
    start = problem.prompt.rindex(f"def {entry_of(problem)}(")
    return f"Here you are:\n\n```python\n{problem.prompt[start:]}{problem.solution}```\n\n```python\n1 / 0\n```"


def as_fault(problem) -> str:
    """The right solution under another name, and what it returns is not what is returned."""
    entry = entry_of(problem)
    fault = f"""
right = {entry}

def {entry}(*given):
    found = right(*given)
    match found:
        case bool() | None:
            return not found
        case int() | float():
            return found + 1
        case str():
            return found + "x"
        case list():
            return [*found, 0]
        case tuple():
            return (*found, 0)
        case dict():
            return {{**found, 0: 0}}
    raise TypeError(type(found))
"""
    return f"```python\n{problem.prompt}{problem.solution}\n{fault}```"


def verdicts(problems, written):
    judge = partial(humaneval().verdict, finished=True)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda problem: judge(problem, written(problem)), problems))


@pytest.mark.parametrize("written", [as_body, as_block])
@needs_landlock
def test_reference_solutions_are_correct(problems, written):
    found = verdicts(problems, written)
    wrong = {entry_of(problem): one.reason for problem, one in zip(problems, found, strict=True) if not one.correct}
    assert not wrong


@needs_landlock
def test_planted_faults_are_found_by_the_tests(problems):
    found = verdicts(problems, as_fault)
    right = {entry_of(problem): one.reason for problem, one in zip(problems, found, strict=True) if one.correct}
    assert not right
    assert {one.reason.partition(":")[0].partition(" at ")[0] for one in found} == {"raised AssertionError"}


ROW = {
    "text": "Write a function to find the shared elements from the given two lists.",
    "code": "def helper(a):\r\n  return set(a)\r\ndef similar_elements(a, b):\r\n  return tuple(helper(a) & set(b)) ",
    "test_setup_code": "",
    "test_list": ["assert set(similar_elements((3, 4), (5, 4))) == {4}", "assert similar_elements((), ()) == ()"],
    "challenge_test_list": [],
}
NODE = {
    "text": "Write a function to find the value of a node.",
    "code": "class Node:\n  def __init__(self, n):\n    self.n = n\ndef value(node):\n  return node.n",
    "test_setup_code": "root = Node(3)",
    "test_list": ["assert value(root) == 3"],
    "challenge_test_list": [],
}


def mbpp(source, **changes) -> MBPP:
    return MBPP(**DATASET | {"source": str(source), "prompt": MBPP_PROMPT} | changes)


@pytest.fixture
def file(tmp_path):
    """As the authors publish it: one file, numbers 1 to 974."""
    numbers = (*range(1, 13), 510, 511, 512, 600, 601, 602, 974)
    lines = [(NODE if number == 974 else ROW) | {"task_id": number} for number in numbers]
    for line in lines[:-1]:
        line["text"] = f"{line['text']} ({line['task_id']})"
    (file := tmp_path / "mbpp.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return file


def test_mbpp_asks_as_the_paper_does(file):
    problem = mbpp(file).problems("train")[0]
    tests = "assert set(similar_elements((3, 4), (5, 4))) == {4}\nassert similar_elements((), ()) == ()"
    assert problem.prompt == f"{ROW['text']} (601) Your code should pass these tests:\n\n{tests}"
    assert json.loads(problem.answer)["entry"] == "similar_elements"
    asked = mbpp(file, rows=1).problem("train", 0, 5).prompt
    assert asked == f"You are an expert Python programmer, and here is your task: {problem.prompt}\n"


def test_mbpp_s_splits_are_the_authors_and_share_no_problem(file):
    def numbers(split: str) -> list[str]:
        return [found for one in mbpp(file).problems(split) for found in re.findall(r"\((\d+)\)", one.prompt)[:1]]

    assert numbers("test") == ["11", "12", "510"]
    assert numbers("validation") == ["511", "512", "600"]
    assert numbers("train") == ["601", "602"]
    assert mbpp(file).size("train") == 3
    assert mbpp(file.parent).size("train") == 3


def test_mbpp_is_found_below_the_folder_of_data_sets(file, tmp_path, monkeypatch):
    monkeypatch.setenv("OPD_BENCH_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "mbpp").mkdir(parents=True)
    file.rename(tmp_path / "data" / "mbpp" / "mbpp.jsonl")
    assert mbpp("google-research-datasets/mbpp").size("test") == 3


def test_files_that_are_none_are_refused_by_name(tmp_path, real_data):
    with pytest.raises(ValueError, match=r"none\.jsonl can't be read: FileNotFoundError"):
        mbpp(tmp_path / "none.jsonl").size("test")
    (bad := tmp_path / "bad.jsonl.gz").write_bytes(gzip.compress(b'{"task_id": 11\n'))
    with pytest.raises(ValueError, match=r"bad\.jsonl\.gz can't be read: ValueError: line 1"):
        mbpp(bad).size("test")
    (empty := tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match="mbpp: no problems in"):
        mbpp(empty).size("test")


@pytest.mark.parametrize("name", ["openai/openai_humaneval", "google-research-datasets/mbpp"])
def test_without_a_file_the_hub_is_asked_by_name(name, monkeypatch, tmp_path):
    asked = []

    def load(path, **options):
        asked.append((path, options))
        raise ConnectionError("no network")

    monkeypatch.setenv("OPD_BENCH_DATA", str(tmp_path))
    monkeypatch.setattr("opd_bench.tasks.dataset._loaded", load)
    task = humaneval(revision="1") if "human" in name else mbpp(name, revision="1")
    with pytest.raises(
        ValueError, match=f"'{name}' on the Hugging Face Hub can't be read: ConnectionError: no network"
    ):
        task.size("test")
    config = None if "human" in name else "full"
    assert asked == [(name, {"name": config, "split": "test", "revision": "1", "streaming": True})]


@needs_landlock
def test_mbpp_is_judged_by_its_tests(file):
    task = mbpp(file)
    *_, shared, node = task.problems("train")
    assert all(task.verdict(one, one.solution, finished=True).correct for one in (shared, node))
    assert task.verdict(shared, f"```python\n{shared.solution}\n```", finished=True).correct
    wrong = task.verdict(shared, "```python\ndef similar_elements(a, b):\n    return set(a) | set(b)\n```", True)
    assert wrong.reason == "raised AssertionError at `assert set(similar_elements((3, 4), (5, 4))) == {4}`"
    assert task.verdict(shared, "It can't be done.", finished=True).reason == "no code"
    assert task.verdict(shared, "def other(): pass", finished=True).reason == "no code"

"""Multiple choice: the letter that is given as the answer and no other, options shuffled once for all."""

import csv
import json
import re
import time
from collections import Counter

import pytest
import yaml

from opd_bench.configs import conf_dir, made
from opd_bench.tasks import dataset
from opd_bench.tasks.base import Problem
from opd_bench.tasks.choice import letter_of
from opd_bench.tasks.gpqa_diamond import OPTIONS

PROMPT = "Which is a gas ?\n\nA. iron\nB. neon\nC. salt\nD. tin\n\nAnswer as JSON."

PIECES = (
    "{",
    "}",
    '"',
    " ",
    "**",
    "\\boxed{",
    "\\boxed{\\text{(",
    '{"answer":',
    '"answer" : "',
    "answer",
    "answer is ",
)
PIECES += ("Answer: A ", "Answer:\n", "answer ((", "answer: (A), (")


def task(name: str, **changes):
    return made(yaml.safe_load((conf_dir() / "task" / f"{name}.yaml").read_text()) | changes)


def gpqa_rows(count: int) -> list[dict[str, str]]:
    return [{"Question": f"What is {n} + {n} ?"} | dict(zip(OPTIONS, (f"{2 * n}", f"{n}", "no", " odd\n"), strict=True))
            for n in range(count)]  # fmt: skip


def science_row(number: int, **changes) -> dict:
    choices = {"text": ["one", "two", "three", "four"], "label": ["A", "B", "C", "D"]}
    details = {"level": "L3", "task": "counting", "subtask": "atoms"}
    row = {
        "question": f"How many atoms has molecule {number} ?",
        "choices": choices,
        "answerKey": "C",
        "details": details,
    }
    return row | {"type": "mcq-4-choices", "domain": "Chemistry", "answer": ""} | changes


@pytest.fixture
def gpqa(tmp_path):
    def written(rows, **changes):
        with (tmp_path / "gpqa.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["Record ID", "Question", *OPTIONS])
            writer.writeheader()
            writer.writerows(rows)
        return task("gpqa_diamond", source=str(tmp_path / "gpqa.csv"), **changes)

    return written


@pytest.fixture
def science(tmp_path):
    def written(rows, **changes):
        (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return task("sciknoweval", source=str(tmp_path), **changes)

    return written


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ('{"answer": "B"}', "B"),
        ('It is noble.\n\n```json\n{\n  "answer" : "b"\n}\n```\n', "B"),
        ("{'answer': 'B'}", "B"),
        ('{"reason": "A is a metal", "answer": "(B)"}', "B"),
        ('{"answer": "B. neon"}', "B"),
        ('{"answer": "A and B"}', ""),
        ('{"answer": "AB"}', ""),
        ('{"answer": ["A", "B"]}', ""),
        ('{"answer": 2}', ""),
        ('{"answer": "neon"}', ""),
        (r"so \boxed{B}", "B"),
        (r"so \boxed{b}.", "B"),
        (r"so $\boxed{\text{(B)}}$", "B"),
        (r"so \boxed{\mathrm{B}}", "B"),
        (r"so \boxed{B. neon}", "B"),
        (r"so \boxed{neon}", ""),
        (r"so \boxed{A, B}", ""),
        (r"so \boxed{}", ""),
        ("Answer: B", "B"),
        ("**Answer:** B", "B"),
        ("**Final Answer**: **B**", "B"),
        ("Answer: (b)", "B"),
        ("ANSWER: B) neon", "B"),
        ("The answer is B", "B"),
        ("The answer is (B) because it is noble.", "B"),
        ("The correct answer is B, because it is noble.", "B"),
        ("The answer is B because A is a metal.", "B"),
        ("The answer is: $B$.", "B"),
        ("The answer is B.\nA, C and D are wrong.", "B"),
        ("The answer is a gas", ""),
        ("Answer: a", ""),
        ("Answer: A gas is what it is", ""),
        ("The answer is A or B", ""),
        ("Answer: A, B", ""),
        ("Answer: (A) and (B)", ""),
        ("Answer: A/B", ""),
        ("the answer is D-glucose", ""),
        ("the answer is C's", ""),
        ("the answer isn't B", ""),
        ("the answers: B", ""),
        ("Answer: A? No. Answer: C", "C"),
        (r"{'answer': 'A'} no, \boxed{C} no, the answer is D, no: {'answer': 'B'}", "B"),
        (r"{'answer': 'A'} hence \boxed{C}", "C"),
        ("Answer: A\n\nAnswer: A gas", "A"),
        ("B", ""),
        ("A B C D", ""),
        ("", ""),
        ("\x00\ufffd\u202e {]}\\boxed{", ""),
    ],
)
def test_the_last_letter_that_is_given_as_the_answer_counts(response, letter):
    assert letter_of(response) == letter


def test_a_letter_that_no_option_has_is_no_answer():
    judged = task("gpqa_diamond").verdict
    problem = Problem(PROMPT, "B", "")
    assert judged(problem, '{"answer": "B"}', True)[:3] == (True, True, "B")
    assert judged(problem, '{"answer": "B"}', False).correct  # it was said, whatever would have come
    assert judged(problem, '{"answer": "C"}', True)[:3] == (False, True, "C")
    assert judged(problem, "no idea", True) == (False, False, "", False, {}, "")
    outside = judged(problem, 'Answer: B, no: {"answer": "E"}', True)
    assert outside[:3] == (False, False, "")
    assert outside.reason == "there is no option E"


@pytest.mark.parametrize("piece", PIECES)
def test_a_megabyte_of_anything_is_read_at_once(piece):
    start = time.monotonic()
    assert letter_of(piece * (1_000_000 // len(piece)) + '{"answer": "B"}') == "B"
    assert time.monotonic() - start < 5


def test_gpqa_is_shuffled_the_same_way_for_everyone(gpqa):
    rows = gpqa_rows(400)
    found = gpqa(rows)
    problems = found.problems("test")
    assert found.size("test") == 400
    assert [problem.prompt for problem in gpqa(rows[::-1]).problems("test")] == [p.prompt for p in problems[::-1]]
    for number, problem in enumerate(problems):
        assert f"\n{problem.answer}. {2 * number}\n" in f"{problem.prompt}\n"
        options = re.findall(r"^[A-D]\. (.+)$", problem.prompt, re.MULTILINE)
        assert sorted(options) == sorted([str(2 * number), str(number), "no", "odd"])
    counts = Counter(problem.answer for problem in problems)
    assert set(counts) == set("ABCD")
    assert min(counts.values()) > 75  # 100 each, give or take
    asked = found.problem("test", 0, 7)
    assert asked.prompt.startswith("What is ")
    assert asked.prompt.endswith('for example {"answer": "C"}')
    assert found.verdict(asked, asked.solution, True).correct


def test_gpqa_is_for_testing_and_says_that_it_is_gated(gpqa, monkeypatch):
    with pytest.raises(ValueError, match="gpqa_diamond has no train split; it has test"):
        gpqa(gpqa_rows(3)).problems("train")

    def refused(*_, **__):
        raise FileNotFoundError("'Idavidrein/gpqa' is a gated dataset")

    monkeypatch.delenv(dataset.DATA, raising=False)
    monkeypatch.setattr(dataset, "_loaded", refused)
    with pytest.raises(ValueError, match=r"its terms must be accepted there .* HF_TOKEN .* or name a file"):
        task("gpqa_diamond").problems("test")


def test_a_row_without_an_option_is_named(gpqa):
    rows = gpqa_rows(3)
    rows[1][OPTIONS[2]] = ""
    with pytest.raises(
        ValueError,
        match=r"gpqa_diamond: row 2 of the test split can't be read: its field 'Incorrect Answer 2' must be text",
    ):
        gpqa(rows).problems("test")


def test_sciknoweval_takes_questions_of_its_domain_and_level_whose_options_fit(science):
    labels = ["A", "B", "C", "D"]
    five = {"text": ["1", "2", "3", "4", "5"], "label": labels}
    rows = [
        science_row(0),
        science_row(1, domain="Physics"),
        science_row(2, details={"level": "L1"}),
        science_row(3, type="true_or_false", choices=None),
        science_row(4, choices=five),
        science_row(5, answerKey="E"),
        science_row(6, answerKey=" c "),
        science_row(7, type="mcq-2-choices", choices={"text": ["no", " yes"], "label": ["A", "B"]}, answerKey="B"),
    ]
    found = science(rows)
    (first, second, third) = found._read("train")
    assert first.prompt == "How many atoms has molecule 0 ?\n\nA. one\nB. two\nC. three\nD. four"
    assert [problem.answer for problem in (first, second, third)] == ["C", "C", "B"]
    assert third.prompt.endswith("\nA. no\nB. yes")
    assert not found.verdict(third, '{"answer": "C"}', True).formatted
    assert len(science(rows, level=None)._read("train")) == 4
    assert len(science(rows, domain="Physics")._read("train")) == 1


def test_sciknoweval_s_splits_share_no_question_and_depend_on_nothing_else(science):
    rows = [science_row(number) for number in range(1000)]
    other = {"text": ["four", "five", "one", "two"], "label": ["A", "B", "C", "D"]}
    found = science([*rows, *(science_row(number, choices=other) for number in range(1000))])
    questions = {
        split: {p.prompt.split("?")[0] for p in found.problems(split)} for split in ("train", "validation", "test")
    }
    assert sum(map(len, questions.values())) == 1000
    assert [len(questions[split]) for split in ("train", "validation", "test")] == pytest.approx([750, 50, 200], abs=30)
    few = science(rows[:100])
    for split, all_of_it in questions.items():
        assert {problem.prompt.split("?")[0] for problem in few.problems(split)} <= all_of_it
    problem = found.problem("train", 0, 5)
    assert found.verdict(problem, problem.solution, True).correct


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": None}, "row 2 of the train split can't be read: it has no field 'question'"),
        ({"answerKey": ""}, "row 2 of the train split can't be read: its field 'answerKey' must be text"),
        ({"choices": None}, "row 2 of the train split can't be read: TypeError"),
        ({"choices": {"text": ["a"]}}, "row 2 of the train split can't be read: KeyError: 'label'"),
        ({"details": None}, "row 2 of the train split can't be read: TypeError"),
    ],
)
def test_a_dirty_row_is_named(science, row, message):
    with pytest.raises(ValueError, match=f"sciknoweval: {message}"):
        science([science_row(0), science_row(1, **row)]).problems("train")
    short = {"domain": "Chemistry"}
    with pytest.raises(ValueError, match=r"sciknoweval: row 1 of the train split can't be read: KeyError: 'type'"):
        science([short]).problems("train")


def test_settings_that_make_no_sense_are_refused_by_name(science):
    with pytest.raises(ValueError, match=r"SciKnowEval\.held_out must be 0, for a hash makes its splits, got 10"):
        science([], held_out=10)
    with pytest.raises(ValueError, match=r"SciKnowEval\.domain must be one of Biology, Chemistry, Material, Physics"):
        science([], domain="chemistry")
    with pytest.raises(ValueError, match="sciknoweval has no test problems among 1"):
        science([science_row(0)]).problems("test")

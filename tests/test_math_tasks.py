"""Mathematical tasks: real problems and small files in the public formats are read, asked and judged."""

import json
import random
import re
from pathlib import Path

import pytest
import yaml

from opd_bench.configs import conf_dir
from opd_bench.tasks.answers import computed, plain
from opd_bench.tasks.base import Task
from opd_bench.tasks.dataset import Place, rows
from opd_bench.tasks.gsm8k import GSM8K

BOX = "Please reason step by step, and put your final answer within \\boxed{}."


def task_of(name: str, **changes) -> Task:
    """As its YAML has it, but for the changes."""
    settings = yaml.safe_load((conf_dir() / "task" / f"{name}.yaml").read_text())
    module, _, made = settings.pop("_target_").rpartition(".")
    return getattr(__import__(module, fromlist=[made]), made)(**settings | changes)


ROWS = {
    "gsm8k": [
        {
            "question": "Ann has 3 boxes of 500 eggs. How many?",
            "answer": "It is 3*500 = <<3*500=1500>>1500.\n#### 1,500",
        },
        {"question": "Bob owes $7 and pays $9. What has he?", "answer": "He has 7-9 = $<<7-9=-2>>-2.\n#### -2"},
    ],
    "math": [
        {"problem": "Halve $1$.", "level": "Level 1", "type": "Algebra", "solution": r"It is $\boxed{\frac{1}{2}}$."},
        {"problem": "Double $1$.", "level": "Level 1", "type": "Algebra", "solution": r"It is $\boxed 2$."},
        {"problem": "Prove it.", "level": "Level 5", "type": "Geometry", "solution": "Obvious."},
    ],
    "dapo_math": [
        {"problem": "What is 2+3?", "answer": "5"},
        {"problem": "What is 2+4?", "answer": "6"},
    ],
    "deepmath": [
        {
            "question": "Sum $1/2^n$ over $n \\ge 1$.",
            "final_answer": "1",
            "difficulty": 3.0,
            "r1_solution_1": r"\boxed{1}",
        },
        {"question": "Is $\\pi$ rational?", "final_answer": "No", "difficulty": 2.0, "r1_solution_1": "It is not."},
    ],
    "openthoughts3": [
        {"domain": "code", "conversations": [{"from": "human", "value": "Sort."}, {"from": "gpt", "value": "sorted"}]},
        {
            "domain": "math",
            "conversations": [{"from": "human", "value": "2*2?"}, {"from": "gpt", "value": r"\boxed{4}"}],
        },
        {
            "domain": "math",
            "conversations": [{"from": "human", "value": "2*2?"}, {"from": "gpt", "value": r"\boxed{4}"}],
        },
        {"domain": "math", "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
        {
            "domain": "math",
            "conversations": [{"from": "human", "value": "3*3?"}, {"from": "gpt", "value": r"\boxed{9}"}],
        },
    ],
    "math500": [
        {
            "problem": "Root of 8?",
            "solution": r"$\boxed{2\sqrt{2}}$",
            "answer": r"2\sqrt{2}",
            "unique_id": "test/a/1.json",
        },
        {"problem": "Pair?", "solution": r"$\boxed{(1,2)}$", "answer": "(1,2)", "unique_id": "test/a/2.json"},
    ],
    "aime24": [
        {
            "id": 1,
            "problem": "Least prime above 100?",
            "solution": r"It is $\boxed{101}$.",
            "answer": "101",
            "year": "2024",
        },
        {"id": 2, "problem": "Least square above 2?", "solution": "It is 004.", "answer": "004", "year": "2024"},
    ],
    "aime25": [{"id": "0", "problem": "7*9?", "answer": "63"}, {"id": "1", "problem": "8*8?", "answer": 64}],
    "amc23": [{"id": 0, "question": "3*9?", "answer": 27.0}, {"id": 1, "question": "A half?", "answer": 0.5}],
    "minerva": [
        {"question": "Mass of an electron, in kg?", "answer": "9.11e-31"},
        {"question": "Speed after t?", "answer": "g t"},
    ],
    "hmmt25": [
        {"problem_idx": 1, "problem": "Root of 1/4?", "answer": r"\frac{1}{2}", "problem_type": ["Algebra"]},
        {"problem_idx": 2, "problem": "Area of a unit circle?", "answer": r"\pi", "problem_type": ["Geometry"]},
    ],
}
TRAINING = {"gsm8k", "math", "dapo_math", "deepmath", "openthoughts3"}


def written(folder: Path, name: str, data: list, kind: str = "jsonl") -> str:
    """A file of one's own in the public format."""
    path = folder / f"{name}.{kind}"
    if kind == "parquet":
        from datasets import Dataset

        Dataset.from_list(data).to_parquet(str(path))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in data))
    return str(path)


def right(task: Task, problem, response: str) -> bool:
    return task.verdict(problem, response, finished=True).correct


@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "jsonl") for name in ROWS), ("gsm8k", "parquet"), ("hmmt25", "parquet")]
)
def test_every_task_is_read_asked_and_judged(tmp_path, name, kind):
    task = task_of(name, source=written(tmp_path, name, ROWS[name], kind), held_out=0)
    split = "train" if name in TRAINING else "test"
    assert task.name == name
    assert task.size(split) == 2
    for index, problem in enumerate(task.problems(split)):
        other = task.problems(split)[1 - index]
        asked = {task.problem(split, 0, place).prompt for place in range(2)}
        words = BOX if name != "gsm8k" else "Please reason step by step, and end with #### and the answer, a number."
        assert f"{problem.prompt}\n\n{words}" in asked
        assert right(task, problem, problem.solution)
        for finished in (True, False):
            verdict = task.verdict(problem, f"So \\boxed{{{problem.answer}}} it is", finished)
            assert (verdict.correct, verdict.formatted, verdict.answer) == (True, True, problem.answer)
        for wrong in (
            f"\\boxed{{{other.answer}}}",
            f"\\boxed{{{problem.answer}+1}}",
            r"\boxed{}",
            problem.answer,
            "",
            "#### ",
        ):
            assert not right(task, problem, wrong)
        assert not task.verdict(problem, problem.answer, True).formatted


def test_a_reason_is_given_for_what_is_not_computed(tmp_path):
    task = task_of("aime25", source=written(tmp_path, "aime25", ROWS["aime25"]))
    verdict = task.verdict(task.problem("test", 0, 0), r"\boxed{9^{9^{9^9}}}", True)
    assert (verdict.correct, verdict.formatted, verdict.answer) == (False, True, "9^{9^{9^9}}")
    assert verdict.kept()["reason"] == "more than 1,000 digits: compared as text only"


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("#### 18", "18"),
        ("18\n#### 18.", "18"),
        ("#### $1,800", "1800"),
        (r"#### \$18", "18"),
        ("####18 dollars", "18"),
        ("#### -3.50", "-3.50"),
        ("#### 1\nno\n#### 2", "2"),
        (r"#### 1. First step … \boxed{18}", "18"),
        (r"\boxed{17} #### 18", "18"),
        ("#### Step", ""),
        ("18", ""),
        ("####", ""),
    ],
)
def test_gsm8k_reads_a_number_or_a_box_whichever_comes_last(response, answer):
    assert task_of("gsm8k").read_off(response) == answer


def test_gsm8k_solutions_have_no_calculations_for_a_machine(tmp_path):
    task = task_of("gsm8k", source=written(tmp_path, "gsm8k", ROWS["gsm8k"]), held_out=0)
    assert task.problems("train")[0].solution == "It is 3*500 = 1500.\n#### 1,500"
    assert task.problems("train")[0].answer == "1500"


def test_dapo_is_read_as_first_published_too(tmp_path):
    def row(question: str, answer: str) -> dict:
        before = "Solve the following math problem step by step. The last line of your response should be of the form "
        before += "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n"
        after = '\n\nRemember to put your answer on its own line after "Answer:".'
        asked = [{"role": "user", "content": before + question + after}]
        return {"prompt": asked, "reward_model": {"ground_truth": answer, "style": "rule"}, "ability": "MATH"}

    data = [row("Let $x=1$.\n\nWhat is $x+1$?", "2"), row("What is $3+1$?", "4")] * 3
    for kind in ("jsonl", "parquet"):
        task = task_of("dapo_math", source=written(tmp_path, "dapo", data, kind), held_out=0)
        found = [(problem.prompt, problem.answer) for problem in task.problems("train")]
        assert found == [("Let $x=1$.\n\nWhat is $x+1$?", "2"), ("What is $3+1$?", "4")]


def test_openthoughts3_has_domains_and_a_limit_of_rows(tmp_path):
    source = written(tmp_path, "openthoughts3", ROWS["openthoughts3"])
    size = {
        domain: task_of("openthoughts3", source=source, domain=domain, held_out=0).size("train")
        for domain in ("math", "code", "all")
    }
    assert size == {"math": 2, "code": 1, "all": 3}
    few = task_of("openthoughts3", source=source, rows=1, held_out=0)
    assert [problem.prompt for problem in few.problems("train")] == ["2*2?"]
    code = task_of("openthoughts3", source=source, domain="code", held_out=0)
    assert not right(code, code.problem("train", 0, 0), "sorted")
    with pytest.raises(ValueError, match=r"OpenThoughts3\.domain must be one of math, code, science, all, got 'art'"):
        task_of("openthoughts3", domain="art")


def test_both_years_of_aime_are_one_task(tmp_path):
    sources = {key: written(tmp_path, key, ROWS[key]) for key in ("aime24", "aime25")}
    task = task_of("aime24_25", source=sources["aime24"], source_2025=sources["aime25"])
    assert task.size("test") == 4
    assert {problem.answer for problem in task.problems("test")} == {"101", "004", "63", "64"}
    assert all(right(task, problem, problem.solution) for problem in task.problems("test"))


def test_minerva_takes_rounded_numbers_and_exact_formulas(tmp_path):
    task = task_of("minerva", source=written(tmp_path, "minerva", ROWS["minerva"]))
    mass, speed = task.problems("test")
    assert right(task, mass, r"\boxed{9.15 \times 10^{-31} \text{ kg}}")
    assert not right(task, mass, r"\boxed{9.3 \times 10^{-31}}")
    assert not right(task, mass, r"\boxed{0}")
    assert right(task, speed, r"\boxed{t g}")
    assert not right(task, speed, r"\boxed{1.001 g t}")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"question": "Why?"},
            "gsm8k: row 3 of the train split can't be read: it has no field 'answer'; it has 'question'",
        ),
        ({"question": None, "answer": "#### 1"}, "row 3 of the train split can't be read: it has no field 'question'"),
        ({"question": ["Why?"], "answer": "#### 1"}, "its field 'question' must be text, got ['Why?']"),
        ({"question": "Why?", "answer": "None"}, "its field 'answer' has no number after ####"),
        ({}, "it has no field 'answer'; it has none"),
        ([1], "gsm8k: row 3 of the train split can't be read"),
        (None, "gsm8k: row 3 of the train split can't be read"),
    ],
)
def test_dirty_rows_are_named(tmp_path, row, message):
    task = task_of("gsm8k", source=written(tmp_path, "gsm8k", [*ROWS["gsm8k"], row]))
    with pytest.raises(ValueError, match=re.escape(message)):
        task.problems("train")


@pytest.mark.parametrize("name", ["dapo_math", "openthoughts3", "aime24"])
def test_rows_of_another_data_set_are_named_too(tmp_path, name):
    data = [{"prompt": [], "conversations": [{"from": "gpt"}], "domain": "math"}]
    task = task_of(name, source=written(tmp_path, name, data))
    with pytest.raises(ValueError, match=f"{name}: row 1 of the .* split can't be read"):
        task.problems("train" if name in TRAINING else "test")


def many(number: int) -> list[dict]:
    return [{"question": f"What is {index}+1?", "answer": f"#### {index + 1}"} for index in range(number)]


def test_validation_is_held_out_and_the_order_is_seeded_with_another_one_in_every_epoch(tmp_path):
    task = task_of("gsm8k", source=written(tmp_path, "gsm8k", many(40)), held_out=10)
    asked = {
        split: [task.problem(split, 0, index).id for index in range(task.size(split))]
        for split in ("train", "validation")
    }
    assert (task.size("train"), task.size("validation")) == (30, 10)
    assert len({*asked["train"], *asked["validation"]}) == 40
    again = [task.problem("train", 0, 30 + index).id for index in range(30)]
    other = [task.problem("train", 1, index).id for index in range(30)]
    assert sorted(again) == sorted(other) == sorted(asked["train"])
    assert again != asked["train"] != other
    assert asked["train"] == [task.problem("train", 0, index).id for index in range(30)]
    with pytest.raises(ValueError, match="gsm8k has 10 validation problems, number 10 was asked for"):
        task.problem("validation", 0, 10)
    few = task_of("gsm8k", source=task.source, held_out=10, rows=20)
    assert (few.size("train"), few.size("validation")) == (10, 10)
    with pytest.raises(ValueError, match="gsm8k has no train problems: held_out=40 of 40"):
        task_of("gsm8k", source=task.source, held_out=40).problem("train", 0, 0)


def test_the_same_question_is_asked_once(tmp_path):
    task = task_of("gsm8k", source=written(tmp_path, "gsm8k", many(6) * 3), held_out=2)
    assert (task.size("train"), task.size("validation")) == (4, 2)


def test_what_is_missing_is_said_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("OPD_BENCH_DATA", str(tmp_path))
    remedy = re.escape("name a file as its source, or put one at $OPD_BENCH_DATA/aime24/test.jsonl")
    with pytest.raises(ValueError, match=f"'nobody/nothing' on the Hugging Face Hub can't be read: .*{remedy}"):
        task_of("aime24", source="nobody/nothing").size("test")
    with pytest.raises(ValueError, match=rf"none\.jsonl can't be read: FileNotFoundError: .*{remedy}"):
        task_of("aime24", source=str(tmp_path / "none.jsonl")).size("test")
    with pytest.raises(ValueError, match="aime24 has no train split; it has test"):
        task_of("aime24").problem("train", 0, 0)
    (tmp_path / "aime24").mkdir()
    (tmp_path / "aime24" / "test.jsonl").write_text(json.dumps(ROWS["aime24"][0]) + "\nno JSON\n")
    with pytest.raises(ValueError, match=r"test\.jsonl can't be read: ValueError: line 2: Expecting value"):
        task_of("aime24").size("test")
    assert task_of("aime24", rows=1).size("test") == 1


def test_gsm8k_is_whole_and_its_solutions_are_correct(real_data):
    task = task_of("gsm8k", held_out=256)
    assert [task.size(split) for split in ("train", "validation", "test")] == [7473 - 256, 256, 1319]
    problems = {split: task.problems(split) for split in ("train", "validation", "test")}
    everything = [problem for found in problems.values() for problem in found]
    assert len({problem.id for problem in everything}) == 7473 + 1319
    for problem in everything:
        assert right(task, problem, problem.solution)
        assert right(task, problem, rf"\boxed{{{problem.answer}}}")
        assert not right(task, problem, f"#### {float(problem.answer) + 1:g}")
        assert not right(task, problem, problem.solution.partition("####")[0])
        assert "<<" not in problem.solution
    others = random.Random(0).sample(everything, len(everything))
    pairs = [
        (problem, other) for problem, other in zip(everything, others, strict=True) if problem.answer != other.answer
    ]
    assert not any(right(task, problem, other.solution) for problem, other in pairs)


def test_math500_golds_are_correct(real_data):
    task = task_of("math500")
    assert task.size("test") == 500
    for problem in task.problems("test"):
        assert right(task, problem, problem.solution)
        assert right(task, problem, rf"\boxed{{{problem.answer}}}")
        assert not right(task, problem, r"\boxed{}")
        assert not right(task, problem, problem.answer)


def test_math500_golds_are_equal_as_expressions_to_themselves_and_to_no_others(real_data):
    task = task_of("math500")
    problems = task.problems("test")
    assert [problem.answer for problem in problems if not computed(*2 * [plain(problem.answer)], 0.0)] == []
    others = random.Random(1).sample(problems, len(problems))
    pairs = [
        (problem, other) for problem, other in zip(problems, others, strict=True) if problem.answer != other.answer
    ]
    assert len(pairs) > 490
    assert [pair for pair in pairs if right(task, pair[0], rf"\boxed{{{pair[1].answer}}}")] == []
    assert [problem.answer for problem in problems if right(task, problem, rf"\boxed{{{problem.answer}+1}}")] == []


def test_rows_come_compressed_and_from_a_folder(tmp_path):
    import gzip

    (tmp_path / "own").mkdir()
    with gzip.open(tmp_path / "own" / "test.jsonl.gz", "wt") as file:
        file.write(json.dumps(ROWS["gsm8k"][0]))
    place = Place("gsm8k/test.jsonl.gz", "test")
    assert list(rows(str(tmp_path / "own"), place, None)) == ROWS["gsm8k"][:1]
    assert GSM8K.places["test"].config == "main"

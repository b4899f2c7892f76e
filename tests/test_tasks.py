"""Problems that are right, splits that share none, verdicts that can't be talked round, words that stay whole."""

import random
import re

import pytest

from opd_bench.models.vocabulary import word_tokenizer
from opd_bench.tasks.mini_gsm import NAMES, MiniGSM, written

SETTINGS = {"largest": 99, "operand": 12, "steps_min": 2, "steps_max": 4, "distraction": 0.3}
TASK = MiniGSM(**SETTINGS)
PROBLEMS = [TASK.problem("test", 0, index) for index in range(1024)]


def chain(problem) -> str:
    """The numbers and operations of a solution, without its words."""
    start = re.search(r"starts with (\d+)", problem.solution).group(1)
    return start + " ".join(re.findall(r"\d+ [-+*/] \d+ = \d+", problem.solution))


def test_every_written_step_is_true_and_follows_from_the_one_before():
    for problem in PROBLEMS:
        value = int(re.search(r"starts with (\d+)", problem.solution).group(1))
        steps = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", problem.solution)
        assert 2 <= len(steps) <= 4
        for before, operation, operand, result in steps:
            assert int(before) == value
            value = int(eval(f"{before} {operation} {operand}"))
            assert int(result) == value
            assert 0 <= value <= 99
        assert problem.answer == str(value)


def test_the_story_tells_the_numbers_of_the_solution_in_order():
    for problem in PROBLEMS[:200]:
        told = re.sub(r"(It is|also has|\S+ has) \S+ \S+ \.", "", problem.prompt.split(" . ", 1)[1])
        operands = [n for operation, n in re.findall(r"([-+*/]) (\d+) =", problem.solution) if operation in "+-"]
        assert re.findall(r"\d+", told) == operands
        name = problem.prompt.split()[0]
        assert name in NAMES
        assert problem.prompt.endswith(f"does {name} have ?")


def test_problems_are_numbered_and_seeded():
    assert TASK.problem("train", 3, 17) == TASK.problem("train", 3, 17)
    assert TASK.problem("train", 3, 17) != TASK.problem("train", 3, 18) != TASK.problem("train", 4, 18)
    assert len({problem.id for problem in PROBLEMS}) == len(PROBLEMS)
    assert PROBLEMS[0].id == TASK.problem("test", 0, 0).id


def test_no_chain_of_numbers_is_in_two_splits():
    chains = {}
    for split, seeds in (("train", range(3)), ("validation", range(3)), ("test", range(3))):
        chains[split] = {chain(TASK.problem(split, seed, index)) for seed in seeds for index in range(1500)}
    assert not chains["train"] & chains["test"]
    assert not chains["train"] & chains["validation"]
    assert not chains["validation"] & chains["test"]
    assert min(map(len, chains.values())) > 4000


@pytest.mark.parametrize(
    ("response", "finished", "correct", "answer"),
    [
        ("Ann starts with 3 . #### 7", True, True, "7"),
        ("#### 7", True, True, "7"),
        ("Ann starts with 3 . #### 7", False, False, ""),  # cut off: it might have gone on
        ("Ann starts with 3 . #### 8", True, False, "8"),
        ("7", True, False, ""),
        ("#### 7 7", True, False, ""),
        ("#### 8 #### 7", True, False, ""),
        ("#### 7 .", True, False, ""),
        ("#### -7", True, False, ""),
        ("#### 07", True, False, "07"),
        ("####", True, False, ""),
        ("", True, False, ""),
    ],
)
def test_a_verdict_wants_exactly_the_answer_at_the_very_end(response, finished, correct, answer):
    problem = PROBLEMS[0]._replace(answer="7")
    verdict = TASK.verdict(problem, response, finished)
    assert (verdict.correct, verdict.formatted, verdict.answer) == (correct, answer != "", answer)


def test_reference_solutions_are_correct():
    assert all(TASK.verdict(problem, problem.solution, finished=True).correct for problem in PROBLEMS)


def test_a_slip_changes_the_rest_of_the_chain_and_nothing_before_it():
    honest = TASK.chain(random.Random(5))
    slips = iter([False, True, False, False])
    sloppy = TASK.chain(random.Random(5), lambda _, step: step.result + next(slips))
    assert sloppy[0] == honest[0]
    assert sloppy[1].result == honest[1].result + 1
    if len(sloppy) > 2:
        assert sloppy[2].before == sloppy[1].result
    assert "=" in written(sloppy[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"largest": 5}, "MiniGSM.largest must be in [12, 199], got 5"),
        ({"steps_min": 3, "steps_max": 2}, "MiniGSM.steps_min must be ≤ steps_max, got 3 > 2"),
        ({"distraction": 1.5}, "MiniGSM.distraction must be in [0, 1], got 1.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MiniGSM(**SETTINGS | change)


def test_every_word_and_every_number_is_one_token_and_comes_back(tmp_path):
    from transformers import AutoTokenizer, LlamaConfig

    word_tokenizer(TASK.words, 512).save_pretrained(tmp_path)
    LlamaConfig(vocab_size=512).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == 512
    for problem in PROBLEMS[:200]:
        prompt = tokenizer(problem.prompt)["input_ids"]
        assert len(prompt) == len(problem.prompt.split()) + 2  # <bos> and <sep>
        ids = tokenizer(problem.solution, add_special_tokens=False)["input_ids"]
        assert len(ids) == len(problem.solution.split())
        assert tokenizer.unk_token_id not in [*prompt, *ids]
        assert tokenizer.decode([*ids, tokenizer.eos_token_id, 0, 0], skip_special_tokens=True) == problem.solution


def test_words_that_don_t_fit_the_vocabulary_are_refused():
    with pytest.raises(ValueError, match="don't fit a vocabulary of 100"):
        word_tokenizer(TASK.words, 100)

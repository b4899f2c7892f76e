"""Test problems among the training prompts: planted ones are found, others are not."""

import json
import random
import time

import pytest

from opd_bench.tasks.overlap import Overlap, overlap

WORDS = [f"word{number}" for number in range(500)]


def texts(seed: int, count: int, length: int = 30) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=length)) for _ in range(count)]


def test_texts_of_chance_share_nothing():
    assert overlap(texts(0, 500), texts(1, 100)) == Overlap(0, 0, [])
    assert overlap([], texts(1, 3)) == overlap(texts(1, 3), []) == Overlap(0, 0, [])
    assert overlap(["", "?!", " "], ["", "...", "?"]) == Overlap(0, 0, [])


@pytest.mark.parametrize(
    "changed",
    [
        str.upper,
        lambda text: text.replace(" ", ", "),
        lambda text: f"  {text.title()} ?!\n",
        lambda text: text.replace(" ", ""),
        lambda text: text.replace(" ", "_"),
    ],
)
def test_the_same_letters_and_digits_are_exact_whatever_stands_between(changed):
    train, test = texts(0, 50), texts(1, 20)
    train[30] = changed(test[7])
    assert overlap(train, test) == Overlap(1, 0, [(30, 7)])
    assert overlap(iter([*train, *train]), test) == Overlap(1, 0, [(30, 7)])


@pytest.mark.parametrize(("shared", "near"), [(13, 1), (12, 0), (18, 1)])
def test_a_run_of_words_is_near_and_a_shorter_one_is_not(shared, near):
    train, test = texts(0, 50), texts(1, 20)
    run = " ".join(test[7].split()[4 : 4 + shared])
    train[30] = f"{train[30]} {run.upper()}. {train[31]}"
    assert overlap(train, test) == Overlap(0, near, [(30, 7)] * near)


def test_a_problem_counts_once_and_as_exact_if_it_is():
    test = texts(1, 20)
    train = [f"so {test[3]} then", test[3], f"or {test[3]}", f"and {test[5]}", f"{test[4]}!"]
    assert overlap(train, test) == Overlap(2, 1, [(1, 3), (4, 4), (3, 5)])
    assert overlap([f"so {test[3]} then {test[5]}"], test) == Overlap(0, 2, [(0, 3), (0, 5)])
    assert overlap(test, [test[0]] * 7) == Overlap(7, 0, [(0, place) for place in range(5)])


def test_a_short_problem_is_exact_or_nothing():
    assert overlap(["What is 2 + 3 ?", "What is 7?"], ["what is 2+3"]) == Overlap(1, 0, [(0, 0)])
    assert overlap(["Now then: what is 2 + 3 ?"], ["what is 2+3"]) == Overlap(0, 0, [])
    assert overlap(["Wie groß ist Ä ?"], ["WIE GROß IST ä", "wie groß ist a"]) == Overlap(1, 0, [(0, 0)])


def test_gsm8k_s_test_problems_are_not_among_its_training_problems(real_data):
    def questions(file):
        return [json.loads(line)["question"] for line in (real_data / file).read_text().splitlines()]

    train, test = questions("gsm8k/train.jsonl"), questions("gsm8k/test.jsonl")
    found = overlap(train, test)
    assert (found.exact, found.near) == (0, 3)  # the same stories with other numbers
    assert overlap(train, questions("math500/test.jsonl")) == Overlap(0, 0, [])
    assert overlap(test, test)[:2] == (len(test), 0)


def test_a_hundred_thousand_prompts_take_seconds():
    train, test = texts(0, 20_000), texts(1, 500)
    start = time.monotonic()
    assert overlap((text for _ in range(5) for text in train), test) == Overlap(0, 0, [])
    assert time.monotonic() - start < 30

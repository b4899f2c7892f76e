"""A teacher's answers are made once, for all methods and runs, and what is damaged is made again."""

import pytest
import torch

from opd_bench.rollouts.answers import Answers
from opd_bench.rollouts.draws import Draws
from opd_bench.rollouts.sources import Teacher
from opd_bench.tokens import Origin
from tests.models import network, prompts, writers
from tests.runs import small_run

PARTS = ("token", "origin", "logp", "length", "truncated")


@pytest.fixture
def asked(monkeypatch):
    """How many prompts a teacher has been asked to answer."""
    from opd_bench.rollouts.engine import Own

    counts, write = [], Own.write
    monkeypatch.setattr(Own, "write", lambda *a: counts.append((a[4].readers[0], len(a[2]))) or write(*a))
    return lambda: sum(rows for who, rows in counts if who == Origin.TEACHER)


def of(folder, **options):
    found = writers(**options)
    found.kept = Answers(folder)
    return found


def some(batch, rows):
    return type(batch)(*(field[rows] for field in batch))


def same(one, other) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in PARTS)


def test_what_was_made_is_read_by_others_to_the_bit(tmp_path, asked):
    batch = prompts(12)
    plain = writers().answers(batch, Origin.TEACHER)
    assert asked() == 12
    first = of(tmp_path).answers(batch, Origin.TEACHER)
    assert asked() == 24
    again = of(tmp_path).answers(batch, Origin.TEACHER)
    assert asked() == 24
    assert same(first, again)
    assert same(first, plain)


def test_only_what_is_missing_is_made_and_a_prompt_that_comes_twice_once(tmp_path, asked):
    batch, policies = prompts(12), of(tmp_path)
    policies.answers(some(batch, slice(0, 5)), Origin.TEACHER)
    other = of(tmp_path)
    twice = torch.tensor([3, 4, 5, 6, 5, 6])
    found = other.answers(some(batch, twice), Origin.TEACHER)
    assert asked() == 5 + 2
    assert torch.equal(found.token[2], found.token[4])
    assert same(policies.answers(some(batch, twice), Origin.TEACHER), found)  # written meanwhile by the other
    assert asked() == 7
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_a_damaged_file_is_told_of_and_made_again(tmp_path, asked):
    batch = prompts(6)
    first = of(tmp_path).answers(batch, Origin.TEACHER)
    (path,) = tmp_path.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=rf"{path.name} is damaged, its answers are made again: its content is not"):
        found = of(tmp_path).answers(batch, Origin.TEACHER)
    assert asked() == 12
    assert same(first, found)
    assert (path.read_bytes() != bytes(content)) == (of(tmp_path).kept.missing([]) == [])  # written anew, whole
    assert of(tmp_path).answers(batch, Origin.TEACHER).token.equal(first.token)
    assert asked() == 12


def test_half_a_file_is_no_file(tmp_path, asked):
    batch = prompts(6)
    of(tmp_path).answers(batch, Origin.TEACHER)
    (path,) = tmp_path.glob("*.safetensors")
    path.rename(path.with_name(path.name + ".17.part"))
    of(tmp_path).answers(batch, Origin.TEACHER)
    assert asked() == 12


def test_methods_of_one_teacher_and_seed_share_and_others_do_not(tmp_path):
    def answers(method, *overrides):
        run = small_run(tmp_path, method, "plan.steps=2", "evaluation.every=0", *overrides)
        assert run.perform()["status"] == "finished"
        return {path.parent.name: path for path in tmp_path.glob("answers/*/*")}, run

    first, _ = answers("seqkd")
    assert len(first) == 1
    files = set(tmp_path.glob("answers/*/*"))
    answers("fdistill_js")
    assert set(tmp_path.glob("answers/*/*")) == files
    answers("tropd")
    assert set(tmp_path.glob("answers/*/*")) == files
    found, _ = answers("seqkd", "seed=1")
    assert len(found) == 2
    found, _ = answers("seqkd", "plan.response_limit=20")
    assert len(found) == 3


def test_a_draw_of_the_teachers_answers_says_what_the_teacher_would(tmp_path):
    batch = prompts(8)
    policies = of(tmp_path, teacher=network(1))
    found = Teacher().draw(policies, batch, 0.0, Draws(0, 0))
    again = Teacher().draw(of(tmp_path, teacher=network(1)), batch, 0.5, Draws(0, 3))
    for one, other in zip(found[:-1], again[:-1], strict=True):
        assert torch.equal(one, other)

"""The shipped models are what their record says, and the recipe repeats itself to the bit."""

import hashlib
import json
import random
from functools import partial
from itertools import pairwise

import pytest
import torch
from transformers import AutoTokenizer

from opd_bench.models import recipe
from opd_bench.models.lessons import TASK, corrected, drill, slips, sloppy, solved
from opd_bench.models.load import PACKAGED, causal_lm, fingerprint, located
from opd_bench.tasks.mini_gsm import Step, split_of

RECORD = json.loads((PACKAGED / "recipe.json").read_text())
MODELS = sorted(RECORD["models"])


def test_the_record_is_of_the_models_there_are_and_of_the_recipe_as_it_is():
    assert set(MODELS) == {path.name for path in PACKAGED.iterdir() if path.is_dir()} == set(recipe.RECIPES)
    for name, made in recipe.RECIPES.items():
        known = RECORD["models"][name]
        assert known["course"] == made.course._asdict()
        assert known["habit"] == (made.habit and made.habit._asdict())
        assert known["seed"] == made.seed
        assert known["rounds"][-1][2] >= made.course.bar


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_is_small_tied_and_the_one_that_was_measured(name):
    file = PACKAGED / name / "model.safetensors"
    assert file.stat().st_size <= 2_000_000
    assert hashlib.sha256(file.read_bytes()).hexdigest() == RECORD["models"][name]["sha256"]
    assert fingerprint(f"embedded/{name}") == RECORD["models"][name]["sha256"]
    model = causal_lm(f"embedded/{name}")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert sum(weight.numel() for weight in model.parameters()) == RECORD["models"][name]["parameters"]
    assert model.config.eos_token_id == 2


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_tokenizer_keeps_words_and_numbers_whole(name):
    tokenizer, problem = AutoTokenizer.from_pretrained(located(f"embedded/{name}")), TASK.problem("train", 0, 0)
    assert len(tokenizer(problem.prompt)["input_ids"]) == len(problem.prompt.split()) + 2
    ids = tokenizer(problem.solution, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == problem.solution
    assert tokenizer.padding_side == "left"


@pytest.mark.parametrize("name", MODELS)
def test_accuracies_are_about_the_recorded_ones(name):
    """128 problems of another split: four standard errors."""
    stated = RECORD["models"][name]["test"]["greedy"]
    measured = recipe.accuracy(causal_lm(f"embedded/{name}").eval(), "validation", problems=128)
    assert abs(measured - stated) <= 4 * (max(stated * (1 - stated), 0.01) / 128) ** 0.5


def test_the_starts_are_where_the_settings_want_them():
    greedy = {name: RECORD["models"][name]["test"]["greedy"] for name in MODELS}
    assert greedy["teacher"] > 0.98
    assert all(0.25 <= greedy[f"standard-{n}"] <= 0.45 for n in (0, 1))
    assert all(greedy[f"mismatch-{n}"] < 0.1 for n in (0, 1))


def test_slips_stay_in_range_and_leave_products_alone():
    rng, always = random.Random(0), slips(carry=1.0, near=1.0)
    for _ in range(2000):
        step = TASK.step(rng, rng.randint(0, TASK.largest))
        slipped = always(rng, step)
        assert 0 <= slipped <= TASK.largest
        if step.operation in "*/":
            assert slipped == step.result
        elif step.before // 10 != step.result // 10:
            assert abs(slipped - step.result) in (0, 10)
        else:
            assert abs(slipped - step.result) in (0, 1)
    never = slips(carry=0.0, near=0.0)
    assert never(rng, Step(38, "+", 5, 43)) == 43
    assert always(rng, Step(38, "+", 5, 43)) == 33
    assert always(rng, Step(43, "-", 5, 38)) == 48


def test_sloppy_lessons_are_of_the_training_split_once_corrected(monkeypatch):
    chains, told = [], type(TASK).told
    monkeypatch.setattr(type(TASK), "told", lambda task, rng, steps: chains.append(steps) or told(task, rng, steps))
    sloppy(random.Random(0), 0.9, 0.5)
    assert len(chains) == 64
    assert {split_of(corrected(steps)) for steps in chains} == {"train"}


def test_a_corrected_chain_has_the_same_operations_and_true_results():
    rng = random.Random(1)
    chain = TASK.chain(rng, slips(0.9, 0.5))
    right = corrected(chain)
    assert [step.operation for step in right] == [step.operation for step in chain]
    assert all(step.result == {"+": step.before + step.operand, "-": step.before - step.operand,
                               "*": step.before * step.operand, "/": step.before // step.operand}[step.operation]
               for step in right)  # fmt: skip
    assert all(one.result == two.before for one, two in pairwise(right))


def test_lessons_weigh_solutions_and_never_padding():
    ids, weights = solved(random.Random(0), prompt_weight=0.1)
    assert weights.unique().tolist() == pytest.approx([0.0, 0.1, 1.0])
    assert (weights[ids == 0] == 0).all()
    for row, weight in zip(ids, weights, strict=True):
        assert int(row[weight == 1][-1]) == 2  # <eos>
        assert int(row[(weight > 0) & (weight < 1)][-1]) == 3  # <sep>
    assert drill(random.Random(0), 6)[1].min() == 1
    assert not torch.equal(sloppy(random.Random(0), 0.9, 0.5)[0], sloppy(random.Random(1), 0.9, 0.5)[0])


class Stop:
    """An interruption at the third step, which is in the second round."""

    def __init__(self, steps):
        self.left = steps

    def __call__(self, *_):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_training_repeats_itself_to_the_bit_and_survives_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "accuracy", lambda *_: 0.5)  # one constant round, then one of cooling
    course = recipe.STUDENT._replace(ready=0.5, bar=0.5, steps=2, cooling=2)
    for name in ("fresh", "cut"):
        (tmp_path / name).mkdir()
    whole = recipe.learn(recipe.Recipe("tiny", 5, course), tmp_path, lambda *_: None)
    again = recipe.learn(recipe.Recipe("tiny", 5, course), tmp_path, lambda *_: None)  # finished: nothing is done again
    with pytest.raises(KeyboardInterrupt):
        recipe.learn(recipe.Recipe("tiny", 5, course), tmp_path / "cut", Stop(3))
    cut = recipe.learn(recipe.Recipe("tiny", 5, course), tmp_path / "cut", lambda *_: None)
    fresh = recipe.learn(recipe.Recipe("tiny", 5, course), tmp_path / "fresh", lambda *_: None)
    for learner in (again, fresh, cut):
        assert learner.rounds == whole.rounds
        pairs = zip(learner.model.parameters(), whole.model.parameters(), strict=True)
        assert all(torch.equal(one, two) for one, two in pairs)


def test_a_bar_that_is_not_reached_is_an_error_that_says_how_far_it_came(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "accuracy", partial(recipe.accuracy, problems=64))
    course = recipe.STUDENT._replace(steps=1, rounds=1)
    with pytest.raises(RuntimeError, match=r"tiny: at best \d+\.\d% in 1 rounds, not 95\.0%"):
        recipe.learn(recipe.Recipe("tiny", 5, course), tmp_path, lambda *_: None)

"""Laws other than the model's own: as transformers cuts and tempers them, asked for by name, and told."""

import json
from contextlib import nullcontext

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from opd_bench.reporting.files import read_responses
from opd_bench.rollouts.choices import Alone, Corrected, Greedy, Law, Sampling, sampled
from opd_bench.rollouts.draws import Draws
from opd_bench.rollouts.sources import Student
from opd_bench.tokens import Origin
from tests.models import LIMIT, network, prompts, writers
from tests.runs import series_of, small_run

LAWS = [
    Sampling(0.5),
    Sampling(1.7),
    Sampling(top_p=0.9),
    Sampling(top_p=0.01),
    Sampling(top_k=1),
    Sampling(top_k=7),
    Sampling(top_k=10_000),
    Sampling(0.6, 0.9, 20),
    Sampling(0.5, 0.5),
]


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_a_law_is_what_transformers_makes_of_the_same_settings(law):
    logits = 3 * torch.randn(40, 64, generator=torch.Generator().manual_seed(1))
    warpers = [TemperatureLogitsWarper(law.temperature)]
    warpers += [TopKLogitsWarper(law.top_k)] if law.top_k else []
    warpers += [TopPLogitsWarper(law.top_p)] if law.top_p < 1 else []
    expected = logits
    for warper in warpers:
        expected = warper(None, expected)
    found = law.law(logits.log_softmax(-1))
    torch.testing.assert_close(found.exp(), expected.softmax(-1), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(40))


def edges(rows: int) -> torch.Tensor:
    """Uniforms with both ends of [0, 1) among them."""
    uniform = torch.rand(rows, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    uniform[:3] = torch.tensor([0.0, 1 - 2.0**-24, 1 - 2.0**-53], dtype=torch.float64)
    return uniform


@pytest.mark.parametrize("size", [9, 1024, 1025, 1280, 5000])
def test_block_by_block_the_same_token_as_one_by_one(size):
    logits = 4 * torch.randn(300, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits[:, -3:] = logits[:, :2] = -torch.inf
    logits[5:50, : size // 2] = -torch.inf  # whole blocks without mass
    uniform, probs = edges(300), logits.softmax(-1)
    cumulative = probs.cumsum(-1)
    plain = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[:, 0]
    assert torch.equal(Law(logits).drawn(uniform), plain)
    assert torch.equal(sampled(logits.log_softmax(-1), uniform), plain)
    assert torch.equal(Law(logits[7:8]).drawn(uniform[7:8]), plain[7:8])
    single = Law(logits.float())
    token = single.drawn(uniform)
    assert (single.of(token) > 0).all()
    assert (token == plain).double().mean() > 0.99


def test_a_law_that_is_no_number_still_names_a_token():
    for size in (9, 5000):
        token = Law(torch.full((4, size), torch.nan)).drawn(edges(4))
        assert ((token >= 0) & (token < size)).all()


def test_the_law_as_it_is_is_left_alone():
    log_probs = torch.randn(3, 9).log_softmax(-1)
    assert Sampling().law(log_probs) is log_probs


def written(choice, sampling):
    batch, policies = prompts(), writers()
    policies.sampling = sampling
    uniform = Draws(0, 0).uniform("tokens", len(batch.ids), LIMIT, 2)
    return batch, policies.write(batch.ids, batch.mask, choice, uniform)


def test_tokens_come_from_the_bent_law_and_tell_its_probability():
    law = Sampling(0.7, 0.6)
    batch, found = written(Alone(Origin.STUDENT), {Origin.STUDENT: law})
    net = network(0)
    for row in range(6):
        ids = batch.ids[row][batch.mask[row]]
        for place in range(int(found.length[row])):
            own = law.law(net.logits(ids[None], torch.ones_like(ids[None]).bool())[0, -1:].log_softmax(-1))
            assert float(found.logp[row, place]) == pytest.approx(float(own[0, found.token[row, place]]), abs=1e-5)
            assert torch.isfinite(found.logp[row, place])
            ids = torch.cat([ids, found.token[row, place][None]])


def test_only_whose_law_is_bent_is_and_the_likeliest_token_stays():
    plain, bent = (written(Alone(Origin.TEACHER), sampling)[1] for sampling in ({}, {Origin.STUDENT: Sampling(0.1)}))
    assert torch.equal(plain.token, bent.token)
    same = [written(Greedy(Origin.STUDENT), {Origin.STUDENT: law})[1].token for law in (Sampling(), Sampling(0.5, 0.5))]
    assert torch.equal(*same)
    assert torch.isfinite(written(Corrected(3), {Origin.STUDENT: Sampling(0.5, 0.5)})[1].logp).all()


def test_a_run_that_bends_the_students_law_says_how_far_it_is_from_the_scored_one(tmp_path):
    plain = small_run(tmp_path, "opd", "plan.steps=2", "evaluation.every=0")
    record = plain.perform()
    assert record["training"]["sampler_gap"] < 1e-4
    run = small_run(tmp_path, "opd", "plan.steps=2", "evaluation.every=0", "plan.temperature=0.5", "plan.top_p=0.5")
    record = run.perform()
    assert record["training"]["sampler_gap"] > 0.02
    assert max(series_of(run)["train/sampler_gap"]) == pytest.approx(record["training"]["sampler_gap"])
    assert run.folder != plain.folder


def test_what_is_written_in_half_precision_is_scored_in_it(tmp_path):
    half = ("trainer.precision=bf16-mixed", "plan.steps=1", "evaluation.every=0")

    def gap(*more):  # of three steps: one alone may be 0.7 of the other, where the processor itself has bf16
        runs = [small_run(tmp_path, "opd", *half, f"seed={seed}", *more) for seed in range(3)]
        return sum(run.perform()["training"]["sampler_gap"] for run in runs)

    assert gap() < 0.8 * gap(*WHOLE)


class Off(Student):
    """A source whose tokens come from a law of its own, and that says nothing of it."""

    def draw(self, policies, prompts, progress, draws):
        policies.sampling = {Origin.STUDENT: Sampling(2.0)}
        return super().draw(policies, prompts, progress, draws)


def test_a_law_that_nobody_asked_for_is_warned_of(tmp_path):
    with pytest.warns(UserWarning, match="drawn by a law that is .* nats from the one that is scored"):
        small_run(tmp_path, "opd", "plan.steps=1", "method.source._target_=tests.test_sampling.Off").perform()


class Whole(Student):
    """A source whose tokens are written in single precision."""

    def draw(self, policies, prompts, progress, draws):
        policies.precision = nullcontext
        return super().draw(policies, prompts, progress, draws)


WHOLE = ("method.source._target_=tests.test_sampling.Whole",)
OTHER = (
    "+tests={one:${task},few:{_target_:opd_bench.tasks.mini_gsm.MiniGSM,largest:20,operand:5,steps_min:2,steps_max:2,"
    "distraction:0.0}}"
)
JUDGED = ("plan.steps=1", "evaluation.problems=5", "+evaluation.samples_of={few:3}", "evaluation.every=0")


def test_a_run_is_judged_on_several_tests_each_with_its_samples(tmp_path):
    law = ("evaluation.temperature=0.6", "evaluation.top_p=0.9", "evaluation.top_k=20", "evaluation.response_limit=9")
    record = small_run(tmp_path, "opd", OTHER, *JUDGED, *law).perform()
    assert set(record["evaluation"]["after"]) == set(record["evaluation"]["teacher"]) == {"one", "few"}
    told = {name: (task["samples"], task["temperature"], task["top_p"], task["top_k"], task["limit"])
            for name, task in record["tasks"].items()}  # fmt: skip
    assert told == {"one": (2, 0.6, 0.9, 20, 9), "few": (3, 0.6, 0.9, 20, 9)}
    assert all(task["overlap"] == {"exact": 0, "near": 0} for task in record["tasks"].values())
    lines = read_responses(record | {"folder": str(next(tmp_path.rglob("seed-0")))})
    assert {(line["task"], len(line["responses"])) for line in lines} == {("one", 3), ("few", 4)}
    assert max(response["length"] for line in lines for response in line["responses"]) <= 9
    assert "pass@3" in record["evaluation"]["after"]["few"]
    assert record["protocol"]["task_version"] == "1, one 1, few 1"


def test_what_there_is_not_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(ValueError, match="samples_of names a test that there is not, 'none'; there are mini_gsm"):
        small_run(tmp_path, "opd", "+evaluation.samples_of={none:3}")
    rows = "".join(json.dumps({"question": f"{n} + 1 ?", "answer": f"#### {n + 1}"}) + "\n" for n in range(4))
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(rows)
    gsm8k = ("task=gsm8k", f"task.source={tmp_path}", "task.held_out=0")
    with pytest.raises(ValueError, match="gsm8k has no validation problems: held_out=0 of 4"):
        small_run(tmp_path, "opd", *gsm8k).perform()
    assert not list(tmp_path.rglob("record.json"))
    one = ("plan.steps=1", "plan.prompts=2", "evaluation.every=0")
    record = small_run(tmp_path, "opd", *gsm8k, *one).perform()
    assert record["status"] == "finished"
    assert record["tasks"]["gsm8k"]["problems"] == 4  # of 16 asked for
    assert record["tasks"]["gsm8k"]["overlap"] == {"exact": 4, "near": 0}


def test_a_law_that_evaluation_has_changes_answers_but_not_the_greedy_one(tmp_path):
    def responses(*overrides):
        run = small_run(tmp_path, "opd", "plan.steps=1", "evaluation.every=0", *overrides)
        record = run.perform()
        return [line["responses"] for line in read_responses(record | {"folder": str(run.folder)})]

    plain, cold = responses(), responses("evaluation.temperature=0.0003")
    for one, other in zip(plain, cold, strict=True):
        assert one[0] == other[0]
        assert all(sample["text"] == other[0]["text"] for sample in other[1:])
    assert any(sample["text"] != one[0]["text"] for one in plain for sample in one[1:])

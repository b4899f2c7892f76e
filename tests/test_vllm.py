"""rollout=vllm with a real engine. `make test-vllm` has what it needs; a CPU's attention wants heads of 32 and more."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import LlamaConfig, LlamaForCausalLM

from opd_bench.models.load import tokenizer
from opd_bench.models.lora import LoRA, adapted
from opd_bench.models.network import Network, frozen, right_aligned
from opd_bench.reporting.record import read_record
from opd_bench.rollouts.choices import Alone, Bent, Corrected, Greedy, Sampling
from opd_bench.rollouts.draws import Draws
from opd_bench.rollouts.policies import Writers
from opd_bench.rollouts.vllm import VLLM
from opd_bench.tokens import Origin, Written
from tests.families import tiny
from tests.models import END, LIMIT, VOCABULARY, network, prompts
from tests.runs import SMALL

pytest.importorskip("vllm")
pytestmark = pytest.mark.vllm
MINE = Alone(Origin.STUDENT)
OWN = {"_target_": "opd_bench.rollouts.engine.Own", "look_every": 8}
HEADS = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
SETTINGS = {"memory_share": 0.3, "cache_gigabytes": 0.25, "sequences": 256, "positions": 64, "eager": True}


def student(seed: int = 0, **options) -> Network:
    double = network(seed, **HEADS, **options)
    return double._replace(model=double.model.float())


def engine(**settings) -> VLLM:
    return VLLM(others=OWN, rows=7, chunk=50, **{**SETTINGS, **settings})


def writers(own: Network, **settings) -> Writers:
    return Writers({Origin.STUDENT: own, Origin.TEACHER: network(1)}, LIMIT, [END], 0, engine=engine(**settings))


def uniform(rows: int, step: int = 0, limit: int = LIMIT) -> torch.Tensor:
    return Draws(0, step).uniform("tokens", rows, limit, 2)


def written(who: Writers, choice=MINE, step: int = 0) -> Written:
    batch = prompts()
    return who.write(batch.ids, batch.mask, choice, uniform(len(batch.ids), step))


def moved(own: Network, seed: int = 3) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in own.model.parameters():
            value.add_(0.2 * torch.randn(value.shape, generator=generator))


@pytest.fixture(scope="module")
def plain() -> Writers:
    """One engine for all that changes no weight."""
    return writers(student())


# ---------------------------------------------------------------- log-probabilities


def test_what_it_writes_has_the_student_s_log_probabilities_and_its_own_agree(plain):
    result = written(plain)
    assert plain.engine.gap < 1e-4
    batch = prompts()
    for row in range(len(batch.ids)):
        prompt, answer = batch.ids[row][batch.mask[row]], result.token[row, : result.length[row]]
        logits = plain.networks[Origin.STUDENT].model(torch.cat([prompt, answer])[None]).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1).gather(-1, answer[:, None])[:, 0]
        torch.testing.assert_close(result.logp[row, : len(answer)], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"tie_word_embeddings": False}])
def test_it_writes_with_the_weights_of_the_last_renewal_and_no_later_ones(options):
    own = student(**options)
    who = writers(own)
    first = written(who)
    assert who.engine.gap < 1e-4
    moved(own)
    with pytest.warns(UserWarning, match="nats from the student's"):
        stale = written(who)
    assert torch.equal(stale.token, first.token)
    assert who.engine.gap > 1
    who.engine.renew()
    assert not torch.equal(written(who).token, first.token)
    assert who.engine.gap < 1e-4


def test_additions_write_too():
    own = student()
    adapted(own.model, LoRA(4, 8.0, 0.0, "all-linear"), seed=0).eval()
    who = writers(own)
    written(who)
    moved(own)
    who.engine.renew()
    written(who)
    assert who.engine.gap < 1e-4


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_tokens_beyond_the_width_are_never_written_and_a_scale_is_kept(scale):
    own = student()._replace(width=30, logit_scale=scale)
    who = writers(own)
    ids, mask = right_aligned([torch.tensor([5, 6, 7])] * 24)
    tokens = who.write(ids, mask, MINE, uniform(24)).token
    assert tokens.max() < 30
    assert len(tokens.unique()) > 10
    assert who.engine.gap < 1e-4


# ---------------------------------------------------------------- chance


def test_a_row_s_tokens_depend_on_its_numbers_alone(plain):
    result, batch = written(plain), prompts()
    assert torch.equal(written(plain).token, result.token)
    assert not torch.equal(written(plain, step=1).token, result.token)
    numbers, order = uniform(len(batch.ids)), torch.tensor([17, 2, 9])
    some = plain.write(batch.ids[order], batch.mask[order], MINE, numbers[order])
    for place, row in enumerate(order.tolist()):
        length = int(result.length[row])
        assert int(some.length[place]) == length
        assert torch.equal(some.token[place, :length], result.token[row, :length])


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.7), Sampling(1.3, 0.8), Sampling(1.0, 1.0, 6)])
def test_tokens_come_as_often_as_the_law_says(plain, sampling):
    prompt = torch.tensor([5, 6, 7])
    ids, mask = right_aligned([prompt] * 6000)
    choice = Bent(MINE, {Origin.STUDENT: sampling})
    token = plain.write(ids, mask, choice, uniform(6000, limit=1)).token[:, 0]
    with torch.no_grad():
        logits = plain.networks[Origin.STUDENT].model(prompt[None]).logits[0, -1:].double()
    assert probability(token, sampling.law(logits.log_softmax(-1))[0].exp()) > 1e-3
    assert probability(token, sampling.law((logits / 1.15).log_softmax(-1))[0].exp()) < 1e-6  # a law that is not it


def probability(token: torch.Tensor, law: torch.Tensor) -> float:
    """Of a χ² as large, over the tokens of which some are expected; the others are one."""
    counts = torch.bincount(token, minlength=VOCABULARY).double()
    expected, likely = law * len(token), law * len(token) >= 5
    sums = [torch.cat([x[likely], x[~likely].sum()[None]]) for x in (counts, expected)]
    seen = sums[1] > 0
    assert sums[0][~seen].sum() == 0
    return float(chisquare(sums[0][seen].numpy(), sums[1][seen].numpy()).pvalue)


# ---------------------------------------------------------------- responses


def test_responses_end_with_an_end_token_or_are_truncated_and_never_both(plain):
    results = [written(plain, step=step) for step in range(8)]
    for result in results:
        ends = (result.token == END) & result.mask
        assert torch.equal(ends.sum(-1) == 1, ~result.truncated)
        last = result.token[torch.arange(len(result.length)), result.length - 1]
        assert torch.equal(last == END, ~result.truncated)
        assert (result.length[result.truncated] == LIMIT).all()
        assert (result.token[~result.mask] == 0).all()
    assert 0 < sum(int(result.truncated.sum()) for result in results) < 8 * len(results[0].length)


def test_greedy_tokens_are_the_own_engine_s(plain):
    own = Writers(plain.networks, LIMIT, [END], 0)
    mine, theirs = (written(who, Greedy(Origin.STUDENT)) for who in (own, plain))
    for one, two in zip(mine, theirs, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("choice", [Alone(Origin.TEACHER), Corrected(5)])
def test_all_else_is_the_own_engine_s(plain, choice):
    own = Writers(plain.networks, LIMIT, [END], 0)
    for one, two in zip(written(own, choice), written(plain, choice), strict=True):
        assert torch.equal(one, two)


def test_prompts_that_are_too_long_are_refused_with_what_to_change(plain):
    ids = torch.full((1, 60), 5)
    with pytest.raises(ValueError, match=r"a prompt of 60 tokens and a response of 12 .* vLLM's 64: rollout.positions"):
        plain.write(ids, torch.ones_like(ids, dtype=torch.bool), MINE, uniform(1))


def test_a_model_that_vllm_would_run_as_transformers_own_is_refused():
    shape = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    with pytest.raises(ValueError, match=r"vLLM has no Olmo2ForCausalLM of its own.* choose rollout=own"):
        written(writers(Network(frozen(tiny("olmo2", **shape)))))


def test_the_process_is_afterwards_as_it_was():
    def state():
        generators = torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        hands = torch.set_num_threads, torch.get_num_threads(), sys.excepthook, torch.get_default_dtype()
        return dict(os.environ), generators, hands

    before = state()
    written(writers(student()))
    for one, two in zip(before, state(), strict=True):
        assert one == two


# ---------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> dict[Origin, Path]:
    """Small random models with the shipped tokenizer, in folders."""
    found = {}
    for who in (Origin.STUDENT, Origin.TEACHER):
        torch.manual_seed(int(who))
        words, shape = tokenizer("embedded/teacher"), {"intermediate_size": 64, "num_hidden_layers": 2, **HEADS}
        special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": words.eos_token_id}
        config = LlamaConfig(vocab_size=512, initializer_range=0.2, tie_word_embeddings=True, **shape, **special)
        found[who] = tmp_path_factory.mktemp(who.name.lower())
        frozen(LlamaForCausalLM(config)).save_pretrained(found[who])
        words.save_pretrained(found[who])
    return found


@pytest.mark.parametrize(
    ("method", "trainer"), [("opd", "cpu"), ("tropd", "cpu"), ("opd", "cpu_ddp"), ("opd", "cpu_zero3")]
)
def test_a_run_is_finished_with_tokens_of_its_own_law(pair, tmp_path, method, trainer):
    models = f"models.teacher={pair[Origin.TEACHER]}", f"models.starts=[{pair[Origin.STUDENT]}]"
    engine = "rollout=vllm", "rollout.cache_gigabytes=0.25", "rollout.eager=true", "rollout.positions=256"
    command = [sys.executable, "-m", "opd_bench.bench", f"method={method}", f"trainer={trainer}", *models, *engine]
    small = [*SMALL, "plan.steps=2", "evaluation.problems=4", "evaluation.every=0", f"results={tmp_path}"]
    environment = os.environ | {"VLLM_LOGGING_LEVEL": "INFO"}
    said = subprocess.run([*command, *small], capture_output=True, text=True, check=False, env=environment)
    assert said.returncode == 0, said.stderr[-3000:]
    assert "Reloading weights" in said.stdout + said.stderr  # vLLM wrote
    assert "nats from the student's" not in said.stderr
    (folder,) = [path.parent for path in tmp_path.rglob("record.json")]
    record = read_record(folder / "record.json")
    assert record["status"] == "finished", record["reason"]
    assert record["training"]["sampler_gap"] < 1e-3
    assert record["budget"]["student_tokens"] > 0
    assert (record["budget"]["teacher_tokens"] > 0) == (method == "tropd")

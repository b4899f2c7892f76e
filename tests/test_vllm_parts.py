"""What of rollout=vllm needs no vLLM: whom it writes for, what it hands over, and what the student says of it."""

from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file

from opd_bench.configs import made
from opd_bench.models.lora import LoRA, adapted
from opd_bench.models.network import Network, frozen
from opd_bench.rollouts.choices import Alone, Bent, Corrected, Greedy, Mixed, Sampling
from opd_bench.rollouts.draws import Draws
from opd_bench.rollouts.served import Answer, checkpoint_of
from opd_bench.rollouts.vllm import VLLM, law_of, padded, scored, seeds
from opd_bench.tokens import Origin
from tests.families import FAMILIES, VOCABULARY, tiny
from tests.models import END, LIMIT, network, prompts, writers
from tests.runs import composed, small_run

MINE, THEIRS = Alone(Origin.STUDENT), Alone(Origin.TEACHER)
COLD = Sampling(0.5, 0.9, 7)


@pytest.mark.skipif(find_spec("vllm") is not None, reason="it is there")
def test_without_the_package_a_run_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"rollout=vllm needs the package vllm: .*rollout=own"):
        small_run(tmp_path, "opd", "rollout=vllm").perform()


def test_the_configuration_has_all_settings_and_what_writes_the_rest():
    config = composed("bench", "name=opd", "rollout=vllm")["rollout"]
    assert set(config) == {"_target_", *VLLM.__dataclass_fields__}
    assert config["others"] == composed("bench", "name=opd", "rollout=own")["rollout"]
    made(config["others"])


def test_it_writes_what_the_student_writes_alone():
    assert law_of(MINE, 1.0) == Sampling()
    assert law_of(Greedy(Origin.STUDENT), 1.0) == Sampling(0.0)
    assert law_of(Bent(MINE, {Origin.STUDENT: COLD}), 1.0) == COLD
    assert law_of(Bent(MINE, {Origin.TEACHER: COLD}), 1.0) == Sampling()
    assert law_of(Bent(Greedy(Origin.STUDENT), {Origin.STUDENT: COLD}), 1.0) == Sampling(0.0, 0.9, 7)
    others = (THEIRS, Greedy(Origin.TEACHER), Corrected(3), Mixed(0.5))
    assert [law_of(choice, 1.0) for choice in others] == [None] * 4
    assert law_of(Bent(Mixed(0.5), {Origin.STUDENT: COLD}), 1.0) is None


def test_a_student_s_scale_is_a_temperature_and_what_vllm_would_warm_it_does_not_write():
    assert law_of(MINE, 4.0) == Sampling(0.25)
    assert law_of(MINE, 101.0) is None
    assert law_of(Greedy(Origin.STUDENT), 101.0) == Sampling(0.0)


def test_seeds_depend_on_seed_stream_step_and_row_alone():
    def of(seed, step, rows, stream="tokens", limit=LIMIT, first=0):
        return seeds(Draws(seed, step, first).uniform(stream, rows, limit, 2))

    whole = of(0, 5, 200)
    assert len(set(whole)) == 200
    assert all(0 <= seed < 2**48 for seed in whole)
    assert of(0, 5, 3, first=2) == whole[2:5]
    assert of(0, 5, 200, limit=1) == whole
    for other in (of(1, 5, 200), of(0, 6, 200), of(0, 5, 200, "guided tokens")):
        assert not set(other) & set(whole)


def test_responses_are_padded_and_an_end_token_is_what_ends_them():
    found = padded([Answer([5, END], [-1.0, -2.0]), Answer([7, 8, 9], [-3.0] * 3)], [END], torch.device("cpu"))
    assert found.token.tolist() == [[5, END, 0], [7, 8, 9]]
    assert found.logp.tolist() == [[-1, -2, 0], [-3, -3, -3]]
    assert found.length.tolist() == [2, 3]
    assert found.truncated.tolist() == [False, True]
    assert (found.origin == Origin.STUDENT).all()


@pytest.mark.parametrize(("rows", "chunk"), [(1000, 1000), (5, 7)])
@pytest.mark.parametrize(("sampling", "width", "scale"), [(Sampling(), None, 1.0), (COLD, None, 1.0), (COLD, 40, 2.0)])
def test_the_student_says_of_tokens_what_the_own_engine_said_when_it_wrote_them(rows, chunk, sampling, width, scale):
    student, batch = network(0, scale)._replace(width=width), prompts()
    uniform = Draws(0, 0).uniform("tokens", len(batch.ids), LIMIT, 2)
    choice = Bent(MINE, {Origin.STUDENT: sampling})
    written = writers(student=student).write(batch.ids, batch.mask, choice, uniform)
    found = scored(student, (batch.ids, batch.mask), written, sampling, rows=rows, chunk=chunk)
    torch.testing.assert_close(found, written.logp, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_have_the_names_that_a_saved_model_s_have(family, tmp_path):
    model = tiny(family)
    model.save_pretrained(tmp_path)
    saved, found = load_file(tmp_path / "model.safetensors"), checkpoint_of(Network(model))
    assert found.keys() == saved.keys()
    assert all(torch.equal(found[name], value) for name, value in saved.items())


@pytest.mark.parametrize("family", ["llama", "qwen3", "phi"])
def test_the_vocabulary_ends_where_the_student_s_does(family):
    model = tiny(family)
    whole, cut = (checkpoint_of(Network(model, width=width)) for width in (None, 90))
    for name, value in cut.items():
        by_token = len(whole[name]) == VOCABULARY and ("embed" in name or "head" in name)
        assert torch.equal(value, whole[name][: 90 if by_token else None])
    assert sum(len(value) == 90 for value in cut.values()) == {"llama": 2, "qwen3": 1, "phi": 3}[family]


def test_additions_are_inside_of_the_weights():
    model = adapted(tiny("llama"), LoRA(3, 6.0, 0.0, "all-linear"), seed=0).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.05)
    plain = frozen(tiny("llama", seed=1))
    plain.load_state_dict(checkpoint_of(Network(model)))
    ids = torch.tensor([[1, 17, 33, 5, 60, 2]])
    torch.testing.assert_close(plain(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-4)

"""Trunk and head apart say what each family's model says: values, gradients, and tokens written with a cache."""

import warnings

import pytest
import torch
from transformers import AutoTokenizer

from opd_bench.catalogue import load_method
from opd_bench.maths.divergences import log_probs
from opd_bench.models.load import located
from opd_bench.models.network import Network, frozen, right_aligned
from opd_bench.models.pair import Side, network_of
from opd_bench.rollouts.choices import Alone
from opd_bench.rollouts.draws import Draws
from opd_bench.rollouts.llama import fits
from opd_bench.rollouts.policies import Writers
from opd_bench.rollouts.source import rollout
from opd_bench.scoring import Heads, ScoredBatch, batch_loss
from opd_bench.tokens import Origin
from tests.families import FAMILIES, SHAPE, VOCABULARY, WINDOW, Odd, tiny

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
WIDTH = VOCABULARY - 7
METHODS = ("opd", "vopd", "gkd_fkl", "tropd")


def network(model, width=VOCABULARY) -> Network:
    return network_of(Side("a model", model, AutoTokenizer.from_pretrained(located("embedded/teacher"))), width)


def rows(count: int = 5):
    generator = torch.Generator().manual_seed(3)
    return right_aligned([torch.randint(3, WIDTH, (4 + 2 * n,), generator=generator) for n in range(count)])


def said(model, ids, mask):
    """The model's own logits of every row by itself."""
    return torch.cat([model(row[own][None]).logits[0] for row, own in zip(ids, mask, strict=True)])


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_the_models_own_whatever_the_padding(family):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none falls back
        model = tiny(family)
        found = network(model)
    assert found.is_split
    ids, mask = rows()
    torch.testing.assert_close(found.logits(ids, mask)[mask], said(model, ids, mask), **CLOSE)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_chunked_losses_and_gradients_are_those_of_the_models_own_logits(family, method):
    student, teacher = tiny(family), frozen(tiny(family, seed=1))
    ids, mask = rows()
    width = WIDTH
    networks = [network(model, width) for model in (student, teacher)]
    apart = _loss(method, networks, ids, mask, lambda one: one.hidden(ids, mask), heads=True)
    apart.backward()
    split = {name: value.grad.clone() for name, value in student.named_parameters() if value.grad is not None}
    student.zero_grad()
    whole = _loss(method, networks, ids, mask, lambda one: _own(one.model, ids, mask)[..., :width], heads=False)
    whole.backward()
    torch.testing.assert_close(apart, whole, **CLOSE)
    dense = {name: value.grad for name, value in student.named_parameters() if value.grad is not None}
    assert split.keys() == dense.keys()
    scale = max(float(value.abs().max()) for value in dense.values())
    assert scale > 1e-3
    for name, value in dense.items():
        torch.testing.assert_close(
            split[name], value, rtol=1e-4, atol=1e-5 * scale, msg=lambda text, name=name: f"{name}: {text}"
        )


def _own(model, ids, mask):
    """The model's own forward, told where tokens are as any caller would."""
    position = {"position_ids": (mask.long().cumsum(-1) - 1).clamp_min(0)}
    return model(input_ids=ids, attention_mask=mask.long(), **position).logits


def _loss(method, networks, ids, mask, states, heads):
    """Of every second token, as responses would have it."""
    response = mask.clone()
    response[:, :3] = False
    uniform = torch.rand(ids.shape, generator=torch.Generator().manual_seed(5))
    fields = (ids, response, torch.zeros_like(ids), torch.zeros(ids.shape), uniform)
    student, teacher = (states(one)[:, :-1] for one in networks)
    batch = ScoredBatch(student, teacher.detach(), *(field[:, 1:] for field in fields))
    both = Heads(*(one.head for one in networks)) if heads else Heads()
    return batch_loss(load_method(method).estimator, [batch], 0.3, chunk=5 if heads else None, heads=both)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_with_a_cache_has_the_probabilities_of_a_fresh_pass(family):
    """Beyond the window of those that look back only so far, and rows that end early are dropped on the way."""
    found = network(frozen(tiny(family)), WIDTH)
    ids, mask = rows()
    limit = 3 * WINDOW
    uniform = Draws(0, 0).uniform("tokens", len(ids), limit, 2)
    writers = Writers({Origin.STUDENT: found}, limit, list(range(2, 12)), 0)
    written = writers.write(ids, mask, Alone(Origin.STUDENT), uniform)
    assert len(set(written.length.tolist())) > 1
    result = rollout(ids, mask, written, range(len(ids)))
    logp = log_probs(found.logits(result.ids, result.mask)[:, :-1]).gather(-1, result.ids[:, 1:, None])[..., 0]
    own = result.response[:, 1:]
    torch.testing.assert_close(result.behaviour_logp[:, 1:][own], logp[own], rtol=1e-4, atol=1e-4)
    assert int(result.ids[result.response].max()) < WIDTH


def test_which_families_are_read_by_hand():
    """Of the others each has something in its layers that `Llama` has not."""
    assert [name for name in FAMILIES if fits(network(tiny(name), WIDTH))] == ["llama", "qwen2", "qwen3"]
    assert fits(network(tiny("mistral", sliding_window=None), WIDTH))


def test_caps_and_scales_are_told_from_others():
    """The test above could not fail if they were next to nothing."""
    ids, mask = rows()
    for family in ("gemma2", "cohere", "granite"):
        found = network(tiny(family))
        bare = found.head._replace(scale=1.0, cap=None)
        raw = bare.logits(bare.project(found.hidden(ids, mask)))[mask]
        assert (raw - found.logits(ids, mask)[mask]).abs().max() > 0.1


def test_a_model_that_is_no_trunk_and_head_is_run_whole_with_a_warning():
    torch.manual_seed(0)
    from transformers import LlamaConfig

    model = Odd(LlamaConfig(**SHAPE)).eval()
    with pytest.warns(UserWarning, match=r"'a model' is run whole.*last states times its output layer"):
        found = network(model, WIDTH)
    assert not found.is_split
    ids, mask = rows()
    torch.testing.assert_close(found.logits(ids, mask)[mask], said(model, ids, mask)[:, :WIDTH], **CLOSE)
    teacher = network(frozen(tiny("llama", seed=1)), WIDTH)
    loss = _loss("gkd_fkl", [found, teacher], ids, mask, lambda one: one.hidden(ids, mask), heads=True)
    loss.backward()
    gradient = model.lm_head.weight.grad.clone()
    model.zero_grad()
    pair = [found, teacher]
    _loss("gkd_fkl", pair, ids, mask, lambda one: _own(one.model, ids, mask)[..., :WIDTH], heads=False).backward()
    torch.testing.assert_close(gradient, model.lm_head.weight.grad, **CLOSE)


class Lost(Odd):
    """A model that looks at padding."""

    def forward(self, input_ids, attention_mask=None, position_ids=None, **options):
        return super().forward(input_ids=input_ids, position_ids=None, **options)


def test_a_model_that_minds_padding_is_refused():
    torch.manual_seed(0)
    from transformers import LlamaConfig

    with pytest.raises(ValueError, match="'a model' says something else when its row is padded"):
        network(Lost(LlamaConfig(**SHAPE)).eval())

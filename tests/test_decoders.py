"""Reading token by token: by hand as by the model's own forward, and a head that is laid out anew as it was."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from transformers import LlamaConfig
from yaml import safe_load

from opd_bench.configs import conf_dir, made
from opd_bench.models.lora import LoRA, adapted
from opd_bench.models.network import Head, Network, frozen, right_aligned
from opd_bench.rollouts import decoders, llama
from opd_bench.rollouts.choices import Alone
from opd_bench.rollouts.decoders import Cached, Projection, packed_product
from opd_bench.rollouts.engine import Own, Transformers, write
from opd_bench.rollouts.llama import Llama, fits
from opd_bench.tokens import Origin
from tests.families import SHAPE, VOCABULARY, Odd, tiny
from tests.models import END, LIMIT, network, prompts, writers

ROPE = {"rope_theta": 1e4, "factor": 4.0}
YARN = {"rope_type": "yarn", "original_max_position_embeddings": 32, **ROPE}
BENDS = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
BY_HAND = [
    ("llama", {}),
    ("llama", {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu"}),
    ("llama", {"rope_parameters": YARN}),
    ("llama", {"rope_parameters": BENDS | ROPE}),
    ("mistral", {"sliding_window": None}),
    ("qwen2", {"tie_word_embeddings": True}),
    ("qwen3", {"num_key_value_heads": 1}),
    ("qwen3", {"num_key_value_heads": 4, "head_dim": 16}),
]
"""Whatever of the layout a configuration can change."""
PRECISIONS = {
    "double": (torch.float64, nullcontext, 1e-9),
    "single": (torch.float32, nullcontext, 1e-5),
    "mixed": (torch.float32, lambda: torch.autocast("cpu", torch.bfloat16), 0.02),
    "half": (torch.bfloat16, nullcontext, 0.02),
}


def shaken(model):
    """Norms and biases of a fresh model are ones and zeros: no test could tell them from none."""
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        if weight.dim() == 1:
            weight.data.add_(0.5 * torch.randn(weight.shape, generator=generator))
    return frozen(model)


def said(kind, found, limit=14):
    """Logits of every token on fixed sequences of different lengths, some of which are dropped on the way."""
    generator = torch.Generator().manual_seed(3)
    ids, mask = right_aligned([torch.randint(3, VOCABULARY, (3 + 2 * n,), generator=generator) for n in range(5)])
    tokens = torch.randint(3, VOCABULARY, (5, limit), generator=generator)
    decoder, logits = kind(found, mask, limit), []
    for t in range(limit):
        logits.append(decoder.read(ids))
        if t in (4, 9):
            rows = torch.tensor([0, 2, 3] if t == 4 else [1, 2])
            decoder.keep(rows)
            tokens = tokens[rows]
        ids = tokens[:, t : t + 1]
    return logits


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("family", "options"), BY_HAND)
def test_by_hand_as_by_the_model_s_own_forward(family, options, precision, monkeypatch):
    kind, context, close = PRECISIONS[precision]
    found = Network(shaken(tiny(family, **options)).to(kind))
    assert fits(found)
    with torch.no_grad(), context():
        own = said(Cached, found)
        assert max(float(one.std()) for one in own) > 0.5
        for small, growth in ((10**8, 256), (0, 3)):  # copied weights or none; room that grows on the way
            monkeypatch.setattr(llama, "SMALL", small)
            monkeypatch.setattr(llama, "GROWTH", growth)
            for one, other in zip(own, said(Llama, found), strict=True):
                torch.testing.assert_close(other, one, rtol=close, atol=close)


def hooked(model):
    model.model.layers[1].mlp.register_forward_hook(lambda module, ids, output: output * 2)


def replaced(model):
    own = model.model.layers[1].mlp.forward
    model.model.layers[1].mlp.forward = lambda hidden: own(hidden) * 2


def quantised(model):
    model.model.layers[0].self_attn.q_proj = nn.LazyLinear(32)


def sharded(model):
    model.model.layers[0].self_attn.q_proj.weight.data = torch.empty(0)


def shortened(model):
    model.config.num_hidden_layers = 1


@pytest.mark.parametrize("change", [hooked, replaced, quantised, sharded, shortened])
def test_a_model_with_anything_else_about_it_is_read_as_it_is(change):
    model = tiny("llama")
    assert fits(Network(model))
    change(model)
    assert not fits(Network(model))


@pytest.mark.parametrize(
    "model",
    [
        lambda: Odd(LlamaConfig(**SHAPE)).eval(),
        lambda: tiny("llama", rope_parameters={"rope_type": "dynamic", **ROPE}),
        lambda: tiny("qwen2", use_sliding_window=True, sliding_window=6, max_window_layers=1),
        lambda: tiny("mistral"),
        lambda: tiny("llama", attn_implementation="eager"),
        lambda: adapted(tiny("llama"), LoRA(2, 4.0, 0.0, "all-linear"), 0),
    ],
    ids=["not split", "rope that stretches", "window in one layer", "window", "softmax in float32", "LoRA"],
)
def test_what_looks_like_llama_and_is_not(model):
    found = model()
    assert not fits(Network(found, is_split=not isinstance(found, Odd)))


# ---------------------------------------------------------------- engines


def test_both_engines_write_the_same_and_a_configuration_names_each():
    batch, uniform = prompts(), torch.rand(24, LIMIT, 2, generator=torch.Generator().manual_seed(1))
    found = []
    for name, kind in (("own", Own), ("transformers", Transformers)):
        policies = writers()
        policies.engine = made(safe_load((conf_dir() / "rollout" / f"{name}.yaml").read_text()))
        assert type(policies.engine) is kind
        found.append(policies.write(batch.ids, batch.mask, Alone(Origin.STUDENT), uniform))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("every", [2, 5, 8, 100])
def test_how_often_is_looked_at_what_has_finished_changes_nothing(every):
    batch, found = prompts(), network(0)
    uniform = torch.rand(len(batch.ids), LIMIT, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        each, other = (
            write([Llama(found, batch.mask, LIMIT)], batch.ids, Alone(Origin.STUDENT), uniform, [END], look)
            for look in (1, every)
        )
    assert 0 < each.truncated.sum() < len(each.truncated)
    for one, two in zip(each, other, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------- heads


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 4, 19])
def test_a_packed_head_says_what_it_said(rows, bias):
    torch.manual_seed(0)
    head = Head(torch.randn(3000, 64), torch.randn(3000) if bias else None)
    hidden, product = torch.randn(rows, 64), packed_product(head)
    assert product is not None
    torch.testing.assert_close(product(hidden), head.project(hidden), rtol=1e-5, atol=1e-5)


def test_only_what_gains_by_it_is_packed_and_nothing_depends_on_it(monkeypatch):
    torch.manual_seed(0)
    head, hidden = Head(torch.randn(5000, 64), cap=3.0, factor=2.0, width=4000), torch.randn(3, 64)
    expected = head.logits(head.project(hidden))
    assert packed_product(head._replace(weight=head.weight.double())) is None
    assert packed_product(Head()) is None
    asked = []
    monkeypatch.setattr(decoders, "packed_product", lambda head: asked.append(head) or packed_product(head))
    monkeypatch.setattr(decoders, "LARGE_HEAD", 4000 * 64)
    for times, packed in ((31, 0), (32, 1)):
        torch.testing.assert_close(Projection(head, times)(hidden), expected, rtol=1e-5, atol=1e-5)
        assert len(asked) == packed
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert packed_product(head) is None
    assert torch.equal(Projection(head, 32)(hidden), expected)


def test_a_head_is_cast_once_to_what_autocast_would_cast_it_to():
    torch.manual_seed(0)
    head, hidden = Head(torch.randn(500, 64), torch.randn(500), width=400), torch.randn(3, 64)
    with torch.autocast("cpu", torch.bfloat16):
        projection = Projection(head, 100)
        assert projection.head.weight.dtype == torch.bfloat16
        assert torch.equal(projection(hidden), head.project(hidden).float())

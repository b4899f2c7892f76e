"""The loss in chunks equals the plain dense one, in value and in every gradient, and takes no more memory for it."""

import weakref
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from opd_bench import chunks, load_method, method_names
from opd_bench.estimators.base import Estimator
from opd_bench.models.network import Head
from opd_bench.scoring import Heads, ScoredBatch, Scorer, batch_loss
from opd_bench.tokens import TokenBatch
from tests import dense

VOCABULARY, WIDTH = 131, 16


def states(estimator: Estimator, dtype: torch.dtype, lengths: tuple[int, ...] = (7, 3, 5)) -> ScoredBatch:
    """Hidden states of sequences by every writer that the estimator learns from, and of one more."""
    shape, generator = (len(lengths), 8), torch.Generator().manual_seed(0)
    student, teacher = (
        torch.randn(*shape, WIDTH, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2)
    )
    return ScoredBatch(
        student=student.requires_grad_(),
        teacher=teacher,
        token=torch.randint(VOCABULARY, shape, generator=generator),
        response=torch.arange(8) < torch.tensor(lengths)[:, None],
        origin=torch.randint(3, shape, generator=generator),
        behaviour_logp=torch.full(shape, -4.0, dtype=torch.float64).to(dtype),
        uniform=torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype),
    )


def heads(dtype: torch.dtype) -> Heads:
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(VOCABULARY, WIDTH, generator=generator, dtype=torch.float64) / 3 for _ in range(2)]
    bias = torch.randn(VOCABULARY, generator=generator, dtype=torch.float64).to(dtype)
    student, teacher = (weight.to(dtype) for weight in weights)
    return Heads(Head(student.requires_grad_(), bias.requires_grad_(), 0.7), Head(teacher, None, 3.0))


def plain(head: Head, hidden: torch.Tensor) -> torch.Tensor:
    result = hidden @ head.weight.T
    return head.scale * (result if head.bias is None else result + head.bias)


def both(name: str, dtype: torch.dtype, chunk: int | None) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Value and gradients in states, weight and bias: in chunks, and densely."""
    estimator = load_method(name).estimator
    results = []
    for fast in (True, False):
        batch, pair = states(estimator, dtype), heads(dtype)
        if fast:
            loss = batch_loss(estimator, [batch], 0.7, chunk, pair)
        else:
            logits = plain(pair.student, batch.student), plain(pair.teacher, batch.teacher)
            loss = dense.batch_loss(estimator, [dense.ScoredBatch(*logits, *batch[2:])], 0.7)
        leaves = (batch.student, pair.student.weight, pair.student.bias)
        results.append([loss.detach(), *torch.autograd.grad(loss, leaves)])
    return results[0], results[1]


@pytest.mark.parametrize("chunk", [1, 4, None])
@pytest.mark.parametrize("name", method_names())
def test_value_and_gradients_are_those_of_the_dense_form(name, chunk):
    for fast, slow in zip(*both(name, torch.float64, chunk), strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("name", method_names())
def test_cutting_a_chunk_into_slices_changes_nothing(name, tokens, monkeypatch):
    monkeypatch.setitem(chunks.SLICE, "cpu", tokens * VOCABULARY)
    for fast, slow in zip(*both(name, torch.float64, 5), strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["opd", "vopd_topk", "opd_full", "tropd", "gkd", "reopold", "minillm"])
def test_in_half_precision_they_agree_to_its_rounding(name):
    for fast, slow in zip(*both(name, torch.bfloat16, 4), strict=True):
        assert fast.dtype == slow.dtype
        assert (fast.float() - slow.float()).norm() <= 0.02 * slow.float().norm() + 1e-6


@pytest.mark.parametrize("name", ["opd", "tropd", "opd_full"])
def test_a_tied_head_gets_the_gradient_of_both_its_uses(name):
    estimator = load_method(name).estimator
    gradients = []
    for fast in (True, False):
        batch = states(estimator, torch.float64)
        table = heads(torch.float64).student.weight.detach().requires_grad_()
        hidden = torch.tanh(table[batch.token] + batch.student.detach())
        pair = Heads(Head(table), heads(torch.float64).teacher)
        if fast:
            loss = batch_loss(estimator, [batch._replace(student=hidden)], 0.2, 3, pair)
        else:
            logits = hidden @ table.T, plain(pair.teacher, batch.teacher)
            loss = dense.batch_loss(estimator, [dense.ScoredBatch(*logits, *batch[2:])], 0.2)
        gradients.append(torch.autograd.grad(loss, table)[0])
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["reopold", "entropy_opd", "minillm", "iw_opd", "opd"])
def test_micro_batches_scored_one_by_one_add_up_to_the_whole(name):
    """As a training step does it: weights and denominator first, then a backward pass for each."""
    estimator, pair = load_method(name).estimator, heads(torch.float64)
    whole = states(estimator, torch.float64, lengths=(8, 8, 8))
    (expected,) = torch.autograd.grad(batch_loss(estimator, [whole], 0.7, None, pair), whole.student)
    scorer, parts = Scorer(estimator, pair, 2), [ScoredBatch(*(x[i : i + 1] for x in whole)) for i in range(3)]
    weights = scorer.weights(parts, 0.7)
    denominator = scorer.denominator(parts, weights)
    assert sum(weight is None or bool(weight.any()) for weight in weights) > 1  # so that a sum over one part is wrong
    found = torch.zeros_like(expected)
    for part, weight in zip(parts, weights, strict=True):
        found += torch.autograd.grad(scorer.score(part, weight, 0.7).numerator / denominator, whole.student)[0]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_a_batch_with_nothing_to_score_has_a_zero_loss_with_a_gradient():
    batch, pair = states(load_method("opd").estimator, torch.float64, lengths=(0, 0, 0)), heads(torch.float64)
    loss = batch_loss(load_method("opd").estimator, [batch], 0.0, 4, pair)
    loss.backward()
    assert loss == 0
    assert batch.student.grad.abs().max() == pair.student.weight.grad.abs().max() == 0


def test_a_frozen_head_is_left_alone():
    batch, pair = states(load_method("opd").estimator, torch.float64), heads(torch.float64)
    frozen = pair._replace(student=Head(pair.student.weight.detach()))
    batch_loss(load_method("opd").estimator, [batch], 0.0, 4, frozen).backward()
    assert batch.student.grad.abs().max() > 0


def test_what_is_observed_is_every_scored_token_once_and_carries_no_gradient():
    estimator = load_method("tropd").estimator
    batch = states(estimator, torch.float64)
    scorer = Scorer(estimator, heads(torch.float64), 4, lambda tokens: {"token": tokens.token, "kl": tokens.reverse_kl})
    scored = scorer.score(batch, None, 0.0)
    counted = batch.response & (batch.origin < 2)
    assert torch.equal(scored.observed["token"], batch.token[counted])
    assert not scored.observed["kl"].requires_grad
    assert {len(values) for values in scored.stats.values()} == {int(counted.sum())}


@pytest.mark.parametrize("cut", [(None, None), (4, 1), (7, 2)])
@pytest.mark.parametrize("most", [1, 4, 5, 100])
def test_what_is_observed_of_some_tokens_is_what_would_be_of_all(cut, most, monkeypatch):
    """Evenly spread over the batch, wherever it is cut."""
    chunk, tokens = cut
    if tokens:
        monkeypatch.setitem(chunks.SLICE, "cpu", tokens * VOCABULARY)
    estimator = load_method("vopd").estimator
    batch, pair = states(estimator, torch.float64), heads(torch.float64)

    def observe(tokens: TokenBatch) -> dict[str, torch.Tensor]:
        return {"kl": tokens.reverse_kl, "logp": tokens.student_logp}

    every = Scorer(estimator, pair, None, observe).score(batch, None, 0.0).observed
    some = Scorer(estimator, pair, chunk, observe, most).score(batch, None, 0.0).observed
    stride = -(-len(every["kl"]) // most)
    assert len(some["kl"]) <= most
    for name, values in every.items():
        torch.testing.assert_close(some[name], values[::stride], rtol=1e-12, atol=1e-12)
        assert not some[name].requires_grad


@pytest.fixture
def poisoned():
    """Memory that nobody has written to is NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("is_split", [True, False])
def test_tokens_beyond_the_width_have_no_gradient(is_split, poisoned):
    """Neither in the head nor, where the model is run whole, in its output."""
    estimator, width = load_method("opd_full").estimator, 100 if is_split else 11
    batch, pair = states(estimator, torch.float64), heads(torch.float64)
    batch = batch._replace(token=batch.token % width)
    if not is_split:
        pair = Heads(Head(), Head())
    narrow = Heads(*(head._replace(width=width) for head in pair))
    batch_loss(estimator, [batch], 0.0, 4, narrow).backward()
    for value in (pair.student.weight, pair.student.bias) if is_split else (batch.student.grad.flatten(0, 1).T,):
        slope = value.grad if is_split else value
        assert slope[width:].abs().max() == 0
        assert slope[:width].abs().max() > 0


def test_a_models_own_output_is_left_as_it_is():
    """Without a head, hidden states are logits: their gradient takes the place of none of them."""
    logits = torch.randn(6, 11, generator=torch.Generator().manual_seed(0)).requires_grad_()
    zeros = torch.zeros(6)
    rows = chunks.Rows(logits, torch.zeros(6, 11), zeros.long(), zeros.long(), zeros, zeros, None)
    before, estimator = logits.detach().clone(), load_method("opd_full").estimator
    chunks.learnt(chunks.Chunked(), rows, lambda tokens: estimator.token_loss(tokens, 0.0), chunks.Look())
    assert torch.equal(logits, before)


def test_a_score_is_differentiated_once():
    estimator = load_method("opd").estimator
    batch = states(estimator, torch.float64)
    numerator = Scorer(estimator, heads(torch.float64)).score(batch, None, 0.0).numerator
    numerator.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiated already"):
        numerator.backward()


def test_chunks_are_equal_and_no_larger_than_a_budget():
    rows = chunks.Rows(*(torch.zeros(10, 1) for _ in range(6)), None)
    assert [(part.start, min(part.stop, 10)) for part in rows.parts(4)] == [(0, 4), (4, 8), (8, 10)]
    assert [(part.start, min(part.stop, 10)) for part in rows.parts(6)] == [(0, 5), (5, 10)]
    assert len(list(rows.parts(None))) == 1
    for vocabulary in (512, 32_000, 151_936, 2**26):
        for device in ("cpu", "cuda"):
            chunk = chunks.affordable(vocabulary, device)
            assert chunk == 1 or chunk * vocabulary <= chunks.CHUNK[device]
            assert chunk >= 1
            assert chunk < 64 or chunk % 64 == 0


class Alive(TorchDispatchMode):
    """The most bytes of tensors, made while this is on, that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        known = {
            leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)
        }
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in known:
                size = leaf.untyped_storage().nbytes()
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(leaf, self._gone, size)
        return result

    def _gone(self, size: int) -> None:
        self.now -= size


@pytest.mark.parametrize("name", ["opd", "vopd", "opd_full", "tropd", "reopold"])
def test_peak_memory_does_not_grow_with_tokens_times_vocabulary(name):
    estimator, peaks = load_method(name).estimator, []
    for tokens in (128, 1024):
        generator = torch.Generator().manual_seed(0)
        batch = ScoredBatch(
            student=torch.randn(1, tokens, WIDTH, generator=generator).requires_grad_(),
            teacher=torch.randn(1, tokens, WIDTH, generator=generator),
            token=torch.randint(4000, (1, tokens), generator=generator),
            response=torch.ones(1, tokens, dtype=torch.bool),
            origin=torch.zeros(1, tokens, dtype=torch.long),
            behaviour_logp=torch.zeros(1, tokens),
            uniform=torch.rand(1, tokens, generator=generator),
        )
        weight = torch.randn(4000, WIDTH, generator=generator).requires_grad_()
        with Alive() as alive:
            batch_loss(estimator, [batch], 0.7, 32, Heads(Head(weight), Head(weight.detach()))).backward()
        peaks.append(alive.peak)
    more = (1024 - 128) * 4000 * 4  # one more block of logits for the additional tokens
    assert peaks[1] - peaks[0] < more / 10
    assert peaks[0] > 32 * 4000 * 4  # the meter does see a chunk's logits

"""The instruments: streamed moments, and enumeration of anybody's estimator."""

from dataclasses import dataclass

import pytest
import torch

from opd_bench import enumeration, exact_moments, load_method
from opd_bench.estimators.base import About, Claims, Estimator
from opd_bench.maths.moments import StreamingMoments
from opd_bench.tokens import Cost, TokenLoss
from tests.identities.common import prefix_pair, same


def drawn(count, repeats=None, seed=0):
    """Gaussian vectors of mean (2, 0, 0) and tr Cov 3 + 1 + 1."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 3) if repeats is None else (repeats, count, 3)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return noise * torch.tensor([3.0, 1.0, 1.0]).sqrt() + torch.tensor([2.0, 0.0, 0.0])


@pytest.mark.parametrize("blocks", [[20], [1] * 20, [7, 13], [19, 1]])
def test_streamed_moments_do_not_depend_on_the_blocks(blocks):
    values = drawn(20)
    weights = torch.rand(20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moments, plain = StreamingMoments(), StreamingMoments()
    for piece, weight in zip(values.split(blocks), weights.split(blocks), strict=True):
        moments.add(piece, weight)
        plain.add(piece)
    centre = (weights[:, None] * values).sum(0) / weights.sum()
    assert same(moments.mean, centre, 1e-12)
    spread = (weights * (values - centre).square().sum(-1)).sum() / weights.sum()
    assert same(moments.variance, spread, 1e-12)
    assert same(plain.unbiased_variance, values.var(0).sum(), 1e-12)
    pairs = values @ values.T
    assert same(plain.signal, (pairs.sum() - pairs.trace()) / (20 * 19), 1e-12)


def test_variance_and_signal_are_unbiased_where_the_naive_ones_visibly_are_not():
    """2,000 repeats of 5 draws: truth 5 and 4."""
    count, repeats = 5, 2000
    moments = StreamingMoments()
    moments.add(drawn(count, repeats))
    for found, truth in ((moments.unbiased_variance, 5.0), (moments.signal, 4.0)):
        assert abs(found.mean() - truth) < 3 * found.std() / repeats**0.5
    naive_signal = moments.mean.square().sum(-1)
    for naive, truth in ((moments.variance, 5.0), (naive_signal, 4.0)):
        assert abs(naive.mean() - truth) > 10 * naive.std() / repeats**0.5


def test_what_does_not_vary_has_variance_zero_and_not_a_rounding_error():
    moments = StreamingMoments()
    for _ in range(3):
        moments.add(torch.full((4, 3), 0.1, dtype=torch.float64) * 1e8)
    assert moments.variance < 1e-12


@pytest.mark.parametrize("name", ["opd", "tropd", "vopd_topk", "reopold", "head_tail"])
def test_enumeration_does_not_depend_on_its_blocks_or_on_the_batch(name, monkeypatch):
    student, teacher = prefix_pair(4, 23)
    whole = exact_moments(name, student, teacher)
    monkeypatch.setattr(enumeration, "CELLS", 5 * 4 * 23)
    cut = exact_moments(name, student, teacher)
    for one, other in zip(whole[:-1], cut[:-1], strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12, equal_nan=True)
    if name != "reopold":  # whose gate depends on the batch of prefixes
        single = exact_moments(name, student[2], teacher[2])
        assert single.mean.shape == (23,)
        assert single.variance.shape == ()
        assert same(single.mean, whole.mean[2])
        assert same(single.variance, whole.variance[2])


def test_single_precision_is_close_to_double():
    student, teacher = prefix_pair(4, 23)
    double, single = exact_moments("tropd", student, teacher), exact_moments("tropd", student.float(), teacher.float())
    assert single.mean.dtype == torch.float32
    assert same(double.mean, single.mean.double(), 1e-5)
    assert same(double.variance, single.variance.double(), 1e-4)


class Custom(Estimator):
    """Settings-free base of the estimators below."""

    about = About(title="test", paper="none", provenance="author")
    claims = Claims(target=None, stationary=False, cost=Cost("sampled", "sampled"), bias="made up")


@dataclass(kw_only=True, eq=False)
class TwoCoins(Custom):
    """ℓ = (1[u < p(y)] + 2 · 1[u < 0.9]) log p(y)."""

    def token_loss(self, tokens, progress):
        heads = tokens.coin(tokens.student_logp.exp()).double() + 2 * tokens.coin(
            torch.full_like(tokens.student_logp, 0.9)
        )
        return TokenLoss(heads * tokens.student_logp)


def test_several_coins_on_one_uniform_are_enumerated_exactly():
    student, teacher = prefix_pair(3, 12)
    found = exact_moments(TwoCoins(), student, teacher)
    p = student.softmax(-1)
    score = torch.eye(12, dtype=torch.float64) - p[:, None]
    mean = ((p * (p + 1.8))[..., None] * score).sum(1)
    assert same(found.mean, mean)
    # E heads² over the shared uniform: 1[u < p]·(1 + 4·1[u < .9]) + 4·1[u < .9], both coins nested.
    square = p + 4 * 0.9 + 4 * torch.minimum(p, torch.tensor(0.9, dtype=torch.float64))
    second = (p * square * score.square().sum(-1)).sum(-1)
    assert same(found.variance, second - mean.square().sum(-1))


@dataclass(kw_only=True, eq=False)
class ReadsUniform(Custom):
    """Goes past `coin`."""

    def token_loss(self, tokens, progress):
        return TokenLoss(tokens.uniform * tokens.student_logp)


def test_reading_the_uniform_past_the_coin_is_refused():
    with pytest.raises(AttributeError, match=r"through tokens\.coin"):
        exact_moments(ReadsUniform(), *prefix_pair(1, 5))


@dataclass(kw_only=True, eq=False)
class SaysNothing(Custom):
    """A loss without the student in it."""

    def token_loss(self, tokens, progress):
        return TokenLoss(tokens.teacher_logp)


def test_a_loss_without_the_student_has_no_gradient():
    assert exact_moments(SaysNothing(), *prefix_pair(2, 5)).mean.abs().max() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"progress": 1.5}, r"progress must be in \[0, 1\], got 1.5"),
        ({"origin": "judge"}, "origin must be one of student, teacher, data, got 'judge'"),
        ({"origin": "teacher"}, r"learns from \(student\), got 'teacher'"),
        ({"teacher_logits": torch.zeros(2, 6)}, r"must have one shape, got \(2, 5\) and \(2, 6\)"),
        ({"student_logits": torch.zeros(2, 5).long()}, r"student_logits must be floating point .+ got torch.int64"),
        ({"student_logits": torch.zeros(2, 5, 5)}, r"of shape \[V\] or \[B, V\], got torch.float32 \(2, 5, 5\)"),
        ({"method": "vop"}, "no method 'vop', did you mean vopd"),
        ({"kk": 3}, "method vopd has no field 'kk'"),
        ({"k": 0}, "VOPD.k must be ≥ 1 or null, got 0"),
        ({"method": load_method("opd").estimator, "k": 3}, "OPD is made already"),
    ],
)
def test_wrong_arguments_are_named_with_their_value(options, message):
    student, teacher = prefix_pair(2, 5)
    arguments = {"method": "vopd", "student_logits": student, "teacher_logits": teacher} | options
    with pytest.raises(ValueError, match=message):
        exact_moments(**arguments)

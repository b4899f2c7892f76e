"""The instruments: streamed moments, and enumeration of anybody's estimator."""

from dataclasses import dataclass

import pytest
import torch

from opd_bench import enumeration, exact_moments, load_method
from opd_bench.estimators.base import About, Claims, Estimator
from opd_bench.maths.moments import StreamingMoments
from opd_bench.scoring import ScoredBatch, batch_loss
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
class ReadsTheSampler(Custom):
    """Nothing of the token itself, and yet another gradient for each."""

    def token_loss(self, tokens, progress):
        return TokenLoss(tokens.behaviour_logp * tokens.reverse_kl)


@dataclass(kw_only=True, eq=False)
class Tosses(Custom):
    """Nothing of the token, and a coin."""

    def token_loss(self, tokens, progress):
        return TokenLoss(tokens.coin(torch.full_like(tokens.student_logsumexp, 0.25)).double() * tokens.reverse_kl)


def test_a_coin_is_enumerated_also_where_the_token_is_not_looked_at():
    student, teacher = prefix_pair(3, 12)
    found, whole = exact_moments(Tosses(), student, teacher), exact_moments("opd_full", student, teacher).mean
    assert same(found.mean, whole / 4)
    assert same(found.variance, (0.25 * 0.75) * whole.square().sum(-1))


def test_one_token_stands_for_all_only_where_none_is_looked_at(monkeypatch):
    student, teacher = prefix_pair(3, 12)
    found, entropy = (
        exact_moments(ReadsTheSampler(), student, teacher),
        -(student.softmax(-1) * student.log_softmax(-1)),
    )
    assert same(found.mean, -entropy.sum(-1, keepdim=True) * exact_moments("opd_full", student, teacher).mean)
    assert (found.variance > 0).all()
    monkeypatch.setattr(enumeration, "_blocks", None)  # what does not look is not enumerated
    assert (exact_moments("gkd", student, teacher).variance == 0).all()
    with pytest.raises(TypeError):
        exact_moments("opd", student, teacher)


@dataclass(kw_only=True, eq=False)
class ReadsUniform(Custom):
    """Goes past `coin`."""

    def token_loss(self, tokens, progress):
        return TokenLoss(tokens.uniform * tokens.student_logp)


def test_reading_the_uniform_past_the_coin_is_refused():
    with pytest.raises(AttributeError, match=r"through tokens\.coin"):
        exact_moments(ReadsUniform(), *prefix_pair(1, 5))


@dataclass(kw_only=True, eq=False)
class Undecided(Custom):
    """Asks for signals and returns no weight: then tokens carry none, here as in a step."""

    signals = ("log_ratio",)

    def token_loss(self, tokens, progress):
        assert tokens.weight is None
        return TokenLoss(tokens.student_logp)


def test_no_weight_is_no_weight_in_a_step_and_under_enumeration():
    student, teacher = prefix_pair(3, 6)
    assert exact_moments(Undecided(), student, teacher).mean.abs().max() < 1e-12
    shape = (1, 3)
    batch = ScoredBatch(
        student=student[None].requires_grad_(),
        teacher=teacher[None],
        token=torch.zeros(shape, dtype=torch.long),
        response=torch.ones(shape, dtype=torch.bool),
        origin=torch.zeros(shape, dtype=torch.long),
        behaviour_logp=torch.zeros(shape, dtype=torch.float64),
        uniform=torch.zeros(shape, dtype=torch.float64),
    )
    assert same(batch_loss(Undecided(), [batch], 0.0), student.log_softmax(-1)[:, 0].mean())


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
        ({"teacher_logits": torch.zeros(2, 6)}, r"teacher_logits must have the shape .+ got \(2, 6\) and \(2, 5\)"),
        ({"sampler_logits": torch.zeros(3, 5)}, r"sampler_logits must have the shape .+ got \(3, 5\) and \(2, 5\)"),
        ({"student_logits": torch.zeros(0, 5)}, r"none of them 0, got torch.float32 \(0, 5\)"),
        ({"progress": "0.5"}, r"progress must be in \[0, 1\], got '0.5'"),
        ({"origin": None}, "origin must be one of student, teacher, data, got None"),
        ({"method": 7}, "method must be the name of a METHOD or an Estimator, got 7"),
        ({"student_logits": torch.zeros(2, 5).long()}, r"student_logits must be floating point .+ got torch.int64"),
        ({"student_logits": torch.zeros(2, 5, 5)}, r"of shape \[V\] or \[B, V\].+got torch.float32 \(2, 5, 5\)"),
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


# ---------------------------------------------------------------- edges of both instruments


def test_blocks_of_no_mass_change_nothing_wherever_they_come():
    moments, plain = StreamingMoments(), StreamingMoments()
    values = drawn(6)
    for piece in (values[:2], values[2:4], values[4:]):
        moments.add(1e6 * piece, torch.zeros(2, dtype=torch.float64))
        moments.add(piece)
        plain.add(piece)
    moments.add(piece, torch.zeros(2, dtype=torch.float64))
    assert torch.equal(moments.mean, plain.mean)
    assert torch.equal(moments.variance, plain.variance)


def test_leading_axes_are_kept_apart_even_with_different_masses():
    values = torch.stack([drawn(8), 100 + drawn(8, seed=1)])
    weights = torch.rand(2, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    weights[1] *= 1e3
    both = StreamingMoments()
    for start in (0, 3):
        part = slice(start, 3 if start == 0 else 8)
        both.add(values[:, part], weights[:, part])
    for row in range(2):
        alone = StreamingMoments()
        alone.add(values[row], weights[row])
        assert same(both.mean[row], alone.mean, 1e-12)
        assert same(both.variance[row], alone.variance, 1e-10)


def test_a_large_mean_does_not_drown_the_variance():
    """Where E‖g‖² − ‖E g‖² has lost every digit."""
    values = drawn(1000) + 1e9
    moments = StreamingMoments()
    for piece in values.split(7):
        moments.add(piece)
    exact = values.var(0, correction=0).sum()
    assert abs(moments.variance / exact - 1) < 1e-6
    naive = values.square().sum(-1).mean() - values.mean(0).square().sum()
    assert abs(naive / exact - 1) > 0.5


@pytest.mark.parametrize("value", [0.1, -3e7, 1e-9])
def test_a_constant_has_variance_exactly_zero(value):
    moments = StreamingMoments()
    for count in (1, 4, 2, 1):
        moments.add(torch.full((count, 3), value, dtype=torch.float64))
    assert moments.variance == moments.unbiased_variance == 0
    assert moments.signal == moments.mean.square().sum()


def test_sums_over_the_vocabulary_have_no_token_noise():
    for name in ("opd_full", "gkd", "veto", "lsm", "taid"):
        origin = "data" if name == "taid" else "student"
        assert exact_moments(name, *prefix_pair(4, 23), origin=origin).variance.max() < 1e-28


@dataclass(kw_only=True, eq=False)
class Coins(Custom):
    """ℓ = (1 + 2·1[u < first] + 4·1[u < second]) log p(y)."""

    first: float
    second: float

    def token_loss(self, tokens, progress):
        coins = (tokens.coin(torch.full_like(tokens.student_logp, level)) for level in (self.first, self.second))
        first, second = coins
        return TokenLoss((1 + 2 * first.double() + 4 * second.double()) * tokens.student_logp)


@pytest.mark.parametrize(
    ("first", "second"), [(0.3, 0.8), (0.8, 0.3), (0.4, 0.4), (0.0, 1.0), (1.0, 0.25), (-0.5, 0.3), (0.6, 1.5)]
)
def test_coins_fall_at_their_thresholds_in_any_order_and_surely_beyond_the_ends(first, second):
    student, teacher = prefix_pair(3, 12)
    found = exact_moments(Coins(first=first, second=second), student, teacher, sampler_logits=teacher)
    a, b = (min(max(level, 0.0), 1.0) for level in (first, second))
    factor = 1 + 2 * a + 4 * b
    square = 1 + 4 * a + 16 * b + 4 * a + 8 * b + 16 * min(a, b)
    p, q = student.softmax(-1), teacher.softmax(-1)
    mean = factor * (q - p)
    assert same(found.mean, mean, 1e-12)
    size = (q * (1 - 2 * p + p.square().sum(-1, keepdim=True))).sum(-1)
    assert same(found.variance, square * size - mean.square().sum(-1), 1e-12)


@dataclass(kw_only=True, eq=False)
class Relative(Custom):
    """ℓ = −w log p(y), w = how the token's log-ratio compares with the largest of the batch."""

    signals = ("log_ratio",)

    def weigh(self, signals, progress):
        return signals["log_ratio"] - signals["log_ratio"].max() + progress

    def token_loss(self, tokens, progress):
        return TokenLoss(-tokens.student_logp, weight=tokens.weight)


def test_batch_weights_are_taken_over_the_prefixes_token_by_token():
    student, teacher = prefix_pair(5, 12)
    p, ratio = student.softmax(-1), teacher.log_softmax(-1) - student.log_softmax(-1)
    weight = ratio - ratio.max(0).values + 0.25
    expected = p * ((p * weight).sum(-1, keepdim=True) - weight)
    assert same(exact_moments(Relative(), student, teacher, progress=0.25).mean, expected, 1e-12)


@pytest.mark.parametrize(("single", "written"), [(False, "student"), (True, "student"), (False, "teacher")])
def test_bias_and_cosine_are_those_of_the_two_kls(single, written):
    student, teacher = (logits[0] if single else logits for logits in prefix_pair(6, 23))
    p, q = student.softmax(-1), teacher.softmax(-1)
    delta = (p / q).log()
    reverse, forward = p * (delta - (p * delta).sum(-1, keepdim=True)), p - q
    method, mean = ("opd", reverse) if written == "student" else ("seqkd", forward)
    found = exact_moments(method, student, teacher, origin=written)
    for exact, bias, cosine in (
        (reverse, found.bias_reverse_kl, found.cosine_reverse_kl),
        (forward, found.bias_forward_kl, found.cosine_forward_kl),
    ):
        assert same(bias, (mean - exact).norm(dim=-1) / exact.norm(dim=-1), 1e-12)
        assert same(cosine, torch.cosine_similarity(mean, exact, dim=-1, eps=1e-300), 1e-12)


def test_what_divides_by_a_gradient_of_zero_is_never_a_finite_number():
    student, teacher = prefix_pair(2, 9)
    agreed, silent = exact_moments("opd_full", student, student), exact_moments("state_only", student, teacher)
    for value in (agreed.cosine_reverse_kl, agreed.cosine_forward_kl):
        assert value.isnan().all()
    for value in (agreed.bias_reverse_kl, agreed.bias_forward_kl):
        assert not value.isfinite().any()
    assert same(silent.bias_reverse_kl, torch.ones(2), 1e-12)
    assert silent.cosine_reverse_kl.isnan().all()
    assert silent.cosine_forward_kl.isnan().all()


def test_a_sampler_for_one_prefix_serves_all():
    student, teacher = prefix_pair(3, 9)
    sampler = torch.linspace(-1, 1, 9, dtype=torch.float64)
    p, mu, ratio = student.softmax(-1), sampler.softmax(-1), (teacher.log_softmax(-1) - student.log_softmax(-1))
    found = exact_moments("opd", student, teacher, sampler_logits=sampler)
    assert same(found.mean, p * (mu * ratio).sum(-1, keepdim=True) - mu * ratio, 1e-12)
    assert same(found.mean, exact_moments("opd", student, teacher, sampler_logits=sampler.expand(3, 9)).mean, 1e-15)


@pytest.mark.parametrize("progress", [-0.1, 1.5, float("nan"), float("inf")])
def test_progress_outside_its_range_is_refused(progress):
    with pytest.raises(ValueError, match=rf"progress must be in \[0, 1\], got {progress}"):
        exact_moments("opd", *prefix_pair(1, 5), progress=progress)


@pytest.mark.parametrize(
    ("method", "fields", "message"),
    [
        ("skew_rkl", {"alpha": 1.5}, r"SkewRKL.alpha must be in \[0, 1\], got 1.5"),
        ("skew_rkl", {"alpha": float("nan")}, r"SkewRKL.alpha must be in \[0, 1\], got nan"),
        ("power_opd", {"alpha": 0.0}, "PowerOPD.alpha must be > 0, got 0.0"),
        ("head_tail", {"k": 2.5}, "HeadTail.k must be a whole number ≥ 1, got 2.5"),
        ("head_tail", {"k": True}, "HeadTail.k must be a whole number ≥ 1, got True"),
        ("reopold", {"floor": 0.5}, "REOPOLD.floor must be ≤ 0, got 0.5"),
        ("minillm", {"length_norm": 1}, "MiniLLM.length_norm must be true or false, got 1"),
        ("opd_topk", {"form": "clamped"}, "OPDTopK.form must be one of renormalised, .+, got 'clamped'"),
        ("iw_opd", {"gama": 1.0}, r"method iw_opd has no field 'gama', did you mean gamma\?"),
    ],
)
def test_fields_are_refused_by_name_bound_and_value(method, fields, message):
    with pytest.raises(ValueError, match=message):
        exact_moments(method, *prefix_pair(1, 5), **fields)
